"""Kinds of negatives by the step: a function of it, so that a stopped run continues with the right kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from cut import Cut, Kill
from test_lit import exact, trainer
from tiny import dim, made, modalities, write

from align.checkpoint import read_index
from align.commands.config import make_parser
from align.lit import AlignData, Checkpoints, fit
from align.lit.negatives import at, check
from align.losses import Hinge, InfoNCE, Matryoshka, MemoryQueue, Symile, Transport
from align.objective import Objective, Term
from align.optim import AdamW

schedule = {"three": {0: "shuffled", 3: "partial", 5: 7}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def objective() -> Objective:
    terms = {"pairs": Term(InfoNCE(), "all"), "three": Term(Symile("all"), "all")}
    return Objective(terms, dim=dim, batch=12, modalities=list(modalities)).double()


def train(shards, run, steps, **options):
    model, _ = made()
    total = objective()
    seen: list = []
    total.terms["three"].loss.register_forward_pre_hook(lambda loss, _: seen.append((loss.training, loss.negatives)))
    data = AlignData(str(shards / "train-*.tar"), str(shards / "test-*.tar"), batch=12, workers=0)
    given = {**trainer, "max_steps": steps, "callbacks": options.pop("callbacks", [])}
    fit(model, total, data, run, optim=AdamW(lr=0.01), trainer=given, negatives=schedule, **options)
    return seen


def test_each_step_has_its_kind_and_a_stopped_run_continues_with_it(shards, tmp_path):
    seen = train(shards, tmp_path / "straight", 8)
    kinds = [kind for training, kind in seen if training]
    assert kinds == ["shuffled"] * 3 + ["partial"] * 2 + [7] * 3
    validated = {kind for training, kind in seen if not training}
    assert validated == {7}  # the last kind, so that validation losses can be compared

    with pytest.raises(Cut):
        train(shards, tmp_path / "cut", 8, checkpoint=Checkpoints(every_steps=4), callbacks=[Kill(5)])
    assert read_index(tmp_path / "cut")["last"] == "step-00000004"
    seen = train(shards, tmp_path / "cut", 8)
    assert [kind for training, kind in seen if training] == ["partial"] + [7] * 3
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")


def test_at():
    table = {0: "all", 10: "partial"}
    assert [at(table, step) for step in (0, 9, 10, 99)] == ["all", "all", "partial", "partial"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pairs": {0: "all"}}, r"'pairs' is no term with kinds of negatives; those are \['three'\]"),
        ({"thre": {0: "all"}}, r"'thre' is no term with kinds of negatives; those are \['three'\]"),
        ({"three": {5: "all"}}, r"'three' has steps \[5\]; the first must be 0"),
        ({"three": {0: "hard"}}, "'hard' of 'three' is not 'all', 'shuffled', 'partial' or a number"),
        ({"three": {0: 0}}, "0 of 'three' is not"),
    ],
)
def test_what_cannot_be_meant(given, message):
    with pytest.raises(ValueError, match=message):
        check(given, objective())


def others() -> Objective:
    terms = {
        "rank": Term(Hinge(), ["image", "text"]),
        "words": Term(Transport(), ["image", "text"]),
        "kept": Term(MemoryQueue(Matryoshka(Symile("all"), [2, dim]), 4), "all"),
    }
    return Objective(terms, dim=dim, batch=12, modalities=list(modalities))


def test_every_loss_takes_its_kinds_and_a_wrapper_those_of_its_loss():
    total = others()
    check({"rank": {0: "sum", 9: "hardest"}, "words": {0: "none", 4: "all"}, "kept": {0: 4, 5: "partial"}}, total)
    for name, kind in (("rank", "sum"), ("words", "none"), ("kept", 3)):
        total.losses[name].set_negatives(kind)
        inner = [
            part.negatives for part in total.losses[name].modules() if isinstance(part, (Hinge, Transport, Symile))
        ]
        assert set(inner) == {kind}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": {0: "shuffled"}}, "'shuffled' of 'rank' is not 'hardest' or 'sum'$"),
        ({"rank": {0: 3}}, "3 of 'rank' is not 'hardest' or 'sum'$"),
        ({"words": {0: "shuffled"}}, "'shuffled' of 'words' is not 'all' or 'none'$"),
        ({"kept": {0: "hardest"}}, "'hardest' of 'kept' is not 'all', 'shuffled', 'partial' or a number above 0$"),
        ({"kept": {0: "K"}}, "'K' of 'kept' is not"),
    ],
)
def test_no_loss_takes_the_kinds_of_another(given, message):
    with pytest.raises(ValueError, match=message):
        check(given, others())


def test_yaml_names_the_kinds_of_every_loss(tmp_path):
    given = Path(__file__).parents[1] / "configs" / "digits_symile.yaml"
    config = tmp_path / "c.yaml"
    config.write_text(given.read_text() + "negatives: {rank: {0: sum, 500: hardest}, words: {0: none, 9: all}}\n")
    values = make_parser().parse_args(["--config", str(config)])
    assert values.negatives == {"rank": {0: "sum", 500: "hardest"}, "words": {0: "none", 9: "all"}}


def test_yaml_says_it(tmp_path):
    given = Path(__file__).parents[1] / "configs" / "digits_symile.yaml"
    config = tmp_path / "c.yaml"
    config.write_text(given.read_text() + "negatives: {three: {0: shuffled, 500: partial, 900: 64}}\n")
    values = make_parser().parse_args(["--config", str(config)])
    assert values.negatives == {"three": {0: "shuffled", 500: "partial", 900: 64}}
    assert make_parser().parse_args(["--config", str(given)]).negatives == {}
