"""Files of items in a form that browsers show, beside the stored ones; items of a folder, whose files are their own."""

from __future__ import annotations

import io
import json

import httpx
import numpy as np
import PIL.Image
import pytest
import soundfile
import torch
from served import DEFAULT, model, picture, serving, tone
from tiny_space import write_tar

from align.embedding import fingerprint
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.searcher import Searcher
from align.serve.loaded import Loaded

CORNERS = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 2) for z in (0, 3))
BOX = f"mtllib box.mtl\n{CORNERS}usemtl red\nf 1 2 4 3\nf 1 2 6 5\nf 5 6 8 7\nf 3 4 8 7\n"


def deep_png() -> bytes:
    """A picture of 16 bits that uses the lowest 12 of them, which browsers show nearly black."""
    out = io.BytesIO()
    PIL.Image.fromarray(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 4).save(out, "PNG")
    return out.getvalue()


FILES = {
    "tiff": ("image.tif", picture((250, 10, 10), 40, "TIFF")),
    "deep": ("image.png", deep_png()),
    "named": ("image.jpg", picture((10, 250, 10), 40, "TIFF")),  # a TIFF that is called a JPEG
    "bmp": ("image.bmp", picture((10, 10, 250), 40, "BMP")),
    "jpeg": ("image.jpg", picture((10, 10, 250), 40, "JPEG")),
    "aiff": ("audio.wav", tone(600, kind="AIFF")),  # an AIFF that is called a WAV
    "aif": ("audio.aif", tone(600, kind="AIFF")),
    "wav": ("audio.wav", tone(600, kind="WAV")),
    "mesh": ("points.obj", BOX.encode()),
    "page": ("image.png", b"<html><script>alert(1)</script>"),
    "words": ("text.txt", b"<script>alert(1)</script>\nline two"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def client(folder):
    made = model()
    (folder / "box.mtl").write_text("newmtl red\nKd 0.9 0.1 0.1\n")
    index = LocalIndex.create(folder / "index", {"dim": 8, "model": {"source": "", "sha256": fingerprint(made)}})
    items = []
    for key, (member, data) in FILES.items():
        path = folder / f"{key}.{member.rpartition('.')[2]}"
        path.write_bytes(data)
        items.append(Item(f"sub/{key}", {"file": str(path), "members": {member: str(path)}}))
    items.append(Item("gone", {"file": str(folder / "no.png"), "members": {"image.png": str(folder / "no.png")}}))
    remote = {"shard": "http://127.0.0.1:9/x.tar", "key": "remote"}
    items.append(Item("remote", remote))
    index.add("text", torch.eye(8)[torch.arange(len(items)) % 8], torch.arange(len(items)), items)
    loaded = Loaded(made, Searcher(index, made), DEFAULT)
    with serving(loaded) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def number(key: str) -> int:
    return list(FILES).index(key) + 1


def get(client, key: str, form: str = "shown"):
    modality = FILES[key][0].partition(".")[0]
    return client.get(f"/v1/items/{number(key)}/media/{modality}", params={"form": form})


@pytest.mark.parametrize("key", FILES)
def test_the_original_is_byte_for_byte(client, key):
    answer = get(client, key, "original")
    assert answer.content == FILES[key][1]
    assert "html" not in answer.headers["content-type"]
    name = answer.headers["content-disposition"].partition("filename*=UTF-8''")[2]
    assert name == f"sub_{key}.{FILES[key][0]}"


@pytest.mark.parametrize("key", ["tiff", "deep", "named", "bmp"])
def test_a_picture_that_browsers_cannot_show_comes_as_webp(client, key):
    answer = get(client, key)
    assert answer.headers["content-type"] == "image/webp"
    shown = np.asarray(PIL.Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    if key == "deep":
        assert shown.shape == (32, 32, 3)
    else:
        right = np.asarray(PIL.Image.open(io.BytesIO(FILES[key][1]))).astype(int)
        assert np.abs(shown - right).max() < 12
    assert client.get(f"/v1/items/{number(key)}/media/image", headers={"range": "bytes=0-3"}).content == b"RIFF"


@pytest.mark.parametrize("key", ["jpeg", "wav", "words"])
def test_a_file_that_browsers_show_comes_as_it_is(client, key):
    answer = get(client, key)
    assert answer.content == FILES[key][1]
    assert answer.headers["content-disposition"].startswith("inline")
    kinds = {"jpeg": "image/jpeg", "wav": "audio/wav", "words": "text/plain; charset=utf-8"}
    assert answer.headers["content-type"] == kinds[key]


@pytest.mark.parametrize("key", ["aiff", "aif"])
def test_a_sound_that_browsers_cannot_play_comes_as_flac(client, key):
    answer = get(client, key)
    assert answer.headers["content-type"] == "audio/flac"
    wave, rate = soundfile.read(io.BytesIO(answer.content))
    right, _ = soundfile.read(io.BytesIO(FILES["aiff"][1]))
    assert rate == 8000
    np.testing.assert_allclose(wave, right, atol=1e-3)


def test_a_mesh_is_drawn_with_the_colours_beside_it(client):
    shown = get(client, "mesh")
    assert (shown.content, shown.headers["content-type"]) == (FILES["mesh"][1], "application/octet-stream")
    assert shown.headers["content-disposition"].startswith("attachment")
    face = client.get(f"/v1/items/{number('mesh')}/face/points").json()
    import base64

    data = np.frombuffer(base64.b64decode(face["d"]), np.uint8)
    colours = data[len(data) * 2 // 3 :].reshape(-1, 3)
    assert face["k"] == "cloud"
    assert np.abs(colours.astype(int) - [230, 26, 26]).max() <= 3


def test_a_face_is_kept(client):
    first = client.get(f"/v1/items/{number('jpeg')}/face/image")
    assert first.json() == client.get(f"/v1/items/{number('jpeg')}/face/image").json()
    assert client.get(f"/v1/items/{number('aiff')}/face/audio").json()["k"] == "sound"
    assert client.get(f"/v1/items/{number('words')}/face/text").json()["d"].startswith("<script>")


def test_a_page_that_is_called_a_picture_is_none(client):
    answer = get(client, "page")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"
    original = get(client, "page", "original")
    assert (original.headers["content-type"], original.headers["x-content-type-options"]) == ("image/png", "nosniff")


def test_a_file_that_is_gone_or_remote_is_a_404(client, folder):
    gone, remote = len(FILES) + 1, len(FILES) + 2
    answer = client.get(f"/v1/items/{gone}/media/image")
    assert answer.status_code == 404
    assert "the file of this item is gone (no.png)" in answer.json()["error"]["message"]
    answer = client.get(f"/v1/items/{remote}/media/image")
    assert (answer.status_code, "nothing is fetched" in answer.text) == (404, True)
    assert client.get(f"/v1/items/{remote}").json()["media"] == []
    for one in (client.get(f"/v1/items/{n}") for n in range(1, remote + 1)):
        assert str(folder) not in one.text
        assert json.loads(one.text)["object"] == "item"


def test_a_file_that_changes_gets_another_tag(client, folder):
    url = f"/v1/items/{number('words')}/media/text"
    before = client.get(url).headers["etag"]
    (folder / "words.txt").write_bytes(b"other words")
    after = client.get(url, headers={"if-none-match": before, "range": "bytes=0-1", "if-range": before})
    assert (after.status_code, after.content) == (200, b"other words")
    assert after.headers["etag"] != before
    (folder / "words.txt").write_bytes(FILES["words"][1])


def test_members_that_a_source_names_are_an_items_files(tmp_path):
    made, item = model(), Item("0", {"shard": str(tmp_path / "a.tar"), "key": "0"})
    write_tar(tmp_path / "a.tar", {"0": {"thumb.png": picture((250, 10, 10)), "flac": tone(600)}})
    sources = [{"shards": ["a.tar"], "options": {"members": {"image": ["thumb.png"], "text": ["json:caption"]}}}]
    loaded = Loaded(made, Searcher(LocalIndex.create(tmp_path / "index", {"sources": sources}), made), DEFAULT)
    found = {(one.modality, one.name) for one in loaded.members.list_members(item)}
    loaded.retire()
    assert {("image", "thumb.png"), ("audio", "flac")} <= found
