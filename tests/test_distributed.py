"""Ragged gather and merge on two gloo ranks, against what a single process has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks

from align.distributed import exchange, gather, merge, rank, world

lengths = {"unequal": (3, 5), "none_on_one": (0, 4), "none_on_the_other": (2, 0), "none": (0, 0)}


def whole(n: int, *shape: int) -> torch.Tensor:
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def case_rows() -> Any:
    out = {}
    for name, (first, second) in lengths.items():
        rows = whole(first + second, 2, 3)
        mine = rows[:first] if rank() == 0 else rows[first:]
        out[name] = gather(mine)
    return out


def case_kinds() -> Any:
    kinds = (torch.int64, torch.float32, torch.float64, torch.bfloat16, torch.bool)
    return [gather(torch.full((rank() + 1,), rank()).to(kind)) for kind in kinds]


def case_gradient() -> Any:
    """Each rank weighs the gathered rows differently; the gradient is the sum of both."""
    out = {}
    for name, (first, second) in lengths.items():
        rows = whole(first + second, 3)
        mine = (rows[:first] if rank() == 0 else rows[first:]).clone().requires_grad_()
        everyone = gather(mine)
        weight = torch.arange(everyone.numel(), dtype=torch.float64).reshape(everyone.shape) * (rank() + 1)
        (weight * everyone**2).sum().backward()
        out[name] = mine.grad
    return out


def case_merge() -> Any:
    x = torch.tensor([0.5 + rank(), -torch.inf, 700.0 * rank(), -torch.inf if rank() else 1.0], dtype=torch.float64)
    return merge(x, "sum")[0], merge(x, "logsumexp"), merge(x.requires_grad_(), "sum").requires_grad


def case_exchange() -> Any:
    texts = [b"", b"one"], [b"", b""], [b"\0a\0", b"longer than the other"]
    return [[part.decode() for part in exchange(pair[rank()])] for pair in texts]


def case_world() -> Any:
    return rank(), world(), dist.get_backend()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    cases = [case_rows, case_kinds, case_gradient, case_merge, case_exchange, case_world]
    return on_ranks(cases, tmp_path_factory.mktemp("ranks"))


def test_rows_stand_in_rank_order(two):
    for name, (first, second) in lengths.items():
        for result in two["case_rows"]:
            assert torch.equal(result[name], whole(first + second, 2, 3))


def test_every_dtype(two):
    for result in two["case_kinds"]:
        for gathered in result:
            assert torch.equal(gathered, torch.tensor([0, 1, 1]).to(gathered.dtype))
        assert [x.dtype for x in result] == [torch.int64, torch.float32, torch.float64, torch.bfloat16, torch.bool]


def test_gradients_are_summed_over_ranks(two):
    for name, (first, second) in lengths.items():
        rows = whole(first + second, 3)
        weight = torch.arange(rows.numel(), dtype=torch.float64).reshape(rows.shape)
        expected = 2 * rows * weight * (1 + 2)
        got = torch.cat([result[name] for result in two["case_gradient"]])
        torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)


def test_merge(two):
    for total, joined, grad in two["case_merge"]:
        assert float(total) == 0.5 + 1.5
        expected = torch.logsumexp(
            torch.tensor([[0.5, -torch.inf, 0.0, 1.0], [1.5, -torch.inf, 700.0, -torch.inf]], dtype=torch.float64), 0
        )
        torch.testing.assert_close(joined, expected, rtol=1e-15, atol=0)
        assert grad is False


def test_bytes_of_any_length_are_exchanged(two):
    told = [["", "one"], ["", ""], ["\0a\0", "longer than the other"]]
    assert two["case_exchange"] == [told, told]
    assert exchange(b"alone") == [b"alone"]


def test_the_ranks_know_themselves(two):
    assert two["case_world"] == [(0, 2, "gloo"), (1, 2, "gloo")]


def test_one_process_is_the_identity():
    x = torch.randn(3, 2, requires_grad=True)
    assert gather(x) is x
    assert (rank(), world()) == (0, 1)
    assert torch.equal(merge(x, "logsumexp"), x)
    assert not merge(x, "sum").requires_grad


def test_merge_refuses_another_word():
    with pytest.raises(ValueError, match=r"merge takes 'sum', 'logsumexp' or 'max'; got 'mean'"):
        merge(torch.zeros(1), "mean")  # type: ignore[arg-type]


def raises() -> None:
    if rank() == 1:
        raise KeyError("on purpose")


def test_a_failing_case_names_itself(tmp_path):
    with pytest.raises(RuntimeError, match=r"rank 1, raises:(.|\n)*on purpose"):
        on_ranks([raises], tmp_path)
