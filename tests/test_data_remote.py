"""Shards on a server: the same samples as on a disk, each byte fetched about once, and a defined end of every fault."""

from __future__ import annotations

import io
import logging
import os
import pickle
import random
import re
import shutil
import tarfile
import threading
import time
from itertools import islice

import pytest
from tiny_data import members, png, write
from web import serving

import align.data.places.ahead as ahead
import align.data.places.servers as servers
import align.files.retry as retry
from align.data import Loader, Mixture, Resampled, Shards, TooManyBad
from align.data.places.urls import resolve_shards
from align.data.places.window import Window
from align.evaluation.counts import check_counts, counts
from align.extras import pip_install
from align.files import http
from align.preprocess import Bytes


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(retry, "PAUSE", 0.001)


def text(i):
    """About 6 KB of text."""
    return {"text.txt": random.Random(i).randbytes(3000).hex().encode(), "json": b'{"label": %d}' % (i % 3)}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """720 samples of 6 KB in 4 shards, 5 MB."""
    folder = tmp_path_factory.mktemp("texts")
    write(folder, 720, per_shard=180, make=text)
    return folder


@pytest.fixture
def web(texts):
    with serving(texts) as server:
        yield server


@pytest.fixture
def few(tmp_path):
    """40 samples with everything in 5 shards, on a server of their own."""
    write(tmp_path / "few", 40, per_shard=8)
    with serving(tmp_path / "few") as server:
        yield server


def urls(web, last=3):
    return f"{web.url}/train-{{000000..{last:06d}}}.tar"


def content(shards, epoch=0, **kwargs):
    """Everything of the samples but where they came from."""
    return [{k: v for k, v in s.items() if k != "__url__"} for s in shards.samples(epoch, **kwargs)]


def fetched(web, names=".tar"):
    """The files that were asked for, without the questions for their size."""
    return [name for method, name, _ in web.requests if method == "GET" and name.endswith(names)]


@pytest.mark.parametrize("options", [{"seed": 2}, {"shuffle": False}, {"seed": 2, "block": 1}, {"block": 40}])
def test_the_same_samples_as_on_a_disk(web, texts, options):
    here = Shards(str(texts / "train-*.tar"), **{"block": 256, **options})
    there = Shards(urls(web), **options)
    assert len(there) == 720
    assert there.block == options.get("block", 256)
    assert there.modalities == here.modalities
    part = {"world": 5, "rank": 3, "start": 400} if options.get("block") == 1 else {}
    assert content(there, **part) == content(here, **part)
    assert there.report() == {}
    first = next(there.samples(0))
    assert first["__url__"].startswith(web.url)
    assert there.manifest == here.manifest
    check_counts(there)
    assert counts(there) == {f"train-{i:06d}.tar": 180 for i in range(4)}


def total(folder):
    return sum(path.stat().st_size for path in folder.glob("*.tar"))


@pytest.mark.slow
def test_4_ranks_and_4_workers_fetch_each_byte_about_once(web, texts):
    """The loaders that a run has, one rank after the other: all bodies sent are at most 1.1 times the set."""
    Shards(urls(web))  # the indexes are fetched once, and kept
    web.clear()
    found = []
    for rank in range(4):
        shards = Shards(urls(web), seed=1)
        loader = Loader(
            shards, {"text": Bytes(context=8)}, batch=80, workers=4, train=True, steps=9, rank=rank, world=4
        )
        found += [key for batch in loader for key in batch.ids]
        loader.close()
        shards.close()
    assert sorted(found) == [f"{i:05d}" for i in range(720)]
    assert 0.9 * total(texts) < web.bytes <= 1.1 * total(texts)
    assert fetched(web, ".index.json") == []


