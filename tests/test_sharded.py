"""FSDP2: a sharded run is the run of one process, and its checkpoints go on under any strategy and number of ranks."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from safetensors.torch import load_file
from sharded_runs import CUT, STEPS, go, make, rows
from test_eight_bit import Momentum
from tiny import dim, write
from torch import Tensor, nn

import align
from align import Features, JointModel, Objective, Tower
from align.checkpoint import load_training, read_index, save_training
from align.checkpoint.shards import write_shards
from align.diagnostics import Diagnose
from align.distributed import rank, world
from align.lit.resume import find
from align.lit.sharding import check_shared, make_strategy, spread
from align.lit.stages import Stage
from align.model.inside import in_shards
from align.model.sharding import gather_weights, list_blocks, shard_model
from align.optim import Ema, Joined, Optim, named_parameters
from align.optim.clipping import average_whole, clip_gradients, measure_norm
from align.preprocess import Array

SHARDS, RUNS = Path("shards"), Path("runs")


def last(run: Path) -> Path:
    return run / "checkpoints" / read_index(run)["last"]


def copied(run: str, to: str) -> Path:
    """A copy of a run for all ranks to go on with."""
    if rank() == 0:
        shutil.copytree(RUNS / run, RUNS / to)
    if world() > 1:
        dist.barrier()
    return RUNS / to


def case_ddp() -> int:
    go(SHARDS, RUNS / "ddp", "ddp", cut=CUT)
    return 0


def case_fsdp2() -> int:
    """A run of two sharded ranks, with an evaluator, which is cut in its middle."""
    go(SHARDS, RUNS / "fsdp2", "fsdp2", cut=CUT, validate={"with": ["retrieval"], "every_steps": 4})
    return 0


def case_goes_on() -> int:
    """Cut runs of one process and of FSDP2 go on sharded, and the last one under DDP too."""
    for before in ("one", "fsdp2"):
        go(SHARDS, copied(before, f"{before} to fsdp2"), "fsdp2")
    go(SHARDS, copied("fsdp2", "fsdp2 to ddp"), "ddp")
    return 0


class Spoil(L.Callback):
    """Puts NaN into the texts of rank 1 in the second step."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.step == 1 and rank() == 1:
            batch["text"].values.fill_(float("nan"))


def case_skips() -> int:
    go(SHARDS, RUNS / "skips", "fsdp2", trainer={"callbacks": [Spoil()]}, optim=Optim(lr=0.01, ema=Ema(0.5)))
    return 0


class Normed(nn.Module):
    """A layer with running statistics, which differ from rank to rank until they are shared."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.width = width
        self.net = nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width))

    def forward(self, values: Tensor) -> Features:
        return Features(self.net(values) if len(values) > 1 else self.net[0](values))


def normed() -> tuple[JointModel, Objective]:
    model, objective = make()
    return JointModel({m: Tower(Array((6,)), Normed()) for m in model.modalities}, dim).double(), objective


def case_normed() -> list[str]:
    """Returns the diagnostics of a run with running statistics, and of one that was cut and went on."""
    options: dict[str, Any] = {"made": normed, "diagnose": Diagnose(every_steps=3)}
    lines = []
    go(SHARDS, RUNS / "normed cut", "fsdp2", cut=1, **options)
    for name in ("normed", "normed cut"):
        go(SHARDS, RUNS / name, "fsdp2", **options)
        dist.barrier()
        text = (RUNS / name / "diagnostics.jsonl").read_text()
        lines.append(str([json.loads(line) | {"seconds": 0} for line in text.splitlines()]))
    return lines


def adafactor_and_more(groups: list[dict]) -> torch.optim.Optimizer:
    return Joined(groups, torch.optim.Adafactor, torch.optim.AdamW)


def case_no_step() -> list[str]:
    """An optimiser one part of which takes no step on shards."""
    try:
        go(SHARDS, RUNS / "no step", "fsdp2", optim=Optim(optimizer=adafactor_and_more))
    except ValueError as error:
        return [str(error)]
    return []


def case_two_nodes() -> int:
    """Each rank is a node, and counts its ranks from 0."""
    node = {"LOCAL_RANK": "0", "GROUP_RANK": str(rank()), "LOCAL_WORLD_SIZE": "1"}
    go(SHARDS, RUNS / "nodes", "fsdp2", trainer={"num_nodes": 2, "devices": 1}, node=node)
    return 0


class Flips(torch.optim.SGD):
    """An optimiser that evaluates the negatives of the weights that it trains."""

    def train(self) -> None:
        self._flip()

    def eval(self) -> None:
        self._flip()

    @torch.no_grad()
    def _flip(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.neg_()


def sharded(momentum: float = 0.9) -> tuple[Any, nn.Module, torch.optim.Optimizer]:
    from torch.distributed.device_mesh import init_device_mesh

    model, objective = make()
    shard_model(model, init_device_mesh("cpu", (world(),)))
    kinds: list[list[nn.Parameter]] = [[], []]
    for p in named_parameters(model, objective).values():
        kinds[in_shards(p)].append(p)
    return model, objective, Flips([{"params": some} for some in kinds], 0.1, momentum=momentum)


def fill(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take a step along gradients that every rank knows."""
    for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        p.grad = torch.full_like(p, 1 + i)
    optimizer.step()


