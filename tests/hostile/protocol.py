"""Requests that break HTTP: smuggling, wrong lengths, odd methods and versions, and bodies that never end."""

from __future__ import annotations

from collections.abc import Iterator

from hostile.request import ANSWERED, EITHER, REFUSED, SILENT, Hostile, get, head, post, raw

GOOD = b'{"query": "red", "of": "image"}'
TYPE = "Content-Type: application/json"
CLOSED = (*REFUSED, SILENT)


def start(*headers: str, method: str = "POST", target: str = "/v1/search") -> bytes:
    """Return the head of a search without a length."""
    return head(target, TYPE, *headers, method=method)


def broken() -> list[Hostile]:
    """Return requests whose HTTP is wrong or rare."""
    kind, chunked = "protocol", "Transfer-Encoding: chunked"
    length = f"Content-Length: {len(GOOD)}"
    get_line = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    smuggled = b"0\r\n\r\nGET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return [
        raw(kind, "two lengths", start(length, "Content-Length: 5"), GOOD),
        raw(kind, "one length twice", start(length, length), GOOD, fits=EITHER),
        raw(kind, "lengths in one line", start("Content-Length: 5, 31"), GOOD),
        raw(kind, "length below zero", start("Content-Length: -1"), GOOD),
        raw(kind, "length with a sign", start("Content-Length: +31"), GOOD),
        raw(kind, "length of 4300 digits", start("Content-Length: " + "9" * 4300)),
        raw(kind, "length of 30 digits", start("Content-Length: " + "9" * 30)),
        raw(kind, "length in hexadecimal", start("Content-Length: 0x1f"), GOOD),
        raw(kind, "length in Arabic digits", start("Content-Length: ٣١"), GOOD),
        raw(kind, "length and chunks", start("Content-Length: 4", chunked), smuggled, fits=CLOSED),
        raw(kind, "chunks twice", start(chunked, chunked), smuggled, fits=CLOSED),
        raw(kind, "chunks by another name", start("Transfer-Encoding: xchunked"), smuggled, fits=CLOSED),
        raw(kind, "chunks, then identity", start("Transfer-Encoding: chunked, identity"), smuggled, fits=CLOSED),
        raw(kind, "chunks behind a tab", start("Transfer-Encoding:\tchunked"), smuggled, fits=CLOSED),
        raw(kind, "space before the colon", start("Transfer-Encoding : chunked"), smuggled, fits=CLOSED),
        raw(kind, "chunk size below zero", start(chunked), b"-5\r\nhello\r\n0\r\n\r\n", fits=CLOSED),
        raw(kind, "chunk size of 100 digits", start(chunked), b"F" * 100 + b"\r\nx", fits=CLOSED),
        raw(kind, "chunk extension of 1 MB", start(chunked), b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n", fits=CLOSED),
        raw(kind, "chunks of one byte", start(chunked), b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n", fits=CLOSED),
        raw(kind, "trailers by the thousand", start(chunked), b"0\r\n" + b"a: b\r\n" * 5000 + b"\r\n", fits=CLOSED),
        raw(kind, "head folded", get_line + b"X-A: a\r\n b\r\n\r\n", fits=EITHER),
        raw(kind, "lines end in LF", get_line.replace(b"\r", b"") + b"\n", fits=EITHER),
        raw(kind, "lines end in CR", get_line.replace(b"\n", b"") + b"\r", fits=CLOSED).but(slow=True),
        raw(kind, "NUL in a header", get_line + b"X-A: a\0b\r\n\r\n"),
        raw(kind, "NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        raw(kind, "space in the target", b"GET /v1/items/1 2 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        raw(kind, "bytes above 127 in the target", b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        raw(kind, "header without a colon", get_line + b"nothing\r\n\r\n"),
        raw(kind, "header without a name", get_line + b": x\r\n\r\n"),
        raw(kind, "HTTP/0.9", b"GET /\r\n\r\n"),
        raw(kind, "HTTP/1.0 without a host", b"GET /healthz HTTP/1.0\r\n\r\n"),
        raw(kind, "HTTP/2 by its preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        raw(kind, "HTTP/9.9", get_line.replace(b"1.1", b"9.9") + b"\r\n", fits=EITHER),
        raw(kind, "a hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
        raw(kind, "upgrade to h2c", get_line + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", fits=EITHER),
        raw(
            kind,
            "upgrade to websocket",
            get_line + b"Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            fits=EITHER,
        ),
        *(get(kind, f"method {m}", "/v1/search", method=m) for m in ("TRACE", "TRACK", "PUT", "DELETE", "PATCH")),
        get(kind, "method CONNECT", "example.org:443", method="CONNECT"),
        get(kind, "method OPTIONS *", "*", method="OPTIONS"),
        get(kind, "method in small letters", "/healthz", method="get"),
        get(kind, "method of 10,000 letters", "/", method="A" * 10_000),
        get(kind, "a method with a formula", "/", method="=1+1"),
        get(kind, "an absolute address", "http://localhost/healthz"),
        get(kind, "an address of another host", "http://169.254.169.254/latest/meta-data/"),
        get(kind, "an address of a file", "file:///etc/passwd"),
        get(kind, "a body with GET", "/healthz", "Content-Length: 31", fits=EITHER),
        raw(kind, "answered before it is sent", start(length, "Expect: 100-continue"), GOOD, fits=ANSWERED),
        raw(kind, "another expectation", start(length, "Expect: 200-ok"), GOOD, fits=EITHER),
        raw(
            kind,
            "pipelined",
            head("/healthz").replace(b"Connection: close\r\n", b"") * 50 + head("/healthz"),
            fits=ANSWERED,
        ),
        raw(
            kind,
            "pipelined, and then no HTTP",
            head("/healthz").replace(b"Connection: close\r\n", b"") + b"\0" * 99,
            fits=EITHER,
        ),
        raw(kind, "a body beyond its length", start("Content-Length: 2"), b"{}" + GOOD * 100),
        post(kind, "gzip of zeros", "/v1/search", gzip_bomb, "application/json", "Content-Encoding: gzip"),
        post(
            kind,
            "deflate",
            "/v1/search",
            b"x\x9c\xab\xae\x05\0\x01u\0\xf9",
            "application/json",
            "Content-Encoding: deflate",
        ),
        post(kind, "a type of 8,000 letters", "/v1/search", GOOD, "a" * 8000),
        post(kind, "another type", "/v1/search", GOOD, "application/x-python-pickle"),
        post(kind, "a body above the bound", "/v1/search", lambda: b" " * (5 << 20)),
        raw(kind, "gone in the middle", start("Content-Length: 1000"), GOOD).but(leaves=True),
        raw(kind, "gone at once", b"").but(leaves=True),
        raw(kind, "gone before its answer", start(length), GOOD).but(leaves=True),
    ]


def gzip_bomb() -> bytes:
    """Return 64 MB of zeros in 64 KB."""
    import gzip

    return gzip.compress(bytes(64 << 20), 6)


def endless(piece: bytes) -> Iterator[bytes]:
    """Yield a piece for ever."""
    while True:
        yield piece


def slow() -> list[Hostile]:
    """Return requests that end by a deadline or by a bound, and never by themselves."""
    kind, chunked = "endless", "Transfer-Encoding: chunked"
    line = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"

    def loris() -> Iterator[bytes]:
        yield line
        for i in range(1000):
            yield f"X-{i}: a\r\n".encode()

    def drops() -> Iterator[bytes]:
        yield start("Content-Length: 100000")
        yield from endless(b" ")

    def flood() -> Iterator[bytes]:
        yield start(chunked)
        yield from endless(b"10000\r\n" + b" " * 65536 + b"\r\n")

    def trickle() -> Iterator[bytes]:
        yield start(chunked)
        yield from endless(b"1\r\n \r\n")

    def long_line() -> Iterator[bytes]:
        yield b"GET /"
        yield from endless(b"a" * 65536)

    def long_head() -> Iterator[bytes]:
        yield line
        yield from endless(b"X-A: " + b"a" * 1000 + b"\r\n")

    def form() -> Iterator[bytes]:
        yield head("/v1/search", "Content-Type: multipart/form-data; boundary=b", chunked, method="POST")
        yield from endless(b"10000\r\n" + b"-" * 65536 + b"\r\n")

    lorises = [Hostile(kind, f"a head by the line, {i}", loris, (408,), True, 0.2) for i in range(8)]
    return [
        *lorises,
        Hostile(kind, "a body by the byte", drops, (408,), True, 0.1),
        Hostile(kind, "chunks by the byte", trickle, (408,), True, 0.1),
        Hostile(kind, "chunks without end", flood, (413,), True),
        Hostile(kind, "a form without end", form, (413,), True),
        Hostile(kind, "a line without end", long_line, (400,), True),
        Hostile(kind, "a head without end", long_head, (400, 431), True),
        raw(kind, "nothing at all", b"", fits=(408,)).but(slow=True),
        raw(kind, "half a head", line, fits=(408,)).but(slow=True),
        raw(kind, "a head without its body", start("Content-Length: 31"), fits=(408,)).but(slow=True),
        raw(kind, "less than its length", start("Content-Length: 99"), GOOD, fits=(408,)).but(slow=True),
        raw(kind, "expects and sends nothing", start("Content-Length: 31", "Expect: 100-continue"), fits=(408,)).but(
            slow=True
        ),
        raw(kind, "chunks without their end", start(chunked), b"1f\r\n" + GOOD + b"\r\n", fits=(408,)).but(slow=True),
        raw(kind, "a chunk without its bytes", start(chunked), b"FFFFFF\r\n", fits=(408,)).but(slow=True),
    ]
