"""A file on the disk -> a member of a shard: byte for byte, except that a mesh becomes a cloud of points."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from align.data.names import CODE
from align.preprocess import Audio, Image
from align.preprocess.mesh import SUFFIXES as MESHES
from align.preprocess.mesh import sample_mesh
from align.seeds import derive
from align.values import BadSample

SUFFIXES = {"image": Image.suffixes, "audio": Audio.suffixes, "points": ("npy", *MESHES), "text": ("txt",)}
"""What files of the modalities that come built in end in; other modalities may have any but pickles."""


class Member(NamedTuple):
    """A member to write: its name, and what gives its bytes when the time comes."""

    name: str
    read: Callable[[], bytes]


def kind(path: Path) -> str | None:
    """The modality that a file's suffix says, or None."""
    suffix = path.suffix.lower().removeprefix(".")
    return next((modality for modality, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def member(slot: str, path: Path, key: str, *, points: int, seed: int) -> Member:
    """The member that a file becomes. slot: ``image``, ``image.0``; a mesh is sampled with ``points`` points.

    Raises FileNotFoundError where there is no file, ValueError for a suffix that the modality does not read.
    """
    modality = slot.partition(".")[0]
    suffix = path.suffix.lower().removeprefix(".")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    readable = SUFFIXES.get(modality)
    if readable is not None and suffix not in readable:
        raise ValueError(f"{path} is no {modality} file that can be read ({', '.join(readable)})")
    if not suffix.isalnum() or suffix in CODE:
        raise ValueError(f"{path}: a member is named by its suffix, and pickles are never stored; this has {suffix!r}")
    if modality == "points" and suffix in MESHES:
        return Member(f"{slot}.npy", lambda: cloud(path, points, derive(seed, key, slot)))
    return Member(f"{slot}.{suffix}", path.read_bytes)


def cloud(path: Path, points: int, seed: int) -> bytes:
    """A mesh file as .npy bytes: (points, 6) float32, xyz and rgb. Raises ValueError for one that cannot be read."""
    import numpy as np

    try:
        sampled = sample_mesh(path, points, seed)
    except BadSample as error:
        raise ValueError(str(error)) from None
    out = io.BytesIO()
    np.save(out, sampled, allow_pickle=False)
    return out.getvalue()
