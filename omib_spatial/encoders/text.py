"""Encoder of tokenised text."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from omib_spatial.core import Sequences


class Bert(nn.Module):
    """A pretrained BERT (Devlin et al. 2019) that is trained on, the paper's encoder of text.

    The code is a linear map of the last layer's first token, ``[CLS]``.

    Parameters
    ----------
    name
        A folder with a transformers checkpoint, or a name on the Hugging Face hub such as ``"bert-base-uncased"``; the
        same as the tokenizer's.
    out_features
        d, the width of the code.
    trainable
        False keeps the pretrained weights as they are, and trains the linear map alone.

    Raises
    ------
    OSError
        The weights could not be had.

    Examples
    --------
    >>> from transformers import BertConfig, BertModel
    >>> size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> small = BertConfig(vocab_size=50, **size)
    >>> BertModel(small).save_pretrained("tiny-bert")  # in place of "bert-base-uncased", which is a download
    >>> from omib_spatial.core import Sequences
    >>> from omib_spatial.encoders import Bert
    >>> tokens = Sequences(torch.randint(50, (3, 7)), torch.tensor([7, 4, 2]))
    >>> tuple(Bert("tiny-bert", 32)(tokens).shape)
    (3, 32)
    """

    def __init__(self, name: str | Path, out_features: int = 512, *, trainable: bool = True) -> None:
        super().__init__()
        from transformers import AutoModel

        try:
            self.backbone = AutoModel.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise OSError(
                f"The text encoder {str(name)!r} could not be loaded. Without network, fetch it elsewhere with "
                f"'hf download {name} --local-dir FOLDER' and pass FOLDER. transformers says: {error}"
            ) from error
        # transformers hands a model over in inference mode, and Lightning trains it in the mode it finds.
        self.backbone.requires_grad_(trainable).train(trainable)
        self.trainable, self.out_features = trainable, out_features
        self.project = nn.Linear(self.backbone.config.hidden_size, out_features)

    def train(self, mode: bool = True) -> "Bert":
        """Set training mode; weights that are not trained stay free of dropout."""
        super().train(mode)
        if not self.trainable:
            self.backbone.eval()
        return self

    def forward(self, tokens: "Sequences") -> Tensor:
        """Encode n sequences of tokens (n, T) int64 to codes (n, out_features)."""
        states = self.backbone(input_ids=tokens.values, attention_mask=tokens.mask.long()).last_hidden_state
        return self.project(states[:, 0])