@pytest.mark.parametrize(("ranks", "shuffle"), [(1, True), (16, True), (5, True), (1, False), (16, False)])
def test_bytes_and_requests_of_any_ranks(web, texts, ranks, shuffle):
    """Also where the ranks do not divide the streams; neighbours come in few requests where they do."""
    shards = Shards(urls(web), shuffle=shuffle)
    web.clear()
    keys = []
    some = 4 if ranks == 16 and not shuffle else 2 if ranks == 5 else ranks  # fewer where each member is a request
    for rank in range(min(some, ranks)):
        copy = pickle.loads(pickle.dumps(shards))
        keys += [sample["__key__"] for sample in copy.samples(3, rank=rank, world=ranks)]
        copy.close()
    assert len(set(keys)) == len(keys) == 720 * min(some, ranks) // ranks
    assert web.bytes <= 1.1 * total(texts) * len(keys) / 720
    if ranks == 16 and shuffle:
        assert len(fetched(web)) < 150  # 48 pieces of 15 samples, cut by blocks and shards
    if ranks == 1 and not shuffle:
        assert len(fetched(web)) == 4


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_drawn_shards_are_fetched_about_once_a_draw(web, texts, ranks):
    """Each draw is read in an order of its own, ahead and in few requests, by whoever reads its stream."""
    shards = Resampled(urls(web), samples=1440, streams=2)  # four draws of each stream
    assert shards.block == 256
    for number in range(4):
        shards._shards(number)  # the indexes are fetched once, and kept
    web.clear()
    for rank in range(ranks):
        copy = pickle.loads(pickle.dumps(shards))
        found = [copy.read(p, stride=ranks)[1] for p in range(rank, 1440, ranks)]
        assert not any(found)
        copy.close()
    assert web.bytes <= 1.1 * 2 * total(texts)
    if ranks < 4:
        assert len(fetched(web)) < 20


def test_a_drawn_shard_that_stays_unreachable_is_passed_over(few, caplog):
    few.faults["train-000002.tar"] = few.faults["train-000002.tar.index.json"] = few.faults["manifest.json"] = 404

    def drawn():
        return Resampled(urls(few, 4), samples=120, streams=4, max_bad=1)

    shards = drawn()
    found = list(shards.samples(0))
    assert len(found) == 120
    assert {s["__url__"].rpartition("/")[2] for s in found} == {f"train-00000{i}.tar" for i in (0, 1, 3, 4)}
    assert shards.report() == {"shard/unreachable": 1}
    (record,) = caplog.records
    assert "quarantined: cannot read" in record.getMessage()
    again = drawn()
    again.resume(60, 0, drawn().state(60))
    assert [again.read(p)[0]["__key__"] for p in range(60, 120)] == [s["__key__"] for s in found[60:]]


def test_readers_of_a_mixture_fetch_each_byte_about_once(texts, tmp_path):
    """Three sources over any readers, where some samples find the places of their streams taken."""
    for name in "abc":
        shutil.copytree(texts, tmp_path / "web" / name)
    with serving(tmp_path / "web") as web:
        urls = {name: f"{web.url}/{name}/train-{{000000..000003}}.tar" for name in "abc"}
        shards = {name: Shards(url, seed=i) for i, (name, url) in enumerate(urls.items())}
        mixture = Mixture(shards, {"a": 6, "b": 4, "c": 5}, batch=96)
        for readers in (1, 2, 16):
            off = [turn.off % readers > 0 for step in range(mixture.steps_per_epoch) for turn in mixture.plan(step)]
            assert any(off) == (readers > 1)
            assert sum(off) < 0.3 * len(off)
            web.clear()
            keys = []
            for rank in range(readers):
                copy = pickle.loads(pickle.dumps(mixture))
                keys += [(s["__source__"], s["__key__"]) for s in copy.samples(0, rank=rank, world=readers)]
                copy.close()
            assert len(set(keys)) == len(keys) == len(mixture)
            assert web.bytes <= (1.1 + sum(off) / len(off)) * 3 * total(texts)


def test_what_waits_is_bounded(web):
    """On the disk up to a bound, beyond it not at all; the samples are the same."""
    want = content(Shards(urls(web), seed=1))[:100]
    for cache in (500_000, 0):
        shards = Shards(urls(web), seed=1, cache=cache)
        found = list(islice(shards.samples(0), 100))
        assert [s["text.txt"] for s in found] == [s["text.txt"] for s in want]
        held = shards._source._ahead._windows.values()
        assert sum(w.size for w in held) <= cache
        shards.close()


