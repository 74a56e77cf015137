"""Every idea's config builds, has its comparison, and its figures in docs/ideas.md are those of its file."""

from __future__ import annotations

import ast
import copy
import csv
import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from few import few
from torch import nn

from align.commands.config import make_parser

root = Path(__file__).parent.parent
folder = root / "configs" / "ideas"
names = sorted(path.stem for path in folder.glob("*.yaml"))


scripts = sorted(path.stem for path in folder.glob("*.py") if "\nif __name__" in path.read_text(encoding="utf-8"))


def load(name):
    """Return a module of the folder, whose modules import each other by their plain names."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module(name)


def list_files(name):
    """Return the files of results that a script's call of `compare` names."""
    calls = [
        node
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "compare"
    ]
    return {str(word.arg) for call in calls for word in call.keywords}


@pytest.mark.parametrize("name", few(names, 8))
def test_a_config_builds_and_says_its_command(name):
    first, second = (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert first == f"# align train --config configs/ideas/{name}.yaml --run runs/ideas/{name}"
    assert second.startswith("# not run here: ") or ("2 cores" in second and " with" in second)
    parser = make_parser()
    made = parser.instantiate(parser.parse_args(["--config", str(folder / f"{name}.yaml"), "--run", "runs/x"]))
    assert made.objective.count_in() <= set(made.model.modalities)


@pytest.mark.parametrize("name", sorted(path.stem for path in (folder / "arms").glob("*.yaml")))
def test_every_arm_is_read(name):
    """An arm's options are keys of the config, so that a misspelt one is no second baseline."""
    arms = load("run").read_arms(name)
    parser = make_parser()
    read = [
        parser.parse_args(["--config", str(folder / f"{name}.yaml"), "--run", "runs/x", *map(str, options)])
        for options in arms["arms"].values()
    ]
    assert len({str(each) for each in read}) == len(read)


@pytest.mark.parametrize("path", sorted((folder / "results").glob("*.csv")), ids=lambda path: path.stem)
def test_the_page_has_the_figures_of_the_file(path):
    """Each mean of a file stands in docs/ideas.md or docs/which-loss.md, in the form that --table prints."""
    run = load("compare")
    page = "".join((root / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("ideas", "which-loss"))
    lines = run.table(run.read_rows(path))
    assert lines
    shown = {line.split("  ")[2] for line in lines}
    assert any(figure in page for figure in shown), f"no figure of {path.name} stands in docs/ideas.md: {shown}"


@pytest.mark.parametrize("page", ["ideas", "compatible-models"])
def test_every_figure_of_the_page_is_of_a_file(page):
    """A figure that was typed or rounded another way, or that an older run left behind, is in no file of results."""
    run = load("compare")
    lines = [line for path in (folder / "results").glob("*.csv") for line in run.table(run.read_rows(path))]
    known = {line.split("  ")[2] for line in lines}
    said = re.findall(r"\d+\.\d+ ± \d+\.\d+", (root / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert len(said) > 8
    assert {figure for figure in said if figure not in known} == set()


def test_the_table_has_mean_and_spread():
    run = load("compare")
    rows = [run.Row("with", seed, "a/b", value, 1.0) for seed, value in enumerate((0.2, 0.4, 0.6))]
    assert run.table(rows) == ["a/b  with  0.400 ± 0.200  (3 seeds)"]


def test_an_unknown_idea_is_one_line(monkeypatch, tmp_path):
    run = load("run")
    with pytest.raises(SystemExit, match="'nothing' has no comparison; there are"):
        run.read_arms("nothing")
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "one.yaml").write_text(yaml.safe_dump({"shards": "solids"}), encoding="utf-8")
    monkeypatch.setattr(run, "HERE", tmp_path)
    with pytest.raises(SystemExit, match="two arms or more"):
        run.read_arms("one")


@pytest.mark.parametrize("name", scripts)
def test_a_script_says_its_command_and_its_time(name):
    """A docstring is the help of its script, so it has what the script measures, the command and the minutes."""
    doc = load(name).__doc__
    help = load("compare").make_parser(doc).format_help()
    assert f"python configs/ideas/{name}.py" in help
    assert re.search(r"\d min|seconds|few minutes", help), f"{name}.py does not say how long it takes"
    for result in list_files(name) if list_files(name) != {name} else ():
        assert f"{result}.csv" in help


def test_every_file_of_results_has_its_script():
    compared = {path.stem for path in (folder / "arms").glob("*.yaml")}
    assert compared.union(*map(list_files, scripts)) == {path.stem for path in (folder / "results").glob("*.csv")}


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """Return a function that runs `compare` with a command line, in a folder of its own."""
    module = load("compare")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)

    def run(*options, **measures):
        monkeypatch.setattr(sys, "argv", ["script.py", *options])
        module.compare("What it measures.", **measures)
        return tmp_path / "results"

    return run


def test_three_seeds_write_the_file(compared, capsys):
    def one(seed):
        return {"without": lambda: {"a": seed / 10}, "with": lambda: {"a": 0.5, "b": float(torch.rand(()))}}

    path = compared(one=one, two=lambda seed: [load("compare").Row("x", seed, "c", 1.0)]) / "one.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["arm"], r["seed"], r["score"]) for r in rows][:3] == [
        ("without", "0", "a"),
        ("with", "0", "a"),
        ("with", "0", "b"),
    ]
    assert [r["value"] for r in rows if r["arm"] == "without"] == ["0.0000", "0.1000", "0.2000"]
    for seed in range(3):
        drawn = float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
        assert rows[3 * seed + 2]["value"] == f"{drawn:.4f}"
    shown = capsys.readouterr().out
    assert "a  without  0.100 ± 0.100  (3 seeds)" in shown
    assert "c  x  1.000 ± 0.000  (3 seeds)" in shown
    compared("--table", one=one)
    assert capsys.readouterr().out in shown


def test_one_seed_is_tried_and_no_file_is_written(compared, capsys):
    results = compared("--seeds", "4", one=lambda seed: {"with": lambda: {"a": float(seed)}})
    shown = capsys.readouterr()
    assert "a  with  4.000 ± 0.000  (1 seed)" in shown.out
    assert "one.csv stays as it is" in shown.err
    assert not list(results.iterdir())
    with pytest.raises(SystemExit, match="'one' has no figures yet; there are those of none"):
        compared("--table", one=lambda seed: {})


@pytest.mark.parametrize("options", [{}, {"decay": 0.5}, {"clip": 0.1}, {"cycle": 5}, {"cycle": 5, "warm": 0.6}])
def test_fit_is_the_plain_loop(options):
    torch.manual_seed(0)
    x, y = torch.randn(5, 8, 3), torch.randn(5, 8, 1)
    model = nn.Linear(3, 1).eval()
    model.bias.requires_grad_(False)
    plain = copy.deepcopy(model)
    optimizer = torch.optim.AdamW([plain.weight], lr=0.1, weight_decay=options.get("decay", 0.01))
    rates = None
    if "cycle" in options:
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 5, pct_start=options.get("warm", 0.3))
    for a, b in zip(x, y, strict=True):
        optimizer.zero_grad()
        ((plain(a) - b) ** 2).mean().backward()
        if "clip" in options:
            nn.utils.clip_grad_norm_([plain.weight], options["clip"])
        optimizer.step()
        if rates:
            rates.step()
    modes = []

    def compute(a, b):
        modes.append(model.training)
        return ((model(a) - b) ** 2).mean()

    load("fit").fit(map(compute, x, y), [model], 0.1, **options)
    torch.testing.assert_close(model.weight, plain.weight, rtol=0, atol=0)
    torch.testing.assert_close(model.bias, plain.bias, rtol=0, atol=0)
    assert modes == [True] * 5
    assert not model.training


