"""Optimisers from anywhere: what a checkpoint keeps of one, groups, schedules, two modes, refusals."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import schedulefree
import torch
import yaml
from few import few
from pytorch_optimizer import SOAP
from test_commands_train import config
from test_lit import rows, train
from tiny import made, write
from torch.optim import SGD, Muon

import align
from align.checkpoint import load_training, read_index, read_state, save_training
from align.checkpoint.nested import pack, unpack
from align.commands.errors import Refused
from align.commands.train import parse
from align.encoders.weights import read_tensors
from align.optim import AdamW, Constant, Cosine, Group, Joined, Linear, Optim, evaluating, named_parameters
from align.optim import schedules as all_schedules

MATRICES = {"matrices": partial(Muon, adjust_lr_fn="match_rms_adamw"), "rest": partial(torch.optim.AdamW, fused=True)}
JOINED, SGD_PATH = {"class_path": "align.optim.Joined"}, {"class_path": "torch.optim.SGD"}
KINDS: dict[str, Any] = {
    "sgd": {"optimizer": partial(SGD, momentum=0.9)},
    "schedule-free": {"optimizer": schedulefree.AdamWScheduleFree, "schedule": Constant()},
    "soap": {"optimizer": partial(SOAP, precondition_frequency=2)},
    "muon": {"optimizer": partial(Joined, **MATRICES)},
    "joined schedule-free": {"optimizer": partial(Joined, matrices=Muon, rest=schedulefree.RAdamScheduleFree)},
    "groups": {"groups": {"*.image.encoder.*": Group(0.1, 0.2, Linear(2)), "objective.*": Group(2.0)}},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


class Killed(BaseException):
    """Nobody expects it, as nobody does SIGKILL."""


class Kill(L.Callback):
    """Ends the run before a step, or in the validation after it."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, align.lit.AlignModule)
        if pl_module.step == self.step:
            raise Killed


def go(shards: Path, run: Path, kind: str, *callbacks: L.Callback, steps: int = 8, every: int | None = 3) -> Any:
    checkpoint = align.lit.Checkpoints(every_steps=every, keep=9)
    given = {"callbacks": [*callbacks]}
    return train(shards, run, steps, optim=Optim(lr=0.01, **KINDS[kind]), checkpoint=checkpoint, trainer=given)[0]


