"""From a sample's members to the sources of its rows, one ``decode`` each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from align.data.bad import BLANK
from align.data.captions import captions, is_blank
from align.data.names import CODE, Mapped, mapped, row_name
from align.values import BadSample, Sample


class Source(NamedTuple):
    """What one row is decoded from."""

    data: bytes
    negative: bool
    member: str

    @property
    def suffix(self) -> str:
        """What its bytes are; a caption inside the json is text."""
        return "txt" if self.member.startswith("json:") else self.member.rpartition(".")[2]


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
        out += (
            lines(sample[member], modality, negative, member)
            if member.endswith(".txt")
            else [Source(sample[member], negative, member)]
        )
    if not own and (name := mapped(modality, members, sample)) is not None:
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
        suffix = member.rpartition(".")[2]
        if suffix in CODE or (suffixes and suffix not in suffixes):
            return [Unusable(f"ignored/{modality}.{suffix}", member)]
        if suffix == "txt" and is_blank(sample[member]):
            return [Unusable(f"{modality}/{BLANK}", member)]
        return [Source(sample[member].strip() if suffix == "txt" else sample[member], False, member)]
    value = stated.get(key)
    if value is None:
        return []
    try:
        texts = captions(value)
    except BadSample as error:
        return [Unusable(explain(error, modality), name)]
    if not texts:
        return [Unusable(f"{modality}/{BLANK}", name)]
    if suffixes and "txt" not in suffixes:
        raise ValueError(
            f"members: {name!r} is text, which the preprocess of {modality!r} does not read ({', '.join(suffixes)})"
        )
    return [Source(text.encode("utf-8", "replace"), False, name) for text in texts]


def explain(error: BadSample, modality: str) -> str:
    """The reason to count: the preprocess's own, under the modality where it names none."""
    return error.reason if "/" in error.reason else f"{modality}/{error.reason}"
