"""Forms of values that several commands share: lists in one option, JSON on the command line, kinds of media."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.media import Media


def split(names: str | None) -> list[str]:
    """Return the names in ``a, b`` or ``["a", "b"]``, none for None. ``{a,b}.tar`` is one name.

    Raises ValueError for a JSON object, and for a list of anything but words.
    """
    text = (names or "").strip()
    if text.startswith("{") and text.endswith("}") and ":" in text:
        raise ValueError(f'{text}: a list belongs here, as in a,b or ["a", "b"], not an object')
    if text.startswith("[") and text.endswith("]"):
        found = structure(text, "a list")
        if not all(isinstance(name, str) for name in found):
            raise ValueError(f'{text}: a list of words belongs here, as in a,b or ["a", "b"]')
        return [name.strip() for name in found if name.strip()]
    return [name.strip() for name in re.split(r",(?![^{]*\})", text) if name.strip()]


def structure(text: str, where: str) -> Any:
    """Return the list or the object that ``text`` writes, as JSON or in YAML's flow form, which needs no quotes.

    where: the option or the file, for the message. Raises ValueError for text that is neither, and for a key that comes
    twice, because one of its values would be lost.
    """
    import json

    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _mapping(pairs, where))
    except json.JSONDecodeError as error:
        found = _flow(text, where)
        if isinstance(found, list | dict):
            return found
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ValueError(f"{where} begins like JSON and is none ({place}): {short(text)}") from None
    except RecursionError:
        raise ValueError(f"{where} is JSON of too many levels: {short(text)}") from None


def _mapping(pairs: list[tuple[Any, Any]], where: str) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{where} names {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _flow(text: str, where: str) -> Any:
    import yaml

    def check(node: Any) -> None:
        if isinstance(node, yaml.MappingNode):
            _mapping([(key.value, None) for key, _ in node.value], where)
            parts = [value for _, value in node.value]
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        for part in parts:
            check(part)

    try:
        check(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return None


def short(text: str, most: int = 80) -> str:
    """Return a value for a message, on one line, cut where it is long.

    >>> short("a" * 9, 5)
    "'aaaa…'"
    """
    line = " ".join(text.split())
    return repr(line if len(line) <= most else line[: most - 1] + "…")


def media(paths: str) -> Media:
    """Return align's media, and those that ``--media`` names by import path. Ends the command where one is none."""
    from align.commands.errors import Refused
    from align.media import MEDIA
    from align.media.choice import load_media

    try:
        return (*MEDIA, *load_media(split(paths), beside=MEDIA))
    except ValueError as error:
        raise Refused(f"--media: {error}", code=2) from None
