import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from omib_bench.datasets._mosi import with_tokens
from omib_bench.metrics import sentiment_scores
from omib_spatial.core import OMIB, OMIBTraining, Regression, Sequences, predict, sample_loader, train
from omib_spatial.datasets import Multimodal, mosi
from omib_spatial.encoders import Bert, Conv1D

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=6).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
    ).save_pretrained(folder)
    return folder


def said(*words: str) -> Multimodal:
    n = len(words)
    inputs = {"audio": np.zeros((n, 2), np.float32), "text": np.ones((n, 3, 4), np.float32)}
    lengths = {"text": np.full(n, 3)}
    return Multimodal(inputs, np.zeros(n), np.arange(n), np.arange(n), lengths=lengths, words=np.array(words))


def test_words_become_tokens_with_lengths(checkpoint):
    data = with_tokens(said("A GOOD film", "bad", "a a a a a a a"), checkpoint)
    text = [[WORDS[i] for i in row] for row in data.inputs["text"]]
    assert text[0] == ["[CLS]", "a", "good", "film", "[SEP]", "[PAD]"]
    assert text[1][:3] == ["[CLS]", "bad", "[SEP]"]
    assert text[2] == ["[CLS]", "a", "a", "a", "a", "[SEP]"]
    assert data.lengths["text"].tolist() == [5, 3, 6] and data.inputs["text"].dtype == np.int64
    assert list(data.inputs) == ["text", "audio"]


def test_codes_come_from_the_saved_weights_whatever_the_padding(checkpoint):
    encoder = Bert(checkpoint, out_features=5).eval()
    data = with_tokens(said("a good film", "bad"), checkpoint).samples()
    tokens = data.inputs["text"]
    codes = encoder(tokens)
    assert encoder.out_features == 5 and codes.shape == (2, 5)
    longer = Sequences(torch.nn.functional.pad(tokens.values, (0, 3), value=7), tokens.lengths)
    torch.testing.assert_close(encoder(longer), codes)
    torch.testing.assert_close(encoder(Sequences(tokens.values[1:, :3], tokens.lengths[1:])), codes[1:])
    backbone = BertModel.from_pretrained(checkpoint).eval()
    first = backbone(input_ids=tokens.values[1:, :3]).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.project(first), codes[1:])


def test_a_backbone_that_is_not_trainable_stays_as_it_is(checkpoint):
    tokens = Sequences(torch.tensor([[2, 5, 3]]), torch.tensor([3]))
    encoder = Bert(checkpoint, out_features=5, trainable=False)
    assert torch.equal(encoder(tokens), encoder(tokens))
    assert torch.equal(encoder.train()(tokens), encoder.eval()(tokens))
    encoder(tokens).sum().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == {"project.weight", "project.bias"}
    trained = Bert(checkpoint, out_features=5)
    assert not torch.equal(trained(tokens), trained(tokens))
    trained(tokens).sum().backward()
    assert trained.backbone.embeddings.word_embeddings.weight.grad.any()


def test_what_is_not_there_is_named_with_the_way_out(tmp_path):
    for load in (Bert, lambda name: with_tokens(said("a"), name)):
        with pytest.raises(OSError, match="hf download"):
            load(tmp_path / "nothing")
    silent = Multimodal({"a": np.zeros((1, 1))}, np.zeros(1), np.arange(1), np.arange(1))
    with pytest.raises(ValueError, match="does not hold the words"):
        with_tokens(silent, tmp_path)


def test_from_a_pickle_of_words_to_sentiment(checkpoint, tmp_path):
    rng = np.random.default_rng(0)

    def utterance(i: int, part: str) -> tuple:
        """Words tell the sign of the sentiment, sound its size; faces are not always there and say nothing."""
        strong, good, n = rng.uniform(0.5, 3), rng.random() < 0.5, rng.integers(1, 5)
        words = ["a"] * (n - 1) + ["good" if good else "bad"]
        sound = rng.normal(strong, 0.3, (n, 3))
        face = rng.normal(size=(n, 2)) * (i % 3 > 0)
        return (words, face, sound), np.array([[strong if good else -strong]]), f"{part}_{i}"

    parts = {part: [utterance(i, part) for i in range(n)] for part, n in {"train": 96, "dev": 2, "test": 60}.items()}
    (tmp_path / "mosi.pkl").write_bytes(pickle.dumps(parts))
    data = mosi(tmp_path / "mosi.pkl", tokenizer=checkpoint)
    split = data.split()
    data = data.scaled(split.train)
    assert list(data.inputs) == ["text", "audio", "video"] and 0.5 < data.present[:, 2].mean() < 0.8
    torch.manual_seed(0)
    encoders = {"text": Bert(checkpoint, 16), "audio": Conv1D(3, 16, channels=8), "video": Conv1D(2, 16, channels=8)}
    model = OMIB(encoders, Regression(), latent_dim=16)
    module = OMIBTraining(model, beta=1e-3, warmup_epochs=2, learning_rate=1e-2, seed=0)
    train(
        module,
        sample_loader(data.samples(split.train), 24, shuffle=True),
        max_epochs=20,
        progress_bar=False,
        accelerator="cpu",
    )
    found = predict(model, sample_loader(data.samples(split.test), 60, shuffle=False)).squeeze(1)
    scores = sentiment_scores(data.target[split.test], found.numpy())
    assert scores["acc2"] > 0.9 and scores["corr"] > 0.85 and scores["acc7"] > 0.6
