"""Batch passes whole through a DataLoader, precision plugins and processes; BadSample survives a pickle."""

from __future__ import annotations

import pickle
from unittest import mock

import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from torch.utils.data import DataLoader, Dataset

from align import BadSample, Batch, Embeddings, Rows, seeds
from align.seeds import derive, generator


def batch() -> Batch:
    rows = {
        "image": Rows(torch.rand(2, 3), torch.tensor([0, 2])),
        "text": Rows(
            {"ids": torch.tensor([[1, 2]]), "score": torch.rand(1)}, torch.tensor([-1]), mask=torch.ones(1, 2).bool()
        ),
    }
    extra = {"labels": [{"shape": "torus"}, None, 3], "source": ["a"] * 3, "group": torch.tensor([5, -1, 5])}
    return Batch(rows, ["x", "", "z"], torch.arange(3), weight=torch.ones(3), **extra)


def test_a_batch_is_a_mapping_and_knows_its_size():
    b = batch()
    assert (b.size, len(b), list(b), "image" in b, b.get("audio")) == (3, 2, ["image", "text"], True, None)
    assert [rows.n for rows in b.values()] == [2, 1]
    assert not isinstance(b, dict)


class One(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return batch()


@pytest.mark.parametrize("workers", [0, 1])
def test_it_passes_whole_through_a_data_loader(workers):
    got = next(iter(DataLoader(One(), batch_size=None, num_workers=workers)))
    assert type(got) is Batch
    assert (got.ids, got.labels, got.source) == (batch().ids, batch().labels, batch().source)
    assert torch.equal(got.group, batch().group)
    assert got["text"].mask.dtype == torch.bool


@pytest.mark.parametrize(
    ("plugin", "dtype"), [(DoublePrecision(), torch.float64), (HalfPrecision("bf16-true"), torch.bfloat16)]
)
def test_it_passes_whole_through_precision_plugins(plugin, dtype):
    got = plugin.convert_input(batch())
    assert type(got) is Batch
    assert got["image"].values.dtype == dtype
    assert got["text"].values["ids"].dtype == torch.int64
    assert (got.ids, got.labels) == (batch().ids, batch().labels)
    assert got.position.dtype == torch.int64


def test_to_gives_a_dtype_to_floating_tensors_only():
    got = batch().to("cpu", torch.float64)
    assert got["image"].values.dtype == got.weight.dtype == torch.float64
    assert got["image"].sample.dtype == got.group.dtype == torch.int64
    assert type(Embeddings({}, [], torch.zeros(0)).to("cpu")) is Embeddings


def wide() -> Batch:
    """Seven samples, some without a row, several rows a sample, hard negatives at the start, in the middle and last."""
    owners = {"image": [0, 1, 1, 3, 4, 6], "text": [-1, 0, -1, -1, 2, 2, -1, 5, 6, -1], "audio": []}
    rows = {}
    for m, sample in owners.items():
        n = len(sample)
        tokens, mask = torch.rand(n, 2, 3), torch.rand(n, 2) > 0.5
        values = {"ids": torch.arange(n), "wave": torch.rand(n, 2)} if m == "text" else torch.rand(n, 4)
        rows[m] = Rows(values, torch.tensor(sample, dtype=torch.long), tokens, mask, content=torch.arange(n) % 3)
    extra = {"labels": [*"abcdefg"], "source": [*"uvwxyzu"], "group": torch.arange(7) % 3, "weight": torch.rand(7)}
    return Batch(rows, [str(i) if i != 3 else "" for i in range(7)], torch.arange(7) + 70, **extra)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (0, 3), (2, 3), (3, 6), (4, 7), (5, 99), (3, 3), (9, 12)])
def test_a_slice_of_a_batch_is_a_loop_over_its_rows(start, stop):
    b = wide()
    got = b.slice(start, stop)
    assert type(got) is Batch
    assert (got.ids, got.labels, got.source) == (b.ids[start:stop], b.labels[start:stop], b.source[start:stop])
    for name in ("position", "group", "weight"):
        assert torch.equal(getattr(got, name), getattr(b, name)[start:stop])
    for m, rows in b.items():
        kept, sample, owner = [], [], 0  # hard negatives before the first row go with sample 0
        for i, s in enumerate(rows.sample.tolist()):
            owner = owner if s < 0 else s
            if start <= owner < stop:
                kept.append(i)
                sample.append(s if s < 0 else s - start)
        assert got[m].sample.tolist() == sample
        for name in ("tokens", "mask", "content"):
            assert torch.equal(getattr(got[m], name), getattr(rows, name)[kept])
        ours, theirs = (x if isinstance(x, dict) else {"": x} for x in (got[m].values, rows.values))
        for name, x in theirs.items():
            assert torch.equal(ours[name], x[kept])


def test_consecutive_slices_have_every_row_and_keep_gradients():
    b = wide()
    b["image"].values.requires_grad_()
    parts = [b.slice(i, i + 2) for i in range(0, 7, 2)]
    for m in b:
        assert torch.equal(torch.cat([part[m].tokens for part in parts]), b[m].tokens)
    sum(part["image"].values.sum() for part in parts).backward()
    assert torch.equal(b["image"].values.grad, torch.ones(6, 4))


def test_a_slice_says_what_it_cannot_cut():
    bare = Embeddings({}, ["x", "y"], torch.arange(2))
    assert bare.slice(1, 2) == Embeddings({}, ["y"], torch.arange(1, 2))
    for start, stop in ((-1, 1), (2, 1)):
        with pytest.raises(ValueError, match=f"0 <= start <= stop; got {start} and {stop}"):
            bare.slice(start, stop)


def test_a_bad_sample_survives_the_way_from_a_worker():
    back = pickle.loads(pickle.dumps(BadSample("image/truncated", "a.jpg")))
    assert (back.reason, back.detail, str(back)) == ("image/truncated", "a.jpg", "image/truncated: a.jpg")


def test_seeds_are_functions_of_their_names():
    assert derive(0, 1, "image") != derive(0, 11, "mage") != derive(0, 1, "text")
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))
    assert derive(0, 7, "image") == 7690065795333606789  # on every machine, for ever


def test_the_default_generator_is_seeded_as_manual_seed_would():
    for accelerator in (True, False):
        with mock.patch.object(seeds, "_has_accelerator", lambda accelerator=accelerator: accelerator):
            seeds.seed_default(3, "dropout")
        drawn = torch.rand(4)
        torch.manual_seed(derive(3, "dropout"))
        assert torch.equal(drawn, torch.rand(4))
