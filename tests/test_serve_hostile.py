"""A hostile corpus against a server in a process of its own: no failure, no growth, and nothing outside is touched.

``python -m hostile``, in this folder, sends the corpus and prints the table of the kinds.
"""

from __future__ import annotations

import re
import shutil
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hostile.attack import MB, Row, attack, serving, write_table
from hostile.client import Answer, Good, judge, send
from hostile.corpus import make_corpus
from hostile.request import EITHER, get
from hostile.traced import find_wrong, read_calls, strace
from hostile.watch import SECRET, Memory, Outside, below, listing, memory, peak
from hostile.world import LIMITS

SLACK = 16 * MB  # that allocators keep or give back between two passes
WRITTEN = ("world", "work", "tmp", "home")


@dataclass
class Attacked:
    """A server after two passes. The second leaves out what a deadline ended in the first."""

    step: int  # each step-th request of the corpus
    passes: list[list[Row]]
    memories: list[Memory]  # before, after the first and after the second pass
    peak: int
    restarts: int
    limits: list[dict[str, str]]  # of each process below the server
    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]
    log: str


def folders(folder: Path) -> dict[str, tuple[int, int]]:
    return {f"{name}/{path}": about for name in WRITTEN for path, about in listing(folder / name).items()}


def limits_of(pid: int) -> dict[str, str]:
    """The hard limits of a process, by the names of Linux."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[47:68].strip() for line in lines}


@pytest.fixture(scope="module", params=[6, pytest.param(1, marks=pytest.mark.sweep)])
def attacked(tmp_path_factory, request):
    """A sixth of the requests, of every kind, or all of them."""
    folder = tmp_path_factory.mktemp("corpus")
    outside = Outside(folder / "outside")
    with serving(folder) as server:
        good, corpus = Good(server.address), make_corpus(outside)[:: request.param]
        before, memories = folders(folder), [memory(server.pid)]
        first = attack(server, corpus, good, outside)
        memories.append(memory(server.pid))
        long = [one for row in first for one in row.long]
        second = attack(server, [one for one in corpus if not one.slow and one not in long], good, outside)
        memories.append(memory(server.pid))
        metrics = httpx.get("http://{}:{}/metrics".format(*server.address)).text
        found = re.search(r"^align_decoder_restarts_total (\d+)$", metrics, re.MULTILINE)
        assert found is not None
        limits = [limits_of(pid) for pid in below(server.pid)]
        after, highest = folders(folder), peak(server.pid)
        good.close()
    outside.close()
    log = (folder / "log").read_text()
    for one in (first, second):
        print(f"\n{write_table(one)}")
    return Attacked(request.param, [first, second], memories, highest, int(found[1]), limits, before, after, log)


@pytest.mark.slow
def test_every_request_is_refused_or_answered_and_so_is_the_next_good_one(attacked):
    """No 500, no secret, no trace, no file outside opened, no address asked, and no wait without end."""
    assert [one for rows in attacked.passes for row in rows for one in row.wrong] == []
    assert not any(500 <= status < 600 for rows in attacked.passes for row in rows for status in row.statuses)


@pytest.mark.slow
def test_the_corpus_is_large(attacked):
    rows = {row.kind: row.requests * attacked.step for row in attacked.passes[0]}
    assert sum(rows.values()) >= 600
    assert len(rows) >= 15
    assert min(rows.values()) >= 10


@pytest.mark.slow
def test_memory_does_not_grow(attacked):
    """The first pass fills caches and the libraries' working memory. The second takes no more.

    A decoder that is replaced begins anew, so the highest of each pass are compared.
    """
    start, first, second = attacked.memories
    assert second.server - first.server <= max(first.server - start.server, SLACK)
    assert second.server - start.server < 160 * MB
    assert attacked.peak < start.server + 4 * LIMITS.bodies + 128 * MB
    before, after = (max(row.highest.decoders for row in rows) for rows in attacked.passes)
    assert after <= before + SLACK
    assert after - start.decoders < 160 * MB


@pytest.mark.slow
def test_nothing_is_written(attacked):
    assert attacked.after == attacked.before
    assert attacked.log == ""


@pytest.mark.slow
def test_a_decoder_of_the_server_is_confined(attacked):
    """It is the one process below the server that may open no more files than it needs."""
    (decoder,) = [
        one for one in attacked.limits if one["Max open files"].isdecimal() and int(one["Max open files"]) < 100
    ]
    assert [decoder[name] for name in ("Max file size", "Max core file size")] == ["0", "0"]
    space, data = int(decoder["Max address space"]), int(decoder["Max data size"])
    assert LIMITS.decode_memory < data < 4 * LIMITS.decode_memory
    assert data < space
    assert attacked.restarts <= 10  # files that take too long, and no others
    assert attacked.restarts or attacked.step > 1


# The witnesses themselves


def test_the_witnesses_see(tmp_path):
    outside = Outside(tmp_path / "outside")
    assert (outside.opened(), outside.visited()) == ([], False)
    outside.canary.read_bytes()
    assert set(outside.opened()) == {"canary"}
    outside.marker.write_text("")
    assert "made" in outside.opened()
    host, _, port = outside.listener.partition(":")
    socket.create_connection((host, int(port))).close()
    assert (outside.visited(), outside.visited()) == (True, False)
    before = listing(tmp_path)
    (outside.folder / "canary.mtl").write_text("x")
    assert {name for name, about in listing(tmp_path).items() if before[name] != about} == {"outside/canary.mtl"}
    outside.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer((500,), b"", 0.1, True), "500, not"),
        (Answer((200, 503), b"", 0.1, True), "503, not"),
        (Answer((), b"", 0.1, True), "silence, not"),
        (Answer((200,), b"x" + SECRET, 0.1, True), "a secret"),
        (Answer((404,), b"root:x:0:0:", 0.1, True), "a secret"),
        (Answer((422,), b"Traceback (most recent call last)", 0.1, True), "a trace"),
        (Answer((200,), b"", 9.0, False), "no end"),
        (Answer((200,), b"", 0.1, True), ""),
    ],
)
def test_a_wrong_answer_is_seen(answer, said):
    found = judge(get("kind", "name", "/", fits=EITHER), answer, SECRET)
    assert (said in found, bool(said)) == (True, bool(found))


def test_an_answer_is_read_to_its_end_while_bytes_are_still_sent():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 x\r\n\r\nlong" + bytes(100_000))

        thread = threading.Thread(target=serve)
        thread.start()
        endless = get("kind", "name", "/").but(parts=lambda: iter(lambda: b"x" * 100_000, None))
        answer = send(listening.getsockname(), endless)
        thread.join()
    assert (answer.statuses[:1], answer.ended) == ((413,), True)


def test_the_table_counts_each_kind_and_all():
    rows = [Row("a", growth=Memory(2 * MB, 0)), Row("b", growth=Memory(MB, -MB))]
    for row, status, seconds, wrong in ((rows[0], 400, 0.1, ""), (rows[0], 400, 2.0, "x"), (rows[1], 200, 0.3, "y")):
        row.take(get(row.kind, "name", "/"), Answer((status,), b"", seconds, True), wrong)
    lines = write_table(rows).splitlines()[2:]
    assert lines[0] == "| a | 2 | 400 × 2 | 2000 (name) | +2.0 | +0.0 | 1 |"
    assert lines[1] == "| b | 1 | 200 × 1 | 300 (name) | +1.0 | -1.0 | 1 |"
    assert lines[2] == "| all | 3 | 200 × 1, 400 × 2 | 2000 | +3.0 | -1.0 | 2 |"
    assert (len(rows[0].long), len(rows[1].long)) == (1, 0)


# Every system call


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_system_call_leaves_the_world(tmp_path):
    """The files that the server and its decoders open during the corpus, and the addresses that they ask."""
    trace = tmp_path / "trace"
    outside = Outside(tmp_path / "outside")
    with serving(tmp_path, strace(trace)) as server:
        good = Good(server.address)
        begin = trace.stat().st_size
        rows = attack(server, make_corpus(outside), good, outside)
        good.close()
        calls = read_calls(trace.read_bytes()[begin:].decode("utf-8", "replace"))
    outside.close()
    assert [one for row in rows for one in row.wrong] == []
    assert len(calls) > 100  # files of the world and modules of decoders
    assert find_wrong(calls, tmp_path / "world", tmp_path / "tmp") == []


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ('7 openat(AT_FDCWD, "/w/world/a.tar", O_RDONLY|O_CLOEXEC) = 9', True),
        ('7 openat(AT_FDCWD, "/dev/null", O_WRONLY|O_CLOEXEC) = 9', True),
        ('7 connect(5, {sa_family=AF_UNIX, sun_path="/w/tmp/listener-x"}, 20) = 0', True),
        ("7 <... openat resumed>) = 3", True),
        ('7 openat(AT_FDCWD, "._", O_RDONLY) = -1 ENOENT', True),
        ('7 openat(AT_FDCWD, "._", O_RDWR|O_CREAT, 0600) = 9', False),
        ('7 openat(AT_FDCWD, "/w/world/a.tar", O_RDWR|O_CLOEXEC) = 9', False),
        ('7 openat(AT_FDCWD, "/w/world/../x", O_RDONLY) = -1 ENOENT', False),
        ('7 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 9', False),
        ('7 openat(AT_FDCWD, "canary.mtl", O_RDONLY) = -1 ENOENT', False),
        ('7 openat(AT_FDCWD, "/etc/passwd", O_RDONLY <unfinished ...>', False),
        ("7 connect(5, {sa_family=AF_INET, sin_port=htons(80)}, 16) = -1", False),
        ('7 unlink("/w/world/a.tar") = 0', False),
        ('7 execve("/bin/sh", ["sh"], 0x7 /* 9 vars */) = 0', False),
    ],
)
def test_a_wrong_call_is_seen(line, fits):
    assert (find_wrong(read_calls(line), Path("/w/world"), Path("/w/tmp")) == []) == fits
