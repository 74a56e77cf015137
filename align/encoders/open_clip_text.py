"""OpenClipText: the text tower of an open_clip model."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from align.encoders.base import Encoder
from align.encoders.open_clip.model import kept_config, make_tower
from align.encoders.open_clip.source import find_model
from align.encoders.open_clip.wants import CONTEXT, describe_text
from align.encoders.positions import fit_table, stretch_table
from align.values import Features


@final
class OpenClipText(Encoder):
    """An open_clip text tower: (n, context) ids of ``align.preprocess.Tokens``, or ids and mask of ``HFTokens`` -> its
    text features.

    They are those after the model's projection, as are the tokens, which come with their mask. The tower is
    open_clip's own transformer, or one of the hub's transformers (extra ``hf``).

    Args:
        name, pretrained: as of ``OpenClipImage``.
        config: the architecture as plain data ("embed_dim", "text_cfg", "quick_gelu").
        context: tokens of a row. None: the model's. A longer one needs ``keep``.
        keep: stretch the positions to ``context``. The first ``keep`` stay (``align.encoders.positions``).

    Only this tower is built, and only its weights are read. Raises ValueError for a name, a tag or a file that does not
    fit, OSError where weights cannot be fetched, ImportError where transformers is needed and absent.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        context: int | None = None,
        keep: int | None = None,
    ):
        super().__init__()
        from open_clip.transformer import TextTransformer

        source = find_model(name, pretrained, config)
        self.text: Any
        self.text, self.origin = make_tower("text", source)
        self.text.output_tokens = True
        self.name, self.pretrained, self.config = name, None, kept_config("text", source)
        self._stated = source.config["text_cfg"]
        self._ours = isinstance(self.text, TextTransformer)
        self._padding = self.text.pad_id if self._ours else self.text.config.pad_token_id
        self.context = self._stated.get("context_length", CONTEXT)
        if self._stated.get("hf_tokenizer_name"):  # its vocabulary may be smaller than the table
            self.vocabulary_limit = self.text.vocab_size
        else:
            self.vocabulary = self.text.vocab_size
        self.width = source.config["embed_dim"]
        self.keep = keep
        if context not in (None, self.context):
            if keep is None:
                raise ValueError(
                    f"{name} reads {self.context} tokens a row, not {context}; keep: 20 stretches its positions"
                )
            self.stretch(context, keep)

    def wants(self) -> dict[str, Any]:
        stated = self._stated if self.keep is None else {**self._stated, "context_length": self.context}
        return describe_text(self.name, stated)

    @torch.no_grad()
    def stretch(self, context: int, keep: int = 20) -> None:
        """Stretch the positions to a longer context, see ``align.encoders.positions.stretch_positions``."""
        text = self.text
        if not self._ours or text.num_pos != text.context_length:
            raise ValueError(f"{self.name} has no table of text positions alone, so it cannot be stretched")
        table = text.positional_embedding
        text.positional_embedding = torch.nn.Parameter(stretch_table(table, context, keep), table.requires_grad)
        text.num_pos = text.context_length = self.context = context
        self.keep = keep
        if text.attn_mask is not None:
            text.register_buffer("attn_mask", text.build_causal_mask().to(table.device), persistent=False)

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of an encoder with a shorter context as this one takes them."""
        if not self._ours:
            return weights
        return fit_table(weights, "text.positional_embedding", self.text.positional_embedding, self.keep)

    def encode(self, values: Tensor | dict[str, Tensor]) -> Features:
        ids = values["input_ids"] if isinstance(values, dict) else values
        pooled, tokens = self.text(ids if self._ours else _fill_empty(ids, self._padding))
        project = self.text.text_projection if self._ours else self.text.proj
        if project is not None:
            tokens = project(tokens) if isinstance(project, torch.nn.Module) else tokens @ project
        real = values["attention_mask"] != 0 if isinstance(values, dict) else ids != self._padding
        first = 0 if self._ours else ids.shape[1] - tokens.shape[1]  # of transformers' class token there is no token
        return Features(pooled, tokens, real[:, first : first + tokens.shape[1]])


def _fill_empty(ids: Tensor, padding: int) -> Tensor:
    """Return ids of which each row has one that is no padding: the mean over no tokens is no number."""
    empty = (ids == padding).all(1)
    return torch.cat([torch.where(empty, padding + 1, ids[:, 0])[:, None], ids[:, 1:]], 1)
