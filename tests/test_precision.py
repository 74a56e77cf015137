"""Precisions of a run: each trains near float32, and what half precision would lose is computed in float32."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import test_lit
import torch
import torch.nn.functional as F
from cut import Cut, Kill
from few import few
from test_lit import exact, rows, train
from tiny import Dense, dim, made, write
from tiny_data import wav

from align import Batch, JointModel, Objective, Rows, Term, Tower
from align.checkpoint import read_index
from align.encoders import ImageCNN, SpectrogramCNN, TransformerText
from align.encoders.weights import read_tensors
from align.lit import AlignModule, Checkpoints
from align.lit.precision import Half, Scaled, choose_precision
from align.losses import InfoNCE
from align.losses.kernels.float32 import in_float32
from align.preprocess import Array, Audio, Bytes, Image

NEAR = {"bf16-mixed": 0.02, "16-mixed": 0.005, "bf16-true": 0.05}
"""Largest relative distance of ten losses from float32's. bfloat16's steps are 2^-8 of a number, fp16's 2^-11."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


@pytest.fixture(autouse=True)
def _float32(monkeypatch):
    monkeypatch.setattr(test_lit, "made", lambda dropout: tuple(part.float() for part in made(dropout=dropout)))


def last(run: Path) -> Path:
    return run / "checkpoints" / read_index(run)["last"]


@pytest.fixture(scope="module")
def wanted(shards, tmp_path_factory):
    """The losses of ten steps in float32."""
    run = tmp_path_factory.mktemp("float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_lit, "made", lambda dropout: tuple(part.float() for part in made(dropout=dropout)))
        train(shards, run, 10, trainer={"precision": "32-true"})
    return [float(row["loss"]) for row in rows(run)]


class Scale(L.Callback):
    """Sets the scale of the gradients before a step: at the start to one at which these gradients do not overflow."""

    def __init__(self, at: int = 0, to: float = 2.0**6):
        self.at, self.to = at, to

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, AlignModule)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and pl_module.step == self.at:
            scaler.load_state_dict({**scaler.state_dict(), "scale": self.to})


@pytest.mark.parametrize("precision", few(NEAR, 1))
def test_each_precision_trains_near_float32(shards, tmp_path, wanted, precision):
    train(shards, tmp_path, 10, trainer={"precision": precision, "callbacks": [Scale()]})
    found = [float(row["loss"]) for row in rows(tmp_path)]
    worst = max(abs(a - b) / b for a, b in zip(found, wanted, strict=True))
    assert 0 < worst < NEAR[precision]
    assert all(math.isfinite(float(row["grad_norm"])) for row in rows(tmp_path))


def test_temperatures_stay_float32_under_half_weights(shards, tmp_path):
    """bfloat16 has a step of 2^-6 at a log_scale of 2.66: at a rate of 1e-3 it would not move at all."""
    from align.optim import AdamW

    model, _ = train(shards, tmp_path, 4, val=False, trainer={"precision": "bf16-true"}, optim=AdamW(lr=1e-3))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    scales = [float(row["all/scale"]) for row in rows(tmp_path)]
    assert scales[0] == pytest.approx(1 / 0.07, rel=1e-6)  # not through bfloat16: 14.25
    assert len(set(scales)) == 4
    assert (
        read_tensors(last(tmp_path) / "training" / "objective.safetensors")["losses.all.log_scale"].dtype
        == torch.float32
    )


@pytest.mark.parametrize("precision", [pytest.param("bf16-true", marks=pytest.mark.sweep), "16-mixed"])
def test_a_cut_run_goes_on_to_the_bit(shards, tmp_path, precision):
    given: dict[str, Any] = {"precision": precision}
    train(shards, tmp_path / "straight", 6, trainer=given)
    with pytest.raises(Cut):
        every = Checkpoints(every_steps=2)
        train(shards, tmp_path / "cut", 6, checkpoint=every, trainer={**given, "callbacks": [Kill(5)]})
    train(shards, tmp_path / "cut", 6, trainer=given)
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")


class Seen(L.Callback):
    """Keeps of each step: its number, that the weights are the same as before, that the norm is finite, the scale."""

    def __init__(self):
        self.steps: list[tuple[int, bool, bool, float]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.before = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, AlignModule)
        same = all(torch.equal(a, b) for a, b in zip(self.before, pl_module.parameters(), strict=True))
        norm = float(pl_module.values["grad_norm"])
        scaler: Any = trainer.precision_plugin
        self.steps.append((pl_module.step, same, math.isfinite(norm), scaler.scaler.get_scale()))


def test_a_step_that_overflows_is_skipped_and_its_scale_is_in_the_checkpoint(shards, tmp_path):
    found = Seen()
    callbacks = [Scale(), Scale(2, 2.0**120), found]
    train(shards, tmp_path, 4, val=False, trainer={"precision": "16-mixed", "callbacks": callbacks})
    steps = {step: (same, finite) for step, same, finite, _ in found.steps}
    assert steps == {1: (False, True), 2: (False, True), 3: (True, False), 4: (True, False)}
    assert [scale for *_, scale in found.steps] == [2.0**6, 2.0**6, 2.0**119, 2.0**118]
    state = json.loads((last(tmp_path) / "training" / "state.json").read_text())
    assert state["precision"]["scale"] == 2.0**118
    assert state["precision"]["_growth_tracker"] == 0
    assert state["step"] == 4  # a step is so many positions, taken or skipped


def test_gradients_are_unscaled_before_they_are_clipped(shards, tmp_path):
    train(shards, tmp_path, 2, val=False, trainer={"precision": "16-mixed", "callbacks": [Scale()]})
    train(shards, tmp_path / "plain", 2, val=False, trainer={"precision": "32-true"})
    norms = [float(run[0]["grad_norm"]) for run in (rows(tmp_path), rows(tmp_path / "plain"))]
    assert norms[0] == pytest.approx(norms[1], rel=0.01)