def case_two_modes() -> list[Any]:
    """Weights that train stand in shards beside those that are evaluated, which every reader of a model finds."""
    model, objective, optimizer = sharded()
    fill(model, optimizer)
    before = gather_weights(model)
    folder = save_training(RUNS / "flips", model, objective, optimizer, {"step": 1})
    again, other, fresh = sharded()
    state = load_training(folder, again, other, fresh)
    after, saved = gather_weights(again), load_file(folder / "model.safetensors")
    right = all(torch.equal(after[k], x) and torch.equal(saved[k], -x) for k, x in before.items())
    momenta = [
        bool((a == b).all() if not in_shards(a) else (a.to_local() == b.to_local()).all())
        for p, q in zip(
            named_parameters(model, objective).values(), named_parameters(again, other).values(), strict=True
        )
        for a, b in [(optimizer.state[p]["momentum_buffer"], fresh.state[q]["momentum_buffer"])]
    ]
    return [right, all(momenta), len(momenta), state["step"]]


def case_odd_checkpoints() -> list[str]:
    """A checkpoint of another model, and one of an optimiser that keeps more, are refused in one line."""
    model, objective, optimizer = sharded()
    folder, said = last(RUNS / "flips"), []
    inside = model.towers["image"].encoder.first
    inside.more = nn.Parameter(torch.ones(1))
    try:
        load_training(folder, model, objective, optimizer)
    except ValueError as error:
        said.append(str(error))
    try:
        write_shards({"x": torch.ones(2)}, RUNS / "nowhere")
    except TypeError as error:
        said.append(str(error))
    return said


def case_a_rank_fails() -> list[Any]:
    """A full disk on either rank: every rank raises, the checkpoint before stays, no work folder is left."""
    model, objective, optimizer = sharded()
    fill(model, optimizer)
    before = {str(path) for path in (RUNS / "flips").rglob("*")}
    dist.barrier()
    found: list[Any] = []
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    full = OSError(errno.ENOSPC, "No space left on device")
    for number, where in (
        (0, patch("align.checkpoint.sharded.write_model", side_effect=full)),
        (1, patch.object(HuggingFaceStorageWriter, "write_data", side_effect=full)),
        (0, patch("align.files.os.fsync", side_effect=full)),
    ):
        try:
            if rank() == number:
                with where:
                    save_training(RUNS / "flips", model, objective, optimizer, {"step": 2})
            else:
                save_training(RUNS / "flips", model, objective, optimizer, {"step": 2})
        except OSError as error:
            found.append(str(error))
        dist.barrier()
        found.append(sorted({str(path) for path in (RUNS / "flips").rglob("*")} ^ before))
        dist.barrier()
    return found


def case_a_rank_cannot_describe() -> list[str]:
    """A class that no checkpoint can describe ends all ranks alike. It is no matter of the disk."""
    model, objective, optimizer = sharded()
    fill(model, optimizer)
    refused = patch("align.checkpoint.sharded.write_model", side_effect=TypeError("no name for it"))
    try:
        with refused:
            save_training(RUNS / "flips", model, objective, optimizer, {"step": 2})
    except (OSError, ValueError, TypeError) as error:
        return [type(error).__name__, str(error)]
    return []


def case_norms() -> list[float]:
    """The norm and the clipped gradients of shards, and of parameters that are whole, are those of one process."""
    model, objective, _ = sharded()
    named = named_parameters(model, objective)
    for i, p in enumerate(named.values()):
        p.grad = torch.full_like(p, i + 1.0)
    alone = next(p for p in named.values() if not in_shards(p))
    alone.grad = torch.full_like(alone, 2.0 * rank()) if rank() else None
    average_whole(named.values())
    assert alone.grad is not None
    expected = float(alone.grad)
    norm = measure_norm(p.grad for p in named.values() if p.grad is not None)
    clip_gradients(named.values(), 1.0, norm)
    sizes = [p.numel() for p in named.values()]
    squares = sum(
        n * (i + 1) ** 2 for i, (n, p) in enumerate(zip(sizes, named.values(), strict=True)) if p is not alone
    )
    left = measure_norm(p.grad for p in named.values() if p.grad is not None)
    return [expected, float(norm), (squares + expected**2) ** 0.5, float(left)]


