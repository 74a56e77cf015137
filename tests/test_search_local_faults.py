"""An index that is damaged, full, read-only, of version 1, or used by several at a time."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from written import run_code

from align.search.item import Item
from align.search.local import LocalIndex, entries, segments, tables
from align.search.local.reader import Reader
from align.search.local.tables import TABLES
from align.search.where import parse
from align.values import Rows

D = 4


def item(i):
    return Item(f"k{i}", {"shard": "/s.tar", "key": f"k{i}"}, [f"dog {i}"], None, {"n": i})


def fill(folder, n=40, start=0):
    """An index with n samples, and its rows."""
    make = LocalIndex.open if Path(folder).exists() else lambda folder, write: LocalIndex.create(folder)
    values = torch.randn(n, D, generator=torch.Generator().manual_seed(start))
    with make(folder, write=True) as index:
        index.add("image", values, torch.arange(n), [item(i) for i in range(start, start + n)])
    return values


def run_python(code):
    """Run a script in a process of its own, and return its output."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the script may become another user
        script = Path(folder) / "script.py"
        script.write_text(code, encoding="utf-8")
        return run_code(script)


@pytest.mark.parametrize("place", ["values", "sample", "norm", "header"])
def test_a_flipped_bit_in_a_segment_is_named_on_first_use(tmp_path, place):
    fill(tmp_path / "index")
    path = next((tmp_path / "index" / "segments").iterdir())
    content = bytearray(path.read_bytes())
    content[{"values": 600, "sample": -40 * 4 - 8, "norm": -2, "header": 20}[place]] ^= 1
    path.write_bytes(content)
    with LocalIndex.open(tmp_path / "index") as index:
        assert index.count() == 40
        with pytest.raises(ValueError, match=rf"{path.name} is damaged: its SHA-256 is not the index's") as error:
            index.search(torch.ones(1, D), "image", 1)
        assert "\n" not in str(error.value)
        assert len(index.check()) == 1
        assert path.name in index.check()[0]


def test_a_cut_and_a_missing_segment_are_named(tmp_path):
    fill(tmp_path / "index")
    path = next((tmp_path / "index" / "segments").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with LocalIndex.open(tmp_path / "index") as index:
        with pytest.raises(ValueError, match=rf"is damaged: it has {len(whole) - 8} bytes, not {len(whole)}"):
            index.rows("image", [1])
        path.unlink()
        with pytest.raises(ValueError, match=r"00000001.safetensors is missing; make the index anew"):
            index.search(torch.ones(1, D), "image", 1)
        assert "00000001.safetensors" in index.check()[0]
        path.write_bytes(whole)
        assert index.search(torch.ones(1, D), "image", 1)[1].shape == (1, 1)


def test_a_damaged_item_is_named(tmp_path):
    fill(tmp_path / "index")
    path = tmp_path / "index" / tables.NAME
    content = path.read_bytes()
    assert content.count(b'"n": 7}') == 1
    path.write_bytes(content.replace(b'"n": 7}', b'"n": 9}'))
    with LocalIndex.open(tmp_path / "index") as index:
        assert index.items([7])[0].json == {"n": 6}
        with pytest.raises(ValueError, match="the entry of sample 8 is damaged"):
            index.items([8])
        assert index.check() == ["the entry of sample 8 is damaged: its checksum differs; make the index anew"]


@pytest.mark.parametrize("bad", [b"d\xffg 7", b"\xff\xff\xff\xff\xff"])
def test_a_text_that_is_no_text_is_one_line(tmp_path, bad):
    fill(tmp_path / "index")
    path = tmp_path / "index" / tables.NAME
    content = path.read_bytes()
    assert content.count(b"dog 7") == 1
    path.write_bytes(content.replace(b"dog 7", bad))
    with LocalIndex.open(tmp_path / "index") as index:
        with pytest.raises(
            ValueError, match=r"index.sqlite is damaged \(a text is no UTF-8\); make the index anew"
        ) as error:
            index.items([8])
        assert "\n" not in str(error.value)
        assert index.check() == ["the entry of sample 8 is damaged: a text is no UTF-8; make the index anew"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE leaves SET value = 99 WHERE number = 8", "the values of sample 8 are not those of its json"),
        ("DELETE FROM leaves WHERE number = 8", "the values of sample 8 are not those of its json"),
        ("INSERT INTO leaves SELECT key, kind, 99, listed, 800 FROM leaves LIMIT 1", "the values of sample 800"),
        ("UPDATE items SET text = 'other' WHERE number = 8", "the text of sample 8 is not its captions"),
    ],
)
def test_a_check_compares_what_filters_read(tmp_path, sql, said):
    import sqlite3

    fill(tmp_path / "index")
    with sqlite3.connect(tmp_path / "index" / tables.NAME) as connection:
        connection.execute(sql)
    connection.close()
    with LocalIndex.open(tmp_path / "index") as index:
        assert [line.startswith(said) for line in index.check()] == [True]


