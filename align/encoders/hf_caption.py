"""HFCaption: the text tower of transformers' CLIP, CLAP or SigLIP."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from align.encoders.base import Encoder
from align.encoders.hf import model as hf_model
from align.encoders.hf import parts as hf_parts
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
        found = None if config is not None else hf_model.find(name)
        part, made = hf_parts.choose_part(hf_parts.TEXT, (config or {}) if found is None else found.config)
        weights = hf_model.find_weights_of(name, pretrained, found)
        self.model = hf_parts.make_part(part, made, weights)
        self.origin = None if weights is None else weights.origin()
        self.name, self.pretrained, self.config = name, False, hf_model.plain_config(made)
        self.checkpointing = checkpointing
        if checkpointing:
            hf_model.checkpoint_gradients(self.model)
        self.vocabulary_limit = int(made.vocab_size)
        self.context_limit = most_tokens(getattr(self.model, "text_model", self.model), made, False)
        self.width = int(getattr(made, "projection_dim", None) or made.projection_size)
        self._read = part.read
        self.context = None if hasattr(made, "projection_dim") else self.context_limit  # SigLIP pools at the last place
        self._wants = None if found is None else self._tokens(found)

    def _tokens(self, found: hf_model.Found) -> dict[str, Any]:
        init_args = {"tokenizer": found.tokenizer(), "context": self.context_limit, "trim": self.context is None}
        return {"class_path": "align.preprocess.HFTokens", "init_args": init_args}

    def wants(self) -> dict[str, Any] | None:
        return self._wants

    def encode(self, values: dict[str, Tensor]) -> Features:
        return self._read(self.model, values)
