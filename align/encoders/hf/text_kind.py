"""Text models of transformers: their class, the names that are not theirs, and the most tokens that they take."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from align.encoders.hf.model import library

HEADS = frozenset(
    {
        *("cls", "lm_head", "classifier", "pooler", "decoder", "score", "qa_outputs", "predictions"),
        *("generator_predictions", "generator_lm_head", "discriminator_predictions", "sop_classifier"),
        *("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    }
)
"""First parts of names that belong to a task's head, or to a decoder behind an encoder."""


def text_kind(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of transformers' class for a text config, and the options of its constructor.

    Of an encoder with a decoder behind it the encoder is taken. Raises ValueError where the config is no text model's.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, MODEL_MAPPING_NAMES

    kind: Any = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)
    kind = kind or MODEL_MAPPING_NAMES.get(config.model_type)
    kind = kind[0] if isinstance(kind, tuple) else kind
    if kind is None:
        raise ValueError(f"transformers has no encoder for the model_type {config.model_type!r}")
    of = getattr(library(), kind)
    takes = inspect.signature(of.forward).parameters
    if not {"input_ids", "attention_mask"} <= set(takes) or {"pixel_values", "decoder_input_ids"} & set(takes):
        raise ValueError(f"{kind} is no encoder or decoder of texts alone")
    options = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(of).parameters else {}
    return kind, options


def most_tokens(model: Any, config: Any, bidirectional: bool) -> int | None:
    """Return the most tokens that a model takes, None where its positions have no end."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):  # RoBERTa's positions begin behind its padding
        return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    limits = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    if bidirectional:  # the mask that shows all tokens would show them through a sliding window too
        limits.append(getattr(config, "sliding_window", None))
    known = [x for x in limits if isinstance(x, int) and x > 0]
    return min(known) if known else None