def test_a_damaged_database_is_one_line(tmp_path):
    fill(tmp_path / "index")
    path = tmp_path / "index" / tables.NAME
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 200 + whole[200:])
    with pytest.raises(ValueError, match=r"index.sqlite is damaged .*; make the index anew"):
        LocalIndex.open(tmp_path / "index")
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(ValueError, match=r"index.sqlite is damaged") as error:
        index = LocalIndex.open(tmp_path / "index")
        try:
            assert index.check() != []
            index.items([1])
        finally:
            index.close()
    assert "\n" not in str(error.value)


FULL = """
import json, resource, sys, torch
from align.search.item import Item
from align.search.local import LocalIndex
from align.values import Rows
folder, sizes = sys.argv[1], range(0, 400_000, 4000)
items = [Item(f"new{i}", {"shard": "/t.tar", "key": f"new{i}"}, [f"cat {i}"]) for i in range(100)]
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
said = []
index = LocalIndex.open(folder, write=True)
before = index.search(torch.ones(1, 4), "image", 5)[1].tolist()
for size in sizes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with index.change() as change:
            change.add({"image": Rows(torch.ones(2000, 4), torch.arange(2000) // 20)}, items)
            change.remove([1])
        break
    except OSError as error:
        said.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert index.search(torch.ones(1, 4), "image", 5)[1].tolist() == before
    assert index.count() == 40 and index.check() == []
assert index.count() == 139 and index.check() == []
index.close()
print(json.dumps(said))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_index_as_it_was(tmp_path):
    fill(tmp_path / "index")
    said = json.loads(run_python(FULL.replace("sys.argv[1]", repr(str(tmp_path / "index")))))
    assert len(said) > 5
    assert set(said[1:]) == {
        f"[Errno 28] no room to write; the index is as it was: '{tmp_path / 'index'}'",
    }
    assert len(list((tmp_path / "index" / "segments").iterdir())) == 2


READ = """
import os, sys, torch, safetensors.torch
from align.search.local import LocalIndex
import align.encoders.weights
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    with LocalIndex.open(FOLDER) as index:
        print(index.count(), index.search(torch.ones(1, 4), "image", 1)[1].shape[1], len(index.find_text("dog", 99)[1]))
        print(index.check(), [f.key for f in index.facets()])
    with LocalIndex.open(FOLDER, write=True) as index:
        index.delete(["k1"])
except OSError as error:
    print(type(error).__name__, error)
