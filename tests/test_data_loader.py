"""The loader: the same batches for any number of workers and ranks, over epochs, restarts and bad members."""

from __future__ import annotations

import multiprocessing
import os
import re

import pytest
import torch
from test_data_collate import equal
from tiny_data import holed, members, png, readers, write

from align.commands.errors import explain
from align.data import Loader, Shards, TooManyBad, collate
from align.data.bad import Bad, Budget
from align.preprocess import Bytes, Image

BATCH = 8


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write(tmp_path_factory.mktemp("holed"), 44, make=holed)


def shards(pattern, **kwargs):
    return Shards(pattern, **{"max_bad": 1, **kwargs})


def load(pattern, *, train=True, **kwargs):
    return Loader(shards(pattern), readers(), **{"batch": BATCH, "train": train, "seed": 3, **kwargs})


def test_batches_are_the_order_cut_up(pattern):
    """12 steps, 5 to an epoch: each equals the collated samples of its positions."""
    source = shards(pattern)
    for step, found in enumerate(load(pattern, steps=12)):
        epoch, within = divmod(step, 5)
        samples = list(source.samples(epoch, start=within * BATCH))[:BATCH]
        positions = range(within * BATCH, (within + 1) * BATCH)
        equal(found, collate(samples, readers(), positions=positions, train=True, seed=3, epoch=epoch))
        assert found.position.tolist() == list(positions)


@pytest.mark.parametrize("train", [True, False])
def test_the_same_bits_for_any_workers(pattern, train):
    steps = 7 if train else None
    one = list(load(pattern, train=train, steps=steps))
    for workers in (1, 2, 4):
        many = load(pattern, train=train, steps=steps, workers=workers)
        found = list(many)
        assert len(found) == len(one) == len(many)
        for a, b in zip(found, one, strict=True):
            equal(a, b)
        many.close()


def test_any_ranks_and_workers_see_one_order(pattern):
    whole = [found.ids for found in load(pattern, steps=6)]
    for world, workers in ((2, 0), (2, 2), (4, 0), (4, 2)):
        ranks = [list(load(pattern, steps=6, rank=r, world=world, workers=workers)) for r in range(world)]
        for step, together in enumerate(zip(*ranks, strict=True)):
            ids = [None] * BATCH
            for r, found in enumerate(together):
                assert found.position.tolist() == list(range(step % 5 * BATCH + r, (step % 5 + 1) * BATCH, world))
                ids[r::world] = found.ids
            assert ids == whole[step]


def test_a_resumed_run_sees_the_next_step(pattern):
    whole = list(load(pattern, steps=9))
    for workers in (0, 2):
        for a, b in zip(load(pattern, start_step=4, steps=5, workers=workers), whole[4:], strict=True):
            equal(a, b)


def test_evaluation_is_one_pass_with_equal_steps(pattern):
    loader = load(pattern, train=False)
    assert len(loader) == 6
    assert [found.size for found in loader] == [8, 8, 8, 8, 8, 4]
    assert [found.position.tolist()[0] for found in loader] == [0, 8, 16, 24, 32, 40]  # again
    ranks = [[found.size for found in load(pattern, train=False, batch=40, rank=r, world=8)] for r in range(8)]
    assert ranks == [[5, 1]] * 4 + [[5, 0]] * 4


def test_an_endless_stream_has_no_length(pattern):
    loader = load(pattern)
    assert loader.steps_per_epoch == 5
    with pytest.raises(TypeError, match="endless"):
        len(loader)
    for step, found in enumerate(loader):
        assert found.size == BATCH
        if step == 30:
            break


def test_workers_live_across_epochs_and_iterations(pattern):
    class Named(Bytes):
        def eval(self, x):
            return torch.tensor([os.getpid(), torch.get_num_threads()])

        def collate(self, rows):
            return torch.stack(list(rows)) if rows else torch.zeros(0, 2, dtype=torch.int64)

    loader = Loader(shards(pattern), {"text": Named()}, batch=BATCH, train=True, workers=2, steps=12)
    first = {tuple(row) for found in loader for row in found["text"].values.tolist()}
    for _ in loader:  # left half-way
        break
    again = {tuple(row) for found in loader for row in found["text"].values.tolist()}
    assert first == again
    assert len(first) == 2
    assert os.getpid() not in {pid for pid, _ in first}
    assert {threads for _, threads in first} == {1}
    assert loader.waited > 0
    second = Loader(shards(pattern), {"text": Named()}, batch=BATCH, train=True, workers=2, steps=3, rank=1, world=2)
    assert len({pid for found in second for pid, _ in found["text"].values.tolist()}) == 2  # both have work


def spoiled(bad):
    """Shards whose image is cut for the samples in ``bad``."""
    return lambda i: {**members(i), "image.png": png(i)[:80]} if i in bad else members(i)


