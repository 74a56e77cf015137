"""The server under load: shared forward passes, slow clients, its end, its memory, and what its log holds."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from few import few
from load_clients import (
    Answer,
    ask_on,
    ask_slowly,
    build_head,
    count_statuses,
    draw_asks,
    find_slope,
    read_metrics,
    read_passes,
)
from served import load, picture, serving
from test_serve_process import start, write_world
from test_serve_safety import LIMITS, uri
from tiny_space import write_tar

from align.data.archive.build import read_index
from align.search.item import Item
from align.serve.logs import describe
from align.serve.members import Members

SECRET = "qz7secret"


@pytest.fixture(scope="module")
def idx(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("load"))


def until(seconds: float):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


# Load


@pytest.mark.sweep
def test_the_benchmark_runs_and_no_request_fails(tmp_path):
    script = Path(__file__).parent / "benchmarks" / "serve_load.py"
    given = ["--seconds", "2", "--clients", "8", "--slow", "12", "--rows", "3000", "--every", "0.5"]
    done = subprocess.run([sys.executable, script, *given], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.count("  errors: 0\n") == 2, done.stdout
    assert float(re.findall(r"([\d.]+) rows a pass", done.stdout)[-1]) > 1, done.stdout
    assert re.search(r"^p99 beside .*: text [\d.]+, picture [\d.]+$", done.stdout, re.M), done.stdout
    assert len(re.findall(r"^  at +\d s: +\d+ answers, +[\d.]+ MiB of the server,", done.stdout, re.M)) == 10, (
        done.stdout
    )
    assert (
        len(re.findall(r"^  memory grew by .* second half, for 1,000 answers: [-+][\d.]+ and", done.stdout, re.M)) == 2
    )
    assert "failed: 0; the server's exit code: 143" in done.stdout


def test_slow_clients_are_ended_and_stop_no_others(tmp_path):
    limits = replace(LIMITS, head_seconds=1.0, body_seconds=1.5, connections=100)
    answers: list[Answer] = []
    ends: list[tuple[float, int]] = []

    async def ask_all(port: int) -> None:
        going, asks = until(4), draw_asks(20)
        slow = [ask_slowly(port, i % 2 == 0, going, ends) for i in range(40)]
        await asyncio.gather(*slow, *(ask_on(port, asks[i:] + asks[:i], going, answers) for i in range(8)))

    with serving(load(tmp_path, limits), limits) as (url, service):
        port = int(url.rsplit(":", 1)[1])
        before = read_metrics(port)
        asyncio.run(ask_all(port))
        shared = read_passes(before, read_metrics(port))
        left = until(20)
        while service.open and left():
            time.sleep(0.05)
        assert service.open == 0
    assert count_statuses(answers).keys() == {200}
    assert len(ends) >= 40
    assert {status for _, status in ends} == {408}
    assert min(length for length, _ in ends) > 0.9
    for m in ("image", "text"):
        rows, passes = shared[m]
        assert rows == sum(one.kind == {"image": "picture", "text": "text"}[m] for one in answers)
        assert rows > passes  # requests of different clients share a pass


def test_the_rows_of_each_forward_pass_are_counted(tmp_path):
    """A request of five texts and one of two, in batches of at most three rows."""
    limits = replace(LIMITS, batch=3, window=0.0)
    with serving(load(tmp_path, limits), limits) as (url, service):
        for inputs in (["b"] * 5, ["b", "c"]):
            assert httpx.post(f"{url}/v1/embeddings", json={"input": inputs}).status_code == 200
        found = read_metrics(int(url.rsplit(":", 1)[1]))
        assert dict(service.loaded.batcher.passes["text"]) == {3: 1, 2: 2}
        name = "align_rows_per_pass"
        buckets = [found[f'{name}_bucket{{modality="text",le="{le}"}}'] for le in (1, 2, 4, 8, 16, 32, 64, "+Inf")]
        assert buckets == [0, 2, 3, 3, 3, 3, 3, 3]
        assert (found[f'{name}_sum{{modality="text"}}'], found[f'{name}_count{{modality="text"}}']) == (7, 3)
        assert (found["align_rows_total"], found["align_batches_total"]) == (7, 3)


def test_the_lists_of_shards_in_memory_are_bounded_by_their_samples(tmp_path, monkeypatch):
    """Not by the number of shards: a search whose hits lie in more of them would read each one anew."""
    shards = [
        str(write_tar(tmp_path / f"test-{i:06d}.tar", {f"{j}": {"txt": b"b"} for j in range(3)})) for i in range(80)
    ]
    read: list[str] = []
    monkeypatch.setattr("align.serve.members.read_index", lambda path: read.append(path.name) or read_index(path))
    for most, expected in ((1 << 19, 80), (10, 160)):
        monkeypatch.setattr("align.serve.members.SAMPLES", most)
        members, read[:] = Members(), []
        for shard in [*shards, *shards]:
            (found,) = members.list_members(Item("1", {"shard": shard, "key": "1"}))
            assert found.path == Path(shard)
        assert len(read) == expected
    assert [len(keys) for _, keys in members._shards.values()] == [3, 3, 3]


def test_the_slope_is_that_of_the_second_half():
    assert find_slope([(0, 9), (1, 1), (10, 5), (20, 6), (30, 7)]) == pytest.approx(0.1)
    assert math.isnan(find_slope([(5, 1), (5, 2)]))
    assert math.isnan(find_slope([]))


# The end


@pytest.mark.slow
@pytest.mark.parametrize("number", few([signal.SIGTERM, signal.SIGINT], 1))
def test_a_signal_under_load_loses_no_accepted_request(idx, number):
    process, url = start(idx)
    answers: list[Answer] = []
    asks = draw_asks(40)
    try:
        port = int(url.rsplit(":", 1)[1])
        ended = threading.Event()
        clients = [
            threading.Thread(
                target=lambda i=i: asyncio.run(
                    ask_on(port, asks[i:] + asks[:i], lambda: not ended.is_set() and going(), answers)
                )
            )
            for i in range(16)
        ]
        going = until(60)
        for client in clients:
            client.start()
        time.sleep(1.5)
        told = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        took = time.monotonic() - told
        time.sleep(0.3)
        ended.set()
        for client in clients:
            client.join(30)
    finally:
        process.kill()
    assert (process.returncode, err) == (128 + number, "")
    assert took < 20
    before = [one for one in answers if one.sent <= told]
    open_ones = [one for one in before if one.ended > told]
    print(f"{len(before)} sent before the signal, {len(open_ones)} of them open; then {count_statuses(answers)}")
    assert count_statuses(before).keys() == {200}
    assert open_ones
    assert not any(one.torn for one in answers)
    assert count_statuses(answers).keys() <= {200, 503, 0}  # 0: the connection was refused or closed, without a byte


def test_a_request_in_the_systems_buffers_is_accepted(tmp_path):
    """Sent, but not read when the server is told to end: the event loop was busy, and the connections waited."""
    with serving(load(tmp_path, LIMITS), LIMITS) as (url, service):
        port = int(url.rsplit(":", 1)[1])
        body = b'{"input": "b"}'
        busy = threading.Event()
        loop = service.loop
        loop.call_soon_threadsafe(lambda: (busy.set(), time.sleep(0.4)))
        assert busy.wait(5)
        socks = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(20)]
        for sock in socks:
            sock.sendall(build_head("/v1/embeddings", len(body)) + body)
        service.stop()
        for sock in socks:
            with sock:
                answer = b""
                while part := sock.recv(65536):
                    answer += part
                head, _, rest = answer.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert b"connection: close" in head.lower()
                assert rest.endswith(b"}")


# The log


@pytest.mark.sweep
def test_the_log_of_a_server_holds_nothing_of_a_visitor(idx, tmp_path):
    """A mark in each place of a request, and then a look at all that the process has printed."""
    token = tmp_path / "token"
    token.write_text(f"{SECRET}-token")
    process, url = start(idx, "--access-log", "--token-file", str(token))
    try:
        headers = {"authorization": f"Bearer {SECRET}-token", "user-agent": SECRET, "x-note": SECRET, "referer": SECRET}
        files = {"image": (f"{SECRET}.png", picture((9, 9, 9)) + SECRET.encode())}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            statuses = [
                client.post("/v1/search", json={"query": SECRET, "of": "image"}).status_code,
                client.post("/v1/search", json={"query": "b", "of": "image", "where": {SECRET: 1}}).status_code,
                client.post("/v1/search", json={"query": "b", "of": SECRET}).status_code,
                client.post("/v1/search", files=files, data={"of": "image"}).status_code,
                client.post("/v1/embeddings", json={"input": {"image": uri(SECRET.encode(), SECRET)}}).status_code,
                client.post("/v1/embeddings", content=SECRET.encode()).status_code,
                client.get(f"/v1/models/{SECRET}", params={"token": f"{SECRET}-token"}).status_code,
                client.get(f"/{SECRET}", params={"q": SECRET}).status_code,
                client.get("/", params={"text": SECRET, "of": "image"}).status_code,
                client.request(SECRET.upper(), "/").status_code,
                client.get("/v1/models", headers={"host": f"{SECRET}.org"}).status_code,
                client.get("/v1/models", headers={"authorization": f"Bearer {SECRET}"}).status_code,
                client.get("/v1/models", headers={"authorization": "", "cookie": f"align_token={SECRET}"}).status_code,
                client.get(f"/?token={SECRET}-token", headers={"authorization": ""}).status_code,
            ]
    finally:
        process.terminate()
        out, err = process.communicate(timeout=60)
        process.kill()
    assert {200, 303, 401, 404, 421, 422} <= set(statuses), statuses
    assert SECRET not in (out + err).lower()
    lines = err.splitlines()
    form = r"align: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (GET|POST|other) (/\S*|other) \d{3} \d+ ms"
    assert [line for line in lines if not re.fullmatch(form, line)] == []
    assert len(lines) == len(statuses)
    assert sum(" POST /v1/search " in line for line in lines) == 4


def test_an_error_is_logged_without_its_message():
    def fail(text):
        try:
            raise KeyError(text)
        except KeyError as error:
            raise RuntimeError(f"no {text}") from error

    with pytest.raises(RuntimeError) as caught:
        fail(SECRET)
    told = describe(caught.value)
    assert told.startswith("RuntimeError\n")
    assert "from KeyError\n" in told
    assert 'raise RuntimeError(f"no {text}") from error' in told  # the line of code
    assert SECRET not in told


LOGGED = f"""
import logging, sys
from align.serve.logs import start_log, tell_loop_error, access
start_log({{requests}})
try:
    raise ValueError("{SECRET}")
except ValueError as error:
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    tell_loop_error(None, {{{{"message": "callback {SECRET}", "exception": error}}}})
tell_loop_error(None, {{{{"message": "{SECRET}"}}}})
access.info("a request")
"""


@pytest.mark.parametrize("requests", [False, True])
def test_errors_of_libraries_are_logged_without_their_messages(requests):
    code = LOGGED.format(requests=requests)
    root = Path(__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert SECRET not in done.stderr
    assert done.stderr.startswith("align: Exception in ASGI application\nValueError\n")
    assert "align: an error outside of requests: ValueError\n" in done.stderr
    assert ("align: a request" in done.stderr) == requests