"""


def read_as_another(folder):
    """Read an index as a user without the right to write to it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        return run_python(READ.replace("FOLDER", repr(str(folder)))).splitlines()
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def public():
    """A temporary folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
def test_a_folder_without_the_right_to_write_is_read(public):
    folder = public / "index"
    fill(folder)
    names = sorted(os.listdir(folder))
    lines = read_as_another(folder)
    assert lines[:2] == ["40 1 40", "[] ['n']"]
    assert lines[2] == f"PermissionError [Errno 13] no right to write to this index: '{folder}'"
    assert sorted(os.listdir(folder)) == names


@pytest.mark.slow
def test_a_log_that_cannot_be_folded_is_one_line(public):
    fill(public / "index")
    with LocalIndex.open(public / "index") as reader, reader._reader.read() as (connection, _):
        connection.execute("SELECT count(*) FROM items").fetchall()  # a snapshot keeps the log from being folded
        fill(public / "index", start=100)
        shutil.copytree(public / "index", public / "copy", ignore=shutil.ignore_patterns("*-shm"))
    lines = read_as_another(public / "copy")
    assert lines == [
        "OSError [Errno 30] a killed writer left changes that need one opening with the right to write: "
        f"'{public / 'copy' / 'index.sqlite-wal'}'"
    ]
    with LocalIndex.open(public / "copy") as index:
        assert index.count() == 80
    assert read_as_another(public / "copy")[0] == "80 1 80"


def test_a_reader_without_locks_sees_the_next_change(tmp_path):
    """As on a read-only mount of a folder that another machine writes to."""
    fill(tmp_path / "index")
    reader = Reader(tmp_path / "index", lambda folder: tables._connect(folder, "ro&immutable=1", tables.Frozen))
    with LocalIndex(tmp_path / "index", reader, write=False) as index:
        assert index.count() == 40
        fill(tmp_path / "index", start=50)
        assert index.count() == 80
        assert index.search(torch.ones(1, D), "image", 100)[1].shape == (1, 80)


def test_a_second_writer_waits_and_then_says_where(tmp_path, monkeypatch):
    fill(tmp_path / "index")
    with LocalIndex.open(tmp_path / "index", write=True) as first, LocalIndex.open(tmp_path / "index", True) as second:
        with first.change() as change:
            change.delete(["k1"])
            monkeypatch.setattr(tables, "WAIT", 0.05)
            with pytest.raises(OSError, match=r"another process is writing to this index; try later: .*index'"):
                second.delete(["k2"])
            assert second.count() == 40  # readers go on
        monkeypatch.undo()
        begun = threading.Event()

        def write():
            with first.change() as change:
                begun.set()
                change.delete(["k3"])
                released.wait(0.5)

        released, thread = threading.Event(), threading.Thread(target=write)
        thread.start()
        begun.wait()
        assert second.delete(["k2"]) == 1
        thread.join()
        assert first.count() == second.count() == 37


def test_readers_beside_a_writer_see_whole_changes(tmp_path, monkeypatch):
    """Each change adds ten samples and deletes ten: a reader sees forty, of whole tens, at any time."""
    monkeypatch.setattr("align.search.local.growing.ROWS", 16)
    fill(tmp_path / "index")
    wrong, done, reads = [], threading.Event(), [0]

    def read():
        try:
            with LocalIndex.open(tmp_path / "index") as index:
                while not done.is_set():
                    for one in (index, shared):
                        numbers = one.search(torch.ones(1, D), "image", 100)[1][0].sort().values.tolist()
                        tens = {number // 10 for number in (n - 1 for n in numbers)}
                        if len(numbers) != 40 or len(tens) != 4:
                            wrong.append(numbers)
                        if one.count("image", parse({"n": {"gte": 0}})) != 40 or len(one.find_text("dog", 99)[1]) != 40:
                            wrong.append("count")
                        reads[0] += 1
        except Exception as error:
            wrong.append(error)

    with LocalIndex.open(tmp_path / "index") as shared:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        with LocalIndex.open(tmp_path / "index", write=True) as index:
            for step in range(4, 24):
                with index.change() as change:
                    new = [item(i) for i in range(10 * step, 10 * step + 10)]
                    change.add({"image": Rows(torch.randn(10, D), torch.arange(10))}, new)
                    change.remove(range(10 * step - 39, 10 * step - 29))
                if step % 5 == 0:
                    index.compact()
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert reads[0] >= 8


@pytest.mark.slow
def test_another_process_is_seen_by_an_open_reader(tmp_path):
    fill(tmp_path / "index")
    with LocalIndex.open(tmp_path / "index") as index:
        assert index.search(torch.ones(1, D), "image", 100)[1].shape == (1, 40)
        run_python(
            f"""
from align.search.local import LocalIndex
with LocalIndex.open({str(tmp_path / "index")!r}, write=True) as index:
    index.delete(["k1", "k2"])
    index.compact()
