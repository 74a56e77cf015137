"""Approximate searches that are made, measured, removed and searched by several processes at one time."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_index import random

from align.commands.index_backend import read_named, say_exact, say_replaced
from align.search.ann import attach as attaching
from align.search.ann.attach import Following, attach, drop_stale, remove_backend
from align.search.ann.kinds import KINDS
from align.search.ann.make import make_backend, read_blocks
from align.search.ann.measure import find_lost, keep_measured, measure_recall
from align.search.ann.mirror import keep_in_step
from align.search.ann.notes import Notes, identify, path_of_notes, read_notes, write_notes
from align.search.approximate import Approximate
from align.search.building.staging import Busy, hold_index
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.made import Made
from align.search.remote import Remote
from align.search.remote.qdrant import QdrantStore
from align.serve.readers import Readers
from align.serve.refusal import Refusal

AWAY = "milvus:http://127.0.0.1:1"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("races") / "idx"
    with LocalIndex.create(folder) as index:
        index.add("text", random(300, 1), torch.arange(300), [Item(f"k{i}", {"shard": "/s.tar"}) for i in range(300)])
    make_backend(folder, "hnsw")
    return folder


@pytest.fixture
def folder(source, tmp_path, monkeypatch):
    for name, kind in KINDS.items():
        monkeypatch.setitem(KINDS, name, kind._replace(rerank=40))
    return Path(shutil.copytree(source, tmp_path / "idx"))


def notes_of(folder):
    notes = read_notes(folder)
    assert notes is not None
    return notes


def made_of(folder):
    made = Following(folder).read()
    assert made is not None
    return made


def files(folder):
    return sorted(path.name for path in (folder / "ann").iterdir())


def test_nothing_is_removed_while_another_process_makes_it(folder):
    """Its files lie there before its notes name them."""
    (folder / "ann" / "0123456789ab.faiss").write_bytes(b"being made")
    with LocalIndex.open(folder, write=True) as index:
        index.delete(["k1"])
    before = files(folder)
    with hold_index(folder):
        with pytest.raises(Busy, match=r"another process is changing .*; wait until it is done"):
            remove_backend(folder)
        assert "another process is changing" in drop_stale(folder)[0]
        with pytest.raises(Busy):
            make_backend(folder, "int8")
        assert files(folder) == before
    assert "the hnsw of text is stale" in drop_stale(folder)[0]
    assert files(folder) == ["id"]


def test_a_mirror_that_another_process_brings_in_step_is_one_line(folder):
    notes = notes_of(folder)
    write_notes(folder, Notes(AWAY, notes.index, 1.0, {"text": {**notes.modalities["text"], "mark": "old"}}))
    with hold_index(folder), pytest.raises(OSError, match=r"is changed, and searched exactly: .*another process"):
        keep_in_step(folder)


def test_a_lock_is_of_the_folder_and_not_of_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.symlink(folder, folder.parent / "link")
    with hold_index(Path()):
        for name in (folder, folder.parent / "link", Path("..") / "idx"):
            with pytest.raises(Busy), hold_index(name):
                pass
    made, left = make_backend(Path(), "hnsw")
    assert ([one.of for one in made], left) == (["text"], [])


def test_a_search_that_meets_a_new_making_goes_on(folder):
    """The notes are read, then another process replaces them and removes their files."""
    with LocalIndex.open(folder) as exact:
        index = attach(exact)
        old = made_of(folder)
        make_backend(folder, "hnsw")
        inner, reads = index._made, []

        def read():
            reads.append(1)
            return old if len(reads) == 1 else inner()

        index._made = read
        best = index.search(random(1, 3), "text", 3)
        assert best[1].equal(exact.search(random(1, 3), "text", 3)[1])
        assert index.list_notes() == ["approximate (hnsw), best 40 re-scored exactly"]
        assert len(reads) == 2


def test_a_file_that_is_gone_is_named_with_its_remedy(folder):
    next((folder / "ann").glob("*.npy")).unlink()
    said = rf"\.npy of the hnsw of text is gone; make it again: align index backend {folder} hnsw"
    with LocalIndex.open(folder) as exact, pytest.raises(FileNotFoundError, match=said):
        attach(exact).search(random(1, 3), "text", 3)


def test_damaged_notes_are_a_trouble_of_the_server(folder):
    path_of_notes(folder).write_text("{")
    with LocalIndex.open(folder) as exact:
        assert "backend.json is damaged" in attach(exact).trouble()


def test_numbers_of_another_making_are_not_kept(folder):
    with LocalIndex.open(folder) as exact:
        index = attach(exact)
        recall, selves = measure_recall(index, "text", "text", queries=4), find_lost(index, "text", most=9)
    made = made_of(folder)
    make_backend(folder, "int8")
    keep_measured(folder, made, [recall], [selves])
    assert notes_of(folder).measured == {}
    with hold_index(folder):
        keep_measured(folder, made_of(folder), [recall], [selves])
    assert notes_of(folder).measured == {}
    remove_backend(folder)
    keep_measured(folder, made, [recall], [selves])
    assert read_notes(folder) is None


def test_a_recall_of_exact_searches_says_so(folder, monkeypatch):
    with LocalIndex.open(folder) as exact:
        recall = measure_recall(attach(exact), "text", "text", queries=4)
        assert (recall.proposed, say_exact([recall])) == (4, [])
        for name, kind in KINDS.items():
            monkeypatch.setitem(KINDS, name, kind._replace(rerank=200))
        recall = measure_recall(attach(exact), "text", "text", queries=4)
        assert recall.proposed == 0
        assert say_exact([recall])[0].startswith("all searches of text were exact")
        few = recall._replace(proposed=3)
        assert say_exact([few]) == ["of 4 searches of text, 1 were exact, for want of proposals"]


def test_an_earlier_mirror_whose_server_is_away(folder):
    notes = notes_of(folder)
    write_notes(folder, Notes(AWAY, notes.index, 1.0, notes.modalities))
    made, left = make_backend(folder, "hnsw")
    assert len(made) == len(left) == 1
    assert f"searches of {folder} use the hnsw now; its mirror stays on the server (Milvus at" in left[0]
    write_notes(folder, Notes(AWAY, notes.index, 1.0, notes_of(folder).modalities))
    with pytest.raises(OSError, match=r"are exact now; its mirror stays on the server \(Milvus at"):
        remove_backend(folder)
    assert read_notes(folder) is None


def test_an_index_that_takes_the_place_of_another_says_what_is_gone(folder, capsys, monkeypatch):
    say_replaced(folder, *read_named(folder))
    assert capsys.readouterr().err == ""
    notes = notes_of(folder)
    write_notes(folder, Notes(AWAY, notes.index, 1.0, notes.modalities))
    named = read_named(folder)
    shutil.rmtree(folder / "ann")
    say_replaced(folder, *named)
    said = capsys.readouterr().err
    assert f"the {AWAY} of the earlier index is gone with it; make it again: align index backend {folder} " in said
    assert "its mirror stays on the server (Milvus at" in said
    dropped = []
    monkeypatch.setattr("align.search.remote.Remote.drop", lambda self: dropped.append(self.index))
    say_replaced(folder, *named)
    assert dropped == [notes.index]
    assert "stays" not in capsys.readouterr().err
    assert read_named(folder) == ("", "")


def test_an_empty_name_of_an_index_is_made_anew(folder):
    (folder / "ann" / "id").write_text("\n")
    name = identify(folder)
    assert len(name) == 32
    assert identify(folder) == name
    assert attaching.find_backend(folder, AWAY).index == name


def test_a_server_without_the_library_answers_503():
    """An approximate search may be made by another machine while a server runs that has not got its library."""

    def work():
        raise ImportError("approximate search needs faiss: pip install")

    with pytest.raises(Refusal) as caught:
        asyncio.run(Readers().run(work))
    assert caught.value.status == 503
    assert "faiss" not in str(caught.value)


@pytest.fixture
def remote():
    from qdrant_client import QdrantClient

    return Remote(QdrantStore("http://memory", client=QdrantClient(":memory:")), "qdrant:http://memory", "test")


FACTS = {"index": "test", "generation": 1, "dim": 8, "rows": 300, "model": ""}


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_a_mirror_that_another_program_removes_is_one_line(folder, remote, monkeypatch):
    with LocalIndex.open(folder) as exact:
        rows = list(read_blocks(exact, "text"))
        facts = FACTS | remote.make("text", iter(rows), FACTS)
        names = remote.store.list_names()

        def drop_first():
            for values, numbers in rows:
                remote.store.drop(names[0])
                yield values, numbers

        with pytest.raises(ValueError, match="another program removed it while rows were sent; try again"):
            remote.make("text", drop_first(), FACTS)
        with pytest.raises(ValueError, match="gone"):
            remote.check("text", facts)
        with monkeypatch.context() as patch:
            patch.setattr(remote.store, "list_names", lambda: names)
            remote.drop()
        made = Made(remote, 40, {"text": facts | {"mark": exact.mark("text")}})
        with pytest.raises(ValueError, match="gone while it was measured"):
            find_lost(Approximate(exact, lambda: made), "text")
