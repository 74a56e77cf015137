"""The server as a process: its start and its end, a reload without a dropped request, and one line for bad starts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from served import DEFAULT, cloud, load, make_index, model, picture, serving
from test_serve_safety import LIMITS, trapped, uri

import align
from align.commands import main
from align.commands.serve import run
from align.search.item import Item
from align.search.local import LocalIndex
from align.serve.loaded import Loaded
from align.serve.loading import Place, Reloader, name_model
from align.serve.refusal import Refusal
from align.serve.server import bind
from align.serve.service import Service

ALLOW = ("served", "tiny_space")


def write_world(folder: Path) -> Path:
    """A model and its index in a folder. Returns the index."""
    made = model()
    align.save(made, folder / "tiny")
    make_index(folder, made).close()
    return folder / "index"


@pytest.fixture
def idx(tmp_path):
    return write_world(tmp_path)


def send(url: str, **body):
    return httpx.post(f"{url}/v1/search", json=body, timeout=30)


def last_line(capsys) -> str:
    err = capsys.readouterr().err.strip()
    assert "\n" not in err, err
    return err


# Bad starts


def test_a_port_in_use_names_the_next_free_one(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "anything", "--port", str(port)]) == 1
    line = last_line(capsys)
    assert line.startswith(f"align: port {port} of 127.0.0.1 is in use; --port ")
    free = int(line.split("--port ")[1].split()[0])
    assert port < free < port + 100


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--port", "70000"], 2, "--port is a number from 0 to 65535, not 70000"),
        (["--decoders", "0"], 2, "--decoders must be at least 1, got 0"),
        (["--token", "a", "--token-file", "b"], 2, "give --token or --token-file, not both"),
        (["--token", ""], 2, "the token is empty"),
        (["--token-file", "nowhere"], 1, "no such file or folder: nowhere"),
        (["--host", "999.1.1.1", "--port", "0"], 2, "--host 999.1.1.1 is no address of this machine"),
        (["--prot", "1"], 2, "did you mean --port?"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, tmp_path, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "anything", *options]) == code
    assert said in last_line(capsys)


def test_a_missing_extra_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    assert main(["serve", "anything"]) == 1
    line = last_line(capsys)
    assert "align serve needs uvicorn: pip install" in line
    assert "[serve]'" in line


def test_a_place_that_is_nothing_is_one_line(capsys, tmp_path):
    assert main(["serve", str(tmp_path / "nowhere"), "--port", "0"]) == 1
    assert "no model folder" in last_line(capsys)
    (tmp_path / "empty").mkdir()
    assert main(["serve", str(tmp_path / "empty"), "--port", "0"]) == 1
    assert str(tmp_path / "empty") in last_line(capsys)


def test_a_damaged_index_is_one_line(capsys, idx):
    (idx / "index.sqlite").write_bytes(b"no database" * 500)
    assert main(["serve", str(idx), "--port", "0", "--allow", ",".join(ALLOW)]) == 1
    assert str(idx) in last_line(capsys)


def test_an_index_of_another_model_is_one_line(capsys, idx):
    other = model()
    with torch.no_grad():
        other.towers["text"].encoder.gain.mul_(2)
    shutil.rmtree(idx.parent / "tiny")
    align.save(other, idx.parent / "tiny")
    assert main(["serve", str(idx), "--port", "0", "--allow", ",".join(ALLOW)]) == 1
    assert "was made by another model" in last_line(capsys)


def test_a_models_name_has_no_folder(tmp_path):
    assert name_model("/home/me/runs/birds") == "birds"
    assert name_model("/home/me/runs/birds/checkpoints/step-00000100") == "birds"
    assert name_model("open_clip:ViT-B-32/laion2b_s34b_b79k") == "open_clip:ViT-B-32/laion2b_s34b_b79k"


def test_answers_do_not_wait_for_a_full_segment():
    """asyncio sets TCP_NODELAY where a listening socket names TCP. Without it an answer takes 40 ms more."""
    with bind("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


# The process


def start(idx: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address."""
    paths = [str(Path(align.__file__).parent.parent), str(Path(__file__).parent)]
    command = [sys.executable, "-m", "align", "serve", str(idx), "--port", "0", "--allow", ",".join(ALLOW), *options]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def children(pid: int) -> set[int]:
    """The processes below one."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found |= {int(path.parent.name)} | children(int(path.parent.name))
    return found


def wait_for_end(processes: set[int]) -> None:
    deadline = time.monotonic() + 20
    while (left := [pid for pid in processes if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]


@pytest.mark.slow
def test_a_server_starts_reloads_and_ends(idx):
    process, url = start(idx)
    try:
        assert url.startswith("http://127.0.0.1:"), process.communicate()
        below = children(process.pid)
        assert len(below) >= 3  # two decoders, and the process that they are forked from
        found = send(url, query="b", of="image").json()
        assert len(found["hits"]) == 9
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/healthz").json()["reloads"] == 0 and time.monotonic() < deadline:
            assert send(url, query="b", of="image").status_code == 200
        assert httpx.get(f"{url}/healthz").json()["reloads"] == 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (143, "")
        assert err.strip().splitlines() == [f"align: reloaded {idx}"]
        wait_for_end(below)
    finally:
        process.kill()


@pytest.mark.slow
def test_a_killed_server_leaves_no_process(idx):
    process, url = start(idx, "--decoders", "1")
    assert url
    below = children(process.pid)
    process.kill()
    process.communicate()
    wait_for_end(below)


def test_open_requests_are_answered_and_new_ones_refused_while_it_stops(tmp_path):
    limits = replace(LIMITS, decode_seconds=10.0)
    with serving(load(tmp_path, limits, trapped()), limits) as (url, service), ThreadPoolExecutor(1) as threads:
        httpx.get(f"{url}/healthz")
        body = {"input": {"image": uri(b"wait" + picture((1, 2, 3)))}}
        open_one = threads.submit(httpx.post, f"{url}/v1/embeddings", json=body, timeout=20)
        while not service.loaded.decoders.waiting:
            time.sleep(0.01)
        service.stop()
        while not service.draining:
            time.sleep(0.01)
        refused = httpx.post(f"{url}/v1/embeddings", json={"input": "b"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
        assert httpx.get(f"{url}/healthz").status_code == 503
        assert open_one.result().status_code == 200
        deadline = time.monotonic() + 10
        with pytest.raises(httpx.ConnectError):
            while time.monotonic() < deadline:
                httpx.get(f"{url}/healthz")


# Reloads


def watched(idx: Path) -> tuple[Place, object]:
    place = Place(str(idx), allow=ALLOW)
    return place, place.open(replace(DEFAULT, decoders=1))


def replace_index(idx: Path, red: int) -> None:
    """Another index in the folder's place, as ``align index build`` puts it there: one item, asked by a picture."""
    made, fresh = model(), idx.with_name("fresh")
    with LocalIndex.create(fresh, dict(LocalIndex.open(idx).about)) as index:
        values = made.embed(image=[picture((red, 0, 0))])["image"]
        index.add("image", values, torch.arange(1), [Item(f"new{red}", {"file": str(idx / "x"), "members": {}})])
    idx.rename(idx.with_name(f"old{red}"))
    fresh.rename(idx)


