"""Options with several NAME=VALUE in one text."""

from __future__ import annotations

from typing import Any

from align.commands.named import split, structure

EXAMPLES = {
    "--columns": "NAME=COLUMN, as in caption=text",
    "--members": "MODALITY=NAME, as in text=json:caption|txt",
    "--with": "NAME=FILE, as in depth=x.png",
    "--minus-with": "NAME=FILE, as in depth=x.png",
    "--weights": "PART=NUMBER, as in image=2,minus-text=0.5",
    "--parts": "NAME=SHARE, as in train=0.8,val=0.1,test=0.1",
}


def mapping(members: str) -> dict[str, list[str]]:
    """Return modality -> names in the shards, as --members gives them."""
    return {name: value.split("|") for name, value in pairs(members, "--members").items()}


def pairs(text: str, option: str) -> dict[str, str]:
    """Return {a: x, b: y} for ``a=x, b=y`` or ``{"a": "x", "b": "y"}``.

    A list of names, in --members, becomes one text with | between them. Raises ValueError where a part is not of that
    form, and for a name that comes twice.
    """
    found: dict[str, str] = {}
    if text.strip().startswith("{"):
        return {str(name): _value(value, option) for name, value in structure(text.strip(), option).items()}
    for part in split(text):
        name, equals, value = map(str.strip, part.partition("="))
        if not name or not equals or (not value and option != "--columns"):  # NAME= leaves a column out
            raise ValueError(f"{option} {part!r}: write {EXAMPLES[option]}")
        if name in found:
            raise ValueError(f"{option} names {name!r} twice")
        found[name] = value
    return found


def _value(value: Any, option: str) -> str:
    if isinstance(value, list) and option == "--members" and value and all(isinstance(name, str) for name in value):
        return "|".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{option}: {value!r} is no value; write {EXAMPLES[option]}")
    return str(value)


def two_numbers(text: str, option: str) -> tuple[float, float] | None:
    """Return (0.0, 4095.0) for "0,4095", and None for an empty text. Raises ValueError for anything else."""
    if not text:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r}: write two numbers, as in {option} 0,4095") from None
    return low, high
