"""Addresses of vector servers: ``milvus:http://host:19530``, ``qdrant:http://host:6333``, or the URL alone."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from align.search.finder import Unavailable

Kind = Literal["milvus", "qdrant"]
FORM = re.compile(r"(?:(?P<kind>[a-z]+):)?(?P<url>https?://.*)", re.IGNORECASE | re.DOTALL)
PATIENCE = 3.0  # seconds for an answer to the question which server this is


class Address(NamedTuple):
    """A server of vectors: its kind and its URL, without a slash at the end."""

    kind: Kind
    url: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.url}"


def is_address(text: str) -> bool:
    """Return True for a text that names a server, right or wrong, and not a kind of search in the folder.

    >>> is_address("milvus:http://localhost:19530"), is_address("hnsw")
    (True, False)
    """
    return "://" in text


def read_address(text: str) -> Address:
    """Return the server that a text names. A URL alone is asked which kind of server answers there.

    Raises ValueError for another form, or a password in the URL, and Unavailable where nobody answers.
    """
    found = FORM.fullmatch(text)
    kinds = get_args(Kind)
    forms = "http://HOST:PORT, or " + " or ".join(f"{kind}:http://HOST:PORT" for kind in kinds)
    if found is None:
        raise ValueError(f"{_hide(text)!r} is no address of a server; an address is {forms}")
    kind, url = (found["kind"] or "").lower(), found["url"].rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{_hide(text)!r} is no address of a server ({error}); an address is {forms}") from None
    if parts.username is not None or parts.password is not None:
        named = "ALIGN_MILVUS_TOKEN or ALIGN_QDRANT_KEY"
        raise ValueError(f"{_hide(text)!r} has a password, which the index would keep; put it in {named}")
    if not host or any(c.isspace() for c in url) or parts.path or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no address of a server; an address is {forms}")
    if kind and kind not in kinds:
        raise ValueError(f"{text!r} names no server that is known; an address is {forms}")
    return Address("qdrant" if (kind or _probe(url)) == "qdrant" else "milvus", url)


def _probe(url: str) -> Kind:
    """Return the kind of server at a URL: Qdrant says its name, Milvus does not speak HTTP/1."""
    from urllib3 import PoolManager
    from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

    try:
        with PoolManager(retries=False, timeout=PATIENCE) as pool:
            answer = pool.request("GET", f"{url}/", redirect=False)
    except (NewConnectionError, ConnectTimeoutError):
        raise Unavailable(f"no server answers at {url}; is it running?") from None
    except HTTPError:  # an answer that is no HTTP/1
        return "milvus"
    with suppress(ValueError, AttributeError):
        if "qdrant" in str(json.loads(answer.data).get("title", "")).lower():
            return "qdrant"
    return "milvus"


def _hide(text: str) -> str:
    """Return an address without what stands before its host, which may be a password."""
    return re.sub(r"//[^/]*@", "//…@", text)
