"""A run in stages: each is a fit of its own from the checkpoint of the one before, and a stop changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cut import Cut, Kill
from ranks import on_ranks
from test_lit import exact, rows, trainer
from tiny import dim, made, modalities, write

from align.commands.config import make_parser
from align.data import Loader, Shards
from align.distributed import exchange, rank
from align.lit import AlignData, Checkpoints, fit
from align.lit.forgetting import draw
from align.lit.sources import Mix, Source
from align.lit.stages import Stage, check_stages, list_spans, weights_by_step
from align.lit.trained import apply_stage
from align.losses import InfoNCE
from align.objective import Objective, Term
from align.optim import AdamW, named_parameters
from align.seeds import derive

pytestmark = pytest.mark.slow

THREE = {
    "heads": Stage(until=3, freeze=["*.encoder"], terms={"seen": 1.0, "heard": 0.5}),
    "seen": Stage(until=6, terms={"seen": 2.0}, lr=0.5),
    "all": Stage(),
}
STEPS = 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder, missing=0.2), "test", 20, missing=0.2)


def objective() -> Objective:
    terms = {
        "seen": Term(InfoNCE(), ["image", "text"]),
        "heard": Term(InfoNCE(), ["audio", "text"]),
        "both": Term(InfoNCE(), ["audio", "image"], weight=0.3),
    }
    return Objective(terms, dim=dim, batch=12, modalities=list(modalities)).double()


def train(shards: Path, run: Path, *, stages: Any = THREE, steps: int = STEPS, total=None, **options):
    model, _ = made(dropout=0.2)
    total = total or objective()
    data = AlignData(str(shards / "train-*.tar"), str(shards / "test-*.tar"), batch=12, workers=0)
    given = {**trainer, "max_steps": steps, **options.pop("trainer", {})}
    options = {"optim": AdamW(lr=0.02, weight_decay=0.1), "checkpoint": Checkpoints(keep=9), **options}
    fitted = fit(model, total, data, run, trainer=given, stages=stages, **options)
    return model, total, fitted


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    from align.encoders.weights import read_tensors

    folder = run / "checkpoints" / f"step-{step:08d}"
    return {**read_tensors(folder / "model.safetensors"), **read_tensors(folder / "training/objective.safetensors")}


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    train(shards, run)
    return run


def by_hand(shards: Path) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same run as a plain loop: weights at the end, and the total loss of each step."""
    model, _ = made(dropout=0.2)
    kept = objective()
    start = {name: x.clone() for name, x in kept.state_dict().items()}
    alone = {
        name: Objective({name: Term(term.loss, term.between)}, dim=dim, batch=12) for name, term in kept.terms.items()
    }
    kept.load_state_dict(start)
    named = named_parameters(model, kept)
    loader = Loader(
        Shards(str(shards / "train-*.tar")), model.preprocess, batch=12, train=True, steps=STEPS, seed=0, workers=0
    )
    mine: dict[str, float] = {}
    optim, optimizer, trained, losses = AdamW(lr=0.02), None, {}, []
    for step, batch in enumerate(loader):
        if step in (0, 3, 6):
            mine = {0: {"seen": 1.0, "heard": 0.5}, 3: {"seen": 2.0}, 6: {"seen": 1.0, "heard": 1.0, "both": 0.3}}[step]
            moved = {name: optimizer.state[p] for name, p in trained.items()} if optimizer else {}
            still = {0: (".encoder.", ".both."), 3: (".audio.", ".heard.", ".both."), 6: ()}[step]
            trained = {name: p for name, p in named.items() if not any(part in name for part in still)}
            for name, p in named.items():
                p.requires_grad_(name in trained)
                p.grad = None
            optimizer = torch.optim.AdamW(
                [{"params": [p], "weight_decay": 0.1 * (p.ndim > 1)} for p in trained.values()], betas=(0.9, 0.98)
            )
            for name, p in trained.items():
                if name in moved:
                    optimizer.state[p] = moved[name]
            for m, tower in model.towers.items():  # a frozen part runs in evaluation mode
                tower.encoder.train(step == 6 or (step == 3 and m != "audio"))
        assert optimizer is not None
        torch.manual_seed(derive(0, step, "dropout", 0))
        rows = {m: r._replace(values=torch.as_tensor(r.values).double()) for m, r in batch.items()}
        embeddings = model(replace(batch, rows=rows))
        loss = torch.stack([weight * alone[name](embeddings)[0] for name, weight in mine.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = optim.at(step, STEPS) * (0.5 if 3 <= step < 6 else 1.0)
        optimizer.step()
        kept.clamp_()
        losses.append(float(loss.detach()))
    return {**model.state_dict(), **kept.state_dict()}, losses


def test_a_run_in_stages_is_a_plain_loop(shards, straight):
    want, losses = by_hand(shards)
    found = weights(straight, STEPS)
    assert [float(row["loss"]) for row in rows(straight) if row["loss"]] == pytest.approx(losses, rel=1e-9)
    for name, value in found.items():
        assert torch.allclose(value, want[name], rtol=1e-8, atol=1e-10), name


@pytest.mark.parametrize("killed", [3, *(pytest.param(step, marks=pytest.mark.sweep) for step in (1, 2, 4, 6, 7, 9))])
def test_a_run_killed_anywhere_continues_to_the_bit(shards, straight, tmp_path, killed):
    """Before the border, at it, after it, and in the last stage, without a checkpoint of the step."""
    with pytest.raises(Cut):
        train(shards, tmp_path, trainer={"callbacks": [Kill(killed)]})
    train(shards, tmp_path)
    assert exact(tmp_path) == exact(straight)
    names = ("checkpoints/step-00000003/model.safetensors", "stages.json", "model/model.safetensors")
    assert all((tmp_path / name).read_bytes() == (straight / name).read_bytes() for name in names)


class StopIn(L.Callback):
    """Raises SIGTERM in a validation after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if pl_module.step == self.step and batch_idx == 0:
            signal.raise_signal(signal.SIGTERM)


def test_a_stop_at_a_border_leaves_the_stage_s_validation_to_make_up(shards, straight, tmp_path, capsys):
    for step in (0, 3, 6):
        assert train(shards, tmp_path, trainer={"callbacks": [StopIn(step)]})[2][:2] == (step, signal.SIGTERM)
    train(shards, tmp_path)
    assert "continuing at step 6" in capsys.readouterr().err
    assert exact(tmp_path) == exact(straight)
    assert (tmp_path / "stages.json").read_bytes() == (straight / "stages.json").read_bytes()
    same = [
        [(r["step"], r["val/loss"], r["val/audio_to_image/recall@1"]) for r in rows(x)] for x in (tmp_path, straight)
    ]
    assert same[0] == same[1]


def test_every_pair_has_its_recall_after_every_stage(straight):
    found = json.loads((straight / "stages.json").read_text())["stages"]
    assert [(row["stage"], row["step"]) for row in found] == [("(start)", 0), ("heads", 3), ("seen", 6), ("all", 9)]
    assert all(len(row["recall@1"]) == 6 for row in found)
    table = {row["step"]: row for row in rows(straight)}
    assert list(table) == [str(step) for step in range(10)]
    for row in found:
        for pair, value in row["recall@1"].items():
            assert float(table[str(row["step"])][f"val/{pair}/recall@1"]) == value
    assert [table[str(step)]["both"] == "" for step in (1, 4, 7)] == [True, True, False]
    header = list(table["0"])  # known from the first row on: a column that came later would be the last
    assert header.index("both") < header.index("val/loss")


def test_a_pair_that_falls_is_marked():
    recalls = [{"a_to_b": 0.5, "b_to_a": None}, {"a_to_b": 0.451, "b_to_a": 0.2}, {"a_to_b": 0.449, "b_to_a": 0.2}]
    lines = draw([{"stage": f"s{i}", "step": i + 1, "recall@1": one} for i, one in enumerate(recalls)])
    assert lines[1].split() == ["a_to_b", "0.500", "0.451", "0.449!"]
    assert lines[2].split() == ["b_to_a", "-", "0.200", "0.200"]
    assert lines[3] == "! more than 0.05 below the pair's best earlier stage"
    assert len(draw([{"stage": "s", "step": 1, "recall@1": recalls[0]}])) == 3


def test_the_learning_rate_is_the_run_s_times_the_stage_s(straight):
    optim = AdamW(lr=0.02)
    want = [optim.at(step, STEPS) * (0.5 if 3 <= step < 6 else 1.0) for step in range(STEPS)]
    assert [float(row["lr"]) for row in rows(straight) if row["lr"]] == want


def test_a_part_that_trains_again_begins_without_a_state_and_one_that_goes_on_keeps_it(straight):
    from align.encoders.weights import read_tensors

    steps = {}
    for step in (3, 6, 9):
        state = read_tensors(straight / f"checkpoints/step-{step:08d}/training/optimizer.safetensors")
        steps[step] = {name: int(x) for name, x in state.items() if name.endswith("/step")}
    image = "model.towers.image.head.project.weight/step"
    assert [steps[step].get(image) for step in (3, 6, 9)] == [3, 6, 9]
    audio = "model.towers.audio.head.project.weight/step"
    assert [steps[step].get(audio) for step in (3, 6, 9)] == [3, None, 3]
    assert "model.towers.image.encoder.net.0.weight/step" not in steps[3]


def test_sources_follow_the_stages(shards, tmp_path):
    """A stage's weights are a curriculum of the mixture, and a stage without any has those of the data."""
    model, total = made()
    sources = {n: Source(str(shards / f"{x}-*.tar"), weight=1.0) for n, x in (("big", "train"), ("small", "test"))}
    data = AlignData(sources, batch=12, workers=0, mix=Mix(unit="batch"))
    stages = {
        "a": Stage(until=3, sources={"small": 1.0}),
        "b": Stage(until=5, sources={"big": 2, "small": 0}),
        "c": Stage(),
    }
    keep = Checkpoints(keep=9)
    fit(model, total, data, tmp_path, trainer={**trainer, "max_steps": 9}, stages=stages, checkpoint=keep)
    borders = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert borders == [f"step-{step:08d}" for step in (3, 5, 9)]  # without a validation that would save them
    table = rows(tmp_path)
    assert [row["source/small/samples"] for row in table] == [str(12 * n) for n in (1, 2, 3, 3, 3, 3, 4, 4, 5)]
    assert not (tmp_path / "stages.json").exists()


def check(stages, *, sources=(), mixed=(), scheduled=(), steps=9):
    check_stages(stages, objective(), sources, dict.fromkeys(mixed), scheduled)
    return list_spans(stages, steps)


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        ({"a": Stage(), "b": Stage()}, {}, "stages.a has no until, the step at which it ends; only the last"),
        ({"a": Stage(5), "b": Stage(5)}, {}, "stages.b.until is 5, but the stage before ends at step 5: until rises"),
        ({"a": Stage(0)}, {}, "stages.a.until is 0, but the run begins at step 0"),
        (
            {"a": Stage(3), "b": Stage(8)},
            {},
            "stages.b ends at step 8, but the run has 9 steps: leave its until out, or",
        ),
        ({"a": Stage(3), "b": Stage(10)}, {}, "stages.b ends at step 10, .* set trainer.max_steps to 10"),
        ({"a": Stage(9), "b": Stage()}, {}, "stages.b begins at step 9, but the run has 9 steps"),
        ({"a": Stage(lr=-1)}, {}, "stages.a.lr is a factor of optim.lr, at least 0; got -1"),
        (
            {"a": Stage(terms={"heart": 1})},
            {},
            "stages.a.terms: 'heart' is no term of the objective; did you mean 'heard'",
        ),
        ({"a": Stage(terms={})}, {}, "stages.a.terms has no weight above 0; there are seen, heard, both"),
        ({"a": Stage(terms={"seen": -1})}, {}, "stages.a.terms: the weight of 'seen' is -1; it is at least 0"),
        ({"a": Stage(terms={"seen": 1})}, {"scheduled": ["seen"]}, "stages.a.terms and negatives both name 'seen'"),
        ({"a": Stage(sources={"x": 1})}, {}, "stages.a.sources: data.train names no sources"),
        (
            {"a": Stage(sources={"cat": 1})},
            {"sources": ["cats"]},
            "'cat' is no source of data.train; did you mean 'cats'",
        ),
        (
            {"a": Stage(sources={"s": 1})},
            {"sources": ["s"], "mixed": [0]},
            "stages.a.sources and data.mix.weights both",
        ),
    ],
)
def test_stages_that_cannot_be_meant(stages, options, message):
    with pytest.raises(ValueError, match=message):
        check(stages, **options)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            Stage(freeze=["imge.encoder"]),
            "stages.second: .*'imge.encoder' names no parameter; did you mean image.encoder",
        ),
        (Stage(freeze=["*"]), "stages.second: .*freezes every parameter"),
    ],
)
def test_a_later_stage_that_cannot_train_is_refused_before_the_first_step(shards, tmp_path, stage, message):
    with pytest.raises(ValueError, match=message):
        train(shards, tmp_path / "run", stages={"first": Stage(3), "second": stage})
    assert not (tmp_path / "run").exists()


