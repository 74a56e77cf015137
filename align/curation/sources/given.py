"""Samples given by a program: from a generator, a list, or anything else that can be iterated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from align.curation.members.clouds import Sampling, saved
from align.curation.members.files import Member, held, member, stored, words
from align.curation.members.planned import Planned
from align.data.meta import is_text
from align.data.names import FOREIGN, check_member, modalities, row_name
from align.media.shapes.mesh import SUFFIXES as MESHES


class Given:
    """Each ``(key, {member: content})``, or ``{"__key__": key, member: content}`` as webdataset's writers take it.

    A content is bytes; a ``Path`` (read when its turn comes); for a .npy also an array; for .txt and .cls also a str;
    for the json anything that JSON can say; None is a member that is missing. A .txt may also be a list of captions; a
    value that is no caption is a bad row, and the sample stays. A mesh or scan (``points.obj``) becomes a cloud, as
    ``sampling`` says; as a Path it finds its textures.
    """

    def __init__(self, samples: Iterable[Any], sampling: Sampling = Sampling()):  # noqa: B008  a tuple
        self._samples, self.sampling = samples, sampling
        self.without = 0  # samples without any modality

    def samples(self) -> Iterator[Planned]:
        """The samples, once. Raises TypeError and ValueError that name the sample by its number."""
        for number, sample in enumerate(self._samples):
            key, members = _parts(number, sample)
            planned = Planned(
                key, [_member(key, name, x, self.sampling) for name, x in members.items() if x is not None]
            )
            if modalities([member.name for member in planned.members], FOREIGN):
                yield planned
            else:
                self.without += 1


def keyed(sample: Any) -> bool:
    """Whether a sample is one for ``given``; else it is a row of a table."""
    return isinstance(sample, tuple) or (isinstance(sample, Mapping) and "__key__" in sample)


def _parts(number: int, sample: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[1], Mapping):
        key, members = sample
    elif isinstance(sample, Mapping) and "__key__" in sample:
        key, members = sample["__key__"], {n: x for n, x in sample.items() if not str(n).startswith("__")}
    else:
        raise TypeError(f"sample {number} is a {type(sample).__name__}; expected (key, {{'image.jpg': bytes, ...}})")
    if not isinstance(key, str):
        raise TypeError(f"the key of sample {number} is a {type(key).__name__}; it is a str")
    return key, dict(members)


def _member(key: str, name: str, content: Any, sampling: Sampling) -> Member:
    try:
        check_member(name)
    except ValueError as error:
        raise ValueError(f"sample {key!r}: {error}") from None
    suffix = name.rpartition(".")[2]
    if isinstance(content, bytes | bytearray | memoryview):
        return held(name, bytes(content))
    if isinstance(content, Path):
        if not content.is_file():
            raise FileNotFoundError(f"sample {key!r}: no file {content}")
        row = row_name(name)
        if row is not None and row.modality == "points" and suffix in MESHES:
            return member(name.removesuffix(f".{suffix}"), content, key, **sampling._asdict())
        return stored(name, content)
    if suffix == "json":
        try:
            return held(name, json.dumps(content, ensure_ascii=False).encode())
        except (TypeError, ValueError) as error:
            raise ValueError(f"sample {key!r}: the json cannot be written ({error})") from None
    if suffix == "txt" and not (isinstance(content, str) and is_text(content)):
        return words(name, content) or held(name, b"")
    if isinstance(content, str) and suffix in ("txt", "cls"):
        return held(name, content.encode())
    if suffix == "npy" and (isinstance(content, np.ndarray) or hasattr(content, "__array__")):
        return held(name, saved(np.asarray(content)))
    raise TypeError(
        f"member {name!r} of sample {key!r} is a {type(content).__name__}; give bytes, a Path, a str for .txt, "
        "an array for .npy, or what JSON can say for json"
    )
