"""The worlds of configs/experiments/which_loss.py have the dependence they claim, and the page has their figures."""

from __future__ import annotations

import importlib
import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

root = Path(__file__).parent.parent
folder = root / "configs" / "experiments"


@pytest.fixture
def load(monkeypatch):
    """Import a script of the experiments' folder."""
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module


@pytest.fixture
def worlds(load):
    return load("which_loss_worlds")


def count_best(world) -> float:
    """Return the accuracy of the likeliest target of each query, by a plain loop over the cases."""
    seen: dict[tuple[int, ...], Counter[int]] = {}
    place = world.names.index(world.target)
    for code, p in zip(world.codes.tolist(), world.chance.tolist(), strict=True):
        target = code.pop(place)
        seen.setdefault(tuple(code), Counter())[target] += p
    return sum(max(targets.values()) for targets in seen.values())


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_xor_has_its_ceiling_and_pairs_that_say_nothing_of_b(worlds, p):
    world = worlds.xor(p, bits=3)
    assert world.ceiling == pytest.approx(p + (1 - p) / 8)
    assert world.ceiling == pytest.approx(count_best(world))
    assert world.information("a", "b") == pytest.approx(0, abs=1e-9)
    assert world.information("b", "c") == pytest.approx(0, abs=1e-9)
    if p == 1:
        assert world.information("ac", "b") == pytest.approx(3 * math.log(2))
        assert world.information("a", "c") == pytest.approx(0, abs=1e-9)


def test_a_swap_leaves_its_ceiling(worlds):
    marked, plain, never = worlds.swapped(0.4, True), worlds.swapped(0.4, False), worlds.swapped(0.0, False)
    assert marked.ceiling == pytest.approx(0.6 + 0.4 / 4)
    for world in (marked, plain, never):
        assert world.ceiling == pytest.approx(count_best(world))
    assert 0.6 < plain.ceiling < marked.ceiling < never.ceiling == pytest.approx(1)
    assert never.information("a", "c") == pytest.approx(3 * math.log(2))  # the shared bits
    a, b, c = never.codes.T
    assert torch.equal(c % 4, ~(a ^ b) & 3)
    assert torch.equal(a >> 2, c >> 2)
    mark = marked.codes[:, :2] >> 5
    wrong = (marked.codes[:, 2] >> 2)[:, None] != (marked.codes[:, :2] >> 2) % 8
    assert not (wrong & (mark == 0)).any()
    assert float(marked.chance[mark.sum(1) > 0].sum()) == pytest.approx(0.4)


def test_four_modalities_depend_as_they_say(worlds):
    parity, beside, copies = worlds.parity(2), worlds.bystander(2), worlds.copies(0.7, bits=2)
    for size in (1, 2):
        for query in itertools.combinations("abc", size):
            assert parity.information(query, "d") == pytest.approx(0, abs=1e-9)
    assert parity.information("abc", "d") == pytest.approx(2 * math.log(2))
    assert beside.information("ab", "d") == pytest.approx(2 * math.log(2))
    assert beside.information("abd", "c") == pytest.approx(0, abs=1e-9)
    assert [copies.information(m, "d") for m in "abc"] == pytest.approx([copies.information("a", "b")] * 3)
    assert copies.information("a", "b") > 0.2
    for world in (parity, beside, copies):
        assert world.ceiling == pytest.approx(count_best(world))


def test_draws_follow_the_table(worlds):
    world = worlds.xor(0.25, bits=2)
    x = world.draw(8000, torch.Generator().manual_seed(0))
    codes = {m: ((v > 0) * torch.tensor([1, 2])).sum(1) for m, v in x.items()}
    same = codes["c"] == codes["a"]
    mixed = codes["c"] == codes["a"] ^ codes["b"]
    assert float(mixed.float().mean()) == pytest.approx(0.25 + 0.75 / 4, abs=0.03)  # b = 0 gives both
    assert bool((same | mixed).all())
    assert len(world.candidates) == 4