def test_a_preprocess_is_made_ready_before_the_fork(pattern):
    class Vocabulary(Bytes):
        made = False

        def ready(self):
            self.made = True

        def eval(self, x):
            if not self.made:
                raise ValueError("every worker would load it again")
            return super().eval(x)

    loader = Loader(shards(pattern), {"text": Vocabulary()}, batch=BATCH, train=True, workers=2, steps=2)
    assert len(list(loader)) == 2
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_bad_is_counted_here(tmp_path, workers):
    pattern = write(tmp_path, 40, make=spoiled({3, 30}))
    loader = load(pattern, steps=10, workers=workers)
    rows = sum(found["image"].n for found in loader)
    assert rows == 80 - 4
    assert loader.counts == {"image/truncated": 4}
    assert loader.shards.report() == {"image/truncated": 4}
    assert loader.shards.first("image/truncated").endswith(".image.png")
    only = Loader(shards(pattern), {"image": Image(size=8)}, batch=8, train=False, workers=workers)
    empty = [found.ids.index("") for found in only if "" in found.ids]
    assert len(empty) == 2
    assert only.counts == {"image/truncated": 2, "sample/empty": 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_stop_the_run_with_the_table(tmp_path, workers):
    pattern = write(tmp_path, 40, make=spoiled(set(range(0, 40, 2))))
    loader = Loader(shards(pattern, max_bad=0.1), readers(), batch=8, train=True, workers=workers)
    table = r"(?s)\d+ of 24 .* more than max_bad=0.1 allows \(10\):\n  image/truncated +\d+  .*png"
    before = {*multiprocessing.active_children()}
    with pytest.raises(TooManyBad, match=table) as caught:
        for _ in loader:
            pass
    assert {*multiprocessing.active_children()} <= before  # torch would wait for them when the process ends
    assert caught.value.exit_code == 3
    assert caught.value.counts == loader.counts


def test_an_epoch_ends_with_its_own_rule(tmp_path):
    pattern = write(tmp_path, 16, make=spoiled({1, 2}))
    image = {"image": Image(size=8)}
    for max_bad in (0.2, 1):
        loader = Loader(shards(pattern, max_bad=max_bad), image, batch=8, train=True, steps=6)
        assert len(list(loader)) == 6
    strict = iter(Loader(shards(pattern, max_bad=0.001), image, batch=8, train=True, steps=20))
    next(strict)
    with pytest.raises(TooManyBad, match="2 of 16 samples in this epoch"):
        next(strict)


def test_holes_are_no_fault(tmp_path):
    """A third of the samples have no image at all: positions without a row, and no reason to stop."""
    pattern = write(tmp_path, 60, make=lambda i: {"text.txt": b"x"} if i % 3 else members(i))
    loader = Loader(Shards(pattern), {"image": Image(size=8)}, batch=10, train=False)
    assert sum(found["image"].n for found in loader) == 20
    assert loader.counts == {"sample/empty": 40}


def test_the_budget_counts_samples():
    budget = Budget(0.0)
    budget.add([Bad(f"{m}/x", position=position) for position in range(10) for m in ("image", "audio")], seen=20)
    assert budget.counts == {"image/x": 10, "audio/x": 10}
    with pytest.raises(TooManyBad, match="11 of 21"):
        budget.add([Bad("image/x", position=20)], seen=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_worker_is_raised_as_it_was(pattern, workers):
    """One line for people, with the sample; where in the worker it happened is in a note, for --debug."""

    class Broken(Bytes):
        def train(self, x, generator):
            raise ValueError("no such word")

    loader = Loader(shards(pattern), {"text": Broken()}, batch=BATCH, train=True, workers=workers, steps=2)
    with pytest.raises(ValueError, match=r"^no such word") as caught:
        list(loader)
    loader.close()
    message, code = explain(caught.value)
    assert re.fullmatch(r"no such word \(while reading .*train-000000.tar.*\.text\S*\)", message)
    assert code == 1
    assert any("in train" in note for note in caught.value.__notes__) == (workers > 0)


def test_nonsense_is_refused(pattern):
    with pytest.raises(ValueError, match=r"a batch of 64 needs as many samples; .* hold 44"):
        load(pattern, batch=64)
    for batch, world, near in ((8, 3, "6 or 9"), (2, 4, "4"), (0, 2, "2")):
        with pytest.raises(ValueError, match=rf"a batch of {batch} cannot be .* by {world} ranks: make it {near}$"):
            load(pattern, batch=batch, world=world)
    with pytest.raises(ValueError, match="rank=4 is none of the 4 ranks, 0 to 3"):
        load(pattern, rank=4, world=4)
    with pytest.raises(ValueError, match="workers=-1"):
        load(pattern, workers=-1)
