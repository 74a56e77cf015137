"""Optimisers whose states are tensor subclasses: saved as plain tensors and JSON, and resumed to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cut import Cut, Kill
from safetensors import safe_open
from test_lit import exact, train
from tiny import write
from torch import Tensor
from torch.utils._pytree import tree_map

from align.checkpoint import read_index
from align.checkpoint.nested import pack, unpack
from align.encoders.weights import read_tensors, write_tensors
from align.lit import Checkpoints
from align.optim import Ema, Optim


class Coarse(Tensor):
    """Numbers kept as signed bytes and one scale, as 8-bit states are: values = codes · scale."""

    codes: Tensor
    size: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, size: Tensor, signed: bool, dtype: torch.dtype):
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=dtype, device=codes.device)

    def __init__(self, codes: Tensor, size: Tensor, signed: bool, dtype: torch.dtype):
        self.codes, self.size, self.signed = codes, size, signed

    def __tensor_flatten__(self):
        return ["codes", "size"], [self.signed, self.dtype]

    @classmethod
    def __tensor_unflatten__(cls, inner, context, size=None, stride=None):
        return cls(inner["codes"], inner["size"], *context)

    @classmethod
    def zeros(cls, like: Tensor) -> Coarse:
        return cls(torch.zeros(like.shape, dtype=torch.int8), torch.ones(1), True, like.dtype)

    def wide(self) -> Tensor:
        return self.codes.to(self.dtype) * self.size.to(self.dtype)

    def put(self, x: Tensor) -> None:
        self.size.copy_(x.abs().max().clamp(min=1e-12) / 127)
        self.codes.copy_((x / self.size).round())

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None):
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.detach.default, torch.ops.aten.clone.default):
            x, dtype = args[0], (kwargs or {}).get("dtype") or args[0].dtype
            return cls(x.codes, x.size, x.signed, dtype)
        return func(*tree_map(lambda x: x.wide() if isinstance(x, cls) else x, args), **(kwargs or {}))


class Momentum(torch.optim.Optimizer):
    """Gradient descent whose momentum is `Coarse`, and whose rate is a tensor, as torchao's are."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        for group in self.param_groups:
            group["lr"] = torch.tensor(group["lr"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p].setdefault("momentum", Coarse.zeros(p))
                new = 0.9 * kept.wide() + p.grad
                kept.put(new)
                p.sub_(group["lr"] * new)
        return loss


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def test_a_subclass_is_saved_by_its_parts(tmp_path):
    kept = Coarse.zeros(torch.zeros(3, 4, dtype=torch.float64))
    kept.put(torch.randn(3, 4))
    tensors: dict[str, Tensor] = {}
    packed = json.loads(json.dumps(pack({"momentum": kept}, "weight", tensors)))
    assert {name: x.dtype for name, x in tensors.items()} == {
        "weight/momentum/codes": torch.int8,
        "weight/momentum/size": torch.float32,
    }
    write_tensors(tensors, tmp_path / "x.safetensors")
    found = unpack(packed, read_tensors(tmp_path / "x.safetensors"))["momentum"]
    assert type(found) is Coarse
    assert (found.dtype, found.signed) == (torch.float64, True)
    assert torch.equal(found.wide(), kept.wide())


@pytest.mark.parametrize("name", ["os:system", "nowhere.at_all:Kept", "builtins:dict", "torch:Tensor"])
def test_a_class_that_the_optimiser_does_not_bring_is_refused(name):
    packed = {"$subclass": name, "inner": {}, "context": [], "shape": [1], "stride": [1]}
    with pytest.raises(ValueError, match="which this config's optimiser does not bring"):
        unpack(packed, {})


def go_on(shards: Path, folder: Path, optim: Optim, steps: int = 6, **given: Any) -> Path:
    """A run that is cut and goes on, compared with one that is not. Returns its last training folder."""
    given = {"val": False, "optim": optim, **given}
    train(shards, folder / "straight", steps, **given)
    with pytest.raises(Cut):
        stop = {"callbacks": [Kill(5)]}
        train(shards, folder / "cut", steps, checkpoint=Checkpoints(every_steps=2), trainer=stop, **given)
    train(shards, folder / "cut", steps, **given)
    assert exact(folder / "cut") == exact(folder / "straight")
    return folder / "cut" / "checkpoints" / read_index(folder / "cut")["last"] / "training"


def check_files(training: Path) -> None:
    """Every file opens with safetensors or json alone."""
    for path in training.parent.rglob("*"):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as f:
                assert all(f.get_tensor(name) is not None for name in f.keys())  # noqa: SIM118
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.is_dir() or path.suffix == ".yaml"


def test_a_run_with_such_states_goes_on_to_the_bit(shards, tmp_path):
    training = go_on(shards, tmp_path, Optim(lr=0.001, optimizer=Momentum, ema=Ema(0.9)))
    check_files(training)
    kept = read_tensors(training / "optimizer.safetensors")
    assert kept["model.towers.image.encoder.net.0.weight/momentum/codes"].dtype == torch.int8
    rates = [x for name, x in kept.items() if name.endswith("/lr")]
    assert rates
    assert all(0 < x < 0.001 for x in rates)  # of the schedule, in the tensor itself


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore:.*invalid escape sequence.*")  # of torchao's docstrings, as Python compiles them
@pytest.mark.parametrize("kind", ["AdamW8bit", "AdamW4bit", "AdamWFp8"])
def test_torchao_goes_on_to_the_bit(shards, tmp_path, monkeypatch, kind):
    """Its steps are compiled for 19 s. Here they are run as they are written."""
    torchao: Any = pytest.importorskip("torchao.optim")
    import test_lit

    def wide(dropout: float):
        from tiny import Dense, dim, modalities

        from align import JointModel, Objective, Term, Tower
        from align.losses import InfoNCE
        from align.preprocess import Array

        torch.manual_seed(0)
        model = JointModel({m: Tower(Array((6,)), Dense(1024, dropout)) for m in modalities}, dim)  # 6,144 weights
        terms = {"all": Term(InfoNCE(), "all")}
        return model, Objective(terms, dim=dim, batch=12, modalities=list(modalities))

    monkeypatch.setattr(test_lit, "made", wide)
    monkeypatch.setitem(test_lit.trainer, "precision", "32-true")
    torch.compiler.set_stance("force_eager")
    try:
        training = go_on(shards, tmp_path, Optim(lr=0.001, optimizer=getattr(torchao, kind)))
    finally:
        torch.compiler.set_stance("default")
    check_files(training)
    kept = read_tensors(training / "optimizer.safetensors")
    codes = [x for name, x in kept.items() if name.endswith("exp_avg/codes")]
    assert codes
    assert all(x.element_size() == 1 for x in codes)
