"""uvicorn with this server's deadlines, its draining, and a signal that reloads."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any, final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from align.serve.guard import HEAD_BYTES
from align.serve.limits import Limits
from align.serve.logs import tell_loop_error
from align.serve.refusal import Refusal
from align.serve.respond import HEADERS, Json
from align.serve.service import Service
from align.serve.trim import trim_often

TICK = 0.05  # seconds between two looks at the open requests while draining
SETTLE = 0.1  # seconds after SIGTERM in which requests that are on their way through the system's buffers are accepted
TURNS = 10  # of the event loop at least, in that time: from a connection in the backlog to its request takes five
IDLE = 30  # seconds that a connection may stay open between two requests
LOUD = ("uvicorn.error", "python_multipart.multipart")  # a line for each request that is no HTTP or no form


def make_server(
    app: ASGIApp,
    service: Service,
    sock: socket.socket,
    *,
    reload: Callable[[], Any] | None = None,
    started: Callable[[], None] | None = None,
) -> Server:
    """Return a server for a bound socket. reload: called after SIGHUP, in a thread. started: when it answers."""
    limits = service.limits
    for name in LOUD:  # visitors do not fill the log; errors of ours still stand in it
        logging.getLogger(name).setLevel(logging.ERROR)

    class Protocol(Http):  # uvicorn builds one for each connection and passes nothing of ours
        bounds = limits

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    return Server(config, service, sock, reload, started)


class Http(H11Protocol):
    """A connection whose request must arrive in time, and of which there are so many at most."""

    bounds = Limits()
    _leaving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.bounds.head_seconds, self._give_up)
        if len(self.connections) > self.bounds.connections:
            self._end(Refusal(503, "the server has as many connections as it can hold; ask again in a second", retry=1))

    def data_received(self, data: bytes) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._deadline.cancelled():  # the first bytes of another request on this connection
            self._deadline = self.loop.call_later(self.bounds.head_seconds, self._give_up)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._deadline.cancel()

    def pause_writing(self) -> None:
        """Wait for a client that does not read its answer, and leave it when it has taken too long."""
        super().pause_writing()
        self._leaving = self.loop.call_later(self.bounds.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with a client that reads again."""
        super().resume_writing()
        if self._leaving is not None:
            self._leaving.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        if self._leaving is not None:
            self._leaving.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._end(Refusal(400, "this is no HTTP request, or its head is too long"))

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._deadline.cancel()
            self._end(Refusal(408, f"the head did not arrive in {self.bounds.head_seconds:g} s"))

    def _end(self, refusal: Refusal) -> None:
        """Write a response past the protocol, which is in no state for one, and close."""
        if self.transport.is_closing():
            return
        body = Json(refusal.body()).body
        lines = [f"HTTP/1.1 {refusal.status} {refusal.code}", f"content-length: {len(body)}", "connection: close"]
        lines += ["content-type: application/json", *(f"{name}: {value}" for name, value in HEADERS.items())]
        lines += [f"retry-after: {refusal.retry}"] if refusal.retry else []
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + bytes(body))
        self.transport.close()


@final
class Server(uvicorn.Server):
    """A server that answers its open requests after SIGTERM or SIGINT, new ones with 503 meanwhile, and then ends.

    ``signal`` is the one that ended it, or 0.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        sock: socket.socket,
        reload: Callable[[], Any] | None,
        started: Callable[[], None] | None,
    ):
        super().__init__(config)
        self._service, self._socket = service, sock
        self._reload, self._told = reload, started
        self._loop: asyncio.AbstractEventLoop | None = None
        self.signal = 0

    async def run_on_socket(self) -> None:
        """Serve until a signal comes or ``stop`` is called."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(tell_loop_error)
        if self._reload is not None and _in_main_thread():
            self._loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        trimming = asyncio.ensure_future(trim_often())
        try:
            await self.serve([self._socket])
        finally:
            trimming.cancel()
            self._service.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._told is not None:
            self._told()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to drain at the first signal, and end at once at the second."""
        if self.signal:
            self.should_exit = self.force_exit = True
        self.signal = self.signal or sig
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """Accept what has been sent by now, refuse new requests, answer the open ones, and end."""
        if not self._service.stopping:
            self._service.stopping = True
            self._ending = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        await asyncio.sleep(SETTLE)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._service.draining = True
        end = asyncio.get_running_loop().time() + self._service.limits.drain_seconds
        while self._service.open and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(TICK)
        self.should_exit = True

    def _begin_reload(self) -> None:
        assert self._reload is not None
        self._reloading = asyncio.get_running_loop().run_in_executor(None, self._reload)


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Port 0 takes a free one. Raises OSError where the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by this protocol
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
        sock.set_inheritable(True)
    except OSError:
        sock.close()
        raise
    return sock


def next_free(host: str, port: int) -> int | None:
    """Return the first free port above one, of the next hundred."""
    for one in range(port + 1, min(port + 100, 65536)):
        try:
            bind(host, one).close()
        except OSError:
            continue
        return one
    return None
