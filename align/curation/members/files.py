"""A file on the disk -> a member of a shard: byte for byte, except that a mesh becomes a cloud of points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from align.curation.members.clouds import Made, make_cloud
from align.data.captions import captions
from align.data.names import CODE
from align.data.rows import explain
from align.media.shapes.mesh import SUFFIXES as MESHES
from align.media.sounds.formats import SUFFIXES as FOREIGN
from align.media.sounds.formats import convert
from align.preprocess import Audio, Image
from align.seeds import derive
from align.values import BadSample

SUFFIXES = {"image": Image.suffixes, "audio": Audio.suffixes, "points": ("npy", *MESHES), "text": ("txt",)}
"""What files of the modalities that come built in end in; other modalities may have any but pickles."""


class Member(NamedTuple):
    """A member to write: its name, and what gives its bytes when the time comes; ``read`` can be sent to a process.

    mark: what tells these bytes from others without reading them. size: how many there are.
    """

    name: str
    read: Callable[[], bytes | Made]
    mark: str = ""
    size: int = 0


def held(name: str, data: bytes) -> Member:
    """A member whose bytes are there already."""
    return Member(name, partial(bytes, data), hashlib.blake2b(data, digest_size=8).hexdigest(), len(data))


def words(name: str, value: Any) -> Member | None:
    """The member of a caption, or of a list of them on a line each; None where there is none.

    A value that is no caption becomes a member that cannot be had: its row is bad, the others stand.
    """
    modality = "text" if name == "txt" else name.partition(".")[0]
    try:
        lines = [" ".join(text.split()) for text in captions(value)]
        return held(name, "\n".join(lines).encode()) if lines else None
    except BadSample as error:
        return unreadable(name, explain(error, modality), error.detail)
    except UnicodeEncodeError:
        return unreadable(name, f"{modality}/not-utf8", "half a surrogate pair")


def unreadable(name: str, reason: str, detail: str) -> Member:
    """A member that cannot be had: its row is bad, for that reason."""
    return Member(name, partial(_refuse, reason, detail), f"{reason} {detail.encode('utf-8', 'replace')!r}")


def _refuse(reason: str, detail: str) -> bytes:
    raise BadSample(reason, detail)


def stored(name: str, path: Path) -> Member:
    """A member that is a file, byte for byte."""
    return Member(name, path.read_bytes, *_state(path))


def _state(path: Path) -> tuple[str, int]:
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}", stat.st_size


def kind(path: Path) -> str | None:
    """The modality that a file's suffix says, or None."""
    suffix = path.suffix.lower().removeprefix(".")
    return next((modality for modality, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def member(slot: str, path: Path, key: str, *, points: int, seed: int, within: Path | None = None) -> Member:
    """The member that a file becomes. slot: ``image``, ``image.0``; a mesh is sampled with ``points`` points.

    within: the folder that a mesh may refer into, for its textures; default: its own.

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
        also = f"; {convert(path)}" if modality == "audio" and suffix in FOREIGN else ""
        raise ValueError(f"{path} is no {modality} file that can be read ({', '.join(readable)}){also}")
    if not suffix.isalnum() or suffix in CODE:
        raise ValueError(f"{path}: a member is named by its suffix, and pickles are never stored; this has {suffix!r}")
    if modality == "points" and suffix in MESHES:
        read = partial(make_cloud, path, points, derive(seed, key, slot), within=within)
        return Member(f"{slot}.npy", read, _state(path)[0], 128 + 24 * points)
    return stored(f"{slot}.{suffix}", path)
