"""Check of the keys of named sources in a config: a mistyped one is refused with the nearest right one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from align.lit.sources import Source


def unknown_source_key(data: Any) -> str | None:
    """Return a line with the first mistyped key of a source in a config's ``data`` and the nearest right one."""
    content = data if isinstance(data, Mapping) else {}
    named = [(key, content[key]) for key in ("train", "val") if is_named(content.get(key))]
    for where, name, source in ((key, name, source) for key, sources in named for name, source in sources.items()):
        if not isinstance(source, Mapping):
            return f"source {name!r} in data.{where} is {source!r}; write {{urls: {source}}}"
        wrong = [unknown_source_option(f"data.{where}.{name}.{key}") for key in source]
        if any(wrong):
            return next(filter(None, wrong))
        if "urls" not in source and "columns" not in source:
            return f"source {name!r} in data.{where} has no urls, the shards that it reads"
    for key in ("train", "val"):
        if is_single(content.get(key)):
            wrong = [_unknown(f"data.{key}.{name}", name) for name in content[key]]
            if any(wrong):
                return next(filter(None, wrong))
    return None


def is_named(value: Any) -> bool:
    """Return True where ``data.train`` or ``data.val`` is named sources: not shards, one source or a pipeline."""
    return isinstance(value, Mapping) and "class_path" not in value and not is_single(value)


def is_single(value: Any) -> bool:
    """Return True where ``data.train`` or ``data.val`` is one source, with ``urls``, ``columns`` or both."""
    if not isinstance(value, Mapping):
        return False
    columns = value.get("columns")
    stated = isinstance(columns, Mapping) and not any(isinstance(each, Mapping) for each in columns.values())
    urls = value.get("urls")
    return stated or isinstance(urls, str | list) or (isinstance(urls, Mapping) and "class_path" in urls)


def unknown_source_option(option: str) -> str | None:
    """Return the same line for one dotted name, ``data.train.NAME.KEY`` or a deeper one.

    It is None for a name that is no key of a source.
    """
    parts = option.split(".")
    if parts[:2] not in (["data", "train"], ["data", "val"]) or len(parts) < 4:
        return None
    if parts[2] in ("init_args", "urls", "columns", "members", "preprocess"):  # of one source, or of a pipeline
        return None
    return _unknown(option, parts[3])


def _unknown(option: str, key: str) -> str | None:
    known = [f.name for f in fields(Source)]
    if key in known:
        return None
    close = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    return f"no key {option!r}; {hint}"
