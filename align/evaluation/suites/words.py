"""Class names and templates of the suites' sets, with their source."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from align.evaluation.suites.sets import FOLDER
from align.files import read_json


class Words(NamedTuple):
    """Names or templates, and the place that they were taken from."""

    source: str
    words: list[str]


def read_classes(name: str) -> Words:
    """Return the class names called ``name`` in classes.json, each a single time. Raises ValueError for another."""
    found = _read("classes", name)
    return Words(found.source, list(dict.fromkeys(found.words)))


def read_templates(name: str) -> Words:
    """Return the templates called ``name`` in templates.json, with {} for the class. Raises ValueError for another."""
    found = _read("templates", name)
    if wrong := [text for text in found.words if text.count("{}") != 1]:
        raise ValueError(f"templates.json, {name}: a template has one {{}}, not {wrong[0]!r}")
    return found


@cache
def _read(kind: str, name: str) -> Words:
    content: Any = read_json(FOLDER / f"{kind}.json")
    if name not in content:
        raise ValueError(f"{kind}.json has no {name!r}; it has {', '.join(content)}")
    entry = content[name]
    words = _read_open_clip(entry["open_clip"]) if "open_clip" in entry else entry[kind]
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"{kind}.json, {name}: it holds no list of words")
    return Words(entry["source"], list(words))


def _read_open_clip(name: str) -> list[str]:
    """Return a list of ``open_clip.zero_shot_metadata``, whose templates are functions of a name.

    The file is read alone: importing the package takes ten seconds.
    """
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise ValueError(f"{name} is a list of open_clip, which is not installed: pip install open_clip_torch")
    spec = spec_from_file_location("open_clip_metadata", Path(package.origin).with_name("zero_shot_metadata.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Any = getattr(module, name)
    return [str(one("{}")) if callable(one) else str(one) for one in found]
