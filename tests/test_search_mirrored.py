"""An index with a mirror in Milvus: the answers of exact search, kept in step, and align serve without it."""

from __future__ import annotations

import shutil

import httpx
import pytest
import served
import torch
from milvus_server import MilvusServer
from tiny_index import fill, random

from align.commands import main
from align.search.ann.attach import attach, remove_backend
from align.search.ann.mirror import keep_in_step, make_mirrors
from align.search.ann.notes import read_notes
from align.search.finder import Unavailable
from align.search.local import LocalIndex
from align.search.remote import Remote, connect
from align.search.searcher import Searcher
from align.search.where import parse
from align.serve.limits import Limits


@pytest.fixture(scope="module")
def milvus(tmp_path_factory):
    server = MilvusServer(tmp_path_factory.mktemp("milvus") / "data")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def folder(tmp_path, milvus, monkeypatch):
    """An index with holes, several rows a sample, ties and deleted samples, whose searches all ask the mirror."""
    monkeypatch.setattr("align.search.made.FEW", 0)
    monkeypatch.setattr("align.search.made.RARE", 0.0)
    monkeypatch.setattr(Remote, "rerank", 12)
    with LocalIndex.create(tmp_path / "idx") as index:
        fill(index, 120)
        index.delete([f"k{i:03d}" for i in range(0, 120, 9)])
    if milvus.process is None:
        milvus.start()
    yield tmp_path / "idx"
    if milvus.process is None:
        milvus.start()
    remove_backend(tmp_path / "idx")


def compare(folder, note="approximate (milvus:"):
    """Ask the index with and without its mirror: the same samples and scores, ties too."""
    query = torch.nn.functional.normalize(random(3, 1), dim=1)
    with LocalIndex.open(folder) as index:
        behind = attach(index)
        for of in ("image", "text"):
            for where in (None, parse({"label": {"gte": 1}})):
                mine, theirs = (one.search(query, of, 10, where) for one in (behind, index))
                assert mine[0].equal(theirs[0])
                assert mine[1].equal(theirs[1])
                assert behind.list_notes()[0].startswith(note)


def test_a_mirror_answers_as_the_rows_do(folder, milvus, capfd):
    made = make_mirrors(folder, milvus.url)
    with LocalIndex.open(folder) as index:
        assert {one.of: one.sent for one in made} == dict(index.modalities)
    compare(folder)
    assert [one.sent for one in make_mirrors(folder, milvus.url)] == [0] * 4
    assert keep_in_step(folder) == []

    with LocalIndex.open(folder, write=True) as index:
        gone = index.numbers("image", parse({"key": {"in": ["k001", "k002"]}})).tolist()
        assert index.delete(["k001", "k002"]) == 2
        fill(index, 20, start=200)
    compare(folder, "exact: the milvus:")
    lines = keep_in_step(folder)
    assert len(lines) == 4
    assert all(f"milvus:{milvus.url}: " in line and "were removed there" in line for line in lines)
    compare(folder)
    with LocalIndex.open(folder) as index:
        finder, _ = attach(index).open_finder("image")
        assert not set(gone) & set(finder.propose(random(1, 1), 500)[0].tolist())
    assert main(["index", "check", str(folder)]) == 0

    other = folder.parent / "copy"
    shutil.copytree(folder, other)
    with LocalIndex.open(other, write=True) as index:
        index.delete(["k003"])
    keep_in_step(other)
    compare(folder, f"exact: Milvus at {milvus.url}: the mirror of ")  # it is the copy's now
    assert main(["index", "check", str(folder)]) == 1
    assert "was changed by another" in capfd.readouterr().out
    make_mirrors(folder, milvus.url)
    compare(folder)

    for name in (store := connect(f"milvus:{milvus.url}").store).list_names():
        store.drop(name)
    compare(folder, f"exact: Milvus at {milvus.url}: a mirror is gone; make it again: align index backend ")
    assert all(one.sent for one in make_mirrors(folder, milvus.url))
    compare(folder)
    assert remove_backend(folder) == f"milvus:{milvus.url}"
    assert store.list_names() == []