def test_fit_clamps_a_temperature():
    from align.losses import InfoNCE

    loss, x = InfoNCE(), nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    loss.start(4, 2, 8)
    ids = torch.arange(8)
    load("fit").fit((loss([x, x], [ids, ids]) for _ in range(3)), [loss], 100.0)
    free = copy.deepcopy(loss)
    free.clamp_()
    assert [p.item() for p in loss.parameters()] == [p.item() for p in free.parameters()]


def test_take_keeps_the_rows_of_the_samples():
    """A sample has no row, one or several; rows come in the order of their samples' new numbers."""
    from align.values import Batch, Rows

    owner = torch.tensor([2, 0, 2, 3, 0, 1])
    values = torch.arange(6.0)[:, None]
    given = Batch(
        {"a": Rows(values, owner), "b": Rows(torch.eye(4), torch.arange(4))},
        ["w", "x", "y", "z"],
        torch.arange(10, 14),
        [0, 1, 2, 3],
        group=torch.tensor([5, 6, 7, 8]),
    )
    chosen = torch.tensor([3, 0, 2])
    got = load("fit").take(given, chosen)
    rows = [(number, row) for number, old in enumerate(chosen.tolist()) for row in range(6) if owner[row] == old]
    assert [(int(n), float(v)) for n, v in zip(got["a"].sample, got["a"].values[:, 0], strict=True)] == rows
    assert torch.equal(got["b"].values, torch.eye(4)[chosen])
    assert (got.ids, got.labels, got.position.tolist(), got.group.tolist()) == (
        ["z", "w", "y"],
        [3, 0, 2],
        [13, 10, 12],
        [8, 5, 7],
    )


def test_a_missing_set_is_made(monkeypatch, tmp_path, capsys):
    sets = load("sets")
    monkeypatch.chdir(tmp_path)

    def make(path):
        path.mkdir(parents=True)
        for name in ("manifest.json", "test-000001.tar", "test-000000.tar", "train-000000.tar"):
            (path / name).touch()

    monkeypatch.setitem(sets.SETS, "scenes", make)
    assert sets.find_shards("scenes", "test") == [f"shards/scenes/test-00000{i}.tar" for i in (0, 1)]
    assert "shards/scenes is made" in capsys.readouterr().err
    monkeypatch.setitem(sets.SETS, "scenes", None)
    assert len(sets.find_shards("scenes", "train")) == 1