def test_plugins_by_precision():
    assert isinstance(choose_precision({"precision": "bf16-true"})["plugins"][0], Half)
    made = choose_precision({"precision": "16-mixed", "accelerator": "cpu", "plugins": "kept"})
    assert made["plugins"][0] == "kept"
    assert isinstance(made["plugins"][1], Scaled)
    assert "precision" not in made
    for same in ({"precision": "bf16-mixed"}, {"precision": "32-true"}, {"precision": "bf16-true", "strategy": "fsdp"}):
        assert choose_precision(same) == same


def model_of_three() -> JointModel:
    torch.manual_seed(0)
    towers = {
        "audio": Tower(Audio(8000, 0.1, n_mels=8), SpectrogramCNN(16, n_mels=8, widths=(8,))),
        "image": Tower(Image(16), ImageCNN(16, widths=(8,), stem=2)),
        "text": Tower(Bytes(12), TransformerText(259, 12, width=16, depth=1, heads=2)),
    }
    return JointModel(towers, dim)


def batch_of_three(model: JointModel) -> Batch:
    readers = model.preprocess
    audio = readers["audio"].collate([readers["audio"].eval(readers["audio"].decode(wav(i))) for i in range(3)])
    values = {"audio": audio, "image": torch.rand(3, 3, 16, 16), "text": torch.randint(1, 200, (3, 12))}
    given = {m: Rows(x, torch.arange(3)) for m, x in values.items()}
    return Batch(given, ids=list("abc"), labels=[None] * 3, source=[""] * 3, position=torch.arange(3))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed"])
def test_each_island_computes_in_float32(precision, monkeypatch):
    """Front ends, embeddings' norm, logits and sums: in float32, whatever the towers compute in."""
    model = model_of_three()
    objective = Objective({"all": Term(InfoNCE(), "all")}, dim=dim, batch=3, modalities=model.modalities)
    module = AlignModule(model, objective)
    batch, seen = batch_of_three(model), {}
    half = torch.float16 if precision == "16-mixed" else torch.bfloat16
    plugin: Any = choose_precision({"precision": precision, "accelerator": "cpu"}).get("plugins", [None])[0]
    if plugin is None:
        from lightning.pytorch.plugins import MixedPrecision

        plugin = MixedPrecision("bf16-mixed", "cpu")
    plain = {m: tower.preprocess.device(batch[m].values, None) for m, tower in model.towers.items()}
    for name, tower in model.towers.items():
        front_end = tower.preprocess.device

        def watched(values, generator, name=name, front_end=front_end):
            seen[f"{name} in"] = values.dtype
            return seen.setdefault(f"{name} out", front_end(values, generator))

        monkeypatch.setattr(tower.preprocess, "device", watched)
        tower.head.register_forward_hook(lambda m, args, out, name=name: seen.update({f"{name} head": out.dtype}))
    normalize, given = F.normalize, []
    monkeypatch.setattr(F, "normalize", lambda x, **kw: (seen.update(norm=x.dtype), normalize(x, **kw))[1])
    forward = InfoNCE.forward
    monkeypatch.setattr(InfoNCE, "forward", lambda self, x, *a, **kw: (given.extend(x), forward(self, x, *a, **kw))[1])
    plugin.convert_module(module)
    with plugin.forward_context():
        embeddings = model(plugin.convert_input(batch))
        loss, _ = objective(embeddings)
    loss.backward()
    for name in ("audio", "image"):
        assert seen[f"{name} out"].dtype == torch.float32
        torch.testing.assert_close(seen[f"{name} out"], plain[name], rtol=0, atol=0)
    assert {seen[f"{m} head"] for m in model.modalities} == {half}
    assert seen["norm"] == torch.float32
    assert {x.dtype for x in given} == {loss.dtype} == {torch.float32}
    torch.testing.assert_close(loss.detach(), objective(embeddings)[0].detach(), rtol=1e-6, atol=0)
    assert torch.get_default_dtype() == torch.float32
    grads = [p.grad for p in objective.parameters() if p.grad is not None]
    assert {g.dtype for g in grads} == {torch.float32}


def test_norms_and_softmax_of_half_inputs_sum_in_float32():
    """torch's own kernels: autocast on a CPU leaves these in half precision, whose inside is float32."""
    torch.manual_seed(0)
    x = torch.randn(64, 4096).bfloat16()
    for layer in (lambda x: F.layer_norm(x, (4096,)), lambda x: F.group_norm(x, 8), lambda x: x.softmax(-1)):
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
        torch.testing.assert_close(found.float(), layer(x.float()).bfloat16().float(), rtol=2**-7, atol=1e-7)


def test_a_function_outside_of_half_precision_is_called_itself():
    def call():
        return torch.zeros(1).dtype, torch.is_autocast_enabled("cpu")

    assert in_float32(call, "cpu") is call
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert in_float32(call, "cpu")() == (torch.float32, False)
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)


class Product(Array):
    """A front end of a user's: a product, with a table made where it is needed."""

    def device(self, values: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        self.made = values @ torch.full((6, 6), 1 / 3)
        return self.made


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16])
def test_any_front_end_is_an_island(default):
    tower = JointModel({"track": Tower(Product((6,)), Dense())}, 4).towers["track"].to(default)
    values = torch.randn(3, 6)
    wanted = values @ torch.full((6, 6), 1 / 3)
    torch.set_default_dtype(default)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=default == torch.float32):
            assert tower(values).dtype == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(tower.preprocess.made, wanted)
