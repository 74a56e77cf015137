"""Comparison by seed: pairs, Student's interval and p-value beside SciPy, Holm's correction, lines for bad folders."""

from __future__ import annotations

import json
import math

import pytest
import yaml

from align.commands import main
from align.evaluation.by_seed import compare_seeds, group_runs, read_run
from align.report.side_by_side import read_curves, state_curves

SCORES = {0.1: [0.50, 0.61, 0.55, 0.58], 0.2: [0.60, 0.66, 0.59, 0.69]}


def make(folder, lr, seed, scores, *, results=True):
    folder.mkdir(parents=True)
    config = {"seed": seed, "run": str(folder), "optim": {"lr": lr}, "model": {"dim": 4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if results:
        (folder / "results.json").write_text(json.dumps({**scores, "protocol": {}, "intervals": {}}))
    rows = [f"{step},{1 / step + seed},{value}" for step, value in ((2, 0.1), (4, scores["a/recall@1"]))]
    (folder / "metrics.csv").write_text("\n".join(["step,loss,val/a/recall@1", *rows]) + "\n")
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    """Four seeds of two rates. The score `b` has no difference at all."""
    return [
        make(tmp_path / f"{lr}-{seed}", lr, seed, {"a/recall@1": value, "b": 0.5})
        for lr, values in SCORES.items()
        for seed, value in enumerate(values)
    ]


def test_student_and_holm_equal_scipy(runs):
    from scipy import stats

    ((names, rows, notes),) = compare_seeds(group_runs([read_run(run) for run in runs]))
    assert names == ("optim.lr 0.1", "optim.lr 0.2")
    assert notes == []
    a, b = rows
    found = stats.ttest_rel(SCORES[0.2], SCORES[0.1])
    low, high = found.confidence_interval(0.95)
    assert a.p == pytest.approx(found.pvalue, rel=1e-9)
    assert a.interval == pytest.approx((low, high), rel=1e-9)
    assert a.difference == pytest.approx(sum(y - x for x, y in zip(*SCORES.values(), strict=True)) / 4)
    assert a.corrected == pytest.approx(2 * a.p)  # Holm: the smaller of two
    assert (b.difference, b.p, b.interval) == (0, 1, (0, 0))
    assert a.seeds == 4


def test_seeds_are_paired_and_not_places(runs):
    """Another order of the folders changes nothing: pairs are by seed."""
    first = compare_seeds(group_runs([read_run(run) for run in runs]))
    mixed = [runs[0], runs[7], runs[3], runs[4], runs[6], runs[1], runs[5], runs[2]]
    assert compare_seeds(group_runs([read_run(run) for run in mixed])) == first


def test_seeds_without_a_partner_are_named(runs):
    ((_, rows, notes),) = compare_seeds(group_runs([read_run(run) for run in runs[:3] + runs[4:6]]))
    assert rows[0].seeds == 2
    assert notes[0] == "left out, since only one config has them: seeds 2"
    assert "three or more" in notes[1]


def test_one_seed_has_no_interval(runs):
    ((_, rows, _),) = compare_seeds(group_runs([read_run(runs[0]), read_run(runs[4])]))
    assert math.isnan(rows[0].p)
    assert rows[0].difference == pytest.approx(0.1)


def test_a_run_without_results_has_the_validation_of_its_best_checkpoint(tmp_path):
    run = tmp_path / "one"
    make(run, 0.1, 0, {"a/recall@1": 0.4}, results=False)
    assert read_run(run).scores == {"val/a/recall@1": 0.4}
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "index.json").write_text('{"last": "step-00000004", "best": "step-00000002"}')
    assert read_run(run).scores == {"val/a/recall@1": 0.1}


def test_refusals_are_one_line(runs, tmp_path, capsys):
    def line(*args):
        assert main(["compare", *args]) in (1, 2)
        return capsys.readouterr().err.strip()

    assert "differ in their seeds alone" in line(*runs[:3], "--by-seed")
    twin = make(tmp_path / "twin", 0.1, 1, {"a/recall@1": 0.3})
    assert "have one config and one seed, 1" in line(*runs, twin, "--by-seed")
    (tmp_path / "empty").mkdir()
    assert "has no config.yaml" in line(*runs, str(tmp_path / "empty"), "--by-seed")
    assert "no score of all runs fits 'c*'" in line(*runs, "--by-seed", "--scores", "c*")
    assert "none in common" in line(runs[0], runs[5], "--by-seed")
    raw = make(tmp_path / "raw", 0.3, 0, {"a/recall@1": 0.4}, results=False)
    assert "raw was not, so they share no score; align evaluate" in line(runs[0], raw, "--by-seed")
    assert "neither results.json nor metrics.csv" in line(str(tmp_path / "empty"), str(tmp_path / "empty"))


def test_the_command_prints_and_writes(runs, tmp_path, capsys):
    assert main(["compare", *runs, "--by-seed", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "optim.lr 0.2 against optim.lr 0.1" in text
    assert "0.560 ± 0.047" in text
    (found,) = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["score"] for row in found["differences"]] == ["a/recall@1", "b"]
    assert "val/a/recall@1" in (tmp_path / "out" / "compare.html").read_text()


def test_curves_have_the_mean_and_the_ends_of_the_seeds(runs):
    groups = {"one": runs[:4], "two": runs[4:]}
    (section,) = state_curves(read_curves(runs), groups)
    loss, recall = section.blocks
    assert loss.lines["one"] == [(2, 2.0), (4, 1.75)]  # 1/step + seed, over the seeds 0 to 3
    assert loss.bands["one"] == [(2, 0.5, 3.5), (4, 0.25, 3.25)]
    assert recall.lines["two"][-1] == (4, pytest.approx(sum(SCORES[0.2]) / 4))


def test_runs_that_were_not_evaluated_are_shown_without_a_test(tmp_path, capsys):
    folders = [make(tmp_path / str(n), 0.1, n, {"a/recall@1": n / 4}, results=False) for n in (1, 2)]
    assert main(["compare", *folders, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "0.2500 at 4" in text
    assert "not tested" in text
    plain = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert plain[1]["columns"]["val/a/recall@1"] == {"step": 4, "value": 0.5}