def test_weights_by_step():
    assert weights_by_step(THREE) is None
    stages = {"a": Stage(3, sources={"x": 1.0}), "b": Stage(7), "c": Stage(sources={"y": 1.0})}
    assert weights_by_step(stages) == {0: {"x": 1.0}, 3: None, 7: {"y": 1.0}}


def test_yaml_says_it(tmp_path):
    given = Path(__file__).parents[1] / "configs" / "digits.yaml"
    config = tmp_path / "c.yaml"
    config.write_text(given.read_text() + "stages: {heads: {until: 50, freeze: ['*.encoder']}, all: {lr: 0.1}}\n")
    values = make_parser().parse_args(["--config", str(config)]).stages
    assert (values["heads"].until, values["heads"].freeze, values["all"].lr) == (50, ["*.encoder"], 0.1)


def killed_and_whole() -> list[str]:
    """Two ranks train the run in stages: without a stop, with evaluators and a kill, and forked at a border."""
    folder = Path(exchange(str(tempfile.mkdtemp()).encode() if not rank() else b"")[0].decode())
    os.environ |= {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    if not rank():
        write(write(folder / "shards", missing=0.2), "test", 20, missing=0.2)
    exchange(b"")
    two = {"devices": 2, "strategy": "ddp"}
    train(folder / "shards", folder / "whole", trainer=two)
    validate = {"with": ["retrieval"], "every_steps": 2}
    with contextlib.suppress(Cut):
        train(folder / "shards", folder / "killed", trainer={**two, "callbacks": [Kill(7)]}, validate=validate)
    exchange(b"")
    train(folder / "shards", folder / "fork", trainer=two, fork=f"{folder / 'killed'}@3")
    exchange(b"")
    train(folder / "shards", folder / "killed", trainer=two, validate=validate)
    exchange(b"")
    names = [folder / name for name in ("whole", "killed", "fork")]
    scores = [r["val/retrieval/audio_to_text/recall@1"] for r in rows(folder / "killed")]
    return [
        *(str(exact(run)) for run in names),
        *((run / "stages.json").read_text() for run in names),
        json.dumps(scores),
    ]


@pytest.mark.sweep
def test_two_ranks_continue_to_the_bit_across_the_borders(tmp_path_factory):
    first, second = on_ranks([killed_and_whole], tmp_path_factory.mktemp("ranks"))["killed_and_whole"]
    assert first == second
    assert first[0] == first[1] == first[2]
    assert first[3] == first[4] == first[5]
    assert [bool(text) for text in json.loads(first[6])] == [n % 3 == 0 or n % 2 == 0 for n in range(10)]


def test_a_stage_begins_without_gradients_of_the_one_before():
    """Clipping reads all gradients, those of parts that are frozen now among them."""
    model, total = made()[0], objective()
    parameters = [*model.parameters(), *total.parameters()]
    for p in parameters:
        p.grad = torch.ones_like(p)
    applied = apply_stage(list_spans(THREE, STEPS)[1], None, model, total, 0)
    assert applied is not None
    assert all(p.grad is None for p in parameters)
    still = {name.split(".")[2] for name, p in named_parameters(model, total).items() if not p.requires_grad}
    assert still == {"audio", "heard", "both"}
