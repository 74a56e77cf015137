"""Class names and templates as a command line gives them: JSON, a file, or names with commas."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.commands.errors import Refused
from align.commands.named import short, structure

FORMS = 'give a list ["a", "b"], a file with one name a line, or names with commas: a,b'
TEMPLATE_FORMS = 'give one as "a photo of a {}", a list ["{}", "a {}"], or a file with one a line'

OTHER_FORMS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq", ".yaml", ".yml", ".toml")
"""Suffixes of files whose lines are no names."""

DESCRIPTION_FORMS = (
    'give {"label": ["text", ...]}, for each attribute {"shape": {"label": [...]}}, or a file with this JSON'
)

Names = list[str] | dict[str, str | list[str]]
"""Class names, or label -> name in prompts, or its names: synonyms."""


def read_classes(text: str, option: str = "--classes") -> Names | dict[str, Names]:
    """Return the names in ``text``: a list of names, label -> name or names in prompts, or attribute -> one of these.

    ``[`` or ``{`` begins JSON, whose names may hold commas. Otherwise the text is an existing file, with one name a
    line or with JSON, or two names or more with commas between them. Where all values are lists, the keys may be labels
    or attributes, as the shards say. Raises Refused for any other form, for a name that comes twice and for fewer than
    two names: code 2 for the option, 1 for a file.
    """
    return _read(text, option, _parse_classes)


def read_templates(text: str, option: str = "--templates") -> list[str] | dict[str, list[str]]:
    """Return templates of prompts, each with one ``{}``: a list, or attribute -> list.

    ``[``, or ``{`` with more than ``{}`` behind it, begins JSON. Otherwise the text is an existing file, with one
    template a line or with JSON, or a single template. Raises Refused for any other form: code 2 for the option, 1 for
    a file.
    """
    return _read(text, option, _parse_templates)


def read_descriptions(text: str, option: str = "--descriptions") -> dict[str, Any]:
    """Return label -> texts, or attribute -> label -> texts: JSON, or a file with it. A single text is a list of one.

    Raises Refused for any other form: code 2 for the option, 1 for a file.
    """
    return _read(text, option, _parse_descriptions)


def read_captions(text: str, option: str = "--template") -> list[str]:
    """Return templates of captions, [""] for an empty text. Several have ``|`` between them, or are a list or a file.

    Raises Refused as ``read_templates`` does, and for templates of attributes.
    """
    if not text.strip().startswith(("[", '{"')) and not os.path.isfile(text):
        return text.split("|")
    found = read_templates(text, option)
    if isinstance(found, dict):
        raise Refused(f"{option}: captions have no attributes; {TEMPLATE_FORMS}", code=2)
    return found


def _read(text: str, option: str, form: Callable[[str, str, str], Any]) -> Any:
    where = option
    try:
        text, where = _content(text, option)
        return form(text, where, option)
    except ValueError as error:
        raise Refused(str(error), 2 if where == option else 1) from None


def _parse_classes(text: str, where: str, option: str) -> Names | dict[str, Names]:
    if not text.startswith(("[", "{")):
        lines = text.splitlines() if where != option or "\n" in text else text.split(",")
        names = [line.strip() for line in lines if line.strip()]
        if where == option and len(names) == 1:
            raise ValueError(f"{option} {short(text)} is no file, and a single name leaves no choice: {FORMS}")
        if where == option and (files := [name for name in names if "." in name and os.path.isfile(name)]):
            raise ValueError(f"{option}: {files[0]!r} is a file, one of several names; {FORMS}")
        if quoted := [name for name in names if name[0] in "\"'" and name[-1] == name[0]]:
            raise ValueError(f"{where}: {quoted[0]} has quotation marks, which belong to a list alone; {FORMS}")
        return _names(names, where)
    found = structure(text, where)
    if isinstance(found, dict) and len(found) > 1 and all(isinstance(value, list) for value in found.values()):
        return _names(found, where)
    if isinstance(found, dict) and found and all(isinstance(value, list | dict) for value in found.values()):
        return {_word(a, where): _names(value, f"{where}, {a}") for a, value in found.items()}
    return _names(found, where)


def _parse_templates(text: str, where: str, option: str) -> list[str] | dict[str, list[str]]:
    if not text.startswith("[") and not (text.startswith("{") and not text.startswith("{}")):
        lines = text.splitlines() if where != option else [text]
        return _templates([line.strip() for line in lines if line.strip()], where)
    found = structure(text, where)
    if isinstance(found, dict):
        listed = {_word(a, where): [value] if isinstance(value, str) else value for a, value in found.items()}
        return {a: _templates(value, f"{where}, {a}") for a, value in listed.items()}
    return _templates(found, where)


def _parse_descriptions(text: str, where: str, option: str) -> dict[str, Any]:
    if not text.startswith("{"):
        says = (
            f"{where} holds no JSON object"
            if where != option or text[:1] == "["
            else f"{option} {short(text)} is no file"
        )
        raise ValueError(f"{says}; {DESCRIPTION_FORMS}")
    found = structure(text, where)
    if found and isinstance(found, dict) and all(isinstance(value, dict) for value in found.values()):
        return {_word(a, where): _texts(value, f"{where}, {a}") for a, value in found.items()}
    return _texts(found, where)


def _texts(found: Any, where: str) -> dict[str, list[str]]:
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{where} holds {short(str(found))}; {DESCRIPTION_FORMS}")
    listed = {_word(label, where): [value] if isinstance(value, str) else value for label, value in found.items()}
    for label, texts in listed.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(x, str) and x.strip() for x in texts):
            raise ValueError(f"{where}: {label!r} has {short(str(texts))} for texts; {DESCRIPTION_FORMS}")
    return listed


def _content(text: str, option: str) -> tuple[str, str]:
    """Return (the text, or the content of the file that it names), and the option or the file, for messages."""
    text = text.strip()
    if text.startswith(("[", "{")) or not os.path.exists(text):  # Path.exists raises for a text as long as a list
        return text, option
    path = Path(text)
    if path.is_dir() and "," in text:  # several names, which are a folder's name too
        return text, option
    if path.is_dir():
        raise ValueError(f"{option} {text} is a folder; it takes a file with one a line")
    if path.suffix.lower() in OTHER_FORMS:
        raise Refused(f"{option} {text}: a {path.suffix} has another form; it takes a file with one a line, or JSON")
    try:
        return path.read_text(encoding="utf-8-sig").strip(), f"{option} {text}"
    except UnicodeDecodeError as error:
        raise Refused(f"{option} {text} is no text in UTF-8 (byte {error.start}); write one a line") from None


def _names(found: Any, where: str) -> Names:
    if isinstance(found, dict):
        names: Names = {_word(label, where): _words(name, where) for label, name in found.items()}  # no label twice
    elif isinstance(found, list):
        names = [_word(name, where) for name in found]
    else:
        raise ValueError(f"{where} holds {short(str(found))}; {FORMS}")
    if len(names) < 2:
        raise ValueError(f"{where} needs names, two or more; {FORMS}")
    if isinstance(names, list) and len(set(names)) < len(names):
        raise ValueError(f"{where} names {next(n for n in names if names.count(n) > 1)!r} twice")
    return names


def _words(names: Any, where: str) -> str | list[str]:
    if not isinstance(names, list) or not names:
        return _word(names, where)
    words = [_word(name, where) for name in names]
    if len(set(words)) < len(words):
        raise ValueError(f"{where} names {next(word for word in words if words.count(word) > 1)!r} twice")
    return words


def _word(name: Any, where: str) -> str:
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: a name is a word, not {name!r}; {FORMS}")
    return name.strip()


def _templates(found: Any, where: str) -> list[str]:
    if not isinstance(found, list) or not found:
        raise ValueError(f"{where} holds {short(str(found))}; {TEMPLATE_FORMS}")
    for template in found:
        if not isinstance(template, str) or template.count("{}") != 1:
            said = short(template) if isinstance(template, str) else repr(template)
            raise ValueError(f"{where}: a template has one {{}} for the class name, not {said}; {TEMPLATE_FORMS}")
    if len(set(found)) < len(found):
        raise ValueError(f"{where} gives {next(t for t in found if found.count(t) > 1)!r} twice")
    return list(found)
