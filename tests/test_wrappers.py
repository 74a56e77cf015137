"""What all wrappers share: they nest, they train, and a config and a checkpoint can say them."""

from __future__ import annotations

import itertools
import textwrap

import jsonargparse
import pytest
import torch
import torch.nn.functional as F
import yaml
from few import few
from test_infonce import ragged, rows
from test_objective import parse
from tiny import made, modalities, write
from torch import nn

from align.checkpoint import build, describe, load_training, save_training
from align.losses import (
    HardNegatives,
    InfoNCE,
    LateInteraction,
    Matryoshka,
    MemoryQueue,
    MixGeodesic,
    Regress,
    SigLIP,
    Symile,
)
from align.objective import Objective, Term
from align.optim import AdamW
from align.values import Batch, Rows

dim = 16
nested = {
    "matryoshka": lambda: Matryoshka(InfoNCE(), [4, dim]),
    "matryoshka-symile": lambda: Matryoshka(Symile(), [8, dim]),
    "matryoshka-queue": lambda: Matryoshka(MemoryQueue(InfoNCE(), 24), [4, dim]),
    "queue-matryoshka-symile": lambda: MemoryQueue(Matryoshka(Symile("shuffled"), [8, dim]), 24),
    "queue": lambda: MemoryQueue(SigLIP(), 24),
    "mix": lambda: MixGeodesic(InfoNCE()),
    "mix-hard-siglip": lambda: MixGeodesic(HardNegatives(SigLIP(), 2.0)),
    "hard": lambda: HardNegatives(InfoNCE(), 3.0),
    "hard-symile": lambda: HardNegatives(Symile(), 3.0),
    "all-four": lambda: MemoryQueue(Matryoshka(MixGeodesic(HardNegatives(InfoNCE(), 2.0)), [4, dim]), 24),
}


