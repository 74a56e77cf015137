"""Every idea's config builds, has its comparison, and its figures in docs/ideas.md are those of its file."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

from align.commands.config import make_parser

root = Path(__file__).parent.parent
folder = root / "configs" / "ideas"
names = sorted(path.stem for path in folder.glob("*.yaml"))


def load_run():
    spec = importlib.util.spec_from_file_location("ideas_run", folder / "run.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", names)
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
    arms = load_run().read_arms(name)
    parser = make_parser()
    read = [
        parser.parse_args(["--config", str(folder / f"{name}.yaml"), "--run", "runs/x", *map(str, options)])
        for options in arms["arms"].values()
    ]
    assert len({str(each) for each in read}) == len(read)


@pytest.mark.parametrize("path", sorted((folder / "results").glob("*.csv")), ids=lambda path: path.stem)
def test_the_page_has_the_figures_of_the_file(path):
    """Each mean of a file stands in docs/ideas.md or docs/which-loss.md, in the form that --table prints."""
    run = load_run()
    page = "".join((root / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("ideas", "which-loss"))
    lines = run.table(run.read_rows(path))
    assert lines
    shown = {line.split("  ")[2] for line in lines}
    assert any(figure in page for figure in shown), f"no figure of {path.name} stands in docs/ideas.md: {shown}"


@pytest.mark.parametrize("page", ["ideas", "compatible-models"])
def test_every_figure_of_the_page_is_of_a_file(page):
    """A figure that was typed or rounded another way, or that an older run left behind, is in no file of results."""
    run = load_run()
    lines = [line for path in (folder / "results").glob("*.csv") for line in run.table(run.read_rows(path))]
    known = {line.split("  ")[2] for line in lines}
    said = re.findall(r"\d+\.\d+ ± \d+\.\d+", (root / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert len(said) > 8
    assert {figure for figure in said if figure not in known} == set()


def test_the_table_has_mean_and_spread():
    run = load_run()
    rows = [run.Row("with", seed, "a/b", value, 1.0) for seed, value in enumerate((0.2, 0.4, 0.6))]
    assert run.table(rows) == ["a/b  with  0.400 ± 0.200  (3 seeds)"]


def test_an_unknown_idea_is_one_line(monkeypatch, tmp_path):
    run = load_run()
    with pytest.raises(SystemExit, match="'nothing' has no comparison; there are"):
        run.read_arms("nothing")
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "one.yaml").write_text(yaml.safe_dump({"shards": "solids"}), encoding="utf-8")
    monkeypatch.setattr(run, "HERE", tmp_path)
    with pytest.raises(SystemExit, match="two arms or more"):
        run.read_arms("one")