@pytest.mark.parametrize("name", ["redundant", "unique", "sum", "sign"])
def test_a_gaussian_has_its_information(worlds, name):
    """The mean log ratio of true pairs is the mutual information, an estimate that shares no formula with it."""
    world = worlds.gaussians()[name]
    assert world.information == pytest.approx(4 * math.log(2), abs=1e-4)
    x = world.draw(4000, torch.Generator().manual_seed(0))
    ratios = torch.cat([world.log_ratio({m: x[m][i : i + 1] for m in "ab"}, x["c"][i : i + 1])[0] for i in range(1500)])
    assert float(ratios.mean()) == pytest.approx(world.information, abs=0.12)
    for i, m in enumerate("ab"):
        r = (x[m] * x["c"]).mean(0) / (x[m].std(0) * x["c"].std(0))
        assert float(-torch.log1p(-(r**2)).sum() / 2) == pytest.approx(world.of_pair(i), abs=0.12)
    assert all(float(v.std()) == pytest.approx(1, abs=0.05) for v in x.values())
    if name == "unique":
        assert float((x["a"][:, 2:] * x["c"][:, 2:]).mean()) == pytest.approx(0, abs=0.05)
    if name == "sign":
        assert torch.equal(x["c"].sign(), x["a"].sign() * x["b"].sign())


def test_the_bound_of_the_best_score_is_below_the_information(load, worlds):
    bound, world = load("which_loss").bound, worlds.gaussians()["sum"]
    found = bound(lambda x: world.log_ratio(x, x["c"]), world, draws=4)
    assert 2.4 < found < world.information
    easy = torch.linspace(-9, 9, 256)[:, None]  # what a query adds to all its candidates changes nothing
    assert bound(lambda x: world.log_ratio(x, x["c"]) + easy, world, draws=4) == pytest.approx(found, abs=1e-3)
    assert bound(lambda x: torch.zeros(256, 256), world, draws=1) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("question", ["xor", "swapped", "gaussian", "four", "holes"])
def test_the_page_has_the_tables_of_the_files(load, question):
    plots = load("which_loss_plots")
    page = (root / "docs" / "which-loss.md").read_text(encoding="utf-8")
    found, ceilings = plots.read(question)
    lines = plots.table(found, ceilings, plots.CHANCES[question])
    assert "\n".join(lines) in page, "\n".join(lines)
    assert {len(values) for each in found.values() for values in each.values()} == {3}
    assert (folder / f"which_loss_{question}.png").is_file()


def test_the_page_has_the_figures_of_older_runs(load):
    plots = load("which_loss_plots")
    page = (root / "docs" / "which-loss.md").read_text(encoding="utf-8")
    assert "\n".join(plots.table(plots.read_sum(), {}, {"": 0.1})) in page
    assert "\n".join(plots.table_published()) in page


def test_every_loss_is_trained_and_scored(load, monkeypatch):
    """A few steps of each, so that a loss whose reading changed fails here and not in an hour of runs."""
    script, losses = load("which_loss"), load("which_loss_losses")
    monkeypatch.setattr(script, "STEPS", 2)
    three, four = script.Question("xor", script.xor(1.0, 2), None), script.Question("parity", script.parity(2), None)
    for loss in losses.LOSSES:
        question = three if losses.asks("xor", loss) or losses.asks("swapped", loss) else four
        row = script.run(question, loss, 0, 1.0)
        assert row[:3] == [question.name, loss, 0]
        assert 0 <= float(row[3]) <= 1


def test_a_loss_with_heads_is_read_by_them(load):
    losses = load("which_loss_losses")
    torch.manual_seed(0)
    x = {m: torch.nn.functional.normalize(torch.randn(5, 8), dim=1) for m in "abc"}
    query = {"a": x["a"], "b": x["b"]}
    for name in ("Gated Symile", "ConFu", "Symile partial"):
        objective = losses.Objective(losses.LOSSES[name](), dim=8, batch=5, modalities=[*"abc"])
        (loss,) = objective.losses.values()
        found = losses.scores(objective, query, x["c"], "c")
        if name == "Gated Symile":
            wanted = loss.score(x["c"], [x["a"], x["b"]], 2)
        elif name == "ConFu":
            wanted = loss.fuse([x["a"], x["b"]], (0, 1)) @ x["c"].T
        else:
            wanted = loss.scale * (x["a"] * x["b"]) @ x["c"].T
        torch.testing.assert_close(found, wanted)
