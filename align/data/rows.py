"""The rows in a sample's members: the source of each, which takes one ``decode``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from align.data.bad import BLANK
from align.data.captions import captions, is_blank, look_up
from align.data.decoded import is_decoded, member_of, split_texts
from align.data.names import CODE, FOREIGN, TEXT, MemberNames, has_lines, row_name
from align.data.parts import read_entries
from align.media.box import SUFFIX as BOX
from align.values import BadSample, Sample

USUAL = frozenset(name for names in FOREIGN.values() for name in names)
"""Names that state a format, and so the preprocess that reads it."""


class RowSource(NamedTuple):
    """The source of one row, before it is decoded."""

    data: Any  # bytes, or an object that a pipeline has decoded
    negative: bool
    member: str
    part: int = -1  # of the sample, or -1 for the whole
    format: str = ""  # where the member's name does not say it

    @property
    def suffix(self) -> str:
        """The format of its bytes. A caption inside the json is "txt", and so is a line of ``txt:lines``."""
        if self.format:
            return self.format
        inside = self.member.startswith("json:") or has_lines(self.member)
        return TEXT if inside else self.member.rpartition(".")[2]


class UnusableMember(NamedTuple):
    """A member without rows, and the reason."""

    reason: str
    member: str


def find_rows(
    sample: Sample, modality: str, suffixes: Sequence[str], members: MemberNames, stated: dict[str, Any] | None = None
) -> list[RowSource | UnusableMember]:
    """Return the rows of a modality in a sample, in order: the plain member, numbered ones, hard negatives.

    Of members that differ only in their suffix the first of ``suffixes`` is taken. A ``.txt`` is split by lines, one
    row each. A mapped ``txt`` (no modality in its name) is one row. stated: the sample's json, for ``json:KEY``, and
    for ``json:LIST/KEY``, whose rows are parts of the sample.
    A blank caption is a hole (``text/blank``) where the member's name has no modality: other programs write one for
    each sample. A blank member of ours has lost its rows (``text/empty``), since nothing here writes such a member.
    """
    slots = {}
    out: list[RowSource | UnusableMember] = []
    for member in sample:
        row = None if member.startswith("__") else row_name(member)
        if row is None or row.modality != modality:
            continue
        if suffixes and row.suffix not in suffixes:
            out.append(UnusableMember(f"ignored/{modality}.{row.suffix}", member))
            continue
        rank = suffixes.index(row.suffix) if suffixes else 0
        slot = (row.negative, row.number)
        if slot not in slots or (rank, member) < slots[slot]:
            slots[slot] = (rank, member)
    for (negative, _), (_, member) in sorted(slots.items()):
        for data in split_texts(sample[member]):
            by_line = member.endswith(f".{TEXT}") and not is_decoded(data)
            out += split_lines(data, modality, negative, member) if by_line else [RowSource(data, negative, member)]
    if not slots and (name := member_of(modality, members, sample)) is not None:
        out += _find_mapped_rows(sample, name, modality, suffixes, stated or {})
    return out


def split_lines(data: bytes, modality: str, negative: bool, member: str) -> list[RowSource | UnusableMember]:
    """Split a text into one source for each line that is not blank."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return [UnusableMember(f"{modality}/not-utf8", member)]
    found = [line.strip() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()]
    kept = [RowSource(line, negative, member) for line in found if line]
    return [*kept] or [UnusableMember(f"{modality}/empty", member)]


def _find_mapped_rows(
    sample: Sample, name: str, modality: str, suffixes: Sequence[str], stated: dict[str, Any]
) -> list[RowSource | UnusableMember]:
    member, _, key = name.partition(":")
    if has_lines(name):
        return _find_lines(sample[member], name, modality, suffixes)
    if not key:
        data, suffix = sample[member], member.rpartition(".")[2]
        if is_decoded(data):
            found = [x if is_decoded(x) else x.strip() for x in split_texts(data)]
            kept = [RowSource(x, False, member) for x in found if is_decoded(x) or not is_blank(x)]
            return [*kept] if kept else [UnusableMember(f"{modality}/{BLANK}", member)]
        if suffixes and suffix not in suffixes and suffix not in CODE and suffix not in USUAL:
            suffix = TEXT if TEXT in suffixes else ""  # a name that says nothing of the content: ``img``, ``image``
        elif suffix in CODE or (suffixes and suffix not in suffixes):
            return [UnusableMember(f"ignored/{modality}.{suffix}", member)]
        if suffix == TEXT and is_blank(data):
            return [UnusableMember(f"{modality}/{BLANK}", member)]
        return [RowSource(data.strip() if suffix == TEXT else data, False, member)]
    value = look_up(stated, key)
    if value is None:
        entries, _, name_of = key.partition("/")
        return _find_parts(stated.get(entries), name_of, name, modality, suffixes) if name_of else []
    try:
        found = captions(value)
    except BadSample as error:
        return [UnusableMember(explain(error, modality), name)]
    if not found:
        return [UnusableMember(f"{modality}/{BLANK}", name)]
    _check_reads_text(name, modality, suffixes)
    return [RowSource(text.encode("utf-8", "replace"), False, name) for text in found]


def _find_parts(
    entries: Any, key: str, name: str, modality: str, suffixes: Sequence[str]
) -> list[RowSource | UnusableMember]:
    """Return a row for each entry of ``json:LIST/KEY``, the part of that place in the list."""
    out: list[RowSource | UnusableMember] = []
    for part, (value, fault) in enumerate(read_entries(entries, key)):
        kind = TEXT if isinstance(value, str) else BOX
        if not fault and suffixes and kind not in suffixes:
            fault = "not-text" if TEXT in suffixes else suffixes[0]
        if fault:
            out.append(UnusableMember(f"{modality}/{fault}", name))
            continue
        data = value.encode("utf-8", "replace") if kind == TEXT else json.dumps(value).encode()
        out.append(RowSource(data, False, name, part, kind))
    return out


def _find_lines(data: Any, name: str, modality: str, suffixes: Sequence[str]) -> list[RowSource | UnusableMember]:
    """Return a row for each line of a member that is mapped as ``txt:lines``. A blank one is a hole."""
    _check_reads_text(name, modality, suffixes)
    out: list[RowSource | UnusableMember] = []
    for text in split_texts(data):
        if is_decoded(text):
            out.append(RowSource(text, False, name))
        elif not is_blank(text):
            out += split_lines(text, modality, False, name)
    return out or [UnusableMember(f"{modality}/{BLANK}", name)]


def _check_reads_text(name: str, modality: str, suffixes: Sequence[str]) -> None:
    if suffixes and TEXT not in suffixes:
        raise ValueError(
            f"members: {name!r} is text, which the preprocess of {modality!r} does not read ({', '.join(suffixes)})"
        )


def explain(error: BadSample, modality: str) -> str:
    """Return the reason to count: the preprocess's, under the modality where it names none."""
    return error.reason if "/" in error.reason else f"{modality}/{error.reason}"
