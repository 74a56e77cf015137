"""Members that a pipeline has decoded already: pictures, arrays, captions and dicts in the place of bytes."""

from __future__ import annotations

import json
from typing import Any

from align.data.names import MemberNames, find_mapped
from align.values import Sample


def is_decoded(data: Any) -> bool:
    """Whether a member is an object: no bytes, and not missing."""
    return data is not None and not isinstance(data, bytes | bytearray | memoryview)


def member_of(modality: str, members: MemberNames, sample: Sample) -> str | None:
    """The member that a modality is read from where no member's name says it: one that ``members`` maps to it, or one
    that has the modality's very name, as in ``{"image": picture, "text": "a cone"}``."""
    return modality if sample.get(modality) is not None else find_mapped(modality, members, sample)


def split_texts(data: Any) -> list[Any]:
    """A str as UTF-8 bytes, a list of them one by one; any other member as it is. So a str is never taken as a path.

    None in such a list is a caption that is missing.
    """
    if isinstance(data, list | tuple) and all(isinstance(text, str | None) for text in data):
        return [text for each in data if each is not None for text in split_texts(each)]
    return [data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data]


def read_json(data: Any) -> Any:
    """Return the content of a json member, decoded or not, in plain values. Raises ValueError for bad JSON."""
    return to_plain(data) if is_decoded(data) and not isinstance(data, str) else json.loads(data)


def to_plain(x: Any) -> Any:
    """Numbers and arrays of numpy and torch as Python's, inside dicts and lists too."""
    if isinstance(x, dict):
        return {key: to_plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [to_plain(value) for value in x]
    return x.tolist() if hasattr(x, "tolist") else x
