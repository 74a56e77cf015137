"""HFText: any text encoder or decoder of transformers."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.hf import model as hf_model
from align.encoders.hf.sentence_folder import ACTIVATIONS, Stated, find_text
from align.encoders.hf.text_kind import HEADS, most_tokens, text_kind
from align.encoders.latent_attention import LatentAttention
from align.encoders.positions import find_table, fit_table, resize_table, stretch_table
from align.encoders.text_pooling import POOLINGS, both_ways, pack
from align.encoders.weights import put_weights
from align.values import Features

LONGEST = 8192  # tokens of a row, where a publisher allows more
LATENT, DECODER = "latent_attention_model.", "embedding_model."
"""First parts of names in NV-Embed's files."""


@final
class HFText(Encoder):
    """A text model of transformers: ids and mask of ``align.preprocess.HFTokens`` -> features with tokens and mask.

    Args:
        name: ``owner/name``, ``hf-hub:owner/name[@revision]``, or a folder as transformers or Sentence Transformers
            saves it. With ``config`` it is a label.
        pretrained: True takes the weights of ``name``, a file or a folder its own, False random ones. It is False again
            once the weights are in.
        pooling: "mean" over the real tokens, "cls", the first, "last", the last real one, or "latent", the mean after
            NV-Embed's latent attention. None takes the publisher's, else the mean.
        normalize: make the features unit vectors. None takes the publisher's.
        bidirectional: let each token of a decoder see the later ones too (LLM2Vec). Padding stays hidden.
        prefix: text before every text, for the tokens. None takes the publisher's default prompt.
        context: tokens of a row. None takes the publisher's length, up to 8192.
        keep: stretch the positions to a longer ``context``. The first ``keep`` stay (``align.encoders.positions``).
        dense: layers after the pooling, each {inputs, outputs, bias, activation}, and norm, the epsilon of a layer
            normalisation before it. None takes the publisher's.
        latent: {latents, heads, head_width} of the latent attention, random unless the weights have it.
        checkpointing: compute activations again in the backward pass, for less memory.
        config: the model's config as plain data. A checkpoint has it, so that loading asks no hub.

    A model of an unknown type, or one that brings its own code, is refused. Raises ValueError for arguments and files
    that do not fit, FileNotFoundError for a source that is not there, ImportError where transformers is absent.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        pooling: Literal["mean", "cls", "last", "latent"] | None = None,
        normalize: bool | None = None,
        bidirectional: bool = False,
        prefix: str | None = None,
        context: int | None = None,
        dense: list[dict[str, Any]] | None = None,
        latent: dict[str, int] | None = None,
        checkpointing: bool = False,
        config: dict[str, Any] | None = None,
        keep: int | None = None,
    ):
        super().__init__()
        stated, found = (Stated(), None) if config is not None else find_text(name)
        made = hf_model.make_config((config or {}) if found is None else found.config)
        made.use_cache = False
        self.name, self.pretrained, self.config = name, False, hf_model.plain_config(made)
        self.pooling = pooling or stated.pooling or "mean"
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is not known; it may be {', '.join(map(repr, POOLINGS))}")
        self.normalize = stated.normalize if normalize is None else normalize
        self.bidirectional, self.checkpointing = bidirectional, checkpointing
        self.prefix = stated.prefix if prefix is None else prefix
        self.dense = list(stated.dense) if dense is None else dense
        if latent is not None and self.pooling != "latent":
            raise ValueError(f"latent={latent} is of pooling='latent', not of {self.pooling!r}")
        self.latent = (latent or {}) if self.pooling == "latent" else None
        weights = hf_model.find_weights_of(name, pretrained, found)
        self.model, others = self._load(made, weights)
        width = int(made.hidden_size)
        self.attention = None if self.latent is None else LatentAttention(width, **self.latent)
        if self.attention is not None and others:
            put_weights(self.attention, others, f"{name}: its latent attention")
        self.layers = nn.ModuleList(_Dense(**layer) for layer in self.dense)
        if weights is not None and stated.weights and dense is None:
            put_weights(self.layers, stated.weights, f"{name}: its dense layers")
        self.origin = None if weights is None else weights.origin()
        if checkpointing:
            hf_model.checkpoint_gradients(self.model)
        self.width = self.dense[-1]["outputs"] if self.dense else width
        self.vocabulary_limit = int(self.model.get_input_embeddings().num_embeddings)
        self.context_limit = most_tokens(self.model, made, bidirectional)
        self.context, self.keep = context, keep
        if keep is not None:
            if context is None:
                raise ValueError(f"keep={keep} stretches the positions of {name} to a context; give context too")
            self.stretch(context, keep)
        self._wants = None if found is None else self._tokens(found, stated)

    def _load(self, config: Any, weights: hf_model.Found | None) -> tuple[Any, dict[str, Tensor]]:
        """Return transformers' model, random or with its weights, and the weights of the latent attention."""
        kind, options = text_kind(config)
        others: dict[str, Tensor] = {}
        if weights is None:
            model = hf_model.create(kind, config, options)
        else:
            path = weights.weights()
            tensors = {name.removeprefix(DECODER): x for name, x in hf_model.read_part(path, [""]).items()}
            if self.latent is not None:
                others = {name.removeprefix(LATENT): x for name, x in tensors.items() if name.startswith(LATENT)}
                tensors = {name: x for name, x in tensors.items() if not name.startswith(LATENT)}
            model = hf_model.load(kind, config, tensors, str(path), skip=HEADS, options=options)
        if self.bidirectional and not any(getattr(m, "is_causal", False) for m in model.modules()):
            raise ValueError(f"{kind} has no causal attention, so bidirectional=True changes nothing; leave it out")
        return model, others

    def _tokens(self, found: hf_model.Found, stated: Stated) -> dict[str, Any]:
        """Return the description of the tokens that the publisher's tokenizer makes."""
        limits = [x for x in (self.context_limit, stated.length) if x is not None]
        context = self.context or min([*limits, LONGEST] if limits else [512])
        init_args = {"tokenizer": found.tokenizer(), "context": context, "prefix": self.prefix}
        return {
            "class_path": "align.preprocess.HFTokens",
            "init_args": init_args | ({"lower": True} if stated.lower else {}),
        }

    @torch.no_grad()
    def stretch(self, context: int, keep: int = 20) -> None:
        """Stretch the positions to a longer context, see ``align.encoders.positions.stretch_positions``."""
        place, table, before = find_table(self.model, self.name)
        rows = stretch_table(table.weight[before:], context, keep)
        resize_table(self.model, place, table, torch.cat([table.weight[:before], rows]))
        self.context = self.context_limit = context
        self.keep = keep

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of an encoder with a shorter context as this one takes them."""
        if self.keep is None:
            return weights
        place, table, before = find_table(self.model, self.name)
        return fit_table(weights, f"model.{place}.weight", table.weight, before + self.keep)

    def wants(self) -> dict[str, Any] | None:
        return self._wants

    def encode(self, values: dict[str, Tensor]) -> Features:
        ids, mask = pack(values["input_ids"], values["attention_mask"])
        dtype = self.model.get_input_embeddings().weight.dtype
        seen = both_ways(mask, dtype) if self.bidirectional else mask.long()
        x = self.model(input_ids=ids, attention_mask=seen)[0]  # (n, L, W)
        if self.attention is not None:
            x = self.attention(x)
        x = x * mask[..., None]
        pooled = POOLINGS[self.pooling](x, mask)
        for layer in self.layers:
            pooled = layer(pooled)
        if self.normalize:
            pooled = F.normalize(pooled, dim=-1)
        return Features(pooled, None if self.dense else x, None if self.dense else mask)


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool, activation: str, norm: float | None = None):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not known; it may be {', '.join(map(repr, ACTIVATIONS))}")
        self.norm = nn.Identity() if norm is None else nn.LayerNorm(inputs, eps=norm)
        self.linear = nn.Linear(inputs, outputs, bias)
        self.activation = getattr(nn, activation)()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.linear(self.norm(x)))