def test_a_request_that_meets_a_reload_takes_the_new_model(monkeypatch):
    old, new = Loaded(model(), None, DEFAULT), Loaded(model(), None, DEFAULT)
    service, hold = Service(old, DEFAULT), old.hold

    def meet() -> bool:
        service.replace(new)  # in the thread that reloads, between two lines of the request
        return hold()

    monkeypatch.setattr(old, "hold", meet)
    with service.using() as loaded:
        assert loaded is new
        service.close()
        assert not new._closed  # it is in use
    with pytest.raises(Refusal, match="has stopped"), service.using():
        pass


def test_a_folder_of_files_is_told_how_it_is_served(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(picture((1, 2, 3)))
    assert main(["serve", str(tmp_path), "--port", "0"]) == 1
    assert f"to search its files: align index build MODEL {tmp_path} --out idx" in capsys.readouterr().err


def test_the_upright_axis_reaches_the_page(idx, monkeypatch):
    """The command's own start, up to the moment in which its server would answer."""
    place, loaded = watched(idx)
    given: list[Service] = []

    def stop(app: object, service: Service, *args: object, **more: object) -> None:
        given.append(service)
        raise InterruptedError

    monkeypatch.setattr("align.serve.server.make_server", stop)
    with bind("127.0.0.1", 0) as sock, pytest.raises(InterruptedError):
        run(place, loaded, DEFAULT, sock, [], up="y")
    assert given[0].up == "y"
    given[0].close()


def test_a_reload_drops_no_request(idx):
    place, loaded = watched(idx)
    with serving(loaded, replace(DEFAULT, decoders=1)) as (url, service):
        reloader = Reloader(place, service)
        stop = threading.Event()
        statuses: list[int] = []

        def keep_asking() -> None:
            with httpx.Client(base_url=url, timeout=60) as client:
                while not stop.is_set():
                    part = {"modality": "image", "data": uri(picture((1, 2, 3)))}
                    statuses.append(client.post("/v1/search", json={"parts": [part], "of": "image"}).status_code)

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        replace_index(idx, 200)
        assert reloader.reload()
        assert [hit["item"]["key"] for hit in send(url, query="b", of="image").json()["hits"]] == ["new200"]
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert len(statuses) >= 3
        assert service.reloads == 1


def test_an_index_whose_folder_is_gone_is_searched_until_the_reload(idx):
    """Another index takes the folder, and the old one's files are removed: no answer mixes the two."""
    _, loaded = watched(idx)
    with serving(loaded, replace(DEFAULT, decoders=1)) as (url, service), ThreadPoolExecutor(8) as threads:
        replace_index(idx, 150)
        shutil.rmtree(idx.with_name("old150"))
        bodies = [{"query": "b", "of": "image"}, {"query": "b", "of": "audio", "where": {"nokey": 1}}] * 8
        found = list(threads.map(lambda body: send(url, **body), bodies))
        assert [one.status_code for one in found] == [200, 422] * 8
        assert {len(one.json()["hits"]) for one in found[::2]} == {9}
        assert service.reloads == 0


def test_a_broken_index_keeps_the_old_one_and_says_so(idx, caplog):
    place, loaded = watched(idx)
    with serving(loaded, replace(DEFAULT, decoders=1)) as (url, service):
        reloader = Reloader(place, service)
        idx.rename(idx.with_name("kept"))
        shutil.copytree(idx.with_name("kept"), idx)
        (idx / "index.sqlite").write_bytes(b"no database" * 500)
        assert not reloader.reload()
        assert "not reloaded, the old model and index stay" in caplog.text
        health = httpx.get(f"{url}/healthz").json()
        assert health["status"] == "ok"
        assert "while loading" in health["trouble"]
        assert str(idx) not in str(health)
        assert "align_reload_failed 1" in httpx.get(f"{url}/metrics").text
        part = {"modality": "image", "data": uri(picture((1, 2, 3)))}
        assert send(url, parts=[part], of="image").status_code == 200
        shutil.rmtree(idx)
        idx.with_name("kept").rename(idx)
        assert reloader.reload()
        assert httpx.get(f"{url}/healthz").json()["trouble"] is None


def test_an_index_that_is_replaced_is_seen(idx):
    place, loaded = watched(idx)
    with serving(loaded, replace(DEFAULT, decoders=1)) as (url, service):
        reloader = Reloader(place, service)
        reloader.start(0.05)
        replace_index(idx, 100)
        deadline = time.monotonic() + 30
        while service.reloads == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [hit["item"]["key"] for hit in send(url, query="b", of="image").json()["hits"]] == ["new100"]
        reloader.stop()


def test_an_index_that_grows_is_followed_without_a_reload(idx):
    _, loaded = watched(idx)
    with serving(loaded, replace(DEFAULT, decoders=1)) as (url, service):
        with LocalIndex.open(idx, write=True) as index:
            values = model().embed(points=[cloud((1, 1, 200))])["points"]
            index.add("points", values, torch.arange(1), [Item("more", {"file": "/x", "members": {}})])
        found = send(url, query="b", of="points", k=20).json()
        assert "more" in [hit["item"]["key"] for hit in found["hits"]]
        with LocalIndex.open(idx, write=True) as index:
            assert index.delete(["more"]) == 1
        found = send(url, query="b", of="points", k=20).json()
        assert "more" not in [hit["item"]["key"] for hit in found["hits"]]
        assert service.reloads == 0


def test_a_model_that_is_replaced_is_seen(tmp_path):
    align.save(model(), tmp_path / "tiny")
    place = Place(str(tmp_path / "tiny"), allow=ALLOW)
    with serving(place.open(LIMITS), LIMITS) as (url, service):
        before = service.loaded.sha256
        reloader = Reloader(place, service)
        reloader.start(0.05)
        other = model()
        with torch.no_grad():
            other.towers["text"].encoder.gain.mul_(2)
        shutil.rmtree(tmp_path / "tiny")
        align.save(other, tmp_path / "tiny")
        deadline = time.monotonic() + 30
        while service.loaded.sha256 == before and time.monotonic() < deadline:
            assert httpx.post(f"{url}/v1/embeddings", json={"input": "b"}).status_code == 200
        assert httpx.get(f"{url}/v1/models/tiny").json()["sha256"] == service.loaded.sha256 != before
        reloader.stop()
