"""What a hostile client gets: one test a line of the promises. Everything here runs against a real server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import pickle
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from served import cloud, load, model, picture, serving, tone
from starlette.datastructures import Headers
from tiny_space import Colours, Pass
from traps import Trap

from align.model import JointModel, Tower
from align.serve.app import list_routes
from align.serve.bodies import Bodies
from align.serve.fields import Fields
from align.serve.guard import Guard
from align.serve.limits import Limits
from align.serve.metrics import resident
from align.serve.refusal import Refusal

LIMITS = Limits(
    body=1 << 20,
    bodies=4 << 20,
    head_seconds=1.5,
    body_seconds=2.0,
    decode_seconds=5.0,
    decode_memory=512 << 20,
    decoders=1,
    connections=40,
)
TOKEN = "s3cret-token"


def trapped() -> JointModel:
    """The tests' model, whose pictures may be traps."""
    towers = {m: model().towers[m] for m in ("audio", "points", "text")}
    image = Tower(Trap(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), Colours(), Pass)
    made = JointModel({"image": image, **towers}, 8).eval()
    made.terms = model().terms
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def served(folder):
    with (
        serving(load(folder, LIMITS, trapped()), LIMITS, hosts=("localhost", "::1", "demo.example")) as (url, service),
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        yield client, service


@pytest.fixture(scope="module")
def client(served):
    return served[0]


def uri(data: bytes, name: str = "") -> str:
    return f"data:application/octet-stream;name={name};base64,{base64.b64encode(data).decode()}"


def ask(client, modality: str, data: bytes, name: str = ""):
    return client.post("/v1/embeddings", json={"input": {modality: uri(data, name)}})


def refused(answer, status: int, said: str = "") -> None:
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert said in error["message"], error["message"]
    assert "Traceback" not in answer.text


def address(client) -> tuple[str, int]:
    return client.base_url.host, client.base_url.port


def talk(client, *parts: bytes, wait: float = 0.0, seconds: float = 5.0) -> bytes:
    """The bytes that come back for raw ones."""
    with socket.create_connection(address(client), timeout=seconds) as sock:
        for part in parts:
            try:
                sock.sendall(part)
            except OSError:
                break
            time.sleep(wait)
        found = b""
        try:
            while part := sock.recv(65536):
                found += part
        except (TimeoutError, ConnectionResetError):
            found += b"" if found else b"NOTHING"
        return found


# Nothing is fetched


@pytest.mark.parametrize(
    "scheme", ["http://127.0.0.1:{port}/x.png", "//127.0.0.1:{port}/x", "ftp://127.0.0.1:{port}/x"]
)
def test_no_url_is_fetched(client, scheme):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        url = scheme.format(port=trap.getsockname()[1])
        for answer in (
            client.post("/v1/embeddings", json={"input": {"image": url}}),
            client.post("/v1/search", json={"parts": [{"modality": "image", "data": url}], "of": "image"}),
            client.post("/v1/classify", json={"classes": ["a", "b"], "modality": "image", "data": url}),
        ):
            refused(answer, 422, "nothing is fetched")
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://169.254.169.254/latest/meta-data/", "/etc/passwd", "pipe:id"]
)
def test_no_file_or_metadata_address_is_opened(client, url):
    answer = client.post("/v1/embeddings", json={"input": {"image": url}})
    refused(answer, 422, "nothing is fetched")
    assert "root:" not in answer.text


def test_a_text_for_a_picture_is_no_path(client):
    for path in ("/etc/passwd", "/etc/hostname"):
        part = {"modality": "image", "text": path}
        refused(client.post("/v1/search", json={"parts": [part], "of": "image"}), 422, "image is given as a file")


# Bounds of a request


