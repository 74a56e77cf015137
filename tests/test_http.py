"""The HTTP client: connections that are kept, broken ones, retries, redirects and proxies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import pytest
from tiny_data import write
from web import serving

import align.data.places.ahead as ahead
import align.files.retry as policy
from align.data import Loader, Shards
from align.data.places.servers import Remote, fetch
from align.files import http
from align.files.fetch import download
from align.files.retry import GaveUp, retry
from align.preprocess import Bytes

DATA = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def waits(tmp_path, monkeypatch):
    """The seconds of all pauses; none is waited for."""
    found = []
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(policy.time, "sleep", found.append)
    return found


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.bin").write_bytes(DATA)
    with serving(tmp_path / "web") as server:
        yield server


def test_many_ranges_come_over_one_connection(web):
    url = f"{web.url}/a.bin"
    assert http.stat(url).size == len(DATA)
    assert b"".join(http.get(url, i, i + 1024) for i in range(0, len(DATA), 1024)) == DATA
    assert b"".join(http.read_whole(url)) == DATA
    assert len(web.requests) == 102
    assert web.connections == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux alone has TCP_QUICKACK")
def test_the_head_of_each_answer_is_acknowledged_at_once(web, monkeypatch):
    """Else a server that sends head and body apart waits 40 ms for it, over and over on a kept connection."""
    options, plain = [], socket.socket.setsockopt
    monkeypatch.setattr(
        socket.socket, "setsockopt", lambda self, *o: options.append(o) or plain(self, *o), raising=False
    )
    for i in range(3):
        http.get(f"{web.url}/a.bin", i, i + 1)
    assert options.count((socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)) == 3
    assert web.connections == 1


def test_an_answer_that_is_not_read_to_its_end_costs_its_connection_only(web):
    url = f"{web.url}/a.bin"
    for _ in http.read_whole(url):
        break
    assert http.get(url, 5, 9) == DATA[5:9]
    with pytest.raises(http.Status, match="404 Not Found"):
        http.get(f"{web.url}/b.bin", 0, 1)
    assert http.get(url, 5, 9) == DATA[5:9]


@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_a_remote_shard_is_read_over_a_connection_per_thread(tmp_path, cache):
    write(tmp_path / "set", 60, per_shard=60, make=lambda i: {"text.txt": b"thing %d" % i, "image.png": bytes(9000)})
    with serving(tmp_path / "set") as server:
        shards = Shards(f"{server.url}/train-000000.tar", shuffle=False, cache=cache, members={"text": "text.txt"})
        for position in range(60):
            shards.read(position, modalities=frozenset({"text"}), stride=1)
        assert len(server.requests) > 60
        assert server.connections <= (ahead.TOGETHER if cache else 1)
        before = server.connections
        loader = Loader(shards, {"text": Bytes(context=8)}, batch=10, workers=2, train=True, steps=6)
        assert sum(len(batch.ids) for batch in loader) == 60
        loader.close()
        assert server.connections <= before + 2 * (ahead.TOGETHER if cache else 1)


def test_a_forked_child_opens_a_connection_of_its_own(web):
    url = f"{web.url}/a.bin"
    http.get(url, 0, 10)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(http.get(url, i, i + 99) == DATA[i : i + 99] for i in range(50)) else 1)
    mine = [http.get(url, i, i + 50) for i in range(50)]
    assert os.waitpid(child, 0)[1] == 0
    assert mine == [DATA[i : i + 50] for i in range(50)]
    assert web.connections == 2


def test_a_connection_that_the_server_closed_is_opened_again(web):
    url = f"{web.url}/a.bin"
    for i in range(5):
        web.faults["a.bin"] = ("leave", 1)  # answered; then it is closed, unsaid
        assert http.get(url, i, i + 10) == DATA[i : i + 10]
        threading.Event().wait(0.1)  # until the end of the connection has come
    assert web.connections == 5


def test_a_connection_that_drops_with_a_request_is_tried_again(web, waits):
    remote = Remote(f"{web.url}/a.bin")
    assert fetch(remote, 0, 10) == DATA[:10]
    web.faults["a.bin"] = ("drop", 2)
    assert fetch(remote, 10, 20) == DATA[10:20]
    assert len(waits) == 2
    web.faults["a.bin"] = "drop"
    with pytest.raises(OSError, match=r"a.bin after 5 attempts: Remote end closed connection without response$"):
        fetch(remote, 20, 30)


@pytest.mark.parametrize(("after", "least", "most"), [("7", 7, 7), ("3600", 60, 60), ("soon", 0.25, 0.75)])
def test_the_pause_lasts_as_long_as_the_server_asks(web, waits, after, least, most):
    web.retry_after, web.faults["a.bin"] = after, (503, 1)
    assert fetch(Remote(f"{web.url}/a.bin"), 0, 10) == DATA[:10]
    (pause,) = waits
    assert least <= pause <= most


def test_a_date_to_come_back_at_is_read(web, waits):
    web.retry_after, web.faults["a.bin"] = formatdate(time.time() + 30, usegmt=True), (429, 1)
    fetch(Remote(f"{web.url}/a.bin"), 0, 10)
    assert 20 < waits[0] <= 30


def test_some_failures_are_final(waits):
    asked = []

    def ask(error):
        asked.append(error)
        raise error

    for error in (http.Status(404, ""), http.Status(403, ""), FileNotFoundError("x"), ValueError("x")):
        with pytest.raises(GaveUp) as gave_up:
            retry(lambda error=error: ask(error))
        assert gave_up.value.attempts == 1
        assert gave_up.value.missing == (error is asked[0] or isinstance(error, FileNotFoundError))
    with pytest.raises(TypeError):
        retry(lambda: ask(TypeError("a mistake")))
    assert len(asked) == 5
    with pytest.raises(GaveUp) as gave_up:
        retry(lambda: ask(http.Status(500, "")), attempts=3)
    assert (gave_up.value.attempts, len(waits)) == (3, 2)


def test_redirects_are_followed_without_credentials(web, tmp_path):
    with serving(tmp_path / "web") as other:
        web.password = "Basic bWU6c2VjcmV0"  # me:secret
        web.faults["moved.bin"] = f"{other.url}/a.bin"
        (tmp_path / "web" / "moved.bin").write_bytes(b"")
        url = web.url.replace("http://", "http://me:secret@")
        assert http.get(f"{url}/moved.bin", 3, 9) == DATA[3:9]
        other.password = web.password
        with pytest.raises(http.Status, match="401 Unauthorized"):
            http.get(f"{url}/moved.bin", 3, 9)
        web.faults["moved.bin"] = f"{url}/moved.bin"
        web.password = ""
        with pytest.raises(OSError, match="more than 10 redirects"):
            http.get(f"{web.url}/moved.bin", 3, 9)


def test_a_body_that_is_another_than_the_file_is_refused(web, tmp_path):
    web.faults["a.bin"] = "gzip"
    for ask in (lambda url: http.get(url, 3, 9), lambda url: b"".join(http.read_whole(url))):
        with pytest.raises(OSError, match=r"gave it compressed \(gzip\)"):
            ask(f"{web.url}/a.bin")
    (tmp_path / "web" / "a.gz").write_bytes(DATA)
    web.faults["a.gz"] = "gzip"  # servers say so of a file that is compressed itself
    assert b"".join(http.read_whole(f"{web.url}/a.gz")) == DATA


def test_a_part_is_continued_by_its_own_rest_alone(web, tmp_path, waits):
    web.faults["a.bin"] = ("shifted", 1)
    (tmp_path / "a.bin.part").write_bytes(DATA[:1000])
    assert download(f"{web.url}/a.bin", tmp_path / "a.bin").read_bytes() == DATA
    assert [asked for _, _, asked in web.requests] == ["bytes=1000-"] * 2
    web.faults["a.bin"] = 416
    with pytest.raises(OSError, match=r"cannot download .* \(Range Not Satisfiable|Requested Range"):
        download(f"{web.url}/a.bin", tmp_path / "b.bin")


def test_the_environments_proxy_is_asked(web, monkeypatch):
    monkeypatch.setenv("http_proxy", web.url.replace("http://", "http://me:secret@"))
    with pytest.raises(http.Status, match="404"):
        http.get("http://nowhere.invalid/a.bin", 0, 10)
    assert web.requests == [("GET", "http://nowhere.invalid/a.bin", "bytes=0-9")]
    monkeypatch.setenv("no_proxy", "127.0.0.1,elsewhere.invalid")
    with pytest.raises(OSError, match=r"Name or service not known|Temporary failure|No address"):
        http.get("http://elsewhere.invalid/a.bin", 0, 10)
    assert len(web.requests) == 1


def test_no_connection_is_left_open_at_the_end(web):
    code = f"from align.files import http; http.get('{web.url}/a.bin', 0, 9); print('done')"
    env = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (out.returncode, out.stdout, out.stderr) == (0, "done\n", "")