def test_where_nothing_can_be_kept_members_come_one_by_one(few, tmp_path, caplog):
    shards = Shards(urls(few, 4), seed=1)
    (tmp_path / "cache" / "ahead").write_text("in the way")
    assert len(list(shards.samples(0))) == 40
    (record,) = caplog.records
    assert "nothing more is kept in" in record.getMessage()


def test_a_range_that_fails_beside_another_takes_nothing_with_it(few, monkeypatch):
    """Ranges of a shard are asked for at the same time; one of them fails for good, and is asked for again."""
    shards = Shards(urls(few, 4), shuffle=False)
    want = content(shards, world=2)
    shards.close()
    real, asked = ahead.fetch, []

    def fetch(place, begin, end):
        asked.append((place.name, begin))
        if len(asked) == 2:
            raise servers.Unreachable("now and then")
        return real(place, begin, end)

    monkeypatch.setattr(ahead, "fetch", fetch)
    assert content(shards, world=2) == want
    assert len(asked) == len(set(asked)) + 1
    assert shards.report() == {}


@pytest.mark.parametrize("full", [1, 2, 3])
def test_a_full_disk_costs_requests_and_no_sample(few, monkeypatch, full, caplog):
    shards = Shards(urls(few, 4), shuffle=False)
    want = content(shards, world=2)
    shards.close()
    real, written = Window.write, []

    def write(window, i, data):
        written.append(i)
        if len(written) >= full:
            raise OSError(28, "No space left on device")
        real(window, i, data)

    monkeypatch.setattr(Window, "write", write)
    assert content(shards, world=2) == want
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()


def test_back_and_forth_fetches_nothing_twice(web, texts):
    """A set as it stands, read at random: 720 samples are less than the windows that are kept."""
    shards = Shards(urls(web), shuffle=False, block=40)
    web.clear()
    for position in random.Random(0).sample(range(720), 720):
        shards.read(position)
    assert web.bytes <= 1.1 * total(texts)


def test_a_forked_copy_reads_for_itself(web):
    shards = Shards(urls(web), seed=1)
    want = [s["__key__"] for s in shards.samples(1)]
    reader = shards.samples(1)
    first = [next(reader)["__key__"] for _ in range(50)]
    loader = Loader(shards, {"text": Bytes(context=8)}, batch=72, workers=2, train=True, steps=10, start_step=10)
    assert [key for batch in loader for key in batch.ids] == want
    loader.close()
    assert first + [sample["__key__"] for sample in reader] == want


def test_a_resumed_reader_fetches_the_rest_only(web, texts):
    """4 streams of 180 samples, windows of 64: from 135 on, a stream reads its third window and no earlier one."""
    shards = Shards(urls(web), seed=1, streams=4, block=8)
    web.clear()
    assert len(list(shards.samples(0, start=4 * 135))) == 4 * 45
    assert web.bytes < 0.4 * total(texts)


# the index


def test_the_index_comes_from_the_server_or_from_one_pass(few, tmp_path):
    few.clear()
    first = Shards(urls(few, 4))
    assert len(fetched(few, ".index.json")) == 5
    assert fetched(few) == []
    few.clear()
    Shards(urls(few, 4))  # from the cache
    assert fetched(few, "") == []
    for path in few.folder.glob("*.index.json"):
        path.unlink()
    shutil.rmtree(tmp_path / "cache")
    few.clear()
    said = []
    again = Shards(urls(few, 4), progress=lambda done, total: said.append((done, total)))
    assert content(again) == content(first)
    assert said == [(i, 5) for i in range(1, 6)]
    few.clear()
    Shards(urls(few, 4))
    assert fetched(few, "") == []
    assert not list((tmp_path / "cache" / "index").glob("*.lock"))


def test_the_pass_fetches_each_shard_once(few):
    for path in few.folder.glob("*.index.json"):
        path.unlink()
    few.clear()
    Shards(urls(few, 4))
    assert few.bytes == total(few.folder)


