"""Pieces on their way from a worker: equal after the journey, in one block."""

from __future__ import annotations

import pickle

import pytest
import torch
from test_data_collate import equal
from tiny_data import members, readers

from align.data import collate
from align.data.bad import Bad
from align.data.packing import pack, unpack
from align.values import Batch, Rows


def sent(thing):
    """What arrives: the rest by pickle, the block as it is."""
    packed = pack(thing)
    if isinstance(packed, Exception):
        return packed
    assert packed.block.is_shared()
    return unpack(type(packed)(pickle.loads(pickle.dumps(packed.rest)), packed.block))


def test_a_batch_and_its_bad_arrive():
    samples = [{"__key__": str(i), "__url__": "s.tar", **members(i)} for i in range(5)]
    batch = collate([*samples[:3], None, samples[4]], readers(), positions=range(5), train=True, seed=0, epoch=0)
    bad = [Bad("image/truncated", "s.tar", "3", "image.png", 3)]
    found, same = sent((batch, bad))
    equal(found, batch)
    assert same == bad
    blocks = {
        x.untyped_storage().data_ptr() for x in (found.position, found.group, *(r.values for r in found.values()))
    }
    assert len(blocks) == 1


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(0, 3),
        torch.tensor(True),
        torch.arange(6, dtype=torch.int16).view(2, 3).T,
        torch.randn(3, 2, dtype=torch.float64),
        torch.randn(7).to(torch.bfloat16),
        torch.randn(2, 3, dtype=torch.complex64),
        torch.ones(1).expand(4, 2),
        torch.randn(2, requires_grad=True),
    ],
)
def test_tensors_of_every_kind(x):
    batch = Batch(
        {"a": Rows({"x": x, "y": torch.arange(3)}, torch.arange(2))}, ids=["a", "b"], position=torch.arange(2)
    )
    found = sent(batch)["a"]
    assert isinstance(found.values, dict)
    assert torch.equal(found.values["x"], x)
    assert found.values["x"].dtype == x.dtype
    assert torch.equal(found.values["y"], torch.arange(3))


def test_nothing_and_an_error():
    assert sent([]) == []
    error = ValueError("no")
    assert pack(error) is error
    assert unpack(error) is error