def case_folders() -> list[str]:
    """Ranks that do not share the run's folder."""
    said = []
    check_shared(RUNS, 5)
    mine = RUNS / f"host {rank()}"
    mine.mkdir()
    try:
        check_shared(mine, 0.1)
    except ValueError as error:
        said.append(str(error))
    return [*said, str(len(list(mine.iterdir())))]


CASES = [
    case_fsdp2,
    case_goes_on,
    case_two_nodes,
    case_skips,
    case_normed,
    case_no_step,
    case_two_modes,
    case_odd_checkpoints,
    case_a_rank_fails,
    case_a_rank_cannot_describe,
    case_norms,
    case_folders,
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The runs of one process, and what the two ranks did after them. The working directory is that of the runs."""
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "ranks").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write(write(SHARDS), "test", 20)
        go(SHARDS, RUNS / "one", "", cut=CUT)
        go(SHARDS, copied("one", "straight"), "")
        found = on_ranks(CASES, folder / "ranks", seconds=400)
        go(SHARDS, copied("fsdp2", "fsdp2 to one"), "")
        yield found


ENDS = ["one to fsdp2", "fsdp2 to fsdp2", "fsdp2 to ddp", "fsdp2 to one", "nodes"]


@pytest.mark.sweep
@pytest.mark.parametrize("name", ENDS)
def test_a_sharded_run_is_the_run_of_one_process(ranks, name):
    """Losses, norms of gradients, the validation, the weights and the optimiser, in float64, cut and resumed."""
    one, other = rows(RUNS / "straight"), rows(RUNS / name)
    assert [row[0] for row in other] == list(range(1, STEPS + 1))
    np.testing.assert_allclose(other, one, rtol=1e-11)
    for file in ("model.safetensors", "training/objective.safetensors"):
        expected, found = (load_file(last(RUNS / run) / file) for run in ("straight", name))
        assert expected.keys() == found.keys()
        for key, x in expected.items():
            torch.testing.assert_close(found[key], x, rtol=1e-10, atol=1e-12)
    states = (moments(last(RUNS / run) / "training") for run in ("straight", name))
    expected, found = states
    assert expected.keys() == found.keys()
    for key, x in expected.items():
        torch.testing.assert_close(found[key], x, rtol=1e-9, atol=1e-12)


def moments(training: Path) -> dict[str, Tensor]:
    """The optimiser's tensors, whole, read with safetensors alone."""
    found = load_file(training / "optimizer.safetensors")
    pieces: dict[str, list[Tensor]] = {}
    for path in sorted((training / "shards").glob("*.safetensors")):  # in the order of the ranks, which is that of rows
        for name, x in load_file(path).items():
            pieces.setdefault(name, []).append(x)
    return found | {name: torch.cat(some) for name, some in pieces.items()}


@pytest.mark.sweep
def test_a_cut_sharded_run_goes_on_to_the_bit(ranks):
    """Beside the run on two nodes, which was not cut."""
    assert rows(RUNS / "fsdp2 to fsdp2") == rows(RUNS / "nodes")
    for path in sorted(p for p in last(RUNS / "nodes").rglob("*.safetensors")):
        other = last(RUNS / "fsdp2 to fsdp2") / path.relative_to(last(RUNS / "nodes"))
        assert {k: x.tolist() for k, x in load_file(path).items()} == {
            k: x.tolist() for k, x in load_file(other).items()
        }


@pytest.mark.sweep
def test_every_file_of_a_sharded_checkpoint_is_safetensors_or_json(ranks):
    """Opened with the two libraries alone. The state of every parameter of a tower is split."""
    files = [path for path in last(RUNS / "fsdp2").rglob("*") if path.is_file()]
    shards = [path for path in files if path.parent.name == "shards"]
    assert len(shards) == 2
    assert {path.suffix for path in files} == {".json", ".safetensors", ".yaml"}
    for path in files:
        if path.suffix == ".safetensors":
            assert all(isinstance(x, Tensor) for x in load_file(path).values())
        elif path.suffix == ".json":
            json.loads(path.read_text())
    first, second = (load_file(path) for path in sorted(shards))
    assert first["model.towers.image.encoder.first.weight/exp_avg"].shape == (3, 6)
    assert second["model.towers.image.encoder.first.weight/exp_avg"].shape == (2, 6)
    assert [*load_file(last(RUNS / "fsdp2") / "training" / "optimizer.safetensors")] != []


@pytest.mark.sweep
def test_diagnostics_of_a_cut_run_with_running_statistics_are_those_of_the_straight_one(ranks):
    for straight, cut in ranks["case_normed"]:
        assert straight == cut
        assert straight.count("'step'") == 3


@pytest.mark.sweep
def test_an_optimiser_that_takes_no_step_on_shards_is_refused_in_one_line(ranks):
    for said in ranks["case_no_step"]:
        assert len(said) == 1
        for line in said:
            assert line.startswith("optim.optimizer: Adafactor takes no step on weights in shards (aten.")
            assert line.endswith("take trainer.strategy ddp, or another optimiser")
            assert "\n" not in line


@pytest.mark.sweep
def test_a_step_that_is_not_finite_on_one_rank_changes_no_shard(ranks):
    """Weights, their average and the optimiser's state. The next step changes all."""
    first, second, third = (RUNS / "skips" / "checkpoints" / f"step-0000000{step}" for step in (1, 2, 3))
    files = [path.relative_to(first) for path in first.rglob("*.safetensors")]
    assert len(files) == 6
    for file in files:
        before, skipped, after = (load_file(folder / file) for folder in (first, second, third))
        assert before.keys() == skipped.keys()
        assert all(torch.equal(x, skipped[name]) for name, x in before.items())
        if file.parent.name == "shards":
            assert not any(torch.equal(x, after[name]) for name, x in before.items())
    lines = (RUNS / "skips" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["rank"] for line in lines] == [1]


@pytest.mark.sweep
@pytest.mark.parametrize("number", [0, 1])
def test_a_flipped_byte_in_the_shard_of_any_rank_costs_one_checkpoint(ranks, tmp_path, number):
    run = shutil.copytree(RUNS / "fsdp2", tmp_path / "run")
    newest = last(run)
    path = sorted((newest / "training" / "shards").iterdir())[number]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    earlier = find(run, fresh=False)
    assert earlier.folder == newest.with_name(f"step-{CUT:08d}")
    assert len(earlier.gone) == 1
    assert f"{path} is damaged" in earlier.gone[0]


@pytest.mark.sweep
def test_align_load_reads_a_sharded_run(ranks):
    model = align.load(RUNS / "fsdp2 to fsdp2", allow=("tiny", "sharded_runs"))
    straight = align.load(RUNS / "straight", allow=("tiny", "sharded_runs"))
    inputs: dict[str, Any] = {m: [np.linspace(-1, 1, 6)] for m in model.modalities}
    expected = straight.embed(**inputs)
    for m, x in model.embed(**inputs).items():
        torch.testing.assert_close(x, expected[m])


@pytest.mark.sweep
def test_evaluators_see_the_whole_model(ranks):
    header = (RUNS / "fsdp2" / "metrics.csv").read_text().splitlines()[0]
    assert "val/retrieval/image_to_text/recall@1" in header


@pytest.mark.sweep
def test_weights_that_train_are_kept_beside_those_that_are_evaluated(ranks):
    count = len(named_parameters(*make()))
    assert ranks["case_two_modes"] == [[True, True, count, 1]] * 2


@pytest.mark.sweep
def test_another_model_and_what_is_no_tensor_are_refused(ranks):
    for said in ranks["case_odd_checkpoints"]:
        assert "was trained with another model" in said[0]
        assert "1 weights are not there or have another shape" in said[0]
        assert said[1] == "x is a Tensor, no sharded tensor"


@pytest.mark.sweep
def test_where_one_rank_cannot_write_all_say_so_and_nothing_changes(ranks):
    for said in ranks["case_a_rank_fails"]:
        assert said[1::2] == [[]] * 3
        assert all("No space left on device" in line for line in said[::2]), said
        assert "by rank 1" in said[2]


@pytest.mark.sweep
def test_an_error_that_is_not_of_the_disk_is_none_on_the_other_ranks_either(ranks):
    assert ranks["case_a_rank_cannot_describe"] == [
        ["TypeError", "no name for it"],
        ["ValueError", "rank 0: no name for it"],
    ]


@pytest.mark.sweep
def test_the_norm_of_shards_is_that_of_one_process(ranks):
    for mean, norm, expected, left in ranks["case_norms"]:
        assert mean == 1.0  # of 2 on rank 1, and no gradient on rank 0
        assert norm == pytest.approx(expected)
        assert left == pytest.approx(1.0, abs=1e-6)


@pytest.mark.sweep
def test_ranks_that_share_no_folder_are_refused(ranks):
    for said in ranks["case_folders"]:
        assert said[0].startswith("rank 1 on ")
        assert said[0].endswith("give --run a folder that all nodes share")
        assert said[1] == "0"


def case_from_ddp() -> int:
    go(SHARDS, copied("ddp", "ddp to fsdp2"), "fsdp2")
    return 0


@pytest.mark.sweep
def test_a_cut_run_of_ddp_goes_on_sharded(ranks, tmp_path):
    (tmp_path / "ranks").mkdir()
    on_ranks([case_ddp, case_from_ddp], tmp_path / "ranks", seconds=400)
    np.testing.assert_allclose(rows(RUNS / "ddp to fsdp2"), rows(RUNS / "straight"), rtol=1e-11)


def case_three() -> int:
    go(SHARDS, copied("fsdp2", "fsdp2 to three"), "fsdp2")
    return 0


@pytest.mark.sweep
def test_two_ranks_go_on_as_three(ranks, tmp_path):
    (tmp_path / "ranks").mkdir()
    on_ranks([case_three], tmp_path / "ranks", world=3, seconds=400)
    found, expected = (np.array(rows(RUNS / name))[:, :3] for name in ("fsdp2 to three", "straight"))
    np.testing.assert_allclose(found, expected, rtol=1e-11)  # not the validation: three ranks cut its batches elsewhere
    assert len([*(last(RUNS / "fsdp2 to three") / "training" / "shards").iterdir()]) == 3


def test_blocks_are_the_members_of_the_outermost_lists():
    layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(3))
    odd = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    assert list_blocks(nn.ModuleDict({"a": layers, "b": odd})) == [*layers]


