"""Roots of an index: the folders and the patterns of shards that it was made of, as plain data."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.files import json_text

Root = Mapping[str, Any]
"""``{"folder": PATH}`` or ``{"shards": [PATTERN, ...]}``, in an index's ``about`` with ``options``."""


def root_of(samples: Sequence[str | Path] | str | Path) -> dict[str, Any]:
    """Return the root of a folder of files, or of shards: absolute paths and patterns, and URLs.

    A folder that holds shards itself is no folder of files.
    """
    names = [str(samples)] if isinstance(samples, str | Path) else list(map(str, samples))
    if len(names) == 1 and os.path.isdir(names[0]) and not any(Path(names[0]).glob("*.tar")):
        return {"folder": os.path.realpath(names[0])}
    return {"shards": [name if "://" in name or name.startswith("pipe:") else os.path.abspath(name) for name in names]}


def name_root(root: Root) -> str:
    """Return a root in words: the folder, or the first pattern and the number of the others."""
    shards = root.get("shards", ())
    return str(root["folder"]) if "folder" in root else shards[0] + (f" and {len(shards) - 1} more" * (len(shards) > 1))


def names_of(root: Root) -> list[str]:
    """Return the names by which a root is given again."""
    return [root["folder"]] if "folder" in root else list(root["shards"])


def root_id(root: Root) -> str:
    """Return a short name of a root, by which the mark of a place says where it is from."""
    plain = {name: root[name] for name in ("folder", "shards") if name in root}
    return hashlib.blake2b(json_text(plain).encode(), digest_size=6).hexdigest()


def check_root(roots: Sequence[Root], root: Root, out: Path) -> None:
    """Raise ValueError where an index is not of this root."""
    if root_id(root) in map(root_id, roots):
        return
    there = " and ".join(map(name_root, roots)) or "other samples"
    words = " ".join(map(shlex.quote, [str(out), *names_of(root)]))
    raise ValueError(f"{out} is an index of {there}; to add to it: align index add {words}; to replace it: --anew")


def note_root(roots: Sequence[Root], root: Root, options: Mapping[str, Any]) -> list[Root]:
    """Return the roots of an index with one more, or with new options of one."""
    others = [one for one in roots if root_id(one) != root_id(root)]
    return [*others, {**root, "options": dict(options)}]


def find_options(roots: Sequence[Root], root: Root) -> Mapping[str, Any]:
    """Return the options by which a root was indexed. A new one has those of the first."""
    same = [one for one in roots if root_id(one) == root_id(root)]
    return (same or [*roots[:1]] or [{}])[0].get("options", {})
