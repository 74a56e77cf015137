"""Clouds on their way into a shard: made of meshes and scans, and judged as a check and a training run judge them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from align.curation.jobs.job import Fault
from align.data.names import row_name
from align.media.npy import read_npy
from align.media.shapes.mesh import DROPPED, SUFFIXES, read_cloud
from align.preprocess import Points
from align.preprocess.points import checked
from align.seeds import derive
from align.values import BadSample

LIMIT = 1 << 28  # numbers of an array of a modality of one's own
MOST = Points().max_points


class Sampling(NamedTuple):
    """Settings that make clouds of meshes: points on each, and the seed of the draw."""

    points: int = 4096
    seed: int = 0


class Made(NamedTuple):
    """A .npy that was made of a mesh or a scan, and (reason, detail) of what is said of it."""

    data: bytes
    notes: list[tuple[str, str]]


def make_cloud(source: Path | bytes, points: int, seed: int, suffix: str = "", within: Path | None = None) -> Made:
    """A mesh or a scan as .npy bytes: (points, 6) float32, xyz and rgb, or (points, 3) where it has no colour.

    within: the folder that the file may refer into. Raises BadSample for one that cannot be read.
    """
    cloud, notes = read_cloud(source, points, seed, suffix=suffix or None, within=within)
    where = f"{source}: " if isinstance(source, Path) else ""
    return Made(saved(cloud), [(note.reason, where + note.detail) for note in notes])


def converted(key: str, name: str, data: bytes, sampling: Sampling) -> tuple[str, bytes, list[Fault]]:
    """A member that is the bytes of a mesh or scan, as the cloud that training reads; others as they are.

    A texture that it names is not at hand, which is said. Raises BadSample.
    """
    row = row_name(name)
    if row is None or row.modality != "points" or row.suffix not in SUFFIXES:
        return name, data, []
    slot = name.removesuffix(f".{row.suffix}")
    made = make_cloud(data, sampling.points, derive(sampling.seed, key, slot), row.suffix)
    return f"{slot}.npy", made.data, [(reason, name, detail) for reason, detail in made.notes]


def judged(name: str, data: bytes) -> tuple[bytes, list[Fault]]:
    """An array as it is, or a cloud without the points that are not finite, which are counted; no other member is read.

    Raises BadSample for what training could not use.
    """
    row = row_name(name)
    if row is None or row.suffix != "npy":
        return data, []
    if row.modality != "points":
        array = read_npy(io.BytesIO(data), row.modality, limit=LIMIT)
        if array.size == 0:
            raise BadSample(f"{row.modality}/empty", f"shape {array.shape}")
        if wrong := int((~np.isfinite(array)).sum()):
            raise BadSample(f"{row.modality}/non-finite", f"{wrong} of {array.size} numbers")
        return data, []
    array = read_npy(io.BytesIO(data), "points", limit=6 * MOST)
    try:
        checked(array, None, color=True)
        return data, []
    except BadSample as error:
        if error.reason != "points/non-finite":
            raise
    good = np.asarray(np.isfinite(array).all(1))
    if good.any():
        checked(array[good], None, color=True)
        return saved(array[good]), [(DROPPED, name, f"{int((~good).sum())} of {len(good)} points are not finite")]
    raise BadSample("points/non-finite", f"none of its {len(good)} points is finite")


def saved(array: np.ndarray) -> bytes:
    """An array as .npy bytes."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
