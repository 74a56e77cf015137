"""What is wrapped around a model is not saved: the model inside is, and it loads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from safetensors.torch import load_file
from tiny import made, modalities
from torch import Tensor, nn

import align
from align import JointModel, Objective, Term
from align.checkpoint import load_training, save_training
from align.distributed import rank, world
from align.embedding import fingerprint
from align.files import sha256
from align.losses import InfoNCE, Matryoshka, MemoryQueue
from align.model.inside import model_inside
from align.optim import AdamW
from align.values import Batch, Rows


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


def tower(model: JointModel) -> JointModel:
    model.towers["image"] = compiled(model.towers["image"])
    return model


def parts(model: JointModel) -> JointModel:
    image, text = model.towers["image"], model.towers["text"]
    image.encoder, image.head = compiled(image.encoder), compiled(image.head)
    text.encoder.net = compiled(text.encoder.net)
    return model


def in_place(model: JointModel) -> JointModel:
    model.compile(backend="eager")
    return model


def fabric(model: JointModel) -> Any:
    from lightning.fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup_module(model)


def lightning(model: JointModel) -> Any:
    from align.lit import AlignModule

    return AlignModule(model, made()[1])


def twice(model: JointModel) -> Any:
    return nn.DataParallel(compiled(model))


class Mine(nn.Module):
    """Someone's own training module."""

    def __init__(self, model: JointModel):
        super().__init__()
        self.net, self.temperature = model, nn.Parameter(torch.ones(1))


def same(model: JointModel, folder: Path) -> None:
    """The folder has the names of a plain model and loads as it."""
    assert sorted(load_file(folder / "model.safetensors")) == sorted(made()[0].state_dict())
    again = align.load(folder, allow=("tiny",))
    inputs = {m: [torch.linspace(-1, 1, 6).double()] for m in modalities}
    expected = model.embed(**inputs)
    got = again.double().embed(**inputs)
    for m in modalities:
        torch.testing.assert_close(got[m], expected[m], rtol=0, atol=0)


dynamo = [pytest.param(wrap, marks=pytest.mark.slow) for wrap in (compiled, tower, parts, in_place, twice)]


@pytest.mark.parametrize("wrap", [*dynamo, fabric, lightning, Mine, nn.DataParallel])
def test_the_model_inside_is_saved(wrap, tmp_path):
    plain = made()[0]
    wrapped = wrap(copy.deepcopy(plain))
    same(plain, align.save(wrapped, tmp_path / "model"))
    assert fingerprint(wrapped) == sha256(tmp_path / "model" / "model.safetensors")


def test_where_no_model_or_several_are_inside(tmp_path):
    with pytest.raises(TypeError, match="a JointModel is needed, or a module that holds one; Linear holds none"):
        align.save(nn.Linear(1, 1), tmp_path / "model")
    with pytest.raises(ValueError, match="ModuleList holds 2 JointModels; give one of them"):
        align.save(nn.ModuleList([made()[0], made(1)[0]]), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_fsdps_first_version_is_refused():
    class FullyShardedDataParallel(Mine):
        """Torch's own needs a GPU."""

    with pytest.raises(ValueError, match=r"take torch.distributed.fsdp.fully_shard"):
        model_inside(FullyShardedDataParallel(made()[0]))


def pieces() -> tuple[JointModel, Objective, torch.optim.Optimizer]:
    model, _ = made()
    terms = {"all": Term(Matryoshka(MemoryQueue(InfoNCE(), 20), [2, 4]), "all"), "plain": Term(InfoNCE(), "all")}
    objective = Objective(terms, dim=4, batch=12, modalities=list(modalities)).double()
    return model, objective, AdamW(lr=0.01).build(model, objective)


def wrapped_pieces() -> tuple[JointModel, Any, torch.optim.Optimizer]:
    model, objective, optimizer = pieces()
    objective.losses["plain"] = compiled(objective.losses["plain"])
    return parts(model), compiled(objective), optimizer


def steps(model: Any, objective: Any, optimizer: torch.optim.Optimizer, which: range) -> list[float]:
    losses = []
    for step in which:
        draw = torch.Generator().manual_seed(step)
        inputs = {m: torch.randn(8, 6, generator=draw, dtype=torch.float64) for m in modalities}
        batch = Batch({m: Rows(x, torch.arange(8)) for m, x in inputs.items()}, [""] * 8, torch.arange(8))
        loss, _ = objective(model(batch), generator=draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow  # imports dynamo
@pytest.mark.parametrize(("first", "second"), [(wrapped_pieces, pieces), (pieces, wrapped_pieces)])
def test_a_run_goes_on_compiled_or_not(first, second, tmp_path):
    """Wrapped modules run as they are here, uncompiled: the names are the point."""
    with torch.compiler.set_stance("force_eager"):
        whole = steps(*pieces(), range(6))
        before = first()
        got = steps(*before, range(3))
        folder = save_training(tmp_path, *before, {"step": 3})
        keys = load_file(folder / "training" / "objective.safetensors")
        assert sorted(keys) == sorted(pieces()[1].state_dict() | {k: 0 for k in keys if "rows/" in k or "groups/" in k})
        assert not any("_orig_mod" in key for key in load_file(folder / "training" / "optimizer.safetensors"))
        after = second()
        load_training(folder, *after)
        assert got + steps(*after, range(3, 6)) == whole


def case_ddp() -> Tensor:
    model = nn.parallel.DistributedDataParallel(made()[0])
    folder = Path(f"ddp-{rank()}")
    same(model.module, align.save(model, folder))
    return torch.ones(1)


def case_fsdp2() -> Tensor:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    plain = made()[0]
    model = copy.deepcopy(plain)
    mesh = init_device_mesh("cpu", (world(),))
    for part in model.towers.values():
        fully_shard(part.encoder, mesh=mesh)
    fully_shard(model, mesh=mesh)
    same(plain, align.save(model, Path("fsdp")))  # both ranks call it, and both find it there
    message = ""
    try:
        save_training(Path(f"run-{rank()}"), model, pieces()[1], torch.optim.SGD(model.parameters(), 0.1), {"step": 1})
    except ValueError as error:
        message = str(error)
    assert "align.save on all ranks gathers them" in message
    dist.barrier()
    return torch.ones(1)


@pytest.mark.sweep  # starts two ranks that import half of torch
def test_two_ranks_save_the_model_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranks").mkdir()
    found = on_ranks([case_ddp, case_fsdp2], tmp_path / "ranks")
    assert found == {"case_ddp": [torch.ones(1)] * 2, "case_fsdp2": [torch.ones(1)] * 2}
