"""More of hostile requests: values that grow while they are read, exchanged files, clients that do not read."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import multiprocessing
import os
import signal
import socket
import tarfile
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch
from served import D, load, picture, serving

from align.media.medium import Face
from align.search.item import Item
from align.serve.channel import Failed, Shown, receive, send
from align.serve.limits import Limits
from align.serve.page.take import FORMULAS
from align.serve.server import bind, make_server

LIMITS = Limits(decoders=1, waiting=8, commas=2000, form=1 << 20, prompts=20, send_seconds=0.5)
DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def served(folder):
    loaded = load(folder, LIMITS)
    assert loaded.searcher is not None
    (folder / "files").mkdir()
    items = []
    for i, mark in enumerate([*FORMULAS, "\ud800", "<b>"]):
        path = folder / "files" / f"{i}.png"
        path.write_bytes(picture((250, 9, 9)))
        source = {"file": str(path), "members": {"image.png": str(path)}}
        items.append(Item(str(i), source, [f"{mark}1+1"], None, {"half": mark}))
    loaded.searcher.index.add("image", -torch.eye(D)[:1].expand(len(items), D), torch.arange(len(items)), items)
    with serving(loaded, LIMITS) as (url, service), httpx.Client(base_url=url, timeout=30) as client:
        yield client, service


@pytest.fixture(scope="module")
def client(served):
    return served[0]


def refused(answer, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text[:300]
    assert said in answer.json()["error"]["message"]


# Values


@pytest.mark.parametrize("field", ['"threshold": N', '"parts": [{"modality": "text", "text": "red", "weight": N}]'])
@pytest.mark.parametrize("value", ["9" * 400, "-" + "9" * 400, "1e400"])
def test_a_number_of_any_size_is_a_422(client, field, value):
    body = f'{{"of": "image", "text": "red", {field.replace("N", value)}}}'
    answer = client.post("/v1/search", content=body.encode(), headers={"content-type": "application/json"})
    refused(answer, 422, "is a number")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/item/{DIGITS}", 404),
        (f"/look/{DIGITS}/image/0", 404),
        (f"/look/1/image/{DIGITS}", 404),
        (f"/?text=red&of=image&drop={DIGITS}", 200),
        (f"/?item=image:{DIGITS}", 422),
        (f"/?text=red&of=image&k={DIGITS}", 422),
        (f"/v1/items/{DIGITS}", 404),
        (f"/v1/items/1/media/image?row={DIGITS}", 422),
    ],
)
def test_five_thousand_digits_are_no_failure(client, path, status):
    assert client.get(path).status_code == status


# Forms


@pytest.mark.parametrize("path", ["/", "/take", "/v1/search"])
@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "base64", "utf-16", "x" * 2000])
@pytest.mark.parametrize("part", ['name="text"', 'name="file"', "name=\"file\"; filename*=idna''%ff", 'name="a'])
def test_a_form_in_any_character_set_is_no_failure(client, path, charset, part):
    body = f"--b\r\nContent-Disposition: form-data; {part}\r\n\r\n".encode() + b"\xff\xfe\xff\r\n--b--\r\n"
    type = f"multipart/form-data; boundary=b; charset={charset}"
    assert client.post(path, content=body, headers={"content-type": type}).status_code < 500


def test_a_file_that_is_no_file_is_nothing(client):
    assert client.get("/?file=abc&text=red&of=image").status_code == 200
    assert client.post("/", data={"file": "abc", "text": "red", "of": "image"}).status_code == 303
    assert client.post("/", data={"text": "red"}, files={"text": ("a.png", b"x")}).status_code == 303
    assert client.post("/take", data={"chosen": "1:1"}, files={"chosen": ("a.png", b"x")}).status_code == 200


def test_an_upload_to_the_page_stays_in_memory(client, monkeypatch):
    import tempfile

    made: list[object] = []
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, **options: made.append(args) or 1 / 0)
    monkeypatch.setattr(tempfile, "_TemporaryFileWrapper", None)
    large = picture((9, 9, 9), 900, "BMP")
    assert len(large) > 2 << 20
    files = {"file": ("a.bmp", large)}
    answer = client.post("/", files=files, data={"of": "image"}, headers={"x-part": "results"})
    assert (answer.status_code, made) == (200, [])
    assert client.post("/v1/search", files={"image": ("a.bmp", large)}, data={"of": "image"}).status_code == 200
    assert made == []


# Bodies that grow while they are read


@pytest.mark.parametrize("path", ["/", "/take", "/v1/search", "/v1/classify"])
def test_a_form_without_files_is_small(client, path):
    type = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    answer = client.post(path, content=b"classes=" + b"%20" * 400_000, headers=type)
    refused(answer, 413, "at most 1 MiB")
    assert client.post("/v1/search", data={"query": "red", "of": "image"}).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "Identity, br", "*"])
def test_a_compressed_body_is_refused(client, coding):
    """Also one whose bytes are plain JSON, which a proxy in front would have read in another way."""
    body = b'{"query": "red", "of": "image"}'
    headers = {"content-type": "application/json", "content-encoding": coding}
    refused(client.post("/v1/search", content=body, headers=headers), 415, f"'{coding}'; send it uncompressed")
    headers["content-encoding"] = "Identity"
    assert client.post("/v1/search", content=body, headers=headers).status_code == 200


def test_the_values_of_json_are_bounded(client):
    answer = client.post("/v1/embeddings", json={"input": [{}] * 2002})
    refused(answer, 413, "more than 2000 commas")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("data:" + "A" * 2_000_000 + ",", "before its comma"),
        ("data:image/png;name=" + "A" * 2_000_000 + ";base64,", "before its comma"),
        ("data:" + ";" * 2_000_000 + ",", "before its comma"),
        ("data:image/png," + "%41" * 100_000, "send it in base64"),
        ("data:image/png;base64,é", "is no base64"),
    ],
)
def test_a_data_uri_has_a_short_head_and_base64(client, uri, said):
    refused(client.post("/v1/embeddings", json={"input": {"image": uri}}), 422, said)


def test_spaces_in_base64_are_left_out(client):
    from base64 import b64encode

    plain = b64encode(picture((200, 9, 9))).decode()
    given = [f"data:image/png;base64,{x}" for x in (plain, "\r\n ".join(plain[i : i + 7] for i in range(0, 999, 7)))]
    one, two = (client.post("/v1/embeddings", json={"input": {"image": x}}).json()["data"] for x in given)
    assert one == two


def test_more_files_than_may_wait_are_read_in_turn(client):
    from base64 import b64encode

    colours = [(i, 255 - i, 9) for i in range(3 * LIMITS.waiting)]
    inputs = [{"image": "data:;base64," + b64encode(picture(x)).decode()} for x in colours]
    answer = client.post("/v1/embeddings", json={"input": inputs})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == len(inputs)


def test_the_prompts_of_a_classification_are_bounded(client):
    body = {"classes": [f"c{i}" for i in range(11)], "modality": "image", "data": "data:;base64,AA=="}
    refused(client.post("/v1/classify", json=body | {"templates": ["{}", "a {}"]}), 413, "22 prompts")
    refused(client.post("/v1/classify", json=body | {"templates": ["{}"]}), 422, "the image cannot be read")


# Files


def exchange(path, kind: str, outside) -> None:
    path.unlink()
    if kind == "link":
        os.symlink(outside, path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        os.symlink(path.with_name("1.png"), path)


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [(10, "link", 404), (12, "pipe", 404), (13, "folder", 404), (14, "device", 404), (15, "inside", 200)],
)
def test_a_file_that_was_exchanged_is_gone(client, folder, number, kind, status):
    secret = folder / "secret.png"
    secret.write_bytes(picture((1, 2, 3)))
    exchange(folder / "files" / f"{number - 10}.png", kind, secret)
    for path in ("media/image?form=original", "media/image", "face/image"):
        answer = client.get(f"/v1/items/{number}/{path}", timeout=5)
        assert (answer.status_code, b"PNG" in answer.content) == (status, status == 200 and "media" in path)
    assert client.get(f"/look/{number}/image/0?as=still", timeout=5).status_code == status
    answer = client.post("/take", data={"chosen": f"{number}:1"}, timeout=5)
    assert answer.status_code == status


# Downloads


def test_a_table_holds_no_formula_and_keeps_its_numbers(client):
    chosen = [f"{10 + i}:-0.5" for i in range(len(FORMULAS) + 2)]
    answer = client.post("/take", data={"chosen": chosen, "form": "csv"})
    assert answer.status_code == 200
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [float(row["score"]) for row in rows] == [-0.5] * len(chosen)
    assert [row["caption"] for row in rows] == [*(f"'{mark}1+1" for mark in FORMULAS), "?1+1", "<b>1+1"]


def test_half_a_character_does_not_stop_a_shard(client):
    number = 10 + len(FORMULAS)
    answer = client.post("/take", data={"chosen": f"{number}:1", "form": "tar"})
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        found = tar.extractfile(next(name for name in tar.getnames() if name.endswith(".json")))
        assert found is not None
        assert json.loads(found.read())["half"] == "?"


# Answers of decoders


class Evil:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_nothing_of_a_decoder_is_unpickled(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    theirs.send(Evil(tmp_path / "made"))
    with pytest.raises(ValueError):
        receive(ours, 1 << 20)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "messages",
    [
        [b'["row", {"dtype": "|O", "shape": [1]}]', b"12345678"],
        [b'["row", {"dtype": "<f4", "shape": [3]}]', b"12345678"],
        [b'["row", {"dtype": "nonsense", "shape": [2]}]', b"12345678"],
        [b'["shown", {"suffix": "html"}]', b"<script>"],
        [b'["shown", {"suffix": "svg"}]', b"<svg>"],
        [b'["face", {"element": "picture", "data": "", "more": {"named": [["type", "text/html"]]}}]'],
        [b'["face", {"element": "script", "data": "", "more": {"named": []}}]'],
        [b'["face", {"element": "picture", "data": "", "more": {"named": []}}]'],
        [b'["face", {"element": "text", "data": "", "more": []}]'],
        [b'["plain", "stop"]'],
        [b'["row"]'],
        [b"[" * 100_000],
        [b"{}"],
    ],
)
def test_a_wrong_answer_of_a_decoder_is_a_value_error(messages):
    ours, theirs = multiprocessing.Pipe()
    for one in messages:
        theirs.send_bytes(one)
    with pytest.raises(ValueError):
        receive(ours, 1 << 20)


def test_a_large_answer_of_a_decoder_is_refused():
    ours, theirs = multiprocessing.Pipe()
    theirs.send_bytes(b"x" * 2000)
    with pytest.raises(OSError):
        receive(ours, 1000)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "ready",
        Failed("corrupt", "no end"),
        Shown(b"\0\1", "webp"),
        Face("picture", b"\xff\xd8", {"type": "image/jpeg"}),
        Face("sound", b"fLaC", {"type": "audio/flac", "peaks": b"\1\2", "seconds": 0.5}),
        Face("cloud", bytes(18), {"radius": 2.0}),
        Face("text", "a\nb"),
        Face("drawing", [[[0, 1.5], [2, 3.5]], [[4, 5.5]]]),
    ],
)
def test_answers_of_decoders_arrive_as_they_were(answer):
    ours, theirs = multiprocessing.Pipe()
    send(theirs, answer)
    assert receive(ours, 1 << 20) == answer


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<i8", "|u1", "|b1"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_rows_arrive_as_they_were(dtype, shape):
    ours, theirs = multiprocessing.Pipe()
    row = np.ones(shape, dtype)
    send(theirs, row)
    found = receive(ours, 1 << 20)
    assert (found.dtype, found.shape, found.tolist()) == (row.dtype, row.shape, row.tolist())
    assert torch.from_numpy(found).shape == shape  # and it may be written to, or torch warns


def test_a_face_of_numpys_numbers_arrives_plain():
    ours, theirs = multiprocessing.Pipe()
    send(theirs, Face("drawing", [[(np.float32(1), np.int64(2))], np.ones((1, 2))], {"n": np.float64(3)}))
    assert receive(ours, 1 << 20) == Face("drawing", [[[1.0, 2]], [[1.0, 1.0]]], {"n": 3.0})


def test_a_decoder_that_was_killed_between_two_files_harms_none(served):
    client, service = served
    before = service.loaded.decoders.restarts
    for process in list(service.loaded.decoders._all):
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.join(10)
    for _ in range(2):
        answer = client.post("/v1/search", files={"image": ("a.png", picture((9, 200, 9)))}, data={"of": "image"})
        assert answer.status_code == 200, answer.text
    assert service.loaded.decoders.restarts == before + 1


# Clients that do not read


def test_a_client_that_stops_reading_is_left(served):
    _, service = served
    copy = type(service)(service.loaded, replace(LIMITS, send_seconds=0.3))
    copy.close = lambda: None  # the model goes on with the other server
    left, ready = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.is_set():
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
            try:
                gone = await asyncio.wait_for(receive(), 0.001)
            except TimeoutError:
                continue
            if gone["type"] == "http.disconnect":
                left.set()

    loop, sock = asyncio.new_event_loop(), bind("127.0.0.1", 0)
    server = make_server(app, copy, sock, started=ready.set)
    server.config.lifespan = "off"
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run_on_socket()))
    thread.start()
    assert ready.wait(30)
    try:
        with socket.create_connection(sock.getsockname()) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert left.wait(10), "the server waits for a client that does not read"
    finally:
        left.set()
        loop.call_soon_threadsafe(server.stop)
        thread.join(30)
        loop.close()


def test_half_closed_connections_end(served):
    """The client has said that it sends no more: in a head, in a body, and behind a whole request."""
    client, service = served
    address = (client.base_url.host, client.base_url.port)
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n"
    )
    for sent in (head[:40], head, head + b'{"query": ', head + b'{"query": "red", "of": "image"}') * 5:
        with socket.create_connection(address, timeout=10) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass
    end = time.monotonic() + 10
    while service.open and time.monotonic() < end:
        time.sleep(0.01)
    assert service.open == 0
    assert client.get("/healthz").status_code == 200
