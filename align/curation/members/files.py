"""A file on the disk -> a member of a shard: byte for byte, unless its medium makes another member of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from align.data.captions import captions
from align.data.names import CODE, TEXT
from align.data.rows import explain
from align.media import MEDIA, Media
from align.media.choice import advise, converter_of, modality_of, of_modality
from align.media.medium import Stored
from align.seeds import derive
from align.values import BadSample


class Sampling(NamedTuple):
    """Settings that make clouds of meshes: points on each, and the seed of the draw."""

    points: int = 4096
    seed: int = 0


class Member(NamedTuple):
    """A member to write: its name, and a function that reads its bytes later, which can be sent to a process.

    mark: tells these bytes from others without reading them. size: their number, estimated for a converted file.
    """

    name: str
    read: Callable[[], bytes | Stored]
    mark: str = ""
    size: int = 0


def from_bytes(name: str, data: bytes) -> Member:
    """Return a member whose bytes are there already."""
    return Member(name, partial(bytes, data), hashlib.blake2b(data, digest_size=8).hexdigest(), len(data))


def from_file(name: str, path: Path) -> Member:
    """Return a member that is a file, byte for byte."""
    return Member(name, path.read_bytes, *_state(path))


def from_captions(name: str, value: object) -> Member | None:
    """Return the member of a caption, or of a list of them on a line each, or None.

    A value that is no caption becomes a member that cannot be had: its row is bad, the others stand.
    """
    try:
        lines = [" ".join(text.split()) for text in captions(value)]
        return from_bytes(name, "\n".join(lines).encode()) if lines else None
    except BadSample as error:
        return refuse(name, explain(error, _modality(name)), error.detail)
    except UnicodeEncodeError:
        return refuse(name, f"{_modality(name)}/not-utf8", "half a surrogate pair")


def refuse(name: str, reason: str, detail: str) -> Member:
    """Return a member that cannot be had: its row is bad, for that reason."""
    return Member(name, partial(_raise, reason, detail), f"{reason} {detail.encode('utf-8', 'replace')!r}")


def _raise(reason: str, detail: str) -> bytes:
    raise BadSample(reason, detail)


def _modality(name: str) -> str:
    return "text" if name == TEXT else name.partition(".")[0]


def _state(path: Path) -> tuple[str, int]:
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}", stat.st_size


def suffix_of(path: Path) -> str:
    """Return a file's suffix in lower case, without its dot."""
    return path.suffix.lower().removeprefix(".")


def file_modality(path: Path, media: Media = MEDIA) -> str | None:
    """Return the modality that a file's suffix says, or None."""
    return modality_of(media, suffix_of(path))


def readable(modality: str, media: Media = MEDIA) -> tuple[str, ...] | None:
    """Return the suffixes of files that a modality reads, or None for a modality that may have any but pickles."""
    medium = of_modality(media, modality)
    return None if medium is None else (*medium.suffixes, *medium.files)


def make_member(
    slot: str, path: Path, key: str, sampling: Sampling, within: Path | None = None, media: Media = MEDIA
) -> Member:
    """Return the member that a file becomes. slot: ``image``, ``image.0``.

    within: the folder that a mesh may refer into, for its textures. Default: its own.

    Raises FileNotFoundError where there is no file, ValueError for a suffix that the modality does not read.
    """
    modality, suffix = slot.partition(".")[0], suffix_of(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    known = readable(modality, media)
    if known is not None and suffix not in known:
        medium = of_modality(media, modality)
        also = advise([] if medium is None else [medium], path)
        raise ValueError(f"{path} is no {modality} file that can be read ({', '.join(known)}){also and f'; {also}'}")
    if not suffix.isalnum() or suffix in CODE:
        raise ValueError(f"{path}: a member is named by its suffix, and pickles are never stored; this has {suffix!r}")
    if (medium := converter_of(media, suffix, modality)) is not None:
        seed = derive(sampling.seed, key, slot)
        read = partial(medium.convert, path, suffix, points=sampling.points, seed=seed, within=within)
        return Member(f"{slot}.{medium.suffixes[0]}", read, _state(path)[0], 128 + 24 * sampling.points)
    return from_file(f"{slot}.{suffix}", path)