@pytest.mark.parametrize("name", few(nested, 3))
def test_trains(name):
    """Linear towers of samples that share a cause, new ones each step, with a hard negative: the loss falls."""
    loss = nested[name]()
    count = 3 if loss.kind == "symile" else 2
    draw = torch.Generator().manual_seed(0)
    views = [torch.randn(8, 20, generator=draw) for _ in range(count)]
    towers = [nn.Parameter(torch.randn(20, dim, generator=draw) / 20) for _ in range(count)]
    loss.start(dim, count, 12)
    samples = [torch.arange(12)] * (count - 1) + [torch.cat([torch.arange(11), torch.tensor([-1])])]
    optimiser = torch.optim.Adam([*towers, *loss.parameters()], lr=0.02)
    values = []
    for step in range(60):
        causes = torch.randn(12, 8, generator=draw)
        xs = [F.normalize(causes @ view @ tower, dim=1) for view, tower in zip(views, towers, strict=True)]
        value = loss(xs, samples, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        value.backward()
        assert all(p.grad is not None for p in loss.parameters())
        optimiser.step()
        loss.clamp_()
        values.append(value.item())
    assert sum(values[-5:]) < 0.85 * sum(values[3:8]), values[::10]  # by step 3 the queues stand


@pytest.mark.parametrize("name", nested)
def test_the_inner_loss_shows_through(name):
    loss = nested[name]()
    inner = loss
    while not isinstance(inner, InfoNCE | SigLIP | Symile):
        inner = inner.loss
    loss.start(dim, 3 if loss.kind == "symile" else 2, 8)
    assert loss.kind == inner.kind
    assert torch.equal(loss.scale, inner.scale)
    assert loss.bias is inner.bias
    names = ["audio", "image", "text"]
    one = Objective({"one": Term(loss, names)}, dim=dim, batch=8).infos()
    bare = Objective({"one": Term(type(inner)(), names)}, dim=dim, batch=8).infos()
    assert [info._replace(prefixes=()) for info in one] == bare  # Matryoshka's alone
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.fill_(20.0)
    loss.clamp_()
    assert loss.scale.item() == pytest.approx(inner.limit, rel=1e-4)


def test_both_orders_of_a_queue_and_prefixes_are_one_loss():
    a = [rows(6, 8, dim=6, seed=s) for s in range(4)]
    ids = [ragged["sample_a"], ragged["sample_b"]]
    inside = Matryoshka(MemoryQueue(InfoNCE(), 10), [2, 6]).double()
    outside = MemoryQueue(Matryoshka(InfoNCE(), [2, 6]), 10).double()
    for xs in a:
        torch.testing.assert_close(inside(xs, ids), outside(xs, ids), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("Matryoshka goes around a loss module; Linear has no kind; kinds", lambda: Matryoshka(nn.Linear(1, 1), [4])),
        ("Matryoshka goes around a loss once; MemoryQueue already holds one",
         lambda: Matryoshka(MemoryQueue(Matryoshka(InfoNCE(), [4]), 3), [4])),
        ("MemoryQueue goes around a loss once", lambda: MemoryQueue(MemoryQueue(InfoNCE(), 3), 3)),
        ("MixGeodesic goes around a loss once", lambda: MixGeodesic(MixGeodesic(InfoNCE()))),
        ("Symile is of kind 'symile': give it a loss of kind 'pairwise', as InfoNCE", lambda: MixGeodesic(Symile())),
        ("Matryoshka is of kind 'symile'", lambda: MixGeodesic(Matryoshka(Symile(), [4]))),
        ("LateInteraction is of kind 'tokens'", lambda: MixGeodesic(LateInteraction())),
        ("MemoryQueue keeps past rows as negatives; Regress is of kind 'regress' and has none",
         lambda: MemoryQueue(Regress(), 3)),
        (r"MixGeodesic goes inside MemoryQueue, not around it: MemoryQueue\(MixGeodesic\(loss\)\)",
         lambda: MixGeodesic(Matryoshka(MemoryQueue(InfoNCE(), 3), [4]))),
        ("HardNegatives goes around InfoNCE, SigLIP or Symile itself, inside all other wrappers; got MemoryQueue",
         lambda: HardNegatives(MemoryQueue(InfoNCE(), 3))),
        ("which Symile's stand-ins and spread cannot have", lambda: HardNegatives(Symile(spread=0.5))),
        ("inside all other wrappers; got Matryoshka", lambda: HardNegatives(Matryoshka(InfoNCE(), [4]))),
    ],
)  # fmt: skip
def test_what_does_not_go_together(message, make):
    with pytest.raises(ValueError, match=message):
        make()


def fragment(wrapper: type) -> str:
    """The config in a wrapper's docstring."""
    lines = textwrap.dedent((wrapper.__doc__ or "").split("In a config:\n\n")[1]).splitlines()
    return "\n".join(itertools.takewhile(lambda line: line.startswith("    "), lines))


@pytest.mark.parametrize("wrapper", [HardNegatives, Matryoshka, MemoryQueue, MixGeodesic])
def test_the_docstring_is_a_config(wrapper):
    terms = yaml.safe_load(textwrap.dedent(fragment(wrapper)))
    text = yaml.safe_dump({"objective": {"dim": 64, "batch": 8, "modalities": ["image", "text"], "terms": terms}})
    (name,) = terms
    built = parse(text).terms[name].loss
    assert type(built) is wrapper
    assert isinstance(built.loss, InfoNCE)
    for key, value in terms[name]["loss"]["init_args"].items():
        assert key == "loss" or getattr(built, key) == value


two_deep = """
objective:
  dim: 64
  batch: 8
  modalities: [image, text, audio]
  terms:
    joint:
      between: all
      loss:
        class_path: align.losses.Matryoshka
        init_args:
          dims: [32, 64]
          weights: [0.5, 1]
          loss:
            class_path: align.losses.MemoryQueue
            init_args:
              size: 7
              loss: {class_path: align.losses.Symile, init_args: {negatives: shuffled}}
"""


