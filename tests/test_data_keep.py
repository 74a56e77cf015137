"""Decoded samples that are kept: no bit of a batch changes, the bad are counted as without, the budget holds."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
from typing import Any

import pytest
import torch
from cut import Cut, Kill
from test_data_collate import equal
from test_data_loader import spoiled
from test_lit import exact, trainer
from tiny import made
from tiny import write as write_dense
from tiny_data import holed, members, readers, wav, write

from align.data import Loader, Mixture, Pipeline, Resampled, Shards
from align.data.bad import Bad
from align.data.kept import LOOK, USED, Kept, read_size
from align.data.opening import Opening, OpenRow
from align.lit import AlignData, Checkpoints, fit
from align.optim import AdamW
from align.preprocess import Bytes, Image

MIB = 1 << 20


class Counting(Image):
    """Counts the pictures that it decodes."""

    decoded = 0

    def decode(self, source):
        Counting.decoded += 1
        return super().decode(source)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write(tmp_path_factory.mktemp("holed"), 44, make=holed)


def augmenting() -> dict:
    return readers() | {"image": Counting(size=8, crop_scale=(0.3, 1.0), flip=True)}


def load(shards, *, keep=4 * MIB, steps=14, **kwargs):
    """Batches over almost three epochs, of 5 steps each."""
    return Loader(
        shards, augmenting(), **{"batch": 8, "train": True, "seed": 3, "steps": steps, "keep": keep, **kwargs}
    )


def check_equal(one: Loader, two: Loader) -> None:
    """The batches, and everything that was counted."""
    for a, b in zip(one, two, strict=True):
        equal(a, b)
    assert one.counts == two.counts
    assert one.ledger.state() == two.ledger.state()
    assert one.ledger.take() == two.ledger.take()
    assert one.shards.report() == two.shards.report()
    one.close()
    two.close()


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_no_bit_changes_for_any_workers(pattern, workers):
    check_equal(load(Shards(pattern, max_bad=1), keep=0), load(Shards(pattern, max_bad=1), workers=workers))


def test_a_later_epoch_decodes_nothing(pattern):
    loader = load(Shards(pattern, max_bad=1), steps=30)
    Counting.decoded, after = 0, []
    for _ in loader:
        after.append(Counting.decoded)
    with_image = sum("image.png" in holed(i) for i in range(44))
    assert after[-1] == with_image  # each picture one time, in six epochs that drop four samples each
    assert after[4] >= with_image - 4


@pytest.mark.parametrize("start", [3, 5, 8])
def test_a_run_goes_on_from_any_step(pattern, start):
    whole = list(load(Shards(pattern, max_bad=1), keep=0, steps=16))
    rest = load(Shards(pattern, max_bad=1), steps=16 - start, start_step=start, workers=1)
    for a, b in zip(rest, whole[start:], strict=True):
        equal(a, b)
    rest.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_bad_are_counted_in_every_epoch(tmp_path, workers):
    """Cut pictures, a wave that is none before a sound one, a suffix that is not read, no UTF-8, damaged bytes."""

    def make(i):
        found = spoiled({3, 20})(i)
        if i % 9 == 1:
            found |= {"audio.0.wav": b"RIFF", "audio.1.wav": wav(i), "image.1.xyz": b"BM", "text.txt": b"\xff"}
        return found

    pattern = write(tmp_path, 44, make=make)
    tar = tmp_path / "train-000000.tar"
    damaged, about = bytearray(tar.read_bytes()), tar.stat()
    at = damaged.index(wav(5)[44:144])
    damaged[at : at + 10] = b"0123456789"
    tar.write_bytes(damaged)
    os.utime(tar, ns=(about.st_atime_ns, about.st_mtime_ns))  # so that its index still holds
    loaders = [load(Shards(pattern, max_bad=1), keep=keep, workers=workers) for keep in (0, 4 * MIB)]
    check_equal(*loaders)
    expected = {"image/truncated", "audio/unreadable", "audio/checksum", "ignored/image.xyz", "text/not-utf8"}
    assert expected <= set(loaders[1].counts), loaders[1].counts


def draw(patterns) -> Mixture:
    one, two = patterns
    sources = {"one": Shards(one, seed=1, max_bad=1), "two": Shards(two, seed=2, max_bad=1)}
    sources["drawn"] = Resampled(one, samples=48, max_bad=1)
    sources["pipe"] = Pipeline(lambda: ({"__key__": str(i), "text": f"number {i}"} for i in range(9)), samples=9)
    weights = {"one": 3, "two": 2, "drawn": 1, "pipe": 1}
    return Mixture(sources, weights, batch=8, overrides={"two": {"image": Image(size=8, flip=False)}})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixture_keeps_the_samples_that_have_a_number(pattern, tmp_path, workers):
    patterns = pattern, write(tmp_path, 20, make=members)
    one, two = (
        Loader(draw(patterns), augmenting(), batch=8, train=True, steps=25, keep=keep, workers=w)
        for keep, w in ((0, workers), (4 * MIB, workers))
    )
    assert two.shards.numbers == 64
    assert {two.shards.number(p, 0) for p in range(24)} > {-1}
    check_equal(one, two)
    kept = two._pieces.kept
    assert kept is not None
    assert sum(kept.get(n) is not None for n in range(64)) > 32


@pytest.mark.parametrize(("workers", "budget"), [(0, 50 << 10), (0, 200 << 10), (2, 200 << 10)])
def test_a_set_that_does_not_fit_is_off_and_one_line_says_so(tmp_path, workers, budget):
    """The smaller budget is full before there are samples enough for an estimate."""
    pattern, log = write(tmp_path, 100), logging.getLogger("align.data")
    one, two = (load(Shards(pattern, max_bad=1), keep=keep, workers=workers, steps=20) for keep in (0, budget))
    handler = logging.FileHandler(tmp_path / "log")  # of the workers too
    log.addHandler(handler)
    try:
        check_equal(one, two)
    finally:
        log.removeHandler(handler)
        handler.close()
    kept = two._pieces.kept
    assert kept is not None
    assert kept._table[USED] < budget
    assert sum(kept._table[4::2] > 0) <= LOOK  # it ended there
    said = [line for line in (tmp_path / "log").read_text().splitlines() if "data.keep" in line]
    assert len(said) == 1
    assert "the 100 decoded samples take about" in said[0]
    assert f"more than {budget >> 10} KiB, so each is decoded anew in every epoch" in said[0]


def test_a_set_that_could_never_fit_takes_no_memory(caplog):
    kept = Kept(1 << 20, 10**12, workers=0)
    assert kept.off
    assert "the 1,000,000,000,000 decoded samples take at least 232.8 TiB, more than 1 MiB" in caplog.text
    quiet = Kept(1 << 20, 10**12, workers=0, quiet=True)
    assert quiet.off
    assert caplog.text.count("data.keep") == 1


def test_nothing_is_kept_where_no_sample_comes_twice(pattern):
    shards = Shards(pattern, max_bad=1)
    for options in ({"steps": 5}, {"steps": 2, "start_step": 8}, {"train": False, "steps": None}, {"keep": 0}):
        assert load(shards, **options)._pieces.kept is None
    for options in ({"steps": 6}, {"steps": 3, "start_step": 8}, {"steps": None}):
        assert load(shards, **options)._pieces.kept is not None


def look_up(kept: Kept | None, number: int) -> Any:
    """What is kept of a sample, which must be there."""
    assert kept is not None
    found = kept.get(number)
    assert found is not None
    return found


def opening(**rows) -> Opening:
    return Opening(
        "key",
        "shard",
        "name",
        {"label": [1, "b"]},
        7,
        0.5,
        {"audio+image": 3},
        [],
        [Bad("json/weight", "shard", "key")],
        rows,
    )


def test_an_opening_comes_back_as_it_was():
    kept = Kept(MIB, 3, workers=0)
    strided = torch.arange(24.0).view(4, 6).T[1:4]  # (3, 4), not dense
    tensors = [torch.arange(5, dtype=torch.int16), strided, torch.empty(0, 3), torch.ones(()).expand(2, 3)]
    rows = [OpenRow(x, True, i == 1, f"m.{i}.npy") for i, x in enumerate(tensors)]
    given = opening(
        a=[*rows, Bad("a/cut", "shard", "key", "m.9.npy")], b=[OpenRow(b"bytes", False, False, "b.wav")], c=[]
    )
    kept.put(1, given)
    found = look_up(kept, 1)
    assert found[:6] == given[:6]
    assert (found.unread, found.bad, found.rows["b"], found.rows["c"]) == ([], given.bad, given.rows["b"], [])
    for a, b in zip(found.rows["a"], given.rows["a"], strict=True):
        if isinstance(a, Bad) or isinstance(b, Bad):
            assert a == b
            continue
        assert torch.equal(a.data, b.data)
        assert (a.data.stride(), a.data.dtype, a[1:]) == (b.data.stride(), b.data.dtype, b[1:])
    found.rows["a"][0].data.zero_()  # a copy
    assert torch.equal(look_up(kept, 1).rows["a"][0].data, tensors[0])
    assert kept.get(0) is None


def test_the_budget_holds_and_the_rest_is_not_kept():
    kept = Kept(100_000, 200, workers=0)
    for i in range(LOOK):  # a light beginning
        kept.put(i, opening(a=[]))
    for i in range(LOOK, 200):
        kept.put(i, opening(a=[OpenRow(torch.full((1000,), i, dtype=torch.float32), True, False, "a.npy")]))
        assert kept._table[USED] <= 100_000
    found = [i for i in range(200) if kept.get(i) is not None]
    assert LOOK + 5 < len(found) < 100
    assert not kept.off
    for i in found[LOOK:]:
        assert look_up(kept, i).rows["a"][0].data.eq(i).all()


def test_a_shard_out_of_reach_is_asked_again():
    kept = Kept(MIB, 2, workers=0)
    kept.put(0, opening(a=[])._replace(unread=[Bad("shard/unreachable", "s", "k")]))
    kept.put(1, opening(a=[])._replace(unread=[Bad("image/checksum", "s", "k", "image.png")]))
    assert kept.get(0) is None
    assert look_up(kept, 1).unread == [Bad("image/checksum", "s", "k", "image.png")]


def test_a_spawned_worker_begins_with_its_share(monkeypatch):
    kept = Kept(MIB, 2, workers=2)
    kept.put(0, opening(a=[]))
    copy = pickle.loads(pickle.dumps(kept))
    assert copy.get(0) is None
    assert copy.budget == MIB // 2


def test_a_lock_that_nobody_gives_back_costs_a_decoding_alone(monkeypatch):
    monkeypatch.setattr("align.data.kept.WAIT", 0.01)
    kept = Kept(MIB, 2, workers=1)
    kept.put(0, opening(a=[]))
    holder = multiprocessing.get_context("fork").Process(target=kept._lock.acquire)  # ends without giving it back
    holder.start()
    holder.join()
    assert kept.get(0) is None
    kept.put(1, opening(a=[]))
    kept._lock.release()
    assert kept.get(0) is not None
    assert kept.get(1) is None


class Spoiling(Image):
    """Changes its input, as no preprocess should."""

    def train(self, x, generator):
        return super().train(x.fill_(int(x[0, 0, 0]) // 2), generator)


class Around(Bytes):
    """Has a row of its own, which is not decode and train."""

    def row(self, source, generator=None):
        return self.eval(self.decode(source) + str(int(torch.randint(99, (), generator=generator))))


def test_a_preprocess_with_a_way_of_its_own(pattern):
    mine = {"image": Spoiling(size=8), "text": Around(context=16)}
    one, two = (
        Loader(Shards(pattern, max_bad=1), mine, batch=8, train=True, steps=14, keep=keep) for keep in (0, 4 * MIB)
    )
    check_equal(one, two)
    found = look_up(two._pieces.kept, 0)
    assert [row.kept for row in found.rows["text"] if isinstance(row, OpenRow)] == [False] * len(found.rows["text"])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        (4096, 4096),
        ("512MiB", 512 << 20),
        ("1.5 GB", 1_500_000_000),
        ("2gib", 2 << 30),
        ("7 kb", 7000),
    ],
)
def test_sizes(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "512 MiBi", "-1", "-5MiB", "1e9", True])
def test_a_size_that_is_none(text):
    with pytest.raises(ValueError, match=r"data.keep=.* is no size: give bytes, or a number with KiB, MiB or GiB"):
        AlignData("train.tar", keep=text)


def test_more_memory_than_there_is():
    with pytest.raises(ValueError, match=r"data.keep: 4.194e\+06 TiB cannot be had from this machine"):
        Kept(1 << 62, 10, workers=0)


def run(folder, out, kill=None, **options):
    """Twelve steps, four to an epoch. kill: the step at whose end it dies."""
    model, objective = made(dropout=0.2)
    data = AlignData(str(folder / "train-*.tar"), batch=12, workers=2, max_bad=1, **options)
    given = {**trainer, "max_steps": 12, "callbacks": [] if kill is None else [Kill(kill)]}
    optim, saved = AdamW(lr=0.01), Checkpoints(every_steps=3)
    return fit(model, objective, data, out, trainer=given, optim=optim, checkpoint=saved)


def test_a_run_that_is_killed_goes_on_to_the_bit(tmp_path):
    shards = write_dense(tmp_path / "shards", broken=(5, 17))
    off = run(shards, tmp_path / "off", keep=0)
    with pytest.raises(Cut):
        run(shards, tmp_path / "kept", kill=8)
    kept = run(shards, tmp_path / "kept")
    assert exact(tmp_path / "kept") == exact(tmp_path / "off")
    assert kept.bad == off.bad != {}
    for name in ("bad.json", "bad.jsonl", "bad-shards.json"):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "off" / name).read_bytes().replace(
            b"/off", b"/kept"
        )