def test_a_large_body_is_refused_by_its_length(client):
    found = talk(client, b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx")
    assert b" 413 " in found


def test_a_large_body_without_a_length_is_refused(client):
    def parts():
        for _ in range(24):
            yield b"x" * (1 << 16)

    refused(
        client.post("/v1/search", content=parts(), headers={"content-type": "application/json"}), 413, "at most 1 MiB"
    )


def test_a_bodys_last_part_counts():
    async def receive():
        return {"type": "http.request", "body": b"x" * 11, "more_body": False}

    with Bodies(Limits(body=10)).hold() as held, pytest.raises(Refusal, match="too large"):
        asyncio.run(held.read(Headers({}), receive))
    with Bodies(Limits(body=11)).hold() as held:
        assert asyncio.run(held.read(Headers({}), receive)) == b"x" * 11


def test_a_large_upload_hears_why(client):
    refused(ask(client, "image", b"x" * (1 << 20)), 413, "at most 1 MiB")


def test_bodies_together_are_bounded(client, served):
    """Five clients hold most of their body back, and the fifth has no place."""
    head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: talk(client, head + b"x" * 900_000), range(6)))
    assert sum(b" 429 " in one for one in found) >= 1
    assert all(b" 429 " in one or b" 408 " in one for one in found)
    assert client.get("/healthz").status_code == 200


def test_parts_are_bounded(client):
    parts = [{"modality": "text", "text": "b"}] * 9
    refused(client.post("/v1/search", json={"parts": parts, "of": "image"}), 413, "at most 8")


def test_k_is_bounded(client):
    refused(client.post("/v1/search", json={"query": "b", "of": "image", "k": 10**9}), 422, "from 1 to 1000")


def test_texts_are_bounded(client):
    long = "b" * 5000
    refused(client.post("/v1/search", json={"query": long, "of": "image"}), 413, "at most 4000")
    refused(client.post("/v1/search", json={"text": long, "of": "image"}), 413, "at most 4000")
    refused(client.post("/v1/embeddings", json={"input": [long]}), 413, "at most 4000")


def test_filters_are_bounded(client):
    body = {"query": "b", "of": "image"}
    deep: dict = {"label": "red"}
    for _ in range(20):
        deep = {"not": deep}
    refused(client.post("/v1/search", json={**body, "where": deep}), 422)
    many = {"any": [{"label": "red"}] * 100}
    refused(client.post("/v1/search", json={**body, "where": many}), 422, "1 to 64 filters")
    refused(client.post("/v1/search", json={**body, "where": {"label": "x" * 30_000}}), 413, "at most 20000")


def test_a_filter_does_not_tell_where_files_lie(client):
    for where in ({"shard": {"contains": "/"}}, {"folder": {"contains": "tmp"}}, {"folder": "/tmp"}):
        refused(client.post("/v1/search", json={"query": "b", "of": "image", "where": where}), 422)


def test_classes_and_templates_are_bounded(client):
    body = {"modality": "image", "data": uri(picture((1, 2, 3)))}
    names = [f"c{i}" for i in range(1001)]
    refused(client.post("/v1/classify", json={**body, "classes": names}), 413, "at most 1000")
    refused(client.post("/v1/classify", json={**body, "classes": ["a", "b" * 201]}), 413, "at most 200")
    templates = ["{}"] * 33
    refused(
        client.post("/v1/classify", json={**body, "classes": ["a", "b"], "templates": templates}), 413, "at most 32"
    )


def test_ten_thousand_fields_are_refused_at_once(client):
    fields = {f"f{i}": "x" for i in range(10_000)}
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\nx\r\n'
    form = "".join(part.format(name) for name in fields) + "--b--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=b"}
    refused(client.post("/v1/search", content=form.encode(), headers=kind), 413, "Too many fields")
    refused(client.post("/v1/search", data=fields), 413, "fields")
    refused(client.post("/v1/search", files={f"f{i}": b"x" for i in range(20)}), 413, "Too many files")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"k": NaN, "of": "image"}',
        b'{"k": 1, "k": 2}',
        b'{"k": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "list", "bytes", "deep", "nan", "twice", "digits"],
)
def test_broken_json_is_a_400(client, body):
    refused(client.post("/v1/search", content=body, headers={"content-type": "application/json"}), 400)


