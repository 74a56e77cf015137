"""Locations of shards, resolved from a path, a glob, a brace pattern, a URL or a list of them."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from align.data.names import TABLES
from align.data.places.benchmark import list_shards, list_splits
from align.data.places.keep import Pipe
from align.data.places.patterns import anchor, braces, escape, typeable
from align.data.places.servers import Remote, matches, probe

Location = Path | Remote | Pipe
"""The location of a shard. All have a ``name`` and a ``parent``, and a text form that a message may show."""


def resolve_shards(urls: str | Location | Sequence[str | Location], *, allow_pipe: bool = False) -> list[Location]:
    """Return the locations of the named shards, in the order given, each pattern's sorted, each shard a single time.

    urls: a path, a glob or a brace pattern, http(s):// (braces only, as a web server cannot list), any scheme that
    fsspec reads (the extra ``remote``), and with ``allow_pipe`` also ``pipe:COMMAND``, which a shell runs. A name that
    exists as a file or a folder is taken as such, whatever marks it holds.

    Raises FileNotFoundError for a missing file or a pattern without a match, ValueError for a name that is no shard's.
    """
    patterns = [urls] if isinstance(urls, str | Path | Remote | Pipe) else list(urls)
    if not patterns:
        raise ValueError("no shards are named: give a path, a glob such as 'shards/train-*.tar', or a list of them")
    found = [place for pattern in patterns for place in _resolve_one(_text(pattern), allow_pipe)]
    unique: dict[Location, Location] = {}
    for place in found:  # ./a.tar, its absolute path and a link to it are one shard
        unique.setdefault(place.resolve() if isinstance(place, Path) else place, place)
    return list(unique.values())


def _text(pattern: str | Location) -> str:
    return pattern.url if isinstance(pattern, Remote) else str(pattern)


def _resolve_one(pattern: str, allow_pipe: bool) -> list[Location]:
    if "://" not in pattern and os.path.exists(pattern):
        return [*_files(pattern, pattern)]
    if "://" not in pattern and (here := anchor(pattern)) is not None:
        return [place for name in _expand(here) for place in _files(name, pattern)]
    if pattern.startswith("pipe:") and not allow_pipe:
        raise ValueError(
            f"{pattern!r} would run a command; shards are files or URLs. To run it: --allow-pipe (allow_pipe=True)"
        )
    if pattern.startswith("pipe:"):
        return [Pipe(name.removeprefix("pipe:")) for name in _expand(pattern)]
    if pattern == "-":
        raise ValueError("'-' would read a pipe; shards are files or URLs, e.g. 'shards/train-*.tar'")
    return [place for name in _expand(pattern) for place in _resolve_url(name, pattern)]


def _expand(pattern: str) -> list[str]:
    try:
        return braces(pattern)
    except ValueError as error:
        shown = str(Remote(pattern)) if "://" in pattern else pattern  # without a password
        raise ValueError(f"{shown!r} {error}") from None


def _resolve_url(name: str, pattern: str) -> Sequence[Location]:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", name)
    if scheme is None:
        return _files(name, pattern)
    kind = scheme[1].lower()
    chained = "::" in name and kind not in ("http", "https")  # fsspec's chains can name files here
    if not name[scheme.end() :].startswith("//") or kind in ("file", "local") or chained:
        raise ValueError(f"{str(Remote(name))!r} is not a URL that shards are read from: a path, http(s)://, s3://, …")
    remote = Remote(kind + name[scheme.end() - 1 :])
    if remote.url.startswith(("http://", "https://")):
        if "*" in urlsplit(remote.url).path:
            raise ValueError(f"{remote}: a web server cannot list its files; write train-{{000000..000009}}.tar")
        return [remote]
    probe(remote)
    if not glob.has_magic(remote.url):
        return [remote]
    found = matches(remote)
    if not found:
        raise FileNotFoundError(f"no shard matches {remote}")
    return found


def _files(name: str, pattern: str) -> list[Path]:
    path = Path(name)
    if os.path.isdir(name) and (found := _list_counted(path)) is not None:
        return found
    if os.path.isdir(name) and not any(path.glob("*.tar")):
        raise FileNotFoundError(f"{name} holds no .tar; {_remedy(name)} of a folder of files")
    if os.path.isdir(name):
        splits = sorted({escape(s.name.rpartition("-")[0]) + "-*.tar" for s in path.glob("*-*.tar")}) or ["*.tar"]
        choices = " or ".join(typeable(path, choice) for choice in splits)
        raise ValueError(f"{path} is a folder; name the shards in it: {choices}")
    if os.path.isfile(name) and path.suffix.lower() in TABLES:
        raise ValueError(f"{name} is a table; {_remedy(name)} of it")
    if os.path.isfile(name):
        return [path]
    if glob.has_magic(name):
        matches = [Path(match) for match in sorted(glob.glob(name)) if Path(match).is_file()]
        if matches:
            return matches
        raise FileNotFoundError(f"no shard matches {name}")
    raise FileNotFoundError(f"no shard {name}" + (f" (from {pattern})" if name != pattern else ""))


def _list_counted(folder: Path) -> list[Path] | None:
    """Return the shards of a folder in CLIP_benchmark's layout, of its only split, None for any other folder."""
    splits = list_splits(folder)
    if len(splits) > 1:
        raise ValueError(f"{folder} has the splits {', '.join(splits)}; name one of them: {folder / splits[0]}")
    return list_shards(folder / splits[0] if splits else folder)


def _remedy(source: str) -> str:
    return f"`align shards build {shlex.quote(source)} OUT` makes shards"
