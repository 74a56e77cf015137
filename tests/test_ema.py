"""The average of the weights: that of a plain loop, in the saved model, and the same after a cut."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import schedulefree
import torch
from cut import Cut, Kill
from test_lit import exact, rows, train
from tiny import made, write

from align import load
from align.checkpoint import read_index
from align.encoders.weights import read_tensors
from align.lit import Checkpoints
from align.model.inside import weights
from align.optim import Ema, Group, Joined, Optim, evaluating, find_two_modes
from align.tuning import Tuning

EMA = Ema(decay=0.9, every=1, warmup=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def last(run: Path) -> Path:
    return run / "checkpoints" / read_index(run)["last"]


def optim(**options) -> Optim:
    return Optim(lr=0.01, **options)


def steps(optimizer, parameters, count: int) -> list[list[torch.Tensor]]:
    """Weights after each of so many steps with random gradients."""
    draw, seen = torch.Generator().manual_seed(0), []
    for _ in range(count):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=draw).to(p)
        optimizer.step()
        seen.append([p.detach().clone() for p in parameters])
    return seen


@pytest.mark.parametrize("ema", [EMA, Ema(0.5, every=3, warmup=1), Ema(0.99)], ids=str)
def test_the_average_is_that_of_a_plain_loop(ema):
    model, objective = made()
    optimizer = optim(ema=ema).build(model, objective)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    seen = steps(optimizer, parameters, 10)
    wanted = seen[0]
    for n, i in enumerate(range(ema.every, 10, ema.every), 1):
        d = min(ema.decay, (1 + n) / (ema.warmup + n))
        wanted = [d * a + (1 - d) * w for a, w in zip(wanted, seen[i], strict=True)]
    with evaluating(optimizer) as trained:
        for p, value, weight in zip(parameters, wanted, seen[-1], strict=True):
            torch.testing.assert_close(p.detach(), value, rtol=1e-12, atol=1e-12)
            assert torch.equal(trained[p], weight)
    assert all(torch.equal(p, weight) for p, weight in zip(parameters, seen[-1], strict=True))


def test_half_precision_is_averaged_in_float32():
    p = torch.nn.Parameter(torch.ones(8, 4, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([p], lr=2**-7)  # one of bfloat16's steps at 1
    from align.optim import Average

    average = Average(optimizer, Ema(0.999, warmup=1))
    for _ in range(100):
        p.grad = -torch.ones_like(p) * torch.randn(()).sign()
        optimizer.step()
    assert optimizer.state[p]["weight_average"].dtype == torch.float32
    assert len(optimizer.state[p]["weight_average"].bfloat16().unique()) == 1
    assert not torch.equal(
        optimizer.state[p]["weight_average"], optimizer.state[p]["weight_average"].bfloat16().float()
    )
    assert find_two_modes(optimizer) == [average]


def test_the_saved_model_has_the_average_and_training_goes_on_from_the_weights(shards, tmp_path):
    train(shards, tmp_path / "plain", 6, val=False)
    model, _ = train(shards, tmp_path / "run", 6, val=False, optim=optim(ema=EMA))
    assert [r["loss"] for r in rows(tmp_path / "run")] == [r["loss"] for r in rows(tmp_path / "plain")]
    saved = read_tensors(last(tmp_path / "run") / "model.safetensors")
    trained = read_tensors(last(tmp_path / "run") / "training" / "parameters.safetensors")
    plain = read_tensors(last(tmp_path / "plain") / "model.safetensors")
    states = read_tensors(last(tmp_path / "run") / "training" / "optimizer.safetensors")
    for name, x in plain.items():
        assert torch.equal(trained[f"model.{name}"], x)
        assert torch.equal(states[f"model.{name}/weight_average"], saved[name])
        assert not torch.equal(saved[name], x)
    loaded = load(tmp_path / "run", allow=("tiny",))
    assert all(torch.equal(x, saved[name].float()) for name, x in weights(loaded).items())
    assert all(torch.equal(x, saved[name]) for name, x in weights(model).items())


def test_validation_reads_the_average(shards, tmp_path):
    train(shards, tmp_path / "plain", 4)
    train(shards, tmp_path / "run", 4, optim=optim(ema=EMA))
    plain, averaged = (rows(tmp_path / name)[-1] for name in ("plain", "run"))
    assert plain["loss"] == averaged["loss"]
    assert plain["val/loss"] != averaged["val/loss"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {
            "optimizer": partial(Joined, matrices=torch.optim.Muon, rest=torch.optim.SGD),
            "groups": {"*audio*": Group(2.0)},
        },
    ],
    ids=["adamw", "joined"],
)
def test_a_cut_run_goes_on_to_the_bit(shards, tmp_path, more):
    settings = optim(ema=Ema(0.9, every=2, warmup=3), **more)
    train(shards, tmp_path / "straight", 8, optim=settings)
    with pytest.raises(Cut):
        train(
            shards,
            tmp_path / "cut",
            8,
            optim=settings,
            checkpoint=Checkpoints(every_steps=3),
            trainer={"callbacks": [Kill(5)]},
        )
    train(shards, tmp_path / "cut", 8, optim=settings)
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")


def test_it_comes_and_goes_with_the_config(shards, tmp_path):
    train(shards, tmp_path, 3, val=False)
    train(shards, tmp_path, 5, val=False, optim=optim(ema=EMA))
    assert (last(tmp_path) / "training" / "parameters.safetensors").is_file()
    train(shards, tmp_path, 7, val=False, optim=optim())
    assert not (last(tmp_path) / "training" / "parameters.safetensors").exists()
    kept = read_tensors(last(tmp_path) / "training" / "optimizer.safetensors")
    assert not [name for name in kept if "average" in name]


def test_stages_and_adapters(shards, tmp_path):
    """A part that trains from the second stage on is averaged from there, one that stops keeps its average."""
    stages = {"heads": {"until": 3, "freeze": ["model.towers.image.encoder"]}, "all": {"until": 6}}
    from align.lit.stages import Stage

    given = {name: Stage(**stage) for name, stage in stages.items()}
    train(shards, tmp_path / "straight", 6, optim=optim(ema=EMA), stages=given)
    assert "model.towers.image.encoder.net.0.weight/weight_average" in read_tensors(
        last(tmp_path / "straight") / "training" / "optimizer.safetensors"
    )
    with pytest.raises(Cut):
        every = Checkpoints(every_steps=1)
        cut = {"callbacks": [Kill(5)]}
        train(shards, tmp_path / "cut", 6, optim=optim(ema=EMA), stages=given, checkpoint=every, trainer=cut)
    train(shards, tmp_path / "cut", 6, optim=optim(ema=EMA), stages=given)
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")


def test_a_frozen_part_is_not_averaged(shards, tmp_path):
    train(shards, tmp_path, 3, optim=optim(ema=EMA), tuning=Tuning(freeze=["model.towers.image"]))
    kept = read_tensors(last(tmp_path) / "training" / "optimizer.safetensors")
    assert not [name for name in kept if "towers.image" in name]


def test_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"decay is in \[0, 1\), every and warmup are at least 1; got decay=1"):
        Ema(1.0)
    settings = optim(optimizer=schedulefree.AdamWScheduleFree, ema=EMA)
    with pytest.raises(ValueError, match=r"optim.ema: AdamWScheduleFree averages the weights already"):
        settings.build(*made())