def test_processes_share_the_pass_out(few, monkeypatch):
    """Four threads stand for four ranks: flock holds between open files, whosever they are."""
    for path in few.folder.glob("*.index.json"):
        path.unlink()
    few.clear()
    opened = []
    ranks = [threading.Thread(target=lambda: opened.append(Shards(urls(few, 4)))) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [len(shards) for shards in opened] == [40] * 4
    assert sorted(fetched(few)) == [f"train-{i:06d}.tar" for i in range(5)]


def test_a_remote_index_is_trusted_while_size_and_etag_agree(few):
    assert len(Shards(f"{few.url}/train-000000.tar")) == 8
    path = few.folder / "train-000000.tar"
    shutil.copy(few.folder / "train-000004.tar", path)  # another shard
    (few.folder / "train-000000.tar.index.json").unlink()
    shards = Shards(f"{few.url}/train-000000.tar", shuffle=False)
    assert next(shards.samples(0))["__key__"] == "00032"
    (few.folder / "train-000001.tar.index.json").write_text('{"shard": {"size": 1}}')
    (few.folder / "train-000002.tar.index.json").write_text("[")
    assert len(Shards(urls(few, 2))) == 24


def test_a_changed_byte_is_found_by_the_checksum(few):
    shards = Shards(urls(few, 4), shuffle=False)
    path = few.folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(png(2)) + 40] ^= 1
    path.write_bytes(data)
    found = list(shards.samples(0))
    assert "image.png" not in found[2]
    assert shards.report() == {"image/checksum": 1}


def test_a_server_without_head(few):
    few.head = False
    assert len(list(Shards(urls(few, 4)).samples(0))) == 40
    (few.folder / "empty.tar").write_bytes(b"")
    empty = Shards(f"{few.url}/empty.tar")
    assert (len(empty), empty.report()) == (0, {"shard/no-end": 1})


# faults


@pytest.mark.parametrize("fault", [500, 503, 429, "half", "reset"])
def test_what_passes_is_tried_again(few, fault, caplog):
    shards = Shards(urls(few, 4), shuffle=False)
    want = content(shards)
    shards.close()
    few.faults = {f"train-{i:06d}.tar": (fault, 2) for i in range(5)}
    assert content(shards) == want
    assert shards.report() == {}
    assert caplog.records == []


@pytest.mark.parametrize("fault", [403, 404, 410, 500, "half", "reset", "slow", "whole"])
def test_what_stays_is_quarantined(few, fault, caplog, monkeypatch):
    """Eight positions stay empty, the others keep theirs, and one line says why."""
    if fault == "slow":
        real = http.get
        monkeypatch.setattr(http, "get", lambda *a: real(*a, timeout=0.1))
    monkeypatch.setattr(http, "SLOWEST", 1e9)
    shards = Shards(urls(few, 4), shuffle=False)
    few.faults["train-000002.tar"] = fault
    few.clear()
    began = time.monotonic()
    found = list(shards.samples(0))
    assert time.monotonic() - began < 10
    assert [s["__index__"] for s in found] == [*range(16), *range(24, 40)]
    assert shards.report() == {"shard/unreachable": 8}
    assert len([name for name in fetched(few) if "000002" in name]) == (1 if fault in (403, 404, 410) else 5)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"quarantined: cannot read {few.url}/train-000002.tar")
    assert "train-000002.tar: 00016" in shards.first("shard/unreachable")


def test_attempts_wait_longer_and_longer(few, monkeypatch):
    waits = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    monkeypatch.setattr(retry, "PAUSE", 1)
    few.faults["train-000000.tar"] = 503
    with pytest.raises(servers.Unreachable, match=r"train-000000.tar after 5 attempts: 503 Service Unavailable"):
        servers.fetch(servers.Remote(f"{few.url}/train-000000.tar"), 0, 10)
    assert len(waits) == 4
    assert all(0.5 * 2**i <= wait <= 1.5 * 2**i for i, wait in enumerate(waits))


def test_a_quarantined_shard_counts_against_the_budget(few):
    shards = Shards(urls(few, 4), max_bad=0.01)
    few.faults["train-000002.tar"] = 404
    loader = Loader(shards, {"text": Bytes(context=8)}, batch=8, train=True)
    with pytest.raises(TooManyBad, match="shard/unreachable"):
        for _ in loader:
            pass


