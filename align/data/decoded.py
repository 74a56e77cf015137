"""Members that a pipeline has decoded already: pictures, arrays, captions and dicts in place of bytes."""

from __future__ import annotations

import json
from typing import Any

from align.data.names import MemberNames, find_mapped
from align.values import Sample


def is_decoded(data: Any) -> bool:
    """Return True for a member that is an object: not bytes, and not missing."""
    return data is not None and not isinstance(data, bytes | bytearray | memoryview)


def member_of(modality: str, members: MemberNames, sample: Sample) -> str | None:
    """Return the member of a modality that no member's name states, None without one.

    It has the modality's very name, as in ``{"image": picture, "text": "a cone"}``, or ``members`` maps it.
    """
    return modality if sample.get(modality) is not None else find_mapped(modality, members, sample)


def split_texts(data: Any) -> list[Any]:
    """Return a str as UTF-8 bytes, a list of them one by one, any other member unchanged. So no str becomes a path.

    None in such a list is a caption that is missing.
    """
    if isinstance(data, list | tuple) and all(isinstance(text, str | None) for text in data):
        return [text for each in data if each is not None for text in split_texts(each)]
    return [data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data]


def read_json(data: Any) -> Any:
    """Return the content of a json member, decoded or not, in plain values. Raises ValueError for bad JSON."""
    return to_plain(data) if is_decoded(data) and not isinstance(data, str) else json.loads(data)


def to_plain(x: Any) -> Any:
    """Return numbers and arrays of numpy and torch as Python's, inside dicts and lists too."""
    if isinstance(x, dict):
        return {key: to_plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [to_plain(value) for value in x]
    return x.tolist() if hasattr(x, "tolist") else x
