"""Requests that keep to HTTP and use its rare parts: trailers, expectations, marks and ranges, half a connection."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hostile.addresses import FOUND
from hostile.bodies import EMBED, SEARCH
from hostile.forms import TEXT
from hostile.request import ANSWERED, EITHER, FORM, REFUSED, SILENT, Hostile, get, head, part, post, raw

TYPE = "Content-Type: application/json"
GOOD = b'{"query": "red", "of": "image"}'
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\1\5\0\0\0\1" * 100
CHUNKED = "Transfer-Encoding: chunked"


def rare() -> list[Hostile]:
    """Return requests that use the rare parts of HTTP, of forms and of JSON's numbers."""
    kind, length = "rare", f"Content-Length: {len(GOOD)}"
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(GOOD), GOOD)
    open_head = head(SEARCH, TYPE, length, method="POST").replace(b"Connection: close\r\n", b"")
    last = head(SEARCH, TYPE, length, method="POST") + GOOD
    return [
        *(
            raw(
                kind,
                f"a trailer {name.partition(':')[0]}",
                start(CHUNKED),
                chunk + name.encode() + b"\r\n\r\n",
                fits=fits,
            )
            for name, fits in (
                ("Host: evil.example", ANSWERED),
                ("Content-Length: 5", ANSWERED),
                ("Transfer-Encoding: chunked", ANSWERED),
                ("Authorization: Bearer x", ANSWERED),
                ("X: " + "a" * (1 << 17), (*REFUSED, SILENT)),
                ("no name", (*REFUSED, SILENT)),
            )
        ),
        raw(kind, "30 searches in one piece", open_head + GOOD, *[open_head + GOOD] * 28, last, fits=ANSWERED),
        raw(kind, "a thousand requests, and no reader", open_head * 1000).but(leaves=True),
        raw(kind, "frames of HTTP/2", PREFACE),
        raw(
            kind,
            "expects, and sends 10^9 bytes",
            start("Content-Length: 1000000000", "Expect: 100-continue"),
            fits=(413,),
        ),
        raw(kind, "expects twice", start(length, "Expect: 100-continue", "Expect: 100-continue"), GOOD, fits=EITHER),
        raw(
            kind,
            "upgrade of a search to a websocket",
            start(length, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA=="),
            GOOD,
            fits=EITHER,
        ),
        raw(kind, "ten equal lengths", start(*[length] * 10), GOOD, fits=EITHER),
        raw(kind, "equal lengths with a zero in front", start(length, "Content-Length: 031"), GOOD, fits=EITHER),
        *(
            post(kind, f"a body in {coding}", SEARCH, GOOD, "application/json", f"Content-Encoding: {coding}")
            for coding in ("br", "zstd", "gzip, gzip, gzip", "identity, gzip", "x-gzip", "*")
        ),
        post(
            kind, "a body in no coding", SEARCH, GOOD, "application/json", "Content-Encoding: identity", fits=ANSWERED
        ),
        post(
            kind,
            "10,000 parts",
            SEARCH,
            lambda: TEXT + b"".join(_part(i, "") for i in range(10_000)) + b"--b--\r\n",
            FORM,
        ),
        post(
            kind,
            "10,000 empty files",
            SEARCH,
            lambda: TEXT + b"".join(_part(i, '; filename=""') for i in range(10_000)) + b"--b--\r\n",
            FORM,
        ),
        *_marks(kind),
        *_numbers(kind),
        *(
            get(kind, f"a path with {name}", path, fits=EITHER)
            for name, path in {
                "an encoded slash before media": "/v1/items/1%2fmedia/image",
                "an encoded slash for all": "/v1%2fitems%2f1",
                "encoded slashes of a model": "/v1/models/..%2f..%2fetc%2fpasswd",
                "a dot segment": "/v1/items/../items/1",
                "an encoded question mark": "/v1/items/1%3fa=b",
                "a fragment": "/v1/items/1#a",
                "a slash at the end": "/v1/items/1/",
            }.items()
        ),
    ]


def start(*headers: str) -> bytes:
    """Return the head of a search."""
    return head(SEARCH, TYPE, *headers, method="POST")


def _part(i: int, more: str) -> bytes:
    return part(f'name="f{i}"{more}', b"")


def _marks(kind: str) -> list[Hostile]:
    """Return a file asked for by marks, times and ranges that contradict each other."""
    date = "Sat, 01 Jan 2000 00:00:00 GMT"
    asked: dict[str, tuple[list[str], tuple[int, ...]]] = {
        "any mark": (["If-None-Match: *"], (304,)),
        "a mark without quotes": (["If-None-Match: x"], (200,)),
        "commas alone": (["If-None-Match: " + "," * 10_000], (200,)),
        "a range if it is as of a date": (["Range: bytes=0-1", f"If-Range: {date}"], (200,)),
        "a range if it is weakly another": (["Range: bytes=0-1", 'If-Range: W/"x"'], (200,)),
        "a range if it is anything": (["Range: bytes=0-1", "If-Range: *"], (200,)),
        "a range if, and none": (['If-Range: "x"'], (200,)),
        "two marks of a range": (["Range: bytes=0-1", 'If-Range: "x"', 'If-Range: "y"'], (200,)),
        "a mark that must fit": (['If-Match: "x"'], EITHER),
        "a year that is none": (["If-Modified-Since: Sat, 99 Foo 99999 99:99:99 GMT"], (200,)),
    }
    return [get(kind, name, FOUND, *headers, fits=fits) for name, (headers, fits) in asked.items()] + [
        get(kind, "a range of a head", FOUND, "Range: bytes=0-1", method="HEAD", fits=(200,))
    ]


def _numbers(kind: str) -> list[Hostile]:
    """Return JSON with numbers beyond all bounds, in each field that takes one, and with names twice."""
    bodies: Iterator[tuple[str, bytes]] = (
        (f"{name} {number}", b'{"query": "red", "of": "image", %s}' % (field % number).encode())
        for number in ("1e400", "-1e400", "1e-400", "9" * 400, "-0.0", "true")
        for name, field in {
            "a filter of": '"where": {"year": {"gt": %s}}',
            "a list in a filter of": '"where": {"year": {"in": [%s]}}',
            "k": '"k": %s',
            "an item": '"parts": [{"modality": "image", "id": %s}]',
            "a weight": '"parts": [{"modality": "text", "text": "b", "weight": %s}]',
            "a threshold": '"threshold": %s',
        }.items()
    )
    twice = json.dumps({"query": "red", "of": "image", "where": {"a": 1}}).replace('"a": 1', '"a": 1, "a": 2')
    return [
        *(post(kind, name[:60], SEARCH, body, fits=EITHER) for name, body in bodies),
        post(kind, "a filter with a name twice", SEARCH, twice.encode()),
        post(kind, "a name twice by an escape", SEARCH, b'{"query": "a", "\\u0071uery": "b", "of": "image"}'),
        post(kind, "inputs of NaN", EMBED, b'{"input": NaN}'),
        post(kind, "dimensions of 1e400", EMBED, b'{"input": "a", "dimensions": 1e400}'),
    ]
