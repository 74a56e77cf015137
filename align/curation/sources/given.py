"""Samples given by a program: from a generator, a list, or anything else that can be iterated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from align.curation.members.files import Member, Sampling, from_bytes, from_captions, from_file, make_member
from align.curation.members.planned import Planned
from align.data.meta import is_text
from align.data.names import FOREIGN, LABEL, TEXT, check_member, member_modality, modalities
from align.media import MEDIA, Media
from align.media.choice import converter_of, medium_of


class Given:
    """Each ``(key, {member: content})``, or ``{"__key__": key, member: content}`` as webdataset's writers take it.

    A content is bytes, a ``Path`` (read when its turn comes) or an object that the medium encodes (an array for .npy).
    For .txt and .cls it may be a str, for .txt a list of captions, for the json anything that JSON can say. None is a
    member that is missing. A value that is no caption is a bad row, and the sample stays. A mesh or scan
    (``points.obj``) becomes a cloud with the settings ``sampling``. Given as a Path, it finds its textures.
    """

    def __init__(self, samples: Iterable[Any], sampling: Sampling = Sampling(), media: Media = MEDIA):
        self._samples, self.sampling, self.media = samples, sampling, media
        self.without = 0  # samples without any modality

    def samples(self) -> Iterator[Planned]:
        """Yield the samples. Raises TypeError and ValueError that name the sample by its number."""
        for number, sample in enumerate(self._samples):
            key, members = _parts(number, sample)
            planned = Planned(key, [self._member(key, name, x) for name, x in members.items() if x is not None])
            if modalities([member.name for member in planned.members], FOREIGN):
                yield planned
            else:
                self.without += 1

    def _member(self, key: str, name: str, content: Any) -> Member:
        try:
            check_member(name)
        except ValueError as error:
            raise ValueError(f"sample {key!r}: {error}") from None
        suffix, modality = name.rpartition(".")[2], member_modality(name)
        if isinstance(content, bytes | bytearray | memoryview):
            return from_bytes(name, bytes(content))
        if isinstance(content, Path):
            if not content.is_file():
                raise FileNotFoundError(f"sample {key!r}: no file {content}")
            if converter_of(self.media, suffix, modality) is not None:
                return make_member(name.removesuffix(f".{suffix}"), content, key, self.sampling, media=self.media)
            return from_file(name, content)
        if suffix == "json":
            try:
                return from_bytes(name, json.dumps(content, ensure_ascii=False).encode())
            except (TypeError, ValueError) as error:
                raise ValueError(f"sample {key!r}: the json cannot be written ({error})") from None
        if suffix == TEXT and not (isinstance(content, str) and is_text(content)):
            return from_captions(name, content) or from_bytes(name, b"")
        if isinstance(content, str) and suffix in (TEXT, LABEL):
            return from_bytes(name, content.encode())
        medium = medium_of(self.media, suffix, modality)
        if medium is not None and (data := medium.encode(content)) is not None:
            return from_bytes(name, data)
        raise TypeError(
            f"member {name!r} of sample {key!r} is a {type(content).__name__}; give bytes, a Path, a str for .txt, "
            "an array for .npy, or what JSON can say for json"
        )


def is_keyed(sample: Any) -> bool:
    """Return whether a sample is one for ``Given``, and no row of a table."""
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