"""
        )
        assert index.search(torch.ones(1, D), "image", 100)[1].shape == (1, 38)
        assert index.count("image") == 38


HOOKS = [
    (os, "fsync"),
    (hashlib, "file_digest"),
    (segments.Writer, "append"),
    (segments.Writer, "close"),
    (entries.Entries, "put"),
    (entries.Entries, "drop"),
]


@pytest.mark.parametrize(("place", "name"), HOOKS)
@pytest.mark.parametrize("n", [1, 2])
def test_a_fault_in_a_change_leaves_the_index_as_it_was(tmp_path, monkeypatch, place, name, n):
    values = fill(tmp_path / "index")
    names, calls, real = sorted(os.listdir(tmp_path / "index" / "segments")), [0], getattr(place, name)

    def fail(*args, **kwargs):
        calls[0] += 1
        if calls[0] == n:
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    with LocalIndex.open(tmp_path / "index", write=True) as index:
        monkeypatch.setattr(place, name, fail)
        said = pytest.raises(OSError, match=r"no room to write; the index is as it was: .*index'$")
        with said, index.change() as change:
            for start in (100, 110):
                rows = {m: Rows(torch.ones(10, D), torch.arange(10)) for m in ("image", "audio")}
                change.add(rows, [item(i) for i in range(start, start + 10)])
            change.delete(["k1"])
            change.delete(["k2"])
        monkeypatch.undo()
        assert index.count() == 40
        assert sorted(os.listdir(tmp_path / "index" / "segments")) == names
        assert torch.allclose(index.rows("image", range(1, 41)).values, values, atol=1e-6)
        assert index.check() == []
        assert index.delete(["k1"]) == 1


def test_leftovers_of_a_killed_writer_go_with_the_next(tmp_path):
    fill(tmp_path / "index")
    (tmp_path / "index" / "segments" / "00000002.safetensors").write_bytes(b"half")
    (tmp_path / "index" / "segments" / "00000007.safetensors").write_bytes(b"half")
    fill(tmp_path / "index", start=50)
    assert sorted(os.listdir(tmp_path / "index" / "segments")) == ["00000001.safetensors", "00000002.safetensors"]
    with LocalIndex.open(tmp_path / "index") as index:
        assert index.count("image") == 80
        assert index.check() == []


def test_a_compaction_between_two_steps_of_a_search_is_no_damage(tmp_path, monkeypatch):
    fill(tmp_path / "index")
    fill(tmp_path / "index", start=50)
    real, calls = segments.map_segment, [0]

    def compact_before(*args, **kwargs):
        calls[0] += 1
        if calls[0] == 1:
            with LocalIndex.open(tmp_path / "index", write=True) as writer:
                writer.delete(["k1"])
                writer.compact()
        return real(*args, **kwargs)

    with LocalIndex.open(tmp_path / "index") as index:
        monkeypatch.setattr(index._reader, "mapper", compact_before)
        assert index.search(torch.ones(1, D), "image", 100)[1].shape == (1, 79)
        assert calls[0] == 2


def test_a_creation_that_was_killed_is_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr("align.search.local.create.connect_writer", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        LocalIndex.create(tmp_path / "index")
    monkeypatch.undo()
    (tmp_path / "index" / ".index.json.0123.tmp").write_text("{")
    (tmp_path / "index" / tables.NAME).touch()
    with pytest.raises(FileNotFoundError, match="no index in"):
        LocalIndex.open(tmp_path / "index")
    fill(tmp_path / "index2")
    LocalIndex.create(tmp_path / "index").close()
    assert sorted(os.listdir(tmp_path / "index")) == ["index.json", "index.sqlite", "segments"]


@pytest.mark.sweep
@pytest.mark.parametrize("operation", ["create", "add", "delete", "compact"])
def test_killed_at_every_system_call_it_opens_as_before_or_after(operation):
    """SQLite's calls included. Needs strace."""
    script = Path(__file__).parent / "killed_index.py"
    done = subprocess.run([sys.executable, script, operation, "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, wrong = json.loads(done.stdout)
    print(operation, sum(kills.values()), kills)
    assert wrong == []
    assert sum(kills.values()) >= 20


def test_a_sqlite_without_trigrams_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("align.search.local.create.TABLES", TABLES.replace('"trigram"', '"tetragram"'))
    with pytest.raises(OSError, match="this Python's SQLite lacks full text search: no such tokenizer"):
        LocalIndex.create(tmp_path / "index")
    monkeypatch.undo()
    LocalIndex.create(tmp_path / "index").close()  # nothing half written stands in its way
