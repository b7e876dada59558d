from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from omib_spatial.core import Sequences
from omib_spatial.datasets import Multimodal
from omib_spatial.datasets._mosi import with_tokens
from omib_spatial.encoders import Bert

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
    encoder = Bert(checkpoint, out_features=5, trainable=False).train()
    assert torch.equal(encoder(tokens), encoder(tokens))
    encoder(tokens).sum().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == {"project.weight", "project.bias"}
    trained = Bert(checkpoint, out_features=5).train()
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
