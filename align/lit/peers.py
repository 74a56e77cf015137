"""Connections of the heartbeats: rank 0 has one to every other rank of the run."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from align.files import json_text


def connect(rank: int, world: int, exchange: Callable[[bytes], list[bytes]]) -> tuple[dict[int, socket.socket], str]:
    """Return the connections of this rank, and "" or the reason for which there are none. All ranks call it together.

    exchange: returns the bytes of every rank. Where all ranks have one host, nothing outside it can connect. A
    connection without the token of this call is closed.
    """
    hosts = exchange(socket.gethostname().encode())
    address = {"port": 0, "token": "", "hosts": []}
    server = None
    if rank == 0:
        alone = len(set(hosts)) == 1
        server = socket.create_server(("127.0.0.1" if alone else "", 0), backlog=world)
        names = ["127.0.0.1"] if alone else [os.environ.get("MASTER_ADDR", ""), hosts[0].decode()]
        address = {"port": server.getsockname()[1], "token": os.urandom(16).hex(), "hosts": names}
    address = json.loads(exchange(json_text(address).encode() if rank == 0 else b"")[0])
    peers, reason = {}, ""
    try:
        peers = {0: _dial(rank, address)} if server is None else _accept(server, world, address["token"])
    except OSError as error:
        reason = f"rank {rank} cannot reach rank 0 at {' or '.join(address['hosts'])}: {error}"
    finally:
        if server is not None:
            server.close()
    agreed = False
    try:
        reason = next((said.decode() for said in exchange(reason.encode()) if said), "")
        agreed = not reason
    finally:
        if not agreed:
            for peer in peers.values():
                peer.close()
    return peers if agreed else {}, reason


def _dial(rank: int, address: Mapping[str, Any]) -> socket.socket:
    error: OSError = ConnectionError("no address")
    for host in filter(None, address["hosts"]):
        try:
            peer = socket.create_connection((host, address["port"]), timeout=10)
        except OSError as e:
            error = e
            continue
        try:
            peer.sendall(f"{address['token']} {rank}\n".encode())
        except OSError:
            peer.close()
            raise
        return peer
    raise error


def _accept(server: socket.socket, world: int, token: str) -> dict[int, socket.socket]:
    """Return rank -> its connection. Raises TimeoutError, with all closed, where they are not there in 30 s."""
    peers: dict[int, socket.socket] = {}
    end = time.monotonic() + 30
    try:
        while len(peers) < world - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            peer, _ = server.accept()
            rank = _read_rank(peer, token)
            if rank is None:
                peer.close()
            else:
                peers[rank] = peer
    except OSError:
        for peer in peers.values():
            peer.close()
        raise
    return peers


def _read_rank(peer: socket.socket, token: str) -> int | None:
    """Return the rank that a connection says it is. None: a stranger, which may be silent or gone."""
    peer.settimeout(5)
    said = b""
    try:
        while not said.endswith(b"\n") and len(said) < 100 and (more := peer.recv(1)):
            said += more
    except OSError:
        return None
    words = said.decode(errors="replace").split()
    return int(words[1]) if len(words) == 2 and words[0] == token and words[1].isdigit() else None
