"""Data workers that die or hang: new ones bring the same batches, or the run stops with the shard's name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_data_collate import equal
from tiny_data import holed, readers, write

from align.data import Loader, Mixture, Pipeline, Shards
from align.data.endings import PATIENCE
from align.data.loader import StopAsked
from align.data.pieces import Pieces
from align.data.workers import WorkerLost, name_place

BATCH, STEPS = 8, 8


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write(tmp_path_factory.mktemp("holed"), 44, make=holed)


def load(pattern, **kwargs) -> Loader:
    given = {"batch": BATCH, "train": True, "seed": 3, "steps": STEPS, "workers": 2, **kwargs}
    return Loader(Shards(pattern, max_bad=1), readers(), **given)


@pytest.fixture
def fail(monkeypatch, tmp_path) -> Callable[..., None]:
    """``fail(number, *positions, times=1)``: the worker that reads such a position sends itself a signal."""
    before = Pieces._read

    def begin(number: int, *positions: int, times: int = 1) -> None:
        def read(self, position: int, epoch: int, readers: int):
            if position in positions:
                marks = len(list(tmp_path.glob(f"{position}-*")))
                if marks < times:
                    (tmp_path / f"{position}-{marks}").touch()
                    os.kill(os.getpid(), number)
            return before(self, position, epoch, readers)

        monkeypatch.setattr(Pieces, "_read", read)

    return begin


def same(found: list, pattern: str, **kwargs) -> None:
    expected = list(load(pattern, workers=0, **kwargs))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        equal(a, b)


@pytest.mark.sweep
def test_a_killed_worker_is_started_anew(pattern, fail, caplog):
    """Two workers die in one epoch, at other steps. The next pass begins at its beginning."""
    fail(signal.SIGKILL, 5, 27)
    loader = load(pattern)
    same(list(loader), pattern)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all(
        "was ended by SIGKILL while it read " in text and "the workers start anew at step" in text for text in said
    )
    shards = loader.shards
    shard, i = shards.find(shards.number(5, 0))
    assert f"{shards.urls[shard]}: {shards.indexes[shard].keys[i]}" in said[0]
    same(list(loader), pattern)
    loader.close()


def test_a_resumed_stream_and_a_pass_over_all(pattern, fail):
    fail(signal.SIGKILL, 20)
    later = load(pattern, start_step=2, steps=5)
    same(list(later), pattern, start_step=2, steps=5)
    later.close()
    fail(signal.SIGKILL, 21, times=2)
    whole = load(pattern, train=False, steps=None)
    same(list(whole), pattern, train=False, steps=None)
    same(list(whole), pattern, train=False, steps=None)
    whole.close()


def test_a_worker_that_always_dies_stops_the_run_with_the_shard(pattern, fail):
    fail(signal.SIGKILL, 12, times=99)
    shared = []

    def share(found):
        shared.append(found)
        return list(found)

    loader = load(pattern, restarts=2, share=share)
    got = []
    with pytest.raises(WorkerLost, match=r"train-00000\d.tar: \d+, 3 times in step [12]: look at that sample") as lost:
        got.extend(loader)
    assert len(got) <= 1  # the piece before goes with the worker, where it is still on its way
    assert shared[-1][0].key == str(lost.value)  # the other ranks stop with the same line
    loader.close()


@pytest.mark.sweep
def test_a_worker_that_hangs_is_ended(pattern, fail, caplog):
    fail(signal.SIGSTOP, 11)
    loader = load(pattern, seconds=2)
    begin = time.monotonic()
    same(list(loader), pattern)
    assert time.monotonic() - begin < 30
    assert "has brought nothing for 2 s while it read" in caplog.text
    loader.close()


def test_a_stop_while_workers_bring_nothing(pattern, fail):
    """All ranks stop, and closing does not wait for the worker."""
    fail(signal.SIGSTOP, 11)
    shared, begin = [], time.monotonic()

    def share(found):
        shared.append(found)
        return list(found)

    got: list = []
    loader = load(pattern, stops=lambda: True, share=share)
    with pytest.raises(StopAsked):
        got.extend(loader)
        pytest.fail("the pass ended")
    assert [bad.reason for bad in shared[-1]] == ["reader/stopped"]
    closing = time.monotonic()
    loader.close()
    assert time.monotonic() - closing < PATIENCE  # nobody waits for a worker that brings nothing
    assert time.monotonic() - begin < 15
    other = load(pattern, workers=0, share=lambda found: shared[-1])  # another rank, which has its data
    with pytest.raises(StopAsked):
        next(iter(other))


def test_the_workers_of_a_pipeline_do_not_start_anew(fail):
    fail(signal.SIGKILL, 6)
    loader = Loader(
        Pipeline(many, samples=40), {"text": readers()["text"]}, batch=BATCH, train=True, workers=1, steps=4
    )
    with pytest.raises(WorkerLost, match="cannot go on in its order with a new worker: the same command goes on"):
        list(loader)
    loader.close()


def many():
    return [{"text": f"thing {i}"} for i in range(40)]


def test_an_error_of_a_reader_is_no_death(pattern, monkeypatch):
    def read(self, position: int, epoch: int, readers: int):
        raise RuntimeError("a bug of the reader") if position == 9 else KeyError(position)

    monkeypatch.setattr(Pieces, "_read", read)
    loader = load(pattern)
    with pytest.raises((RuntimeError, KeyError), match="Caught"):
        list(loader)
    loader.close()


def test_places_of_mixtures_have_names(pattern):
    shards = Shards(pattern)
    mixture = Mixture({"a": shards, "b": Shards(pattern, seed=1)}, {"a": 1, "b": 1}, batch=BATCH)
    for position in range(16):
        sample, _ = mixture.read(position, 0)
        assert name_place(mixture, position, 0) == f"{sample['__url__']}: {sample['__key__']}"
    assert Path(name_place(shards, 0, 1).split(": ")[0]).exists()
