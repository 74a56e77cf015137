"""A web server for tests: it serves a folder, counts what it sends, and misbehaves where it is told to."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Web:
    """What a running server knows: ``url``, the ``requests`` and ``connections`` so far, the body ``bytes`` sent, and
    the faults to make.

    faults: file name -> what happens to its GETs: an int (that status), "half" (half a body), "reset" (the connection
    is reset), "slow" (a byte a second), "whole" (no ranges), "gzip" (it says that the body is compressed), "shifted"
    (another range than asked for), "drop" (the connection is closed without an answer),
    "leave" (it is closed after the answer), a URL (a redirect there), or (fault, n): only the first n times.
    """

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        self.faults: dict[str, Any] = {}
        self.requests: list[tuple[str, str, str]] = []  # method, file, range
        self.bytes = 0
        self.connections = 0
        self.head = True  # whether HEAD is allowed
        self.password = ""
        self.retry_after = ""
        self.lock = threading.Lock()

    def clear(self) -> None:
        self.requests, self.bytes, self.connections = [], 0, 0

    def fault(self, name: str) -> Any:
        with self.lock:
            fault = self.faults.get(name)
            if isinstance(fault, tuple):
                fault, left = fault
                self.faults[name] = (fault, left - 1) if left > 1 else None
            return fault


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.web.lock:
            self.web.connections += 1

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        wanted = self.headers.get("Range", "")
        with self.web.lock:
            self.web.requests.append((method, name, wanted))
        fault = self.web.fault(name) if method == "GET" or isinstance(self.web.faults.get(name), int) else None
        if fault in ("drop", "leave"):
            self.close_connection = True
        if fault == "drop":
            return
        if isinstance(fault, str) and "://" in fault:
            self.send_response(302)
            self.send_header("Location", fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = self.web.folder / name
        if self.web.password and self.headers.get("Authorization") != self.web.password:
            self.send_error(401)
            return
        if isinstance(fault, int) or not path.is_file() or (method == "HEAD" and not self.web.head):
            self.send_error(fault if isinstance(fault, int) else 405 if path.is_file() else 404)
            return
        data = path.read_bytes()
        etag, size = f'"{path.stat().st_mtime_ns:x}"', len(data)
        ranges = self.web.faults.get(name) != "whole"
        begin, end = 0, size
        if wanted and ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(size, int(last or size) + 1)
            if fault == "shifted":
                begin = 0
            if begin >= size:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("ETag", etag)
        if fault == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if method == "GET":
            self._send(data[begin:end], fault)

    def end_headers(self) -> None:
        if self.web.retry_after:
            self.send_header("Retry-After", self.web.retry_after)
        super().end_headers()

    def _send(self, data: bytes, fault: Any) -> None:
        if fault in ("half", "reset"):
            data = data[: len(data) // 2]
        if fault == "slow":
            for i in range(len(data)):
                self.wfile.write(data[i : i + 1])
                time.sleep(0.2)
        self.wfile.write(data)
        with self.web.lock:
            self.web.bytes += len(data)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault in ("half", "reset"):
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # a client that hung up is no news
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """A server of the files in ``folder``, on a free port of this machine."""
    handler = type("_Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        handler.web = web = Web(folder, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
