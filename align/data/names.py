"""Names in a shard, KEY.NAME.EXT, and the meaning of each member for a sample."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

MemberNames = Mapping[str, Sequence[str]]

TEXT = "txt"
"""Suffix of members that hold captions, one a line, in any modality: a rule of the shards' format."""
LABEL = "cls"
"""Name of a member that holds a label, as webdataset writes it."""
LINES = "lines"
"""Mark of a mapped member that holds a caption a line, as in ``txt:lines``."""

FOREIGN: dict[str, list[str]] = {
    "image": ["jpg", "jpeg", "png", "webp", "avif", "tif", "tiff"],
    "audio": ["flac", "wav", "ogg", "mp3", "m4a"],
    "video": ["mp4", "webm", "mkv", "mov", "avi"],
    "text": [TEXT],
    "label": [LABEL],
}
"""Member names of img2dataset and webdataset, which state no modality (``data.members``). Of several the first."""


REGIONS: dict[str, list[str]] = {"region": ["json:regions/box"], "region_text": ["json:regions/text"]}
"""Names of regions, ``regions: [{box, text}, ...]`` in the json. No modality reads them unless ``members`` says so."""


def with_foreign(members: Mapping[str, str | Sequence[str]] | None) -> dict[str, list[str]]:
    """Return a user's mapping, completed from ``FOREIGN``. A single name may stand for a list of one.

    ``json:LIST/KEY`` reads KEY of each entry of a list in the json, one row an entry (``align.data.parts``).
    Raises ValueError for a name with another mark than ``json:KEY`` and, of a text, ``NAME:lines``.
    """
    stated = {m: [names] if isinstance(names, str) else list(names) for m, names in (members or {}).items()}
    for modality, names in stated.items():
        for name in names:
            if ":" in name and not name.startswith("json:") and (modality == "label" or not has_lines(name)):
                raise ValueError(
                    f"members: {modality}={name!r} is no member; write its name (txt), json:KEY for a key of the json, "
                    "or txt:lines for a text with a caption a line"
                )
    return {**FOREIGN, **stated}


def has_lines(name: str) -> bool:
    """Return True for a mapped name whose member holds a caption a line.

    >>> has_lines("txt:lines"), has_lines("txt"), has_lines("json:lines")
    (True, False, False)
    """
    member, _, mark = name.partition(":")
    return mark == LINES and member != "json"


FIRST_DOT = (
    "a sample's key ends at the first dot of its file's name, and what follows is the member, of lower case letters, "
    "digits, _ and - with dots between"
)
"""The rule of names, for messages about a name that breaks it."""

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
"""Suffixes of tables, which shards are made of."""

CODE = frozenset({"pkl", "pickle", "pyd", "pth", "pt", "ckpt", "joblib", "dill", "npz"})
"""Members that other readers unpickle. They are never opened here, whatever names them."""

_member = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_row = re.compile(r"(?P<modality>[^.]+)(?P<negative>\.neg)?(\.(?P<number>\d+))?\.(?P<suffix>[^.]+)")


def split_name(path: str) -> tuple[str, str] | None:
    """Split ``class/0001.image.jpg`` -> ("class/0001", "image.jpg"): the key ends at the first dot of the base name.

    None for a hidden file, one without a suffix, a name that could leave a folder (absolute, "..", drive, NUL) or that
    no file can have, and for members ``__…``, which hold a sample's key, shard and position.
    """
    folder, slash, base = re.sub(r"^(\./)+", "", path).rpartition("/")
    stem, dot, member = base.partition(".")
    if not stem or not dot or not member or member.startswith("__") or not is_safe(folder + slash + base):
        return None
    return folder + slash + stem, member.lower()


def is_safe(key: str) -> bool:
    """Return True for a key that stays inside the folder it would be written to."""
    if not key or key.startswith("/") or "\0" in key or "\\" in key or re.match(r"[A-Za-z]:", key):
        return False
    return key.isprintable() and ".." not in key.split("/")


def are_safe(keys: Sequence[str]) -> bool:
    """Return True where every key ``is_safe``, by one test of their joined text where nothing is odd."""
    every = "/".join(keys)
    odd = every.startswith("/") or any(mark in every for mark in ("//", "..", ":", "\\")) or not every.isprintable()
    return all(keys) and (not odd or all(map(is_safe, keys)))


def check_key(key: str) -> None:
    """Raise ValueError unless ``key`` may be written: it is read back as the same key, and names no other file."""
    if not is_safe(key) or "." in key.rpartition("/")[2] or key.startswith("./"):
        raise ValueError(f"key {key!r}: use a relative name without dots, '..', backslashes or control characters")


def check_member(member: str) -> None:
    """Raise ValueError unless ``member`` may be written: lower case, like ``image.jpg``, ``text.neg.txt``, ``json``."""
    if not _member.fullmatch(member):
        raise ValueError(
            f"member name {member!r}: use lower case like 'image.jpg', 'image.0.jpg', 'text.neg.txt', 'json'"
        )
    if member.rpartition(".")[2] in CODE:
        raise ValueError(f"member {member!r} could hold a pickle, which is never read; store arrays as .npy")


class RowName(NamedTuple):
    """A member read as rows of a modality."""

    modality: str
    negative: bool  # a hard negative: it matches no sample
    number: int  # -1 where the name has none
    suffix: str


@lru_cache(maxsize=4096)
def row_name(member: str) -> RowName | None:
    """Parse ``image.0.jpg`` -> image, row 0, ``text.neg.txt`` -> a hard negative. None for names without a modality."""
    found = _row.fullmatch(member)
    if found is None or found["suffix"] in CODE:
        return None
    number = found["number"]
    return RowName(
        found["modality"], found["negative"] is not None, -1 if number is None else int(number), found["suffix"]
    )


def member_modality(member: str) -> str:
    """Return the modality in a member's name, or "" for a name without one."""
    row = row_name(member)
    return "" if row is None else row.modality


def find_mapped(modality: str, members: MemberNames, have: Iterable[str]) -> str | None:
    """Return the first name that ``members`` maps to a modality and a sample has ("json:caption": it has a json)."""
    have = set(have)
    for name in members.get(modality, ()):
        member = name.partition(":")[0]
        if member in have and member.rpartition(".")[2] not in CODE:
            return name
    return None


def modalities(members: Iterable[str], mapping: MemberNames) -> set[str]:
    """Return the modalities that a sample with these members has."""
    members = set(members)
    found = {row.modality for row in map(row_name, members) if row is not None}
    return found | {m for m in mapping if m != "label" and find_mapped(m, mapping, members) is not None}


def find_ignored(members: Iterable[str], mapping: MemberNames) -> set[str]:
    """Return the members without a meaning: no modality in the name, and no mapping."""
    used = {name.partition(":")[0] for names in mapping.values() for name in names} | {"json"}
    return {member for member in members if member not in used and row_name(member) is None}
