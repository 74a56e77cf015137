"""Gradient caching: a step in chunks is the step of the whole batch, for every loss, and draws the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from chunked import batch, chunk, distance, generators, model, names, objective, one_graph, step
from few import few
from test_every_wrapper import bare, refused, wrap
from torch import nn

from align import Tower
from align.grad_cache import Chunks, check_chunk, in_chunks
from align.losses import InfoNCE, LateInteraction, Symile
from align.preprocess import Array

pairs = [w for w in wrap if w != "PrimaryComponents"]  # which asks for one modality in every call
cases = [(name, ()) for name in bare] + [(name, (w,)) for name in bare for w in pairs if not refused(name, (w,))]


def loss_of(case) -> nn.Module:
    name, chain = case
    loss = bare[name]()
    for wrapper in chain:
        loss = wrap[wrapper](loss)
    return loss


def two(dropout=0.3, dtype=torch.float64, **more):
    made = model(dropout, dtype, **more)
    return made, copy.deepcopy(made)


@pytest.mark.parametrize("case", few([pytest.param(case, id="-".join([case[0], *case[1]])) for case in cases], 40))
def test_gradients_are_those_of_the_chunks_in_one_graph(case):
    (ours, theirs), terms = two(), objective(loss_of(case))
    other = copy.deepcopy(terms)
    for _ in range(2 if "MemoryQueue" in case[1] else 1):  # a queue is empty at first
        ours.zero_grad(), theirs.zero_grad(), terms.zero_grad(), other.zero_grad()
        found, wanted = step(ours, terms, batch(), Chunks(chunk, names)), step(theirs, other, batch(), one_graph)
        assert distance(found, wanted) <= 1e-12
    assert len(wanted) > 10  # of the towers that the loss reads, and its own


@pytest.mark.parametrize("loss", [InfoNCE, LateInteraction, Symile])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_without_draws_gradients_are_those_of_the_whole_batch(loss, dtype):
    (ours, theirs), terms = two(0, dtype), objective(loss(), dtype)
    ours.eval(), theirs.eval()
    found = step(ours, terms, batch(dtype), Chunks(2, names))
    wanted = step(theirs, copy.deepcopy(terms), batch(dtype))
    assert distance(found, wanted) <= (1e-12 if dtype == torch.float64 else 1e-4)


def test_float32_with_dropout():
    (ours, theirs), terms = two(dtype=torch.float32), objective(InfoNCE(), torch.float32)
    found = step(ours, terms, batch(torch.float32), Chunks(chunk, names))
    assert distance(found, step(theirs, copy.deepcopy(terms), batch(torch.float32), one_graph)) <= 1e-4


def test_draws_of_a_generator_alone():
    (ours, theirs), terms = two(0), objective(InfoNCE())  # the noise on the device, no dropout
    found = step(ours, terms, batch(), Chunks(chunk, names))
    assert distance(found, step(theirs, copy.deepcopy(terms), batch(), one_graph)) <= 1e-12


def test_a_shared_encoder_gets_one_sum():
    (ours, theirs), terms = two(share=True), objective(InfoNCE())
    calls = []
    weight = ours.towers["image"].encoder.net[0].weight
    weight.register_post_accumulate_grad_hook(lambda p: calls.append(1))
    more = {**chunk, "touch": 2}
    found = step(ours, terms, batch(), Chunks(more, names))
    calls_of = len(calls)
    wanted = step(theirs, copy.deepcopy(terms), batch(), Plain(more))
    assert distance(found, wanted) <= 1e-12
    assert calls_of == 1


class Plain:
    """The loop of ``one_graph`` with other chunks."""

    def __init__(self, chunk):
        self.chunk = chunk

    def __call__(self, name, tower, values, generator=None, tokens=False):
        pieces = values.split(self.chunk[name])
        return torch.cat([tower(x, generator=generator) for x in pieces])


@pytest.mark.parametrize("missing", names)
def test_no_rows_of_a_modality(missing):
    (ours, theirs), terms, given = two(), objective(InfoNCE()), batch()
    del given.rows[missing]
    found = step(ours, terms, given, Chunks(chunk, names))
    assert distance(found, step(theirs, copy.deepcopy(terms), given, one_graph)) <= 1e-12


def test_a_chunk_as_large_as_the_batch_is_the_plain_step_to_the_bit():
    (ours, theirs), terms = two(), objective(InfoNCE())
    found, wanted = step(ours, terms, batch(), Chunks(7, names)), step(theirs, copy.deepcopy(terms), batch())
    assert all(torch.equal(x, wanted[name]) for name, x in found.items())


def test_draws_go_on_as_after_one_pass():
    (ours, theirs), terms = two(), objective(InfoNCE())
    after = []
    for made, run in ((ours, Chunks(chunk, names)), (theirs, one_graph)):
        draws = generators()
        torch.manual_seed(11)
        loss, _ = terms(made(batch(), generators=draws, run=run))
        before = torch.get_rng_state(), *(g.get_state() for g in draws.values())
        loss.backward()
        assert all(map(torch.equal, before, (torch.get_rng_state(), *(g.get_state() for g in draws.values()))))
        after.append(before)
    assert all(map(torch.equal, *after))


class Counted(nn.Module):
    """A layer that counts its calls, and those with a graph."""

    def __init__(self):
        super().__init__()
        self.width, self.net, self.calls = 6, nn.Linear(5, 6), []

    def forward(self, values):
        out = self.net(values)
        self.calls.append(out.requires_grad)
        return out


class Encoder(Counted):
    def forward(self, values):
        from align.values import Features

        return Features(super().forward(values))


def test_each_chunk_is_read_two_times_and_the_last_one_time():
    network, x = Counted(), torch.randn(7, 5)
    in_chunks(network, x, 3).sum().backward()
    assert network.calls == [False, False, True, True, True]


class Drawing(nn.Module):
    """A layer with dropout on rows whose first number is above a bound, and the rows of each call."""

    def __init__(self, above: float):
        super().__init__()
        self.net, self.above, self.rows, self.draw = nn.Linear(5, 6), above, [], None

    def forward(self, values):
        self.rows.append(len(values))
        out = self.net(values)
        drops = values[:, :1] > self.above
        if not bool(drops.any()):
            return out
        kept = torch.rand(out.shape, generator=self.draw, dtype=out.dtype) < 0.5
        return torch.where(drops & kept, 0, out)


@pytest.mark.parametrize(
    ("chunk", "rows"), [(2, [2, 8, 8, 8, 2, 2]), (100, [2]), (9, [9, 9, 9, 1]), (1, [1, *[4] * 6, 2, 1])]
)
def test_without_draws_the_first_pass_reads_more_rows_at_a_time(chunk, rows, monkeypatch):
    monkeypatch.setattr("align.grad_cache.replay.ROWS", 8)
    network, n = Drawing(9).double(), {2: 30, 100: 2, 9: 28, 1: 28}[chunk]
    x = torch.randn(n, 5, dtype=torch.float64)
    in_chunks(network, x, chunk).square().sum().backward()
    found = network.net.weight.grad.clone()
    assert network.rows[: len(rows)] == rows
    assert network.rows[len(rows) :] == [chunk] * (len(x) // chunk - (len(x) % chunk == 0) if len(x) > chunk else 0)
    network.zero_grad()
    network(x).square().sum().backward()
    assert torch.allclose(found, network.net.weight.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("late", [0, 7, 13, 17, 18])
def test_draws_that_begin_late_are_those_of_the_replay(late, other):
    x = torch.randn(19, 5, dtype=torch.float64)
    x[:, 0], x[late, 0] = 0, 1
    ours = Drawing(0.5).double()
    theirs, draws = copy.deepcopy(ours), [torch.Generator().manual_seed(4) if other else None for _ in range(2)]
    ours.draw, theirs.draw = draws
    outs = []
    for network in (ours, theirs):
        torch.manual_seed(1)
        more = [network.draw] if other else []
        out = in_chunks(network, x, 2, generators=more) if network is ours else parts(network, x, 2)
        out.square().sum().backward()
        outs.append((out.detach(), network.net.weight.grad, torch.rand(2), torch.rand(2, generator=network.draw)))
    for a, b in zip(*outs, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def parts(network, x, chunk):
    return torch.cat([network(rows) for rows in x.split(chunk)])


def test_a_frozen_network_is_read_one_time():
    network, x = Counted().requires_grad_(False), torch.randn(7, 5)
    assert torch.allclose(in_chunks(network, x, 3), network(x), atol=1e-6)
    assert network.calls == [False, False, False, False]


def test_a_frozen_encoder_under_a_head_that_trains_is_read_one_time():
    encoder = Encoder().requires_grad_(False)
    made = model()
    tower = made.towers["image"] = Tower(Array((5,)), encoder)
    tower.build(6)
    made.double()
    other, terms = copy.deepcopy(made), objective(InfoNCE())
    found = step(made, terms, batch(), Chunks(chunk, names))
    assert encoder.calls == [False] * 7
    assert distance(found, step(other, copy.deepcopy(terms), batch(), one_graph)) <= 1e-12


def test_nothing_is_kept_without_gradients():
    network, x = Counted(), torch.randn(7, 5)
    with torch.no_grad():
        assert not in_chunks(network, x, 3).requires_grad
    assert network.calls == [False] * 3


def test_a_dict_of_values_and_several_outputs():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, values):
            a = self.a(values["a"])
            return a, self.b(values["b"]), a[:, 0] > 0

    torch.manual_seed(0)
    network, values = Both().double(), {"a": torch.randn(5, 3).double(), "b": torch.randn(5, 4).double()}
    a, b, mask = in_chunks(network, values, 2)
    (a * mask[:, None] + b**2).sum().backward()
    found = [p.grad for p in network.parameters()]
    network.zero_grad(set_to_none=True)
    a, b, mask = network(values)
    (a * mask[:, None] + b**2).sum().backward()
    assert all(torch.allclose(x, p.grad, rtol=1e-12) for x, p in zip(found, network.parameters(), strict=True))


def test_an_output_that_the_loss_leaves_out_and_a_parameter_that_no_output_reads():
    class Spare(Counted):
        def __init__(self):
            super().__init__()
            self.unread, self.other = nn.Linear(2, 2), nn.Linear(5, 3)

        def forward(self, values):
            return super().forward(values), self.other(values)

    network = Spare()
    in_chunks(network, torch.randn(7, 5), 3)[0].sum().backward()
    assert network.net.weight.grad is not None
    assert network.unread.weight.grad is None
    assert network.other.weight.grad is None


@pytest.mark.parametrize("kind", ["autocast", "bfloat16"])
def test_half_precision(kind):
    """Sums over 512 chunks are as exact as one pass: each is rounded one time. With two chunks, one keeps its graph."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 4)), torch.randn(1024, 5)
    if kind == "bfloat16":
        network, x = network.bfloat16(), x.bfloat16()
    grads = []
    for rows in (2, 512, 1024):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            out = in_chunks(network, x, rows)
            assert out.dtype == torch.bfloat16
            loss = (out.float() ** 2).mean()
        loss.backward()
        grads.append({n: p.grad.float() for n, p in network.named_parameters()})
        assert all(p.grad.dtype == p.dtype for p in network.parameters())
    assert max(distance(found, grads[2]) for found in grads[:2]) < 0.01