@pytest.mark.parametrize(("fault", "kind"), [(404, FileNotFoundError), (403, OSError), (500, OSError)])
def test_unreachable_at_the_start(few, fault, kind):
    """With its length known its positions stay empty; without, nothing could be numbered, and the start is refused."""
    few.faults["train-000002.tar"] = fault
    for known in ("index", "manifest"):
        shards = Shards(urls(few, 4), shuffle=False)
        assert [s["__index__"] for s in shards.samples(0)] == [*range(16), *range(24, 40)], known
        assert shards.report() == {"shard/unreachable": 8}
        (few.folder / "train-000002.tar.index.json").unlink(missing_ok=True)
    (few.folder / "manifest.json").unlink()
    with pytest.raises(kind, match=rf"train-000002.tar.*{fault}.*how many samples it has is not known"):
        Shards(urls(few, 4))


@pytest.mark.parametrize("fault", ["half", "reset"])
def test_unreachable_while_it_is_indexed(few, fault):
    """Its server says how large it is, and then does not give it: as one that says nothing."""
    for path in few.folder.glob("*.index.json"):
        path.unlink()
    few.faults["train-000002.tar"] = fault
    shards = Shards(urls(few, 4), shuffle=False)
    assert [s["__index__"] for s in shards.samples(0)] == [*range(16), *range(24, 40)]
    assert shards.report() == {"shard/unreachable": 8}
    (few.folder / "manifest.json").unlink()
    with pytest.raises(OSError, match=r"train-000002.tar after 5 attempts.*how many samples it has is not known"):
        Shards(urls(few, 4))


def test_a_server_without_ranges(few, tmp_path):
    """Its shards are kept whole, in a folder that stays below a size."""
    want = content(Shards(urls(few, 4), shuffle=False))
    few.faults = {f"train-{i:06d}.tar": "whole" for i in range(5)}
    few.clear()
    shards = Shards(urls(few, 4), shuffle=False)
    assert content(shards) == want
    assert fetched(few).count("train-000001.tar") == 2  # whether it gives ranges, and the file
    few.clear()
    assert content(Shards(urls(few, 4), shuffle=False)) == want
    sizes = [path.stat().st_size for path in few.folder.glob("*.tar")]
    small = Shards(urls(few, 4), shuffle=False, cache=max(sizes) * 2)
    shutil.rmtree(tmp_path / "cache" / "shards")
    assert content(small) == want
    assert sum(path.stat().st_size for path in (tmp_path / "cache" / "shards").glob("*.tar")) <= max(sizes) * 2
    shutil.rmtree(tmp_path / "cache")
    tiny = Shards(urls(few, 4), shuffle=False, cache=1000)  # the lengths are known from the indexes
    assert content(tiny) == []
    assert tiny.report() == {"shard/unreachable": 40}


# names


def test_credentials_are_sent_and_never_shown(few, caplog):
    few.password = "Basic bWU6c2VjcmV0"  # me:secret
    url = few.url.replace("http://", "http://me:secret@") + "/train-000000.tar?signature=hidden"
    shards = Shards(url, shuffle=False)
    sample = next(shards.samples(0))
    few.faults["train-000000.tar"] = 403
    shards.close()
    assert list(shards.samples(0)) == []
    shown = f"{sample['__url__']} {shards!r} {shards.urls!r} {shards.first('shard/unreachable')} {caplog.text}"
    assert "train-000000.tar" in caplog.text
    assert "secret" not in shown
    assert "hidden" not in shown
    few.faults = {}
    with pytest.raises(OSError, match="401 Unauthorized") as error:
        Shards(few.url.replace("http://", "http://me:wrong@") + "/train-000000.tar")
    assert "wrong" not in str(error.value)
    with pytest.raises(ValueError, match="a brace too many") as error:
        Shards("http://me:secret@here/train-{0..3.tar")
    assert "secret" not in str(error.value)


