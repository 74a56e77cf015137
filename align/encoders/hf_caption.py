"""HFCaption: the text tower of transformers' CLIP, CLAP or SigLIP."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from align.encoders.base import Encoder
from align.encoders.hf.model import Found, plain_config
from align.encoders.hf.parts import TEXT, open_part
from align.encoders.hf.text_kind import most_tokens
from align.values import Features


@final
class HFCaption(Encoder):
    """A text tower of CLIP or CLAP (after its projection) or SigLIP (after its last layer), as transformers has it.

    It reads ids and mask of ``align.preprocess.HFTokens``. CLIP pools at the end token, CLAP at the first.
    SigLIP pools at the last place of the row, so its rows are never trimmed. Tokens come through the same layer, with
    their mask, but for CLAP, which has none.

    name, pretrained, checkpointing, config: as ``HFImage`` takes them.

    Raises ValueError for a model of another type and for files that do not fit, FileNotFoundError for a source that is
    not there, ImportError where transformers is absent.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        checkpointing: bool = False,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        part, made, self.model, self.origin, found = open_part(TEXT, name, pretrained, config, checkpointing)
        self.name, self.pretrained, self.config = name, False, plain_config(made)
        self.checkpointing = checkpointing
        self.vocabulary_limit = int(made.vocab_size)
        self.context_limit = most_tokens(getattr(self.model, "text_model", self.model), made, False)
        self.width = int(getattr(made, "projection_dim", None) or made.projection_size)
        self._read = part.read
        self.context = None if hasattr(made, "projection_dim") else self.context_limit  # SigLIP pools at the last place
        self._wants = None if found is None else self._tokens(found)

    def _tokens(self, found: Found) -> dict[str, Any]:
        init_args = {"tokenizer": found.tokenizer(), "context": self.context_limit, "trim": self.context is None}
        return {"class_path": "align.preprocess.HFTokens", "init_args": init_args}

    def wants(self) -> dict[str, Any] | None:
        return self._wants

    def encode(self, values: dict[str, Tensor]) -> Features:
        return self._read(self.model, values)