def test_other_types_of_a_body_are_a_415(client):
    refused(client.post("/v1/search", content=b"<a/>", headers={"content-type": "text/xml"}), 415, "application/json")


@pytest.mark.parametrize("type", ["multipart/form-data", "multipart/form-data; boundary=x; charset=zip"])
def test_a_broken_form_is_a_400(client, type):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="of"\r\n\r\nimage\r\n--x--\r\n' if "zip" in type else b"--y\r\n"
    )
    answer = client.post("/v1/search", content=body, headers={"content-type": type})
    assert answer.status_code in (400, 422)


# Deadlines


def test_a_slow_body_is_a_408(client):
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n"
    )
    found = talk(client, head, *[b"x"] * 40, wait=0.1)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive" in found


def test_a_slow_head_is_a_408(client):
    found = talk(client, *[b"GET /healthz HTTP/1.1\r\nX: "[i : i + 1] for i in range(26)], wait=0.1)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"nosniff" in found


def test_a_silent_connection_is_closed(client):
    assert talk(client, seconds=5).startswith(b"HTTP/1.1 408 ")


def test_connections_are_bounded(client):
    with_all = [socket.create_connection(address(client), timeout=5) for _ in range(LIMITS.connections)]
    try:
        assert b" 503 " in talk(client, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    finally:
        for sock in with_all:
            sock.close()
    time.sleep(0.2)
    assert client.get("/healthz").status_code == 200


# Decoding


@pytest.mark.parametrize(
    ("trap", "said"),
    [(b"crash", "its decoder stopped"), (b"hang", "more than 5 s"), (b"memory", "more memory than the server gives")],
)
def test_a_decoder_that_fails_is_a_422_and_the_next_file_is_read(served, trap, said):
    client, service = served
    pid, before = resident(), service.loaded.decoders.restarts
    refused(ask(client, "image", trap), 422, said)
    assert ask(client, "image", picture((1, 2, 3))).status_code == 200
    assert service.loaded.decoders.restarts == before + (trap != b"memory")
    assert resident() < pid + (200 << 20)


def png_of(width: int, height: int) -> bytes:
    """A small PNG whose header states a size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_pictures_pixels_are_bounded_by_its_header(client):
    refused(ask(client, "image", png_of(60_000, 60_000)), 422, "too-large")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("pdf", b"%PDF-1.4 \n"),
        ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("html", b"<html><script>alert(1)</script>"),
        ("ico", b"\0\0\1\0\1\0" + b"\0" * 40),
        ("jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("text", b"hello"),
        ("nothing", b""),
    ],
)
def test_pictures_are_of_an_allow_list(client, name, data):
    refused(ask(client, "image", data, f"x.{name}"), 422, "the image cannot be read")


def test_a_polyglot_is_a_picture_and_nothing_else(client):
    import PIL.Image

    out = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(out, "GIF")
    assert ask(client, "image", out.getvalue() + b"<script>alert(1)</script>").status_code == 200


def test_a_sounds_length_is_bounded_by_its_header(client):
    hours = 3600 * 20
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 2**31, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 16000 * hours
    )
    refused(ask(client, "audio", header + b"\0" * 1000), 422, "the audio cannot be read")
    refused(ask(client, "audio", tone(0, 700, "FLAC")), 422, "too-large")


def test_a_clouds_points_are_bounded_by_its_header(client):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 3)})
    refused(ask(client, "points", out.getvalue() + b"\0" * 100), 422, "too-large")


def test_an_array_is_never_unpickled(client, folder):
    class Bomb:
        def __reduce__(self):
            return open, (str(folder / "pickled"), "w")

    out = io.BytesIO()
    np.save(out, np.array([Bomb()], dtype=object), allow_pickle=True)
    for data in (out.getvalue(), pickle.dumps(Bomb())):
        refused(ask(client, "points", data), 422)
    assert not (folder / "pickled").exists()


def test_a_mesh_reads_no_file_beside_it(client, folder):
    (folder / "secret.bin").write_bytes(np.zeros((3, 3), np.float32).tobytes())
    tree = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": str(folder / "secret.bin"), "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    }
    for place in (str(folder / "secret.bin"), "secret.bin", "http://127.0.0.1:9/x", (folder / "secret.bin").as_uri()):
        tree["buffers"][0]["uri"] = place
        answer = ask(client, "points", json.dumps(tree).encode(), "a.gltf")
        refused(answer, 422, "incomplete")
        assert str(folder) not in answer.text.replace(place, "")
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
    obj = f"mtllib {folder}/secret.bin\n{corners}f 1 2 3\n"
    assert ask(client, "points", obj.encode(), "a.obj").status_code == 200


def test_a_mesh_is_read_as_from_a_file(served, tmp_path):
    client, service = served
    lines = [f"v {x} {y} {z}" for x in (0, 1) for y in (0, 2) for z in (0, 3)] + ["f 1 2 4 3", "f 1 2 6 5", "f 5 6 8 7"]
    (tmp_path / "box.obj").write_text("\n".join(lines))
    row = service.loaded.model.preprocess["points"].row(tmp_path / "box.obj")
    made = service.loaded.model
    right = made.embed_values("points", made.preprocess["points"].collate([row]))[0]
    found = ask(client, "points", (tmp_path / "box.obj").read_bytes(), "box.obj").json()["data"][0]["embedding"]
    np.testing.assert_allclose(found, right, atol=1e-6)


# Addresses


@pytest.mark.parametrize(
    "path",
    [
        "/v1/items/../../../../etc/passwd",
        "/v1/items/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/items/%2e%2e/media/image",
        "/v1/items/-1",
        "/v1/items/1.0",
        "/v1/items/0x1",
        "/v1/items/999999999999999999",
        "/v1/items/9999999999999999999999999",
        "/v1/items/%00",
        "/v1/items/1/media/..%2f..%2fetc%2fpasswd",
        "/v1/items/1/media/image.png",
        "/v1/items/1/media/json",
        "/v1/items/1/media/image?row=9",
        "/v1/items/1/face/..",
        "//etc/passwd",
        "/static/../../etc/passwd",
    ],
)
def test_an_id_is_never_a_path(client, path):
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found = talk(client, head.encode())
    assert found.startswith(b"HTTP/1.1 404 "), found[:200]
    assert b"root:" not in found


def test_no_answer_echoes_a_path_of_this_machine(client, folder):
    answers = [
        client.get(path) for path in ("/healthz", "/v1/items/1", "/v1/models", "/v1/facets", "/metrics", "/docs")
    ]
    answers += [client.get(f"/v1/items/1/media/{m}") for m in ("image", "nothing")]
    answers += [client.post("/v1/search", json=body) for body in ({}, {"query": "b", "of": "image"}, {"like": 77})]
    answers += [ask(client, "image", b"x"), ask(client, "points", b"x", "a.ply"), ask(client, "audio", b"x")]
    (folder / "test-000000.tar").rename(folder / "gone.tar")
    try:
        answers += [client.get("/v1/items/2"), client.get("/v1/items/2/media/image")]
        refused(answers[-1], 404, "the shard of this item is gone (test-000000.tar)")
    finally:
        (folder / "gone.tar").rename(folder / "test-000000.tar")
    for answer in answers:
        whole = answer.text + str(answer.headers)
        assert str(folder) not in whole
        assert "/tmp" not in whole
        assert "site-packages" not in whole


def test_an_error_of_ours_shows_no_trace(client, served, monkeypatch, caplog):
    message = "a secret of /home/someone"

    def fail(*args, **kwargs):
        raise RuntimeError(message)  # the log has this line, and not what it stands for

    monkeypatch.setattr(type(served[1]), "facets", fail)
    answer = client.get("/v1/facets")
    refused(answer, 500, "the server failed")
    assert "secret" not in answer.text
    for _ in range(200):  # the log is written beside the answer
        if "RuntimeError" in caplog.text:
            assert "GET /v1/facets failed" in caplog.text
            assert "secret" not in caplog.text  # a message may hold what a visitor has sent
            return
        time.sleep(0.05)
    raise AssertionError(caplog.text)


# Sites


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("[::1", "[::1]evil.example", "[]", "localhost:evil.example", "localhost@evil.example", "localhost:80:80"),
    ],
)
def test_another_host_is_refused(client, host):
    refused(client.get("/healthz", headers={"host": host}), 421, "--allow-host")


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "localhost:", "LOCALHOST", "127.0.0.1:1", "[::1]", "[::1]:8000"),
        *("demo.example", "demo.example."),
    ],
)
def test_a_known_host_is_answered(client, host):
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9", "https://evil.example:443"])
def test_a_page_of_another_origin_is_refused(client, origin):
    for method, path in (("POST", "/v1/search"), ("GET", "/healthz"), ("OPTIONS", "/v1/search")):
        refused(client.request(method, path, headers={"origin": origin, "host": "localhost:8000"}), 403, "its own page")


def test_our_own_page_is_answered(client):
    headers = {"origin": "http://localhost:8000", "host": "localhost:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/v1/embeddings", json={"input": "b"}, headers=headers).status_code == 200


def test_a_form_or_a_script_of_another_site_is_refused(client):
    cross = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    refused(client.post("/v1/embeddings", json={"input": "b"}, headers=cross), 403)
    for site in ("cross-site", "same-site"):  # a sibling's page is another site's too
        script = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        refused(client.get("/v1/items/1/media/image", headers=script), 403)
        refused(client.post("/v1/embeddings", json={"input": "b"}, headers={**cross, "sec-fetch-site": site}), 403)
    assert client.get("/healthz", headers=cross).status_code == 200  # a link leads here


def test_no_cors(client):
    asked = {"origin": str(client.base_url).rstrip("/"), "access-control-request-method": "POST"}
    for answer in (client.options("/v1/search", headers=asked), client.get("/healthz", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


# Headers


def test_every_answer_has_the_headers_of_safety(client):
    paths = [
        route.path.replace("{id}", "1").replace("{modality}", "image").replace("{name:path}", "x")
        for route in list_routes()
    ]
    answers = [client.get(path) for path in paths] + [client.head(path) for path in paths]
    answers += [
        client.post("/v1/search", json={}),
        client.get("/nothing"),
        client.get("/healthz", headers={"host": "e"}),
    ]
    answers += [client.delete("/v1/items/1"), client.get("/v1/items/1/media/image", headers={"range": "bytes=999-"})]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), answer.url
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers


def test_a_file_is_in_a_sandbox(client):
    for path in ("/v1/items/1/media/image", "/v1/items/1/media/points?form=original", "/v1/items/1/media/text"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].endswith("sandbox")
        assert "html" not in answer.headers["content-type"]


def test_what_is_no_http_is_a_400_with_headers(client):
    for head in (
        b"\x16\x03\x01\x02\x00",
        b"GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ):
        found = talk(client, head)
        assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), found[:100]
        assert b"nosniff" in found
    assert client.get("/healthz", headers={"x": "y" * 17_000}).status_code in (400, 431)
    assert client.get("/healthz", headers={"x": "y" * 15_000}).status_code == 200


# Token


def test_a_token_is_asked_for(folder, monkeypatch):
    compared: list[bool] = []
    real = Guard._fits
    monkeypatch.setattr(Guard, "_fits", lambda self, given: compared.append(True) or real(self, given))
    with (
        serving(load(folder / "t", LIMITS), LIMITS, token=TOKEN) as (url, _),
        httpx.Client(base_url=url) as client,
    ):
        for headers in ({}, {"authorization": "Bearer no"}, {"authorization": TOKEN}, {"cookie": "align_token=no"}):
            answer = client.get("/v1/models", headers=headers)
            refused(answer, 401, "Authorization: Bearer TOKEN")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text
        assert client.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        moved = client.get(f"/v1/models?token={TOKEN}&x=1", follow_redirects=False)
        assert (moved.status_code, moved.headers["location"]) == (303, "/v1/models?x=1")
        cookie = moved.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert client.get("/v1/models").status_code == 200  # by the cookie
    assert compared


def test_the_token_is_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    guard = Guard.__new__(Guard)
    guard._token = "right"
    assert guard._fits("right")
    assert not guard._fits("wrong")
    assert len(seen) == 2


# Load


def test_a_full_queue_is_a_429(tmp_path):
    limits = replace(LIMITS, queue=4, window=0.5, decode_seconds=5.0)
    with serving(load(tmp_path, limits, trapped()), limits) as (url, service), httpx.Client(base_url=url) as client:

        def send(i: int):
            return client.post("/v1/embeddings", json={"input": f"b{i}"})

        with ThreadPoolExecutor(12) as threads:
            found = list(threads.map(send, range(12)))
        assert {one.status_code for one in found} == {200, 429}
        assert sum(one.status_code == 200 for one in found) == 4
        for one in found:
            if one.status_code == 429:
                refused(one, 429, "ask again")
                assert int(one.headers["retry-after"]) >= 1
        assert send(0).status_code == 200
        assert service.loaded.batcher.waiting == 0


def test_files_that_wait_are_bounded(tmp_path):
    limits = replace(LIMITS, waiting=1, decode_seconds=5.0)
    with serving(load(tmp_path, limits, trapped()), limits) as (url, _), httpx.Client(base_url=url) as client:
        with ThreadPoolExecutor(5) as threads:
            found = list(threads.map(lambda _: ask(client, "image", b"wait"), range(5)))
        assert sorted(one.status_code for one in found) == [422, 422, 429, 429, 429]
        assert all("retry-after" in one.headers for one in found if one.status_code == 429)


def test_a_client_that_leaves_takes_nothing_with_it(client, served):
    body = json.dumps({"input": {"image": uri(picture((1, 2, 3)))}}).encode()
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    for _ in range(10):
        with socket.create_connection(address(client)) as sock:
            sock.sendall(head % len(body) + body)
    threading.Event().wait(0.5)
    assert ask(client, "image", picture((1, 2, 3))).status_code == 200
    assert served[1].loaded.batcher.waiting == 0
    assert served[1].loaded.decoders.waiting == 0


def test_a_field_of_another_type_is_a_422():
    fields = Fields(
        {"k": True, "n": "1", "w": float("inf"), "t": 3, "l": {}, "f": "yes", "low": 0, "high": 9, "over": 10}
    )
    assert [fields.integer(name, 1, 0, 9) for name in ("low", "high")] == [0, 9]
    for take in (
        lambda: fields.integer("k", 1, 0, 9),
        lambda: fields.integer("n", 1, 0, 9),
        lambda: fields.integer("over", 1, 0, 9),
        lambda: fields.integer("low", 1, 1, 9),
        lambda: fields.number("w"),
        lambda: fields.text("t", 9),
        lambda: fields.listing("l", 9),
        lambda: fields.flag("f"),
    ):
        with pytest.raises(Refusal) as caught:
            take()
        assert caught.value.status == 422


def test_the_cloud_and_the_sound_are_read(client):
    assert ask(client, "points", cloud((9, 9, 9))).status_code == 200
    assert ask(client, "audio", tone(440, 0.5, "WAV"), "x.wav").status_code == 200
