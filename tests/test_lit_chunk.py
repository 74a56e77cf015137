"""A run with ``chunk``: the metrics of a run without, to the bit after a kill, and one line for what it cannot do."""

from __future__ import annotations

import math

import pytest
import test_lit
from cut import Cut, Kill
from test_lit import exact, rows, train
from tiny import made, write

from align.lit import Checkpoints

timed = {"samples_per_second", "wait", "seconds"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def same(found: list[dict[str, str]], wanted: list[dict[str, str]], within: float = 1e-10) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        for name in one.keys() - timed:
            if one[name] != other[name]:
                assert math.isclose(float(one[name]), float(other[name]), rel_tol=within), name


@pytest.mark.parametrize("chunk", [2, {"image": 3, "text": 1}])
def test_metrics_are_those_of_a_run_without(shards, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(test_lit, "made", lambda dropout: made())  # whole batches draw dropout in another order
    train(shards, tmp_path / "whole", 6)
    train(shards, tmp_path / "chunks", 6, chunk=chunk)
    same(rows(tmp_path / "chunks"), rows(tmp_path / "whole"))


def test_a_chunk_larger_than_the_batch_is_the_plain_run_to_the_bit(shards, tmp_path):
    train(shards, tmp_path / "whole", 4)
    train(shards, tmp_path / "chunks", 4, chunk=100)
    assert exact(tmp_path / "chunks") == exact(tmp_path / "whole")


def test_a_killed_run_in_chunks_continues_to_the_bit(shards, tmp_path):
    train(shards, tmp_path / "straight", 6, chunk=3)
    with pytest.raises(Cut):
        train(
            shards,
            tmp_path / "cut",
            6,
            chunk=3,
            checkpoint=Checkpoints(every_steps=2),
            trainer={"callbacks": [Kill(5)]},
        )
    train(shards, tmp_path / "cut", 6, chunk=3)
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "32-true"])
def test_precisions_train_as_without(shards, tmp_path, monkeypatch, precision):
    monkeypatch.setattr(test_lit, "made", lambda dropout: tuple(part.float() for part in made()))
    for name, chunk in (("whole", None), ("chunks", 3)):
        train(shards, tmp_path / name, 3, chunk=chunk, val=False, trainer={"precision": precision})
    same(rows(tmp_path / "chunks"), rows(tmp_path / "whole"), 1e-4 if precision == "32-true" else 0.05)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chunk": 0}, "at least 1; got 0"),
        ({"chunk": {"imgae": 2}}, "did you mean 'image'?"),
        ({"trainer": {"accumulate_grad_batches": 2}}, "chunk"),
    ],
)
def test_what_it_cannot_do_is_refused_before_the_run_folder_is_made(shards, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        train(shards, tmp_path / "run", 2, **options)
    assert not (tmp_path / "run").exists()
