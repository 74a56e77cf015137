"""One order over 1-4 ranks x 0, 1, 2 and 4 workers; whole epochs; a start anywhere that replays nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from tiny_data import write

import align.data.pieces
from align.data import Loader, Mixture, Shards
from align.preprocess import Bytes

BATCH, STEPS, SAMPLES = 12, 7, 64  # 5 steps and 4 samples over


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    one, two = (
        write(folder / name, n, per_shard=20, make=lambda i, name=name: {"text.txt": f"{name} {i}".encode()})
        for name, n in (("one", SAMPLES), ("two", 40))
    )
    return one, two


def source(patterns, kind):
    one, two = patterns
    if kind == "mixture":
        return Mixture({"one": Shards(one, seed=1), "two": Shards(two, seed=2)}, {"one": 2, "two": 1}, batch=BATCH)
    return Shards(one, seed=4, block={"shards": None, "blocks": 8}[kind])


def load(patterns, kind="shards", **kwargs):
    given = {"batch": BATCH, "train": True, "steps": STEPS, "seed": 3, **kwargs}
    return Loader(source(patterns, kind), {"text": Bytes(context=8)}, **given)


def pieced(loader, workers, monkeypatch):
    """What each of so many workers would make of every step, joined; in this process."""
    parts = []
    for worker in range(workers):
        info = type("Info", (), {"id": worker, "num_workers": workers})
        monkeypatch.setattr(align.data.pieces, "get_worker_info", lambda info=info: info)
        parts.append([part for part, _ in loader._pieces])
    monkeypatch.undo()
    return [align.data.join(many) for many in zip(*parts, strict=True)]


def whole_steps(ranks, world):
    """The keys of each global step, of what the ranks have."""
    steps = []
    for together in zip(*ranks, strict=True):
        ids = [None] * BATCH
        for r, found in enumerate(together):
            ids[r::world] = found.ids
        steps.append(ids)
    return steps


@pytest.mark.parametrize("kind", ["shards", "blocks", "mixture"])
def test_one_order_over_ranks_and_workers(patterns, kind, monkeypatch):
    """The pieces that workers make, joined as the main process joins them."""
    expected = [found.ids for found in load(patterns, kind)]
    assert len({key for ids in expected for key in ids}) > BATCH
    for world in (1, 2, 3, 4):
        for workers in (1, 2, 4):
            ranks = [pieced(load(patterns, kind, rank=r, world=world), workers, monkeypatch) for r in range(world)]
            assert whole_steps(ranks, world) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shards", "mixture"])
@pytest.mark.parametrize(
    ("worlds", "counts"), [((1, 3), (2,)), pytest.param((1, 2, 3, 4), (0, 1, 2, 4), marks=pytest.mark.sweep)]
)
def test_one_order_over_ranks_and_real_workers(patterns, kind, worlds, counts):
    expected = [found.ids for found in load(patterns, kind)]
    for world in worlds:
        for workers in counts:
            loaders = [load(patterns, kind, rank=r, world=world, workers=workers) for r in range(world)]
            ranks = [list(loader) for loader in loaders]
            for loader in loaders:
                loader.close()
            assert whole_steps(ranks, world) == expected


def test_an_epoch_has_every_sample_at_most_once_and_equal_steps_on_every_rank(patterns):
    for world in (1, 2, 3, 4):
        loaders = [load(patterns, rank=r, world=world) for r in range(world)]
        assert {loader.steps_per_epoch for loader in loaders} == {SAMPLES // BATCH}  # known before it starts
        ranks = [list(loader) for loader in loaders]
        seen = Counter(key for found in ranks for batch in found[: SAMPLES // BATCH] for key in batch.ids)
        assert len(seen) == sum(seen.values()) == SAMPLES - SAMPLES % BATCH
    evaluated = [list(load(patterns, train=False, steps=None, rank=r, world=3)) for r in range(3)]
    assert {len(found) for found in evaluated} == {-(-SAMPLES // BATCH)}
    seen = Counter(key for found in evaluated for batch in found for key in batch.ids)
    assert len(seen) == sum(seen.values()) == SAMPLES


@pytest.mark.parametrize("kind", ["shards", "mixture"])
def test_a_resumed_run_reads_its_own_positions_and_no_other(patterns, kind, monkeypatch):
    whole = [found.ids for found in load(patterns, kind)]
    loader, read = load(patterns, kind, start_step=5, steps=2), []
    real = type(loader.shards).read
    monkeypatch.setattr(
        type(loader.shards), "read", lambda self, *args, **more: read.append(args[:2]) or real(self, *args, **more)
    )
    assert [found.ids for found in loader] == whole[5:]
    assert len(read) == 2 * BATCH


def test_too_few_samples_are_refused_with_the_remedy(patterns):
    with pytest.raises(ValueError, match=r"a batch of 80 needs as many samples; .* hold 64: lower the batch"):
        load(patterns, batch=80, world=4)