def exact(run: Path) -> dict[str, Any]:
    """All that a run leaves, but for the times and counts in its state."""
    files = {p.relative_to(run): p.read_bytes() for p in run.rglob("*") if p.suffix == ".safetensors"}
    files |= {p.relative_to(run): p.read_bytes() for p in run.rglob("optimizer.json")}
    return {
        **{str(k): v for k, v in files.items()},
        "losses": [(r["step"], r["loss"], r["val/loss"]) for r in rows(run)],
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", few(KINDS, 2))
def test_a_killed_run_goes_on_to_the_bit(shards, tmp_path, kind):
    go(shards, tmp_path / "straight", kind)
    with pytest.raises(Killed):
        go(shards, tmp_path / "killed", kind, Kill(5))
    assert read_index(tmp_path / "killed")["last"] == "step-00000004"
    go(shards, tmp_path / "killed", kind)
    assert exact(tmp_path / "killed") == exact(tmp_path / "straight")
    losses = [float(row["loss"]) for row in rows(tmp_path / "straight")]
    assert losses[-1] != losses[0]


@pytest.mark.slow
def test_a_save_and_a_validation_change_no_bit_of_a_schedule_free_run(shards, tmp_path):
    go(shards, tmp_path / "often", "schedule-free", every=1)
    go(shards, tmp_path / "once", "schedule-free", every=None)
    assert [r["loss"] for r in rows(tmp_path / "often")] == [r["loss"] for r in rows(tmp_path / "once")]


def test_a_model_folder_holds_the_weights_for_evaluation(shards, tmp_path):
    """Those are x, and y trains: y = (1 - beta) z + beta x, Defazio et al. 2024, equation 1."""
    model = go(shards, tmp_path, "schedule-free")
    last = tmp_path / "checkpoints" / read_index(tmp_path)["last"]
    x, y = read_tensors(last / "model.safetensors"), read_tensors(last / "training" / "parameters.safetensors")
    z = read_tensors(last / "training" / "optimizer.safetensors")
    for name, p in model.named_parameters():
        assert torch.equal(p, x[name])  # after the run too
        torch.testing.assert_close(y[f"model.{name}"], 0.1 * z[f"model.{name}/z"] + 0.9 * x[name])
    assert not torch.equal(y["model.towers.image.head.project.weight"], x["towers.image.head.project.weight"])
    scale = y["objective.losses.all.log_scale"].exp().item()
    assert json.loads((last / "model.json").read_text())["terms"][0]["scale"] != pytest.approx(scale, rel=1e-9)


def test_schema_1_goes_on_as_it_did(tmp_path):
    """The checkpoint and the values after it are those of the last version with schema 1."""
    write(write(tmp_path / "shards"), "test", 20)
    run = shutil.copytree(Path(__file__).parent / "reference" / "schema1", tmp_path / "run")
    optim = AdamW(lr=0.01, betas=(0.9, 0.95), warmup=3)
    train(tmp_path / "shards", run, 10, optim=optim)
    after = json.loads((run / "after.json").read_text())
    got = {row["step"]: [float(row[key]) for key in ("loss", "grad_norm", "lr")] for row in rows(run)}
    assert got == {step: pytest.approx(values, rel=1e-10) for step, values in after.items()}


def test_the_state_of_schema_1_comes_back_whole():
    folder = Path(__file__).parent / "reference" / "schema1" / "checkpoints" / "step-00000006"
    model, objective = made()
    optimizer = AdamW().build(model, objective)
    load_training(folder, model, objective, optimizer)
    named = {p: name for name, p in named_parameters(model, objective).items()}
    got = {f"{named[p]}/{key}": x for p, values in optimizer.state.items() for key, x in values.items()}
    saved = read_tensors(folder / "training" / "optimizer.safetensors")
    assert got.keys() == saved.keys()
    assert all(torch.equal(got[key], saved[key]) and got[key].dtype == saved[key].dtype for key in saved)


def test_a_newer_schema_is_refused(tmp_path):
    model, objective = made()
    folder = save_training(tmp_path, model, objective, AdamW().build(model, objective), {"step": 1, "schema": 4})
    with pytest.raises(ValueError, match=r"step-00000001 has schema 4; this align .* reads up to 3: upgrade align"):
        read_state(folder)


def test_another_optimiser_is_refused(tmp_path):
    model, objective = made()
    folder = save_training(tmp_path, model, objective, AdamW().build(model, objective), {"step": 1})
    other = Optim(optimizer=partial(Joined, **MATRICES)).build(model, objective)
    text = r"trained by torch.optim.AdamW, this config has align.optim.Joined\(torch.optim.Muon, torch.optim.AdamW\)"
    with pytest.raises(ValueError, match=text):
        load_training(folder, model, objective, other)


def test_the_config_changes_a_group_and_counters_are_the_checkpoints(tmp_path):
    model, objective = made()
    free = partial(Optim, optimizer=schedulefree.AdamWScheduleFree)
    optimizer = free(weight_decay=0.1).build(model, objective)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    folder = save_training(tmp_path, model, objective, optimizer, {"step": 1})
    again = free(weight_decay=0.3, groups={"*.bias": Group(0.5)}).build(model, objective)
    load_training(folder, model, objective, again)
    assert [(g["k"], g["weight_decay"], g["train_mode"]) for g in again.param_groups] == [
        (1, 0.3 if g["params"][0].ndim == 2 else 0.0, True) for g in again.param_groups
    ]
    assert {g["pattern"] for g in again.param_groups} == {None, "*.bias"}
    assert all(g["weight_sum"] == optimizer.param_groups[0]["weight_sum"] for g in again.param_groups)


def test_a_state_keeps_its_dtypes(tmp_path):
    class Odd(SGD):
        """Keeps a state that torch's load_state_dict would cast to the parameter's dtype."""

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p] = {"mask": p > 0, "deep": [{"half": p.detach().half()}, (1, 2.5, "text", None)]}

    model, objective = made()
    make = Optim(optimizer=Odd)
    optimizer, again = make.build(model, objective), make.build(model, objective)
    optimizer.step()
    load_training(save_training(tmp_path, model, objective, optimizer, {"step": 1}), model, objective, again)
    for p, values in optimizer.state.items():
        got = again.state[p]
        assert torch.equal(got["mask"], values["mask"])
        assert got["mask"].dtype == torch.bool
        assert got["deep"][0]["half"].dtype == torch.float16
        assert got["deep"][1] == (1, 2.5, "text", None)


