"""Which shards a path, a glob, a brace pattern or a list of them names."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

most = 1_000_000  # shards that one brace pattern may name


def resolve(urls: str | Path | Sequence[str | Path]) -> list[Path]:
    """The shards, in the order given, each pattern's in sorted order, each shard once.

    Raises FileNotFoundError for a missing file or a pattern that matches none, ValueError for what is no local file.
    """
    patterns = [urls] if isinstance(urls, str | Path) else list(urls)
    if not patterns:
        raise ValueError("no shards are named: give a path, a glob such as 'shards/train-*.tar', or a list of them")
    found = [path for pattern in patterns for name in braces(str(pattern)) for path in _files(name, str(pattern))]
    return list(dict.fromkeys(found))


def braces(pattern: str) -> list[str]:
    """``train-{000000..000003}.tar`` and ``{a,b}.tar``, written out as webdataset does.

    Raises ValueError for a brace too many and for a pattern of too many shards.

    >>> braces("{08..10}.{a,b}")
    ['08.a', '08.b', '09.a', '09.b', '10.a', '10.b']
    """
    from braceexpand import braceexpand

    try:
        found = list(islice(braceexpand(pattern, escape=False), most + 1))
    except ValueError as error:
        raise ValueError(f"{pattern!r} has a brace too many or too few") from error
    if len(found) > most:
        raise ValueError(f"{pattern!r} names more than {most:,} shards")
    return found


def _files(name: str, pattern: str) -> list[Path]:
    if name.startswith("pipe:") or name == "-":
        raise ValueError(f"{pattern!r} would run a command or read a pipe; shards are files, e.g. 'shards/train-*.tar'")
    if re.match(r"[a-z][a-z0-9+]*:", name):
        raise ValueError(f"{pattern!r} is not a local file; fetch the shards first and name their folder's files")
    path = Path(name)
    if path.is_dir():
        splits = sorted({shard.name.rpartition("-")[0] + "-*.tar" for shard in path.glob("*-*.tar")}) or ["*.tar"]
        choices = " or ".join(str(path / choice) for choice in splits)
        raise ValueError(f"{path} is a folder; name the shards in it: {choices}")
    if path.is_file():
        return [path]
    if glob.has_magic(name):
        matches = [Path(match) for match in sorted(glob.glob(name)) if Path(match).is_file()]
        if matches:
            return matches
        raise FileNotFoundError(f"no shard matches {name}")
    raise FileNotFoundError(f"no shard {name}" + (f" (from {pattern})" if name != pattern else ""))