def test_patterns_that_cannot_be_read():
    with pytest.raises(ValueError, match=r"a web server cannot list its files; write train-\{000000..000009\}.tar"):
        Shards("http://127.0.0.1:9/train-*.tar")
    with pytest.raises(ValueError, match="no reader for nosuch://"):
        Shards("nosuch://bucket/a.tar")


def test_fsspec_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(ValueError, match=rf"s3://b/a.tar: s3:// needs fsspec; {re.escape(pip_install('remote'))}"):
        Shards("s3://b/a.tar")


@pytest.fixture
def bucket(tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: the extra test")
    write(tmp_path / "there", 40, per_shard=8)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "there"), "/bucket", recursive=True)
    yield memory
    memory.rm("/bucket", recursive=True)


def test_any_fsspec_url(bucket, tmp_path):
    want = content(Shards(str(tmp_path / "there" / "train-*.tar"), seed=1, block=256))
    for pattern in ("memory://bucket/train-*.tar", "memory://bucket/train-{000000..000004}.tar"):
        shards = Shards(pattern, seed=1)
        assert content(shards) == want
        assert shards.manifest is not None
        assert str(shards.urls[0]) == "memory://bucket/train-000000.tar"
    bucket.copy("/bucket/train-000000.tar", "/bucket/x[12].tar")  # a file of that very name is no pattern
    bucket.copy("/bucket/train-000001.tar", "/bucket/x1.tar")
    assert [str(url) for url in Shards("memory://bucket/x[12].tar").urls] == ["memory://bucket/x[12].tar"]
    with pytest.raises(FileNotFoundError, match="no shard matches memory://bucket/val"):
        Shards("memory://bucket/val-*.tar")
    with pytest.raises(FileNotFoundError, match=r"memory://bucket/x.tar.*how many samples it has is not known"):
        Shards("memory://bucket/x.tar")
    bucket.rm("/bucket/train-000001.tar")
    assert len(content(shards, 1)) == 32
    assert shards.report() == {"shard/unreachable": 8}


@pytest.mark.slow
def test_a_real_s3_server(tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed: the extra test")
    server = pytest.importorskip("moto.server", reason="moto is not installed: the extra test")
    import s3fs

    started = server.ThreadedMotoServer("127.0.0.1", 0)
    started.start()
    try:
        endpoint = "http://{}:{}".format(*started.get_host_and_port())
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }.items():
            monkeypatch.setenv(name, value)
        write(tmp_path / "there", 40, per_shard=8)
        s3 = s3fs.S3FileSystem(endpoint_url=endpoint)
        s3.mkdir("bucket")
        s3.put(str(tmp_path / "there"), "bucket/there", recursive=True)
        want = content(Shards(str(tmp_path / "there" / "train-*.tar"), seed=1, block=256))
        assert content(Shards("s3://bucket/there/train-*.tar", seed=1)) == want
    finally:
        started.stop()


# commands


def test_a_pipe_runs_only_where_it_is_allowed(tmp_path, monkeypatch):
    write(tmp_path, 8)
    monkeypatch.chdir(tmp_path)
    command = "pipe:echo ran >> ran; cat train-000000.tar"
    with pytest.raises(ValueError, match=r"would run a command; .* --allow-pipe"):
        Shards(command)
    assert not (tmp_path / "ran").exists()
    for _ in range(2):
        assert [s["text.txt"] for s in Shards(command, shuffle=False, allow_pipe=True).samples(0)] == [
            members(i)["text.txt"] for i in range(8)
        ]
    assert (tmp_path / "ran").read_text() == "ran\n"
    with pytest.raises(OSError, match="ended with exit code 3"):
        Shards("pipe:exit 3", allow_pipe=True)
    with pytest.raises(ValueError, match=r"^pipe:echo no tar is not a tar file"):
        Shards("pipe:echo no tar", allow_pipe=True)
    with pytest.raises(OSError, match="larger than cache=1000 bytes"):
        Shards("pipe:cat /dev/zero", allow_pipe=True, cache=1000)
    assert [path.suffix for path in (tmp_path / "cache" / "shards").iterdir() if path.suffix == ".tmp"] == []


