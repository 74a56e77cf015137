"""Roots of an index: the folders and the patterns of shards that it was made of, as plain data."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.data.places.patterns import anchor
from align.files import json_text
from align.files.http import display_url
from align.media import MEDIA
from align.media.choice import modality_of

Root = Mapping[str, Any]
"""``{"folder": PATH}`` or ``{"shards": [PATTERN, ...]}``, in an index's ``about`` with ``options``."""


def root_of(samples: Sequence[str | Path] | str | Path) -> dict[str, Any]:
    """Return the root of a folder of files, or of shards: absolute paths and patterns, and URLs without passwords.

    A folder that holds shards, and no file of a medium beside them, is no folder of files.
    """
    names = [str(samples)] if isinstance(samples, str | Path) else list(map(str, samples))
    if len(names) == 1 and os.path.isdir(names[0]) and not _has_shards_alone(Path(names[0])):
        return {"folder": os.path.realpath(names[0])}
    return {"shards": [os.path.abspath(name) if _is_local(name) else _without_secrets(name) for name in names]}


def _is_local(name: str) -> bool:
    """Return True for a path or a pattern here, also of a folder that is called like a command."""
    return "://" not in name and (not name.startswith("pipe:") or os.path.exists(name) or anchor(name) is not None)


def _has_shards_alone(folder: Path) -> bool:
    suffixes = {path.suffix.lower().removeprefix(".") for path in folder.iterdir()}
    return "tar" in suffixes and not any(modality_of(MEDIA, suffix) for suffix in suffixes)


def _without_secrets(name: str) -> str:
    return display_url(name) if "://" in name and not name.startswith("pipe:") else name


def name_root(root: Root) -> str:
    """Return a root in words: the folder, or the first pattern and the number of the others."""
    shards = root.get("shards", ())
    return str(root["folder"]) if "folder" in root else shards[0] + (f" and {len(shards) - 1} more" * (len(shards) > 1))


def names_of(root: Root) -> list[str]:
    """Return the names by which a root is given again."""
    return [root["folder"]] if "folder" in root else list(root["shards"])


def root_id(root: Root) -> str:
    """Return a short name of a root, by which the mark of a place says where it is from. It outlives new patterns."""
    if "id" in root:
        return root["id"]
    plain = {name: root[name] for name in ("folder", "shards") if name in root}
    return hashlib.blake2b(json_text(plain).encode(), digest_size=6).hexdigest()


def adopt_id(root: Root, roots: Sequence[Root], known: Mapping[str, Mapping[str, Any]], places: Iterable[str]) -> Root:
    """Return a root of shards with the id of an earlier one that it goes on with.

    It holds all shards of the earlier one that are still there: a shell has expanded the same pattern, and there are
    more shards, or fewer. known: place -> its mark in the index. places: of the root's shards.
    """
    here = set(places)
    for one in roots if "shards" in root and root_id(root) not in map(root_id, roots) else ():
        theirs = {place for place, mark in known.items() if mark.get("root") == root_id(one)}
        if "shards" in one and theirs & here and not any("://" in p or os.path.exists(p) for p in theirs - here):
            return {**root, "id": root_id(one)}
    return root


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
