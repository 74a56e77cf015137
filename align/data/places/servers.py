"""Shards on a server: http(s) by ranges with the HTTP client, any other scheme through fsspec (an extra).

A failed request is repeated by the policy of ``align.files.retry``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar, final
from urllib.parse import urlsplit, urlunsplit

from align.extras import pip_install
from align.files import http
from align.files.retry import GaveUp, retry

PIECE = 8 << 20  # bytes of one request where a whole file is read
T = TypeVar("T")
log = logging.getLogger("align.data")


@final
class Unreachable(OSError):
    """A remote file that could not be read. missing: the server says that there is none."""

    def __init__(self, message: str, *, missing: bool = False):
        super().__init__(message)
        self.missing = missing


@final
@dataclass(frozen=True)
class Remote:
    """A shard's URL. Its text form has no credentials."""

    url: str

    def __str__(self) -> str:
        return http.display_url(self.url)

    def __repr__(self) -> str:
        return f"Remote({str(self)!r})"

    @property
    def name(self) -> str:
        """The file's name, without folder and query."""
        return PurePosixPath(urlsplit(self.url).path or self.url).name

    @property
    def parent(self) -> Remote:
        """The folder's URL, without a query."""
        parts = urlsplit(self.url)
        return Remote(urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0], "", "")))

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}")


def stat(remote: Remote) -> http.Stat:
    """Return size and version of a remote file. Raises Unreachable."""
    if _is_http(remote):
        return _ask(remote, lambda: http.stat(remote.url))
    return _ask(remote, lambda: _info(remote))


def fetch(remote: Remote, begin: int, end: int) -> bytes:
    """Return the bytes ``begin`` to ``end`` of a remote file, all of them, in one request. Raises Unreachable."""
    if _is_http(remote):
        return _ask(remote, lambda: http.get(remote.url, begin, end))
    return _ask(remote, lambda: _cat(remote, begin, end))


def fetch_whole(remote: Remote, about: http.Stat) -> Generator[bytes, None, None]:
    """Yield a remote file from its first byte to its last, by ranges where the server gives them.

    Raises Unreachable.
    """
    if about.ranges:
        for begin in range(0, about.size, PIECE):
            yield fetch(remote, begin, min(begin + PIECE, about.size))
        return
    try:
        yield from http.read_whole(remote.url)
    except OSError as error:  # no retry: the caller has the first chunks already, and begins anew
        raise Unreachable(f"cannot read {remote}: {error}") from None


def fetch_small(remote: Remote, most: int = 1 << 29) -> bytes | None:
    """Return a small file beside a shard, its index or manifest, None where it cannot be read."""
    try:
        about = stat(remote)
        return b"".join(fetch_whole(remote, about)) if about.size <= most else None
    except Unreachable:
        return None


def matches(remote: Remote) -> list[Remote]:
    """Return the sorted files that a pattern matches, or the one file that has this very name. Raises Unreachable."""
    scheme = urlsplit(remote.url).scheme
    fs, path = _filesystem(remote)
    if fs.isfile(path):
        return [remote]
    return [Remote(f"{scheme}://{str(found).lstrip('/')}") for found in sorted(_ask(remote, lambda: fs.glob(path)))]


def probe(remote: Remote) -> None:
    """Raise a ValueError of one line where nothing here can read this scheme."""
    if not _is_http(remote):
        _filesystem(remote)


def _ask(remote: Remote, question: Callable[[], T]) -> T:
    """Return the answer to a question about a remote file, asked again where it fails. Raises Unreachable."""
    try:
        return retry(question)
    except GaveUp as failed:
        reason = " ".join(str(failed).replace(remote.url, str(remote)).split())
        tries = "" if failed.attempts == 1 else f" after {failed.attempts} attempts"
        raise Unreachable(f"cannot read {remote}{tries}: {reason}", missing=failed.missing) from None


def _is_http(remote: Remote) -> bool:
    return remote.url.startswith(("http://", "https://"))


def _filesystem(remote: Remote) -> tuple[Any, str]:
    """Return the fsspec file system and path of a URL.

    fsspec keeps its instances by process, so a forked worker gets one for itself.
    """
    scheme = remote.url.partition(":")[0]
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ValueError(f"{remote}: {scheme}:// needs fsspec; {pip_install('remote')}") from None
    try:
        return url_to_fs(remote.url)
    except ImportError as error:
        raise ValueError(f"{remote}: {' '.join(str(error).split())}") from None
    except ValueError:
        raise ValueError(f"{remote}: no reader for {scheme}://; shards are files, http(s) or fsspec URLs") from None


def _info(remote: Remote) -> http.Stat:
    fs, path = _filesystem(remote)
    about = fs.info(path)
    if about.get("type") == "directory" or about.get("size") is None:
        raise FileNotFoundError("it is no file")
    etag = next((str(about[k]) for k in ("ETag", "etag", "md5Hash", "blob_id", "checksum") if about.get(k)), "")
    modified = next((str(about[k]) for k in ("LastModified", "last_modified", "mtime", "created") if about.get(k)), "")
    return http.Stat(int(about["size"]), etag, modified)


def _cat(remote: Remote, begin: int, end: int) -> bytes:
    if begin >= end:
        return b""
    fs, path = _filesystem(remote)
    data = fs.cat_file(path, start=begin, end=end)
    if len(data) != end - begin:
        raise OSError(f"{len(data)} bytes came instead of {end - begin}")
    return data
