"""Which shards a path, a glob, a brace pattern, a URL or a list of them names."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from align.data.places.keep import Pipe
from align.data.places.servers import Remote, matches, probe

MOST = 1_000_000  # shards that one brace pattern may name

Place = Path | Remote | Pipe
"""Where a shard is. All have a ``name`` and a ``parent``, and read as text what a message may show."""


def resolve(urls: str | Place | Sequence[str | Place], *, allow_pipe: bool = False) -> list[Place]:
    """The shards, in the order given, each pattern's in sorted order, each shard once.

    A path, glob or brace pattern; http(s):// (braces only: a web server cannot list); any scheme that fsspec reads
    (the extra ``remote``); with ``allow_pipe`` also ``pipe:COMMAND``, which a shell runs.

    Raises FileNotFoundError for a missing file or a pattern that matches none, ValueError for what names no shard.
    """
    patterns = [urls] if isinstance(urls, str | Path | Remote | Pipe) else list(urls)
    if not patterns:
        raise ValueError("no shards are named: give a path, a glob such as 'shards/train-*.tar', or a list of them")
    found = [place for pattern in patterns for place in _places(_text(pattern), allow_pipe)]
    once: dict[Place, Place] = {}
    for place in found:  # ./a.tar, its absolute path and a link to it are one shard
        once.setdefault(place.resolve() if isinstance(place, Path) else place, place)
    return list(once.values())


def braces(pattern: str) -> list[str]:
    """``train-{000000..000003}.tar`` and ``{a,b}.tar``, written out as webdataset does.

    Raises ValueError for a brace too many and for a pattern of too many shards.

    >>> braces("{08..10}.{a,b}")
    ['08.a', '08.b', '09.a', '09.b', '10.a', '10.b']
    """
    from braceexpand import braceexpand

    shown = str(Remote(pattern)) if "://" in pattern else pattern  # without a password
    try:
        found = list(islice(braceexpand(pattern, escape=False), MOST + 1))
    except ValueError:
        raise ValueError(f"{shown!r} has a brace too many or too few") from None
    if len(found) > MOST:
        raise ValueError(f"{shown!r} names more than {MOST:,} shards")
    return found


def _text(pattern: str | Place) -> str:
    return pattern.url if isinstance(pattern, Remote) else str(pattern)


def _places(pattern: str, allow_pipe: bool) -> list[Place]:
    if pattern.startswith("pipe:") and not allow_pipe:
        raise ValueError(
            f"{pattern!r} would run a command; shards are files or URLs. To run it: --allow-pipe (allow_pipe=True)"
        )
    if pattern.startswith("pipe:"):
        return [Pipe(name.removeprefix("pipe:")) for name in braces(pattern)]
    if pattern == "-":
        raise ValueError("'-' would read a pipe; shards are files or URLs, e.g. 'shards/train-*.tar'")
    return [place for name in braces(pattern) for place in _named(name, pattern)]


def _named(name: str, pattern: str) -> Sequence[Place]:
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