def test_nested_values_come_back():
    value = {
        "a": [1, (2.5, None, "x", True)],
        "b": {3: torch.ones(2), "c": math.inf},
        "$odd": {},
        "b/3": torch.zeros(1),
        "columns": torch.arange(6.0).reshape(3, 2).T,
    }
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(value, "", tensors)))
    got = unpack(packed, tensors)
    assert torch.equal(got["b"].pop(3), value["b"].pop(3))
    assert torch.equal(got.pop("b/3"), value.pop("b/3"))
    assert got["columns"].stride() == value["columns"].stride() == (1, 2)
    assert torch.equal(got.pop("columns"), value.pop("columns"))
    assert got == value
    with pytest.raises(ValueError, match="an optimiser's state/f is a function; a checkpoint holds tensors"):
        pack({"f": made}, "state", {})


def test_the_first_pattern_counts():
    model, objective = made()
    optim = Optim(
        lr=1.0,
        weight_decay=0.3,
        warmup=0,
        final=1,
        groups={
            "*.image.*.bias": Group(0.5, 0.7),
            "model.towers.image.*": Group(0.1),
            "*": Group(2.0, None, Linear(0)),
        },
    )
    optimizer = optim.build(model, objective)
    optim.set_rates(optimizer, 5, 11)
    found = {n: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for n in g["param_names"]}
    for name, p in named_parameters(model, objective).items():
        if ".image." in name:
            decay = 0.7 if name.endswith("bias") and "encoder" in name else 0.3 * (p.ndim >= 2)
            assert found.pop(name) == (0.5 if name.endswith("bias") else 0.1, decay), name
        else:
            assert found.pop(name) == (pytest.approx(1.0), 0.3 * (p.ndim >= 2)), name
    assert not found


def test_joined_is_its_parts():
    """Two optimisers side by side, with the same gradients, take the same steps."""
    model, twin = made()[0], made()[0]
    joined = Joined([{"params": [*model.parameters()]}], SGD, torch.optim.Adagrad, matrices_lr=2.0)
    matrices = SGD([p for p in twin.parameters() if p.ndim == 2], lr=0.02)
    rest = torch.optim.Adagrad([p for p in twin.parameters() if p.ndim != 2], lr=0.01)
    for step in range(3):
        for group in joined.param_groups:
            group["lr"] = 0.01 * group.get("lr_factor", 1.0)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.full_like(p, step + 1.0)
            q.grad = torch.full_like(q, step + 1.0)
        for optimizer in (joined, matrices, rest):
            optimizer.step()
        if step == 1:
            joined.load_state_dict(joined.state_dict())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("schedule", [Cosine(10, 0.1), Linear(10, 0.1), Constant(10)])