def test_yaml_nests_and_the_shell_reaches_the_innermost():
    loss = parse(two_deep, "--objective.terms.joint.loss.loss.loss.negatives", "5").terms["joint"].loss
    assert (loss.dims, loss.weights, loss.loss.size, loss.loss.loss.negatives) == ([32, 64], [0.5, 1.0], 7, 5)
    assert loss.scale.item() == pytest.approx(80, rel=1e-5)
    assert loss.prefixes[0].scale.item() == pytest.approx(10 * 32**0.5, rel=1e-5)


def test_a_config_that_is_written_reads_back():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Objective, "objective")
    first = parser.parse_object(yaml.safe_load(two_deep))
    again = parser.parse_object(yaml.safe_load(parser.dump(first)))
    assert parser.dump(again) == parser.dump(first)
    assert parser.instantiate(again).objective.terms["joint"].loss.loss.loss.negatives == "shuffled"


@pytest.mark.parametrize("name", nested)
def test_a_description_builds_the_same_loss(name):
    described = describe(nested[name]())
    assert described["class_path"].startswith("align.losses.")
    assert described["class_path"].count(".") == 2
    again = yaml.safe_load(yaml.safe_dump(described))
    assert describe(build(again)) == described


def test_a_description_takes_no_foreign_class_inside():
    inside = {"class_path": "os.system", "init_args": {}}
    with pytest.raises(ValueError, match="not align's; to trust it, pass allow="):
        build({"class_path": "align.losses.MixGeodesic", "init_args": {"loss": inside}})


def pieces():
    """tiny's model with a queue in its objective, and an optimiser."""
    model, _ = made()
    terms = {"all": Term(Matryoshka(MemoryQueue(MixGeodesic(InfoNCE()), 20), [2, 4]), "all")}
    objective = Objective(terms, dim=4, batch=12, modalities=list(modalities)).double()
    return model, objective, AdamW(lr=0.01).build(model, objective)


def test_a_checkpoint_holds_the_queue(tmp_path):
    def steps(model, objective, optimiser, which):
        for step in which:
            draw = torch.Generator().manual_seed(step)
            inputs = {m: torch.randn(8, 6, generator=draw, dtype=torch.float64) for m in modalities}
            batch = Batch({m: Rows(x, torch.arange(8)) for m, x in inputs.items()}, [""] * 8, torch.arange(8))
            loss, _ = objective(model(batch), generator=draw)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield loss.item()

    whole = [*steps(*pieces(), range(8))]
    model, objective, optimiser = pieces()
    first = [*steps(model, objective, optimiser, range(5))]
    folder = save_training(tmp_path, model, objective, optimiser, {"step": 5})
    again = pieces()
    load_training(folder, *again)
    assert again[1].state_dict()["losses.all.loss.rows/audio-text/text"].shape == (20, 4)
    assert [*first, *steps(*again, range(5, 8))] == whole


@pytest.mark.slow  # imports lightning
def test_a_run_that_was_killed_goes_on_to_the_bit(tmp_path):
    from cut import Cut, Kill

    from align.lit import AlignData, Checkpoints, fit

    shards = write(tmp_path / "shards")

    def train(run, *callbacks):
        model, objective, _ = pieces()
        data = AlignData(str(shards / "train-*.tar"), batch=12, workers=0)
        options = {
            "accelerator": "cpu",
            "precision": "64-true",
            "logger": False,
            "max_steps": 8,
            "callbacks": [*callbacks],
        }
        fit(model, objective, data, run, optim=AdamW(lr=0.01), trainer=options, checkpoint=Checkpoints(every_steps=3))
        return objective.state_dict(), model.state_dict()

    straight = train(tmp_path / "straight")
    with pytest.raises(Cut):
        train(tmp_path / "killed", Kill(5))
    resumed = train(tmp_path / "killed")
    assert any("rows/" in key for key in straight[0])
    torch.testing.assert_close(resumed, straight, rtol=0, atol=0)
    losses = [
        [line.split(",")[:2] for line in (tmp_path / run / "metrics.csv").read_text().splitlines()]
        for run in ("straight", "killed")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 9
