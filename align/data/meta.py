"""Label, group, weight and grades of a sample, from its json (or a ``cls`` member)."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from align.data.decoded import is_decoded, member_of, read_json, to_plain
from align.data.grades import read_grades
from align.data.names import MemberNames
from align.values import Sample

LARGEST = 3.4e38  # a batch has its weights in float32
ARRAY = "npy"
NO_LABEL = math.nan  # a value that no label has


class Meta(NamedTuple):
    """Meta data of a sample. label: as in the json, or None. group: 0..2^63-1, or -1. weight: None if unstated.

    grade: pair of modalities -> its grade, see ``align.data.grades``.
    """

    label: Any = None
    group: int = -1
    weight: float | None = None
    json: dict[str, Any] | None = None
    grade: Mapping[str, int] = MappingProxyType({})


def read_meta(sample: Sample, members: MemberNames) -> tuple[Meta, list[str]]:
    """Return a sample's meta data, and the reasons of parts that could not be taken (``json/invalid``, …)."""
    content, bad = None, []
    if "json" in sample:
        try:
            content = read_json(sample["json"])
        except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            bad.append("json/invalid")
    stated = content if isinstance(content, dict) else {}
    label = stated.get("label")
    if label is None and (name := member_of("label", members, sample)) is not None:
        label = _read_label(sample, name, stated)
    if label is not None and not _is_label(label):
        bad.append("json/label")
        label = None
    weight = stated.get("weight")
    if weight is not None:
        weight = _weight(weight)
        if weight is None:
            bad.append("json/weight")
    try:
        group = group_number(stated.get("group"))
    except TypeError:  # a decoded object that JSON cannot say
        group = -1
        bad.append("json/group")
    grade, sound = read_grades(stated.get("grade"))
    if not sound:
        bad.append("json/grade")
    return Meta(label, group, weight, stated, grade), bad


def _weight(weight: Any) -> float | None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= LARGEST:
        return None
    return float(weight)


def group_number(group: Any) -> int:
    """Return a group as a number: an int from 0 to 2^63-1 unchanged, -1 for None, else a stable 63-bit hash."""
    if group is None:
        return -1
    if isinstance(group, int) and not isinstance(group, bool) and 0 <= group < 2**63:
        return group
    text = json.dumps(group, sort_keys=True, ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _read_label(sample: Sample, name: str, stated: dict[str, Any]) -> Any:
    member, _, key = name.partition(":")
    if key:
        return stated.get(key)
    data = sample[member]
    if is_decoded(data) and not isinstance(data, str):
        return to_plain(data)
    if member.rpartition(".")[2] == ARRAY:
        return _read_array(data)
    text = (data if isinstance(data, str) else data.decode("utf-8", "replace")).strip()
    return int(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 19 else text or None


def _read_array(data: bytes | str) -> Any:
    """Return the label in the bytes of a .npy: of a whole number the number, of (C,) zeros and ones the places of ones.

    So CLIP_benchmark writes several labels of a sample. Anything else gives what is no label.
    """
    try:
        array = np.load(io.BytesIO(data if isinstance(data, bytes) else data.encode()), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return NO_LABEL
    if array.ndim == 0 and array.dtype.kind in "iu":
        return int(array)
    if array.ndim != 1 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        return NO_LABEL
    return np.flatnonzero(array).tolist()


def _is_label(label: Any, depth: int = 0) -> bool:
    if isinstance(label, str):
        return is_text(label)
    if isinstance(label, int) and not isinstance(label, bool):
        return True
    if isinstance(label, list):
        return all(_is_label(x, 2) and not isinstance(x, list | dict) for x in label)
    return isinstance(label, dict) and depth == 0 and all(is_text(k) and _is_label(x, 1) for k, x in label.items())


def is_text(text: str) -> bool:
    """Return True where UTF-8 can write a text. JSON may hold half a surrogate pair, which it cannot."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
