"""Checks of a column against the preprocess of its modality."""

from __future__ import annotations

from collections.abc import Mapping

from align.data.columns.column import Column
from align.preprocess import Array, FeatureTokens, Preprocess


def is_direct(preprocess: Mapping[str, Preprocess]) -> bool:
    """Return True where every preprocess takes rows as they stand, so that a batch needs no call for each row."""
    return all(type(each) in (Array, FeatureTokens) for each in preprocess.values())


def check_rows(modality: str, column: Column, preprocess: Preprocess) -> None:
    """Raise ValueError where a column's rows do not fit a preprocess: by their width, or as only one has tokens."""
    width, tokens = column.info.width, column.info.tokens
    takes = f"{'tokens' if tokens else 'rows'} of width {width}"
    remedy = f"{{class_path: align.encoders.Precomputed, init_args: {{width: {width}{', tokens: true' * tokens}}}}}"
    while (inner := getattr(preprocess, "inner", None)) is not None:  # an evaluation reads through another one
        preprocess = inner
    if isinstance(preprocess, FeatureTokens):
        fits, has = tokens and preprocess.width == width, f"tokens of width {preprocess.width}"
    elif isinstance(preprocess, Array):
        fits, has = not tokens and preprocess.shape == (width,), f"rows of width {preprocess.shape[-1]}"
        has = has if len(preprocess.shape) == 1 else f"rows of shape {preprocess.shape}"
    else:
        fits, has = False, f"the input of {type(preprocess).__name__}"
    if fits and isinstance(preprocess, FeatureTokens) and column.longest > preprocess.length:
        raise ValueError(
            f"the column {column.name} has rows of {column.longest} tokens, the tower {modality!r} takes "
            f"{preprocess.length}: give it the preprocess {{class_path: align.preprocess.FeatureTokens, init_args: "
            f"{{width: {width}, length: {column.longest}}}}}"
        )
    if not fits:
        raise ValueError(
            f"the column {column.name} has {takes}, the tower {modality!r} takes {has}: give it the encoder {remedy}, "
            "or leave the column out"
        )
