"""From a sample's members to the sources of its rows, one ``decode`` each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from align.data.bad import BLANK
from align.data.captions import captions, is_blank
from align.data.decoded import is_decoded, member_of, texts
from align.data.names import CODE, FOREIGN, TEXT, Mapped, row_name
from align.values import BadSample, Sample

USUAL = frozenset(name for names in FOREIGN.values() for name in names)
"""Names that state a format, and so which preprocess reads it."""


class Source(NamedTuple):
    """What one row is decoded from."""

    data: Any  # bytes, or what a pipeline has decoded
    negative: bool
    member: str

    @property
    def suffix(self) -> str:
        """What its bytes are; a caption inside the json is text."""
        return TEXT if self.member.startswith("json:") else self.member.rpartition(".")[2]


class Unusable(NamedTuple):
    """A member without rows: the reason, and which it was."""

    reason: str
    member: str


def sources(
    sample: Sample, modality: str, suffixes: Sequence[str], members: Mapped, stated: dict[str, Any] | None = None
) -> list[Source | Unusable]:
    """The rows of a modality in a sample, in order: the plain member, numbered ones, hard negatives.

    Of members that differ only in their suffix the first of ``suffixes`` is taken. A ``.txt`` is split by lines, one
    row each; a mapped ``txt`` (no modality in its name) is one row. stated: the sample's json, for ``json:KEY``. A
    blank caption is a hole (``text/blank``) where the member's name says no modality: other programs write one for each
    sample. A member of ours that is blank has lost its rows (``text/empty``), for nothing here writes such a one.
    """
    own = {}
    out: list[Source | Unusable] = []
    for member in sample:
        row = None if member.startswith("__") else row_name(member)
        if row is None or row.modality != modality:
            continue
        if suffixes and row.suffix not in suffixes:
            out.append(Unusable(f"ignored/{modality}.{row.suffix}", member))
            continue
        rank = suffixes.index(row.suffix) if suffixes else 0
        slot = (row.negative, row.number)
        if slot not in own or (rank, member) < own[slot]:
            own[slot] = (rank, member)
    for (negative, _), (_, member) in sorted(own.items()):
        for data in texts(sample[member]):
            by_line = member.endswith(f".{TEXT}") and not is_decoded(data)
            out += lines(data, modality, negative, member) if by_line else [Source(data, negative, member)]
    if not own and (name := member_of(modality, members, sample)) is not None:
        out += _mapped(sample, name, modality, suffixes, stated or {})
    return out


def lines(data: bytes, modality: str, negative: bool, member: str) -> list[Source | Unusable]:
    """One source a line that is not blank."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return [Unusable(f"{modality}/not-utf8", member)]
    found = [line.strip() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()]
    kept = [Source(line, negative, member) for line in found if line]
    return [*kept] or [Unusable(f"{modality}/empty", member)]


def _mapped(
    sample: Sample, name: str, modality: str, suffixes: Sequence[str], stated: dict[str, Any]
) -> list[Source | Unusable]:
    member, _, key = name.partition(":")
    if not key:
        data, suffix = sample[member], member.rpartition(".")[2]
        if is_decoded(data):
            found = [x if is_decoded(x) else x.strip() for x in texts(data)]
            kept = [Source(x, False, member) for x in found if is_decoded(x) or not is_blank(x)]
            return [*kept] if kept else [Unusable(f"{modality}/{BLANK}", member)]
        if suffixes and suffix not in suffixes and suffix not in CODE and suffix not in USUAL:
            suffix = TEXT if TEXT in suffixes else ""  # a name that says nothing of the content: ``img``, ``image``
        elif suffix in CODE or (suffixes and suffix not in suffixes):
            return [Unusable(f"ignored/{modality}.{suffix}", member)]
        if suffix == TEXT and is_blank(data):
            return [Unusable(f"{modality}/{BLANK}", member)]
        return [Source(data.strip() if suffix == TEXT else data, False, member)]
    value = stated.get(key)
    if value is None:
        return []
    try:
        found = captions(value)
    except BadSample as error:
        return [Unusable(explain(error, modality), name)]
    if not found:
        return [Unusable(f"{modality}/{BLANK}", name)]
    if suffixes and TEXT not in suffixes:
        raise ValueError(
            f"members: {name!r} is text, which the preprocess of {modality!r} does not read ({', '.join(suffixes)})"
        )
    return [Source(text.encode("utf-8", "replace"), False, name) for text in found]


def explain(error: BadSample, modality: str) -> str:
    """The reason to count: the preprocess's own, under the modality where it names none."""
    return error.reason if "/" in error.reason else f"{modality}/{error.reason}"