def test_the_second_pass_has_the_precision_of_the_first():
    seen = []

    class Seeing(Counted):
        def forward(self, values):
            out = super().forward(values)
            seen.append((out.dtype, torch.get_default_dtype()))
            return out

    network, x = Seeing(), torch.randn(5, 5)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            out = in_chunks(network, x, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    out.sum().backward()
    assert seen == [(torch.bfloat16, torch.float64)] * 5
    assert torch.get_default_dtype() == torch.float32


def test_parameters_whose_gradients_are_one_tensor():
    class Sum(Counted):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(6)), nn.Parameter(torch.zeros(6))

        def forward(self, values):
            return super().forward(values) + (self.a + self.b)

    network = Sum()
    in_chunks(network, torch.randn(7, 5), 2).sum().backward()
    assert torch.equal(network.a.grad, torch.full((6,), 7.0))
    assert torch.equal(network.b.grad, torch.full((6,), 7.0))


def test_attention_in_eval_mode_has_one_kind_of_padding():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval().double()
    padding, x = torch.arange(5) >= torch.tensor([3, 2, 1, 4, 5, 2])[:, None], torch.randn(6, 5, 8).double()
    grads = []
    for rows in (2, 6):
        network.zero_grad()
        read = in_chunks(
            lambda v: network(v["x"], src_key_padding_mask=v["padding"]),
            {"x": x, "padding": padding},
            rows,
            parameters=network.parameters(),
        )
        (read**3).sum().backward()
        grads.append({name: p.grad for name, p in network.named_parameters()})
    assert distance(*grads) <= 1e-12


