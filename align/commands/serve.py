"""``align serve INDEX`` answers searches over HTTP, to programs and to a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Weights


def serve(
    place: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    token_file: str | None = None,
    allow_host: str | None = None,
    model: str | None = None,
    decoders: int = 2,
    up: Literal["y", "z"] | None = None,
    backend: Literal["exact"] | None = None,
    placing: Placing,
    weights: Weights,
) -> int:
    """Serve an index: the search page and the HTTP API

    The address is printed when it answers. The API is described at /docs, and OpenAI's clients work with /v1. The
    server fetches nothing, and other machines reach it only after --host. SIGHUP loads the index and the model anew,
    SIGTERM ends the server after its open requests.

    Args:
        place: the folder of an index, a run with one, or a model, which is served without a search
        host: the address to listen at. 0.0.0.0 is every address of this machine
        port: the port to listen at. 0 takes a free one
        token: a password that every request must carry
        token_file: a file with the token, which no list of processes shows
        allow_host: names of this server beside its address and localhost, separated by commas
        model: the index's model, where it has moved. Default: as the index says
        decoders: processes that read the files of visitors
        up: the axis of shapes that stands upright on the page. Default: as the model's points have it
        backend: exact scores every row. Default: the approximate search of the index where it has one (see align index
            backend), else exact
    """
    check_installed()
    from align.commands.named import split
    from align.serve.limits import Limits

    if not 0 <= port <= 65535:
        raise Refused(f"--port is a number from 0 to 65535, not {port}", code=2)
    if decoders < 1:
        raise Refused(f"--decoders must be at least 1, got {decoders}", code=2)
    secret = read_token(token, token_file)
    device = str(placing.find_device())
    sock = open_socket(host, port)  # before the model is loaded, which takes seconds
    try:
        from align.serve.decoders import prepare

        prepare()  # while the model is loaded
        from align.serve.loading import Place

        chosen = Place(place, model, weights.checkpoint, tuple(split(weights.allow)), device, placing.dtype, backend)
        limits = Limits(decoders=decoders)
        loaded = chosen.open(limits)
    except BaseException:
        sock.close()
        raise
    names = [*split(allow_host), *(() if host in ("0.0.0.0", "::") else (host,))]
    return run(chosen, loaded, limits, sock, names, secret, up)


def run(
    place: Any, loaded: Any, limits: Any, sock: Any, hosts: list[str], token: str = "", up: str | None = None
) -> int:
    """Answer until a signal comes, and return the exit code."""
    import asyncio
    import logging

    from align.serve.app import LOOPBACK, make_app
    from align.serve.loading import Reloader
    from align.serve.server import make_server
    from align.serve.service import Service

    logging.basicConfig(stream=sys.stderr, format="align: %(message)s", level=logging.WARNING)
    service = Service(loaded, limits, up=up)
    reloader = Reloader(place, service)
    app = make_app(service, hosts=[*LOOPBACK, *hosts], token=token)
    reason = loaded.reason if loaded.searcher is None else ""
    server = make_server(app, service, sock, reload=reloader.reload, started=lambda: print_address(sock, reason, token))
    reloader.start()
    try:
        asyncio.run(server.run_on_socket())
    finally:
        reloader.stop()
    return 128 + server.signal if server.signal else 0


def read_token(token: str | None, file: str | None) -> str:
    """Return the token of the options, "" for none. Raises Refused for both, and for an empty one."""
    if token is not None and file is not None:
        raise Refused("give --token or --token-file, not both", code=2)
    found = Path(file).read_text(encoding="utf-8").strip() if file is not None else token
    if found is not None and (not found.strip() or not found.isascii() or not found.isprintable()):
        raise Refused("the token is empty or has other characters than printable ASCII", code=2 if file is None else 1)
    return found or ""


def print_address(sock: Any, reason: str, token: str) -> None:
    """Print the address. Where other machines reach the server, say so."""
    host, port = sock.getsockname()[:2]
    everywhere = host in ("0.0.0.0", "::")
    shown = "127.0.0.1" if everywhere else f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}", flush=True)
    if not Path("/proc/self/status").exists():  # see align.serve.decoding
        print("align: decoders have no limit of memory on this system; on Linux they have", file=sys.stderr)
    if reason:
        print(f"align: {reason}", file=sys.stderr)
    if not token and not host.startswith("127.") and host != "::1":
        print("align: whoever reaches this address can search; --token-file asks for a password", file=sys.stderr)


def open_socket(host: str, port: int) -> Any:
    """Return a listening socket. Raises Refused with the next free port where this one is in use."""
    import errno
    import socket

    from align.serve.server import bind, next_free

    try:
        return bind(host, port)
    except socket.gaierror:
        raise Refused(f"--host {host} is no address of this machine", code=2) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            free = next_free(host, port)
            hint = "--port 0 takes a free one" if free is None else f"--port {free} is free, --port 0 takes any"
            raise Refused(f"port {port} of {host} is in use; {hint}") from None
        if error.errno == errno.EACCES:
            raise Refused(f"port {port} needs more rights than this user has; take one above 1023") from None
        raise Refused(f"--host {host} is no address of this machine ({error.strerror})", code=2) from None


def check_installed() -> None:
    """Raise Refused where the extra is missing, or is too old for the parts that are used."""
    from align.extras import has_part, pip_install

    for module, part in (
        ("starlette.applications", "Starlette"),
        ("uvicorn", "Server"),
        ("python_multipart", "QuerystringParser"),
    ):
        if not has_part(module, part):
            raise Refused(f"align serve needs {module.partition('.')[0]}: {pip_install('serve')}")
