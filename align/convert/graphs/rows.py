"""Rows of any preprocess, made of nothing, to trace a tower with and to compare a graph with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.preprocess import Audio, Points, Preprocess, Signal
from align.preprocess.front_ends import ClipFrontEnd
from align.preprocess.text import Text

INPUT = "values"
"""Name of the input of a tower that takes one tensor."""
TEXTS = ("a red cube", "dog", "the sound of rain on a tin roof at night", "two", "a large blue sphere, seen from above")
SHARE = 0.6
"""Length of the shorter rows, as a share of the preset's."""


class Shorter(NamedTuple):
    """Rows of another length than the preset's. axis: of the length. whole: the preset's rows that embed alike."""

    rows: dict[str, Tensor]
    axis: int
    whole: dict[str, Tensor] | None = None


def make_rows(preprocess: Preprocess, n: int) -> dict[str, Tensor]:
    """Return n rows as ``collate`` gives them, input -> tensor: texts, noise of several lengths, pixels, numbers."""
    draw = torch.Generator().manual_seed(0)
    if isinstance(preprocess, Text):
        return name_inputs(preprocess.collate([preprocess.row(TEXTS[i % len(TEXTS)]) for i in range(n)]))
    if isinstance(preprocess, Audio):
        rows = []
        for i in range(n):
            length = max(2, int(preprocess.samples * (1, 0.7, 1.3, 0.9, 2)[i % 5]))
            rows.append(preprocess.row((0.2 * torch.randn(length, generator=draw)).clamp(-1, 1)))
        return name_inputs(preprocess.collate(rows))
    return {name: _fill(x, n, draw, preprocess) for name, x in name_inputs(preprocess.collate([])).items()}


def shorten_rows(preprocess: Preprocess) -> Shorter | None:
    """Return three rows of another length, None where a preset's rows have one length."""
    rows = make_rows(preprocess, 3)
    if isinstance(preprocess, Text):
        whole = name_inputs(preprocess.collate([preprocess.row(text) for text in ("dog", "a", "two")]))
        if getattr(preprocess, "padding", "right") == "left":
            return None
        ids = whole.get("attention_mask", next(iter(whole.values())))
        length = int((ids != 0).sum(1).max())
        return Shorter({name: x[:, :length].contiguous() for name, x in whole.items()}, 1, whole)
    if isinstance(preprocess, Audio):
        front: Any = preprocess._front
        if isinstance(front, ClipFrontEnd) or front.needs_length or preprocess.window.count > 1:
            return None
    elif not isinstance(preprocess, Points | Signal):
        return None
    axis = 2 if isinstance(preprocess, Signal) else 1
    return Shorter({name: x.narrow(axis, 0, int(x.shape[axis] * SHARE)).contiguous() for name, x in rows.items()}, axis)


def name_inputs(values: Any) -> dict[str, Tensor]:
    """Return values as input -> tensor. One tensor is ``values``."""
    return dict(values) if isinstance(values, dict) else {INPUT: values}


def _fill(x: Tensor, n: int, draw: torch.Generator, preprocess: Any) -> Tensor:
    """Return (n, ...) numbers of the type of ``x``: ids below the vocabulary, floats in [0, 1), any pixels."""
    shape = (n, *x.shape[1:])
    if x.dtype == torch.bool:
        return torch.ones(shape, dtype=torch.bool)
    if x.is_floating_point():
        return torch.rand(shape, generator=draw).to(x.dtype)
    most = {torch.uint8: 256, torch.uint16: 65536}.get(x.dtype) or getattr(preprocess, "vocabulary", 2)
    return torch.randint(0, int(most), shape, generator=draw).to(x.dtype)