def test_strategies_of_a_config(monkeypatch):
    path = "lightning.pytorch.strategies.ModelParallelStrategy"
    assert make_strategy("ddp") == "ddp"
    for given in ("fsdp2", {"class_path": path, "init_args": {"data_parallel_size": 2}}):
        trainer = L.Trainer(
            accelerator="cpu", devices=2, strategy=make_strategy(given), logger=False, enable_checkpointing=False
        )
        spread(trainer)
        strategy: Any = trainer.strategy
        assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (2, 1)
    with pytest.raises(ValueError, match="tensor_parallel_size is 2"):
        make_strategy({"class_path": path, "init_args": {"tensor_parallel_size": 2}})
    with pytest.raises(ValueError, match=r"takes trainer.precision 32-true, .*; got 64-true"):
        make_strategy("fsdp2", "64-true")
    with pytest.raises(ValueError, match="take ddp, fsdp2 or a class of Lightning's"):
        make_strategy({"class_path": "lightning.pytorch.strategies.Nothing"})
    ours = "lightning.pytorch.strategies"
    for given in ("fsdp", "fsdp_cpu_offload", "deepspeed_stage_2", {"class_path": f"{ours}.FSDPStrategy"}):
        with pytest.raises(ValueError, match=r"keeps weights in a form .* take ddp, or fsdp2 to split them"):
            make_strategy(given)
    fork = {"class_path": f"{ours}.DDPStrategy", "init_args": {"start_method": "fork"}}
    for given in ("ddp_spawn", "ddp_fork", "ddp_notebook", fork):
        with pytest.raises(ValueError, match=r"as copies of a process .* take ddp, which starts each rank"):
            make_strategy(given)
    for given in ("auto", "ddp", "ddp_find_unused_parameters_true", {"class_path": f"{ours}.DDPStrategy"}):
        make_strategy(given)
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ValueError, match="fsdp2 runs on Linux only; take ddp here"):
        make_strategy("fsdp2")


def two_kinds(groups: list[dict]) -> torch.optim.Optimizer:
    return Joined(groups, torch.optim.Muon, Momentum)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chunk": 4}, "chunk and trainer.strategy fsdp2 do not go together"),
        ({"stages": {"a": Stage(until=4)}}, "stages and trainer.strategy fsdp2"),
        ({"optim": Optim(optimizer=Momentum)}, "optim.optimizer and trainer.strategy fsdp2 .* its state is Coarse"),
        ({"optim": Optim(optimizer=two_kinds, ema=Ema())}, "optim.optimizer and .* its state is Coarse"),
        ({"trainer": {"strategy": {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
                                   "init_args": {"data_parallel_size": 3}}}}, "data_parallel_size is 3, but 2 ranks"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_with_shards_are_refused_before_the_ranks_start(tmp_path, options, said):
    write(write(tmp_path / "shards"), "test", 20)
    given = {"devices": 2, "strategy": "fsdp2"} | options.pop("trainer", {})
    with pytest.raises(ValueError, match=said):
        go(tmp_path / "shards", tmp_path / "run", "", trainer=given, **options)