def test_a_second_backward_pass_reads_all_chunks():
    network, x = Counted(), torch.randn(7, 5)
    loss = in_chunks(network, x, 3).sum()
    loss.backward(retain_graph=True)
    first = network.net.weight.grad.clone()
    loss.backward()
    assert torch.allclose(network.net.weight.grad, 2 * first)
    assert len(network.calls) == 3 + 2 + 3
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_step_between_forward_and_backward_is_refused():
    network = Counted()
    loss = in_chunks(network, torch.randn(7, 5), 3).sum()
    with torch.no_grad():
        network.net.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_are_refused():
    network = Counted()
    loss = (in_chunks(network, torch.randn(7, 5), 3) ** 2).sum()
    (grad,) = torch.autograd.grad(loss, [network.net.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_network_that_keeps_a_state_is_refused():
    class Counting(Counted):
        def forward(self, values):
            return super().forward(values) * (1 + len(self.calls))

    loss = in_chunks(Counting(), torch.randn(7, 5), 3).sum()
    with pytest.raises(RuntimeError, match="gave other values than the first"):
        loss.backward()


def test_numbers_that_are_not_finite_pass():
    network, x = Counted(), torch.full((7, 5), torch.nan)
    in_chunks(network, x, 3).sum().backward()
    assert network.net.weight.grad.isnan().all()


def test_refusals():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        in_chunks(Counted(), torch.randn(7, 5), 0)
    with pytest.raises(TypeError, match=r"function is no module: give in_chunks its parameters"):
        in_chunks(lambda x: x, torch.randn(7, 5), 2)
    with pytest.raises(ValueError, match="detach them"):
        in_chunks(Counted(), torch.randn(7, 5, requires_grad=True), 2)
    hooked = Counted()
    hooked.net.weight.register_hook(lambda grad: 2 * grad)
    with pytest.raises(ValueError, match="take register_post_accumulate_grad_hook"):
        in_chunks(hooked, torch.randn(7, 5), 2)
    made = model()
    made.towers["image"].encoder.norm = nn.BatchNorm1d(8)
    with pytest.raises(ValueError, match="tower 'image' has a BatchNorm1d that trains"):
        made(batch(), run=Chunks(2, names))
    made.eval()(batch(), run=Chunks(2, names))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (0, "chunk is the number of rows that a tower reads at a time, at least 1; got 0"),
        ({"image": -3}, "chunk of 'image' is the number of rows that a tower reads at a time, at least 1; got -3"),
        ({"imag": 3}, "chunk names 'imag', the model has towers of audio, image, text, touch; did you mean 'image'?"),
        ({"": 3}, "chunk names '', the model has towers of audio, image, text, touch"),
    ],
)
def test_a_chunk_is_checked(given, says):
    with pytest.raises(ValueError) as error:
        check_chunk(given, names)
    assert str(error.value) == says
    check_chunk(None, names)
    check_chunk({"image": 1}, names)
