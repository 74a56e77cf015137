"""Regions of a sample, from its json and a mask beside the picture or the cloud, placed as a tower reads the row."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.data.meta import read_meta
from align.data.names import MemberNames
from align.data.rows import RowSource, find_rows
from align.media.npy import read_array
from align.preprocess import Preprocess
from align.values import BadSample, Sample


class Region(NamedTuple):
    """A region of a row. mask: bool over the places that the tower reads, (H, W) or (P,). text: its phrase, or "".

    label: attribute -> value. exact: its mask is not a box alone.
    """

    mask: Tensor
    text: str
    label: Mapping[str, Any]
    exact: bool


class Regional(NamedTuple):
    """A row, as ``collate`` takes it, with its regions. left_out: regions of the json that could not be read."""

    row: Any
    regions: list[Region]
    left_out: int


def read_regions(
    sample: Sample, modality: str, preprocess: Preprocess, mask: str, members: MemberNames
) -> Regional | None:
    """Return the first row of a modality with its regions, None where it has none.

    The json has ``regions: [{box: [left, top, right, bottom], text, mask, label}]``. A box is in fractions of the
    picture. mask, in the json, is the number of the region in the member ``mask``. A region without one is its box.

    A region counts as left out that is no object, has neither number nor box, or a box outside of [0, 1] or empty.
    """
    stated = read_meta(sample, members)[0].json or {}
    listed = stated.get("regions")
    found_rows = find_rows(sample, modality, preprocess.suffixes, members, stated)
    sources = [one for one in found_rows if isinstance(one, RowSource) and not one.negative]
    fit: Any = getattr(preprocess, "fit_mask", None)
    if not isinstance(listed, list) or not sources or fit is None:
        return None
    try:
        x: Any = preprocess.decode(sources[0].data)
        row = preprocess.eval(x)
    except BadSample:  # the table of embeddings has counted it
        return Regional(None, [], len(listed))
    sides = x.shape[1:] if x.ndim == 3 else x.shape[:1]  # (C, H, W) or (P, C)
    numbers = _read_mask(sample.get(mask), sides)
    placed = None if numbers is None else fit(numbers)
    found = [_read_region(one, placed, lambda box: _fill_box(box, sides, fit)) for one in listed]
    regions = [region for region in found if region is not None and bool(region.mask.any())]
    return Regional(row, regions, len(listed) - len(regions))


def _read_region(one: Any, placed: Tensor | None, fill: Callable[[Any], Tensor | None]) -> Region | None:
    if not isinstance(one, Mapping):
        return None
    exact = placed is not None and type(one.get("mask")) is int
    mask = placed == one["mask"] if placed is not None and exact else fill(one.get("box"))
    if mask is None:
        return None
    text, label = one.get("text"), one.get("label")
    return Region(mask, text if isinstance(text, str) else "", label if isinstance(label, Mapping) else {}, exact)


def _read_mask(data: bytes | None, sides: Sequence[int]) -> Tensor | None:
    """Return a mask of numbers, (H, W) of a PNG or as a .npy has it. None for one of other sides, or unreadable."""
    if data is None:
        return None
    from PIL import Image

    try:
        if data[:6] == b"\x93NUMPY":
            numbers = read_array(data, "mask", limit=math.prod(sides))
        else:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
                numbers = np.asarray(picture) if picture.size[::-1] == tuple(sides) else np.zeros(0)
    except (OSError, ValueError, SyntaxError, BadSample):
        return None
    if numbers.shape != tuple(sides):
        return None
    return torch.from_numpy(np.ascontiguousarray(numbers).astype(np.int64))


def _fill_box(box: Any, sides: Sequence[int], fit: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Return the places of a box as the tower reads them. None for one outside [0, 1] or empty, and for clouds."""
    if not isinstance(box, list) or len(box) != 4 or len(sides) != 2 or not all(type(x) in (int, float) for x in box):
        return None
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):  # so is one that is not a number
        return None
    H, W = sides
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[math.floor(top * H) : math.ceil(bottom * H), math.floor(left * W) : math.ceil(right * W)] = True
    return fit(mask)
