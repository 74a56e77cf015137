"""Captions: the values that hold some, and the blank ones, which are holes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from align.data.names import TEXT, row_name
from align.values import BadSample

_blank = re.compile(r"[\s\ufeff\u200b]*")


def is_blank(content: str | bytes) -> bool:
    """Return True where a caption is white space and byte order marks alone. Bytes that are no UTF-8 are not blank."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    return _blank.fullmatch(text) is not None


def captions(value: Any) -> list[str]:
    """Return the captions in a cell of a table or a key of a json: one of a str, several of a list of them.

    None, NaN and blank ones are left out. Raises BadSample (not-text) for anything else: a number, true, an object of
    captions by language.
    """
    found = [x for x in (value if isinstance(value, list | tuple) else [value]) if x is not None and x == x]
    for text in found:
        if not isinstance(text, str):
            raise BadSample("not-text", f"{type(text).__name__} {str(text)[:60]!r}; a caption is a str")
    return [text for text in found if not is_blank(text)]


def look_up(stated: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key of a json, None where it has none.

    ``label.shape`` is the key ``shape`` of the object ``label``, unless the json has a key of that whole name.

    >>> look_up({"label": {"shape": "cone"}}, "label.shape"), look_up({"label": 3}, "label.shape")
    ('cone', None)
    """
    if key in stated:
        return stated[key]
    first, _, rest = key.partition(".")
    inside = stated.get(first)
    return look_up(inside, rest) if rest and isinstance(inside, Mapping) else None


def caption_of(members: Mapping[str, bytes]) -> str:
    """All captions of a sample, one a line, in one case and with single spaces; hard negatives are none of them."""
    lines = [line for name in sorted(members) if _is_caption(name) for line in members[name].splitlines()]
    texts = (" ".join(line.decode("utf-8", "replace").casefold().split()) for line in lines)
    return "\n".join(text for text in texts if text)


def _is_caption(name: str) -> bool:
    row = row_name(name)
    return name == TEXT or (row is not None and row.suffix == TEXT and not row.negative)