def test_schedules_by_hand(schedule):
    for step in range(120):
        done = min(1.0, (step - 10) / 89)
        fall = {Cosine: 0.1 + 0.45 * (1 + math.cos(math.pi * done)), Linear: 1 - 0.9 * done, Constant: 1.0}
        assert schedule(step, 100) == pytest.approx((step + 1) / 11 if step < 10 else fall[type(schedule)])
    assert issubclass(type(schedule), all_schedules.WarmUp)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"groups": {"*.depth.*": Group()}},
            r"optim.groups.\*.depth.\*: it matches no parameter; names are like",
        ),
        ({"groups": {"*": Group(), "*.bias": Group()}}, r"optim.groups.\*.bias: every .* it matches is \*'s"),
        ({"optimizer": partial(SGD, momentum=-1)}, "optim.optimizer refuses its arguments: Invalid momentum value: -1"),
        (
            {"optimizer": Muon},
            r"Muon only supports 2D parameters .*; align.optim.Joined gives it the matrices",
        ),
        ({"optimizer": list}, "optim.optimizer makes a list, which is no torch.optim.Optimizer"),
        ({"optimizer": partial(SGD, lr=0.5)}, "optim.optimizer has lr=0.5, but optim.lr=0.001 counts"),
        ({"optimizer": partial(Joined, **MATRICES, but=["*.embed"])}, r"but: '\*.embed' matches no parameter"),
        (
            {"optimizer": partial(Joined, **MATRICES, but=["*"])},
            "no parameter of two dimensions is left for `mat",
        ),
        ({"schedule": lambda step, steps: math.nan}, "optim.schedule returns nan at step 0 of 50"),
        ({"schedule": lambda step, steps: 30 - step}, "optim.schedule returns -1.0 at step 31 of 50"),
        ({"groups": {"*": Group(schedule=lambda step, steps: math.inf)}}, r"optim.groups.\*.schedule returns inf"),
        ({"schedule": lambda step: 1.0}, "optim.schedule fails at step 0 of 50: TypeError: "),
    ],
)
def test_refused_before_a_step(given, text):
    with pytest.raises(ValueError, match=text) as caught:
        Optim(**given).check(*made(), 50)
    assert "\n" not in str(caught.value)


def test_refused_where_it_is_written():
    for given, text in (
        ({"optimizer": SGD, "betas": (0.9, 0.95)}, "optim.optimizer.betas"),
        ({"schedule": Constant(), "warmup": 3}, "optim.schedule.warmup"),
        ({"lr": 0.0}, "lr must be above 0"),
    ):
        with pytest.raises(ValueError, match=text):
            Optim(**given)
    with pytest.raises(ValueError, match=r"must be at least 0; got -1 and None"):
        Group(-1)


@pytest.mark.parametrize(
    ("optim", "text"),
    [
        ({"optimizer": SGD_PATH | {"init_args": {"params": []}}}, "SGD gets its argument 'params' from align"),
        ({"optimizer": SGD_PATH | {"init_args": {"momentun": 1}}}, "'momentun'; did you mean momentum"),
        (
            {"optimizer": SGD_PATH | {"init_args": {"momentum": "much"}}},
            r"optim.optimizer: .*momentum: expected float; got much in torch.optim.SGD$",
        ),
        ({"optimizer": "torch.nn.Linear"}, "optim.optimizer: .*'torch.nn.Linear' to be a subclass of .*Optimizer"),
        ({"optimizer": JOINED | {"init_args": {"matrices": "torch.optim.Moun"}}}, "no Moun; did you mean Muon"),
        ({"optimiser": "torch.optim.SGD"}, "no key 'optim.optimiser'; did you mean optimizer"),
        ({"groups": {"*.bias": {"lrr": 0.1}}}, "align.optim.Group has no argument 'lrr'; did you mean lr"),
        ({"groups": {"*.bias": {"schedule": "align.optim.Constand"}}}, "no Constand; did you mean Constant"),
        ({"schedule": "no_module_of_mine.halve"}, "optim.schedule: .*No module named 'no_module_of_mine'"),
        ({"schedule": "align.optim.Linear", "final": 0.1}, "give another its own: optim.schedule.warmup"),
    ],
)
def test_a_config_is_refused_in_one_line(tmp_path, optim, text):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"optim": optim}))
    with pytest.raises(Refused, match=text) as caught:
        parse(["--config", str(tmp_path / "config.yaml"), "--run", str(tmp_path / "run")])
    line = str(caught.value)
    assert "\n" not in line
    assert "Namespace" not in line


class Deaf(SGD):
    def step(self, closure=None):
        return super().step()


def test_an_optimiser_that_calls_no_closure_is_named(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "deaf", {"optimizer": Deaf})
    with pytest.raises(ValueError, match=r"optim.optimizer: Deaf.step\(closure\) does not call the closure"):
        go(shards, tmp_path / "run", "deaf", steps=2, every=None)


def test_one_mode_copies_nothing():
    with evaluating(AdamW().build(*made())) as trained:
        assert trained == {}