def test_a_stranger_stops_all_before_a_row_is_sent(folder, milvus, capfd):
    make_mirrors(folder, milvus.url)
    from pymilvus import MilvusClient

    store = connect(f"milvus:{milvus.url}").store
    (name,) = [one for one in store.list_names() if one.endswith("_text")]
    notes = read_notes(folder)
    remove_backend(folder)
    MilvusClient(milvus.url).create_collection(name, dimension=5)
    try:
        assert main(["index", "backend", str(folder), milvus.url]) == 1
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert f"the collection {name} is not of align" in said
        assert store.list_names() == [name]
        assert read_notes(folder) is None
    finally:
        store.drop(name)
    assert notes is not None


@pytest.mark.sweep  # 10 s: it starts the server anew
def test_a_server_that_is_away(folder, milvus, capfd):
    make_mirrors(folder, milvus.url)
    milvus.kill()
    with LocalIndex.open(folder) as index:
        with pytest.raises(Unavailable, match="does not answer"):
            attach(index).search(random(1, 1), "image", 3)
        with pytest.raises(Unavailable, match="does not answer"):
            attach(index).prepare(1)
    capfd.readouterr()
    assert main(["index", "check", str(folder)]) == 1
    out = capfd.readouterr().out
    assert f"not checked: Milvus at {milvus.url} does not answer" in out
    assert "damaged" not in out
    assert main(["index", "delete", str(folder), "k005"]) == 1
    said = capfd.readouterr()
    assert "1 sample deleted" in said.out
    assert said.err.count("\n") == 1
    assert "the index is changed, and searched exactly: its mirror is not in step (Milvus at" in said.err
    assert f"align index backend {folder} milvus:{milvus.url} brings it in step" in said.err
    compare(folder, "exact: the milvus:")
    assert main(["index", "backend", str(folder), milvus.url]) == 1
    assert f"no server answers at {milvus.url}; is it running?" in capfd.readouterr().err
    milvus.start()
    make_mirrors(folder, f"milvus:{milvus.url}")
    compare(folder)


@pytest.mark.sweep  # 10 s: it starts the server anew
def test_align_serve_lives_on(tmp_path, milvus, monkeypatch):
    monkeypatch.setattr(Remote, "rerank", 1)
    if milvus.process is None:
        milvus.start()
    made = served.model()
    served.make_index(tmp_path, made).close()
    make_mirrors(tmp_path / "index", milvus.url)
    index = attach(LocalIndex.open(tmp_path / "index"))
    loaded = served.Loaded(made, Searcher(index, made), Limits(), name="tiny", sha256="f")
    loaded.decoders.start()
    asked = {"query": "a red thing", "of": "image", "k": 1}
    try:
        with served.serving(loaded) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
            found = client.post("/v1/search", json=asked).json()
            assert any("approximate (milvus:" in note for note in found["notes"])
            assert client.get("/healthz").json()["search"] == "ok"
            milvus.kill()
            away = client.post("/v1/search", json=asked)
            assert away.status_code == 503
            assert away.json()["error"]["code"] == "backend_unavailable"
            assert int(away.headers["retry-after"]) > 0
            assert milvus.url not in away.text  # a visitor does not learn where it is
            health = client.get("/healthz")
            assert (health.status_code, health.json()["search"]) == (200, "unavailable")
            number = found["hits"][0]["id"]
            assert client.get(f"/v1/items/{number}").status_code == 200
            assert client.get("/").status_code == 200
            assert client.post("/v1/embeddings", json={"model": "tiny", "input": "red"}).status_code == 200
            milvus.start()
            assert client.post("/v1/search", json=asked).json()["hits"] == found["hits"]
            assert client.get("/healthz").json()["search"] == "ok"
    finally:
        if milvus.process is None:
            milvus.start()
        remove_backend(tmp_path / "index")
