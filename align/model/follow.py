"""Towers that read other towers: which follows which, and raw inputs for one that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from align.encoders.follower import Follower, Lead, as_maps
from align.model.naming import naming, short
from align.preprocess.view import Inside
from align.values import Batch, Rows, Values


def link(towers: Mapping[str, Any], dim: int) -> dict[str, str]:
    """Return tower -> the tower that it reads, and tell these encoders the model's dim.

    Raises ValueError where one reads a tower that is not there, or that reads another itself.
    """
    follows = {name: tower.encoder.of for name, tower in towers.items() if isinstance(tower.encoder, Follower)}
    for name, of in follows.items():
        if of not in towers or of in follows:
            why = "reads another tower itself" if of in follows else f"is not there; there are {', '.join(towers)}"
            raise ValueError(f"tower {name!r} reads the tokens of tower {of!r}, which {why}")
        towers[name].encoder.width = dim
    return follows


def lead(tower: Any, name: str, rows: Rows, tokens: Tensor, call: Callable[..., Any]) -> Lead:
    """Return the tower that others read. tokens: (m, L, D), its embedded tokens of ``rows``. call: runs the tower."""
    grid_of = getattr(tower.encoder, "grid_of", None)

    def maps(values: Values, each: Tensor) -> Tensor:
        grid = None if grid_of is None else grid_of(values)
        return as_maps(each, grid, getattr(tower.encoder, "grid_start", 0), name)

    return Lead(rows, maps(rows.values, tokens), lambda values: maps(values, call(values, tokens=True)[1]))


def collate_parts(towers: Mapping[str, Any], name: str, of: str, given: list[Any], size: int) -> Iterator[Batch]:
    """Yield raw inputs of a tower that reads ``of``, ``size`` at a time. Each is {of: its whole, "box": its place}.

    Raises ValueError for an input of another form and for a tower that has rows in training alone, and BadSample for a
    bad input, with its place in the list.
    """
    if towers[name].encoder.trains_only:
        raise ValueError(f"tower {name!r} has rows in training alone, and embeds nothing")
    reader, whole = (towers[m].preprocess for m in (name, of))
    for start in range(0, max(len(given), 1), size):
        rows, wholes = [], []
        for i, x in enumerate(given[start : start + size], start):
            with naming(f"{name}[{i}] ({short(x)})"):
                if not isinstance(x, Mapping) or {*x} != {of, "box"}:
                    raise ValueError(f"takes {{'{of}': …, 'box': [left, top, right, bottom]}}, fractions of the sides")
                decoded = whole.decode(x[of])
                rows.append(reader.row(Inside(x["box"], decoded, whole)))
                wholes.append(whole.eval(decoded))
        sample = torch.arange(len(rows))
        table = {of: Rows(whole.collate(wholes), sample), name: Rows(reader.collate(rows), sample)}
        yield Batch(table, ids=[str(i) for i in range(len(rows))], position=sample)