def test_commands_take_allow_pipe(tmp_path, monkeypatch, capsys):
    from align.commands import main

    write(tmp_path, 8)
    monkeypatch.chdir(tmp_path)
    assert main(["shards", "show", "pipe:cat train-000000.tar"]) == 1
    assert "would run a command" in capsys.readouterr().err
    assert main(["shards", "show", "pipe:cat train-000000.tar", "--allow-pipe"]) == 0
    assert "8 samples in 1 shard" in capsys.readouterr().out


# headers


@pytest.mark.parametrize("damage", [b"\xff" * 40, bytes(512), b"0000777"])
def test_a_bad_header_is_reported_where_the_index_saves_the_payload(tmp_path, damage):
    """On the disk and on a server: every member is delivered, and the header is counted."""
    pattern = write(tmp_path / "a", 4)
    path = tmp_path / "a" / "train-000000.tar"
    data, state = bytearray(path.read_bytes()), path.stat()
    at = data.index(png(2)) - 512 + (124 if len(damage) < 10 else 0)
    data[at : at + len(damage)] = damage
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with serving(tmp_path / "a") as server:
        for shards in (Shards(pattern, shuffle=False), Shards(f"{server.url}/train-000000.tar", shuffle=False)):
            found = list(shards.samples(0))
            assert found[2]["image.png"] == png(2)
            assert shards.report() == {"shard/header": 1}
            assert shards.first("shard/header").endswith("train-000000.tar: 00002.image.png")


def test_ranks_that_do_not_divide_the_streams_are_said(tmp_path, caplog):
    shards = Shards(write(tmp_path, 20), block=4)
    reader = {"text": Bytes(context=8)}
    for workers in (0, 1, 2, 3, 4, 12, 16):
        Loader(shards, reader, batch=4, workers=workers, train=True)
    assert caplog.records == []
    Loader(shards, reader, batch=10, workers=2, train=True, world=5, rank=1)
    assert caplog.records == []
    Loader(shards, reader, batch=10, workers=2, train=True, world=5)
    assert (
        "10 readers (ranks x workers) do not divide the number of streams, 48: the order of samples is the same"
        in caplog.text
    )


def test_a_remote_shard_is_scanned_as_strictly(tmp_path, caplog):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(6):
            for suffix in ("jpg", "txt"):
                info = tarfile.TarInfo(f"k{i}.{suffix}")
                info.size = 700
                tar.addfile(info, io.BytesIO(b"x" * 700))
    (tmp_path / "a.tar").write_bytes(out.getvalue()[: 7 * 1536 + 600])  # in k3.txt
    (tmp_path / "b.tar").write_bytes(b"<html>no such shard</html>" * 100)
    (tmp_path / "c.tar").write_bytes(b"\x1f\x8b" + bytes(100))
    with serving(tmp_path) as server:
        shards = Shards(f"{server.url}/a.tar", shuffle=False)
        assert [s["__key__"] for s in shards.samples(0)] == ["k0", "k1", "k2"]
        assert shards.report() == {"sample/cut": 1, "shard/truncated": 1}
        assert f"{server.url}/a.tar: 1 sample/cut, 1 shard/truncated" in caplog.text
        for name, said in (("b", "is not a tar file"), ("c", "is compressed with gzip: unpack it first")):
            for ranges in (None, "whole"):
                server.faults[f"{name}.tar"] = ranges
                with pytest.raises(ValueError, match=rf"^{server.url}/{name}.tar {said}"):
                    Shards(f"{server.url}/{name}.tar")


def test_names_are_resolved_once():
    found = resolve_shards(["http://h/{a,b}.tar", "http://h/a.tar", "HTTP://h/a.tar", "http://[::1]:8/a.tar"])
    assert [str(place) for place in found] == ["http://h/a.tar", "http://h/b.tar", "http://[::1]:8/a.tar"]
    assert [place.name for place in found] == ["a.tar", "b.tar", "a.tar"]
    secret = resolve_shards("http://me:secret@h/a.tar?key=1")
    assert resolve_shards(secret) == resolve_shards(secret[0]) == secret


def test_logs_of_the_remote_reader_go_to_one_name():
    assert logging.getLogger("align.data") is servers.log
