"""Heartbeats between the ranks of a run, over TCP: a rank that ends or falls silent is noticed by all others.

Rank 0 has a connection to every other rank. A killed process closes its connections, so its end is known at once. A
stopped one keeps them, and falls silent. The time is each watcher's own.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

from align.files import json_text

LONGEST = 1 << 16  # bytes of a message

_open: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close the connections in a forked data worker, which would keep them open for a rank that is gone."""
    for each in list(_open):
        each.close()


os.register_at_fork(after_in_child=_close_in_child)


class Verdict(NamedTuple):
    """End of a rank. told: the rank itself has said why, so that the others may meet the same error by themselves."""

    rank: int
    reason: str
    told: bool


@final
class Heartbeats:
    """Thread that exchanges heartbeats with other ranks.

    Args:
        peers: rank -> a connection to it: all other ranks for rank 0, rank 0 for every other one.
        seconds: a rank that is silent for so long has ended.
        ended: called with the first verdict, in this thread. The thread ends after it.
    """

    def __init__(self, rank: int, peers: Mapping[int, socket.socket], seconds: float, ended: Callable[[Verdict], None]):
        self.rank, self.seconds, self.ended = rank, seconds, ended
        self.period = min(1.0, seconds / 5)
        self._peers, self._rest = dict(peers), dict.fromkeys(peers, b"")
        self._heard = dict.fromkeys(peers, time.monotonic())
        self._lock = threading.Lock()  # of sending
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        for each in peers.values():
            each.settimeout(min(5.0, seconds))
            _open.add(each)
        self._thread.start()

    def tell(self, reason: str) -> None:
        """Tell the other ranks that this one ends, and why. Rank 0 passes on the words of the others."""
        self._over.set()
        self._send({"rank": self.rank, "reason": reason[: LONGEST // 8], "told": True})

    def close(self) -> None:
        """Say goodbye: the others do not miss this rank."""
        if not self._over.is_set():
            self._over.set()
            self._send({"bye": True})
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        for each in self._peers.values():
            each.close()

    def _send(self, message: Mapping[str, Any], but: int = -1) -> None:
        data = json_text(message).encode() + b"\n"
        with self._lock:
            for rank, peer in list(self._peers.items()):
                try:
                    if rank != but:
                        peer.sendall(data)
                except OSError:  # reading tells why
                    continue

    def _run(self) -> None:
        verdict = None
        with selectors.DefaultSelector() as selector:
            for rank, peer in self._peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            beat = time.monotonic() - self.period
            while self._peers and verdict is None and not self._over.is_set():
                now = time.monotonic()
                if now - beat >= self.period:
                    if now - beat > self.seconds / 2:  # this process was stopped itself
                        self._heard = dict.fromkeys(self._peers, now)
                    self._send({})
                    beat = now
                for key, _ in selector.select(self.period / 2):
                    verdict = verdict or self._read(key.data, selector)
                verdict = verdict or self._find_silent()
        if verdict is not None and not self._over.is_set():
            if self.rank == 0:
                self._send(verdict._asdict(), but=verdict.rank)
            self.ended(verdict)

    def _read(self, rank: int, selector: selectors.BaseSelector) -> Verdict | None:
        """Read the messages of a rank, and return the verdict in them, if any."""
        try:
            data = self._peers[rank].recv(LONGEST)
        except TimeoutError:
            return None
        except OSError:
            data = b""
        if not data:
            return Verdict(rank, "it ended without a word: killed, or out of memory", False)
        self._heard[rank] = time.monotonic()
        *lines, rest = (self._rest[rank] + data).split(b"\n")
        self._rest[rank] = rest[-LONGEST:]
        for line in filter(None, lines):
            message = _parse(line)
            if "reason" in message:
                return Verdict(int(message["rank"]), str(message["reason"]), bool(message.get("told")))
            if "bye" in message:
                selector.unregister(self._peers[rank])
                self._peers.pop(rank).close()
                return None
        return None

    def _find_silent(self) -> Verdict | None:
        now = time.monotonic()
        for rank in self._peers:
            if now - self._heard[rank] > self.seconds:
                return Verdict(rank, f"it is silent for {self.seconds:g} s: stopped, or its machine is gone", False)
        return None


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
