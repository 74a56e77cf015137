"""Forks: a new run folder that goes on from another run, which stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cut import Cut, Kill
from test_commands_train import config, refused
from test_lit import exact, rows, train
from test_lit_stopped import everything
from tiny import write

from align.checkpoint import read_index
from align.lit import Checkpoints
from align.lit.forks import Fork, _index
from align.optim import AdamW

pytestmark = pytest.mark.slow

KEEP = Checkpoints(every_steps=3, keep=9)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder, broken=(3,)), "test", 20)


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    train(shards, run, 8, checkpoint=KEEP, max_bad=1)
    return run


@pytest.fixture(scope="module")
def source(shards, tmp_path_factory):
    """A run of eight steps that was killed in its seventh: its last checkpoint is step 6, its best one step 4."""
    run = tmp_path_factory.mktemp("source") / "run"
    with pytest.raises(Cut):
        train(shards, run, 8, checkpoint=KEEP, max_bad=1, trainer={"callbacks": [Kill(7)]})
    return run


def same(a: Path, b: Path) -> bool:
    """True for runs with equal files, but for the times and the fork's note."""
    mine, theirs = everything(a), everything(b)
    for one in (mine, theirs):
        one.pop("fork.json", None)
    return {k: v for k, v in mine.items() if "step-00000003" not in k} == {
        k: v for k, v in theirs.items() if "step-00000003" not in k
    }


def test_a_fork_ends_as_the_run_that_was_never_forked(shards, straight, source, tmp_path):
    before = everything(source)
    assert read_index(source)["last"] == "step-00000006"
    run = tmp_path / "fork"
    with pytest.raises(Cut):
        train(shards, run, 8, checkpoint=KEEP, max_bad=1, fork=str(source), trainer={"callbacks": [Kill(8)]})
    assert read_index(run)["best"] == "step-00000004"
    train(shards, run, 8, checkpoint=KEEP, max_bad=1, fork=str(source))  # the same command continues
    assert exact(run) == exact(straight)
    assert same(run, straight)
    assert everything(source) == before
    assert json.loads((run / "fork.json").read_text()) == {"run": str(source), "step": 6}


def test_a_fork_of_an_earlier_step_under_another_config(shards, source, tmp_path, capsys):
    """Its rows up to the step are the source's, and a best checkpoint that is later does not come along."""
    for name, fork in (("a", f"{source}@3"), ("b", str(source / "checkpoints/step-00000003"))):
        train(shards, tmp_path / name, 8, checkpoint=KEEP, max_bad=1, fork=fork, optim=AdamW(lr=0.1))
    assert _index(Fork(source, 3)) == {"last": "step-00000003"}
    assert _index(Fork(source, 4)) == read_index(source) | {"last": "step-00000004"}
    assert "continuing at step 3" in capsys.readouterr().err
    assert exact(tmp_path / "a") == exact(tmp_path / "b")
    table, theirs = rows(tmp_path / "a"), rows(source)
    assert [row["step"] for row in table] == [str(step) for step in range(1, 9)]
    assert table[:3] == theirs[:3]
    assert table[3]["loss"] == theirs[3]["loss"]  # the same weights and samples, then another rate
    assert table[4]["loss"] != theirs[4]["loss"]
    assert float(table[3]["lr"]) > 5 * float(theirs[3]["lr"])


def test_a_fork_does_not_read_the_start_of_its_config(shards, straight, source, tmp_path, capsys):
    """A config of a fine-tuned run names its start, and a fork of the run goes on under the same config."""
    run, fork = tmp_path / "fork", {"fork": str(source), "start": str(straight / "model")}
    train(shards, run, 8, checkpoint=KEEP, max_bad=1, **fork)
    assert f"goes on from step 6; start {straight / 'model'} is not read" in capsys.readouterr().err
    assert exact(run) == exact(straight)


def test_a_copy_that_was_cut_is_made_anew(shards, straight, source, tmp_path):
    """A kill before the index is written leaves no run."""
    run = tmp_path / "fork"
    train(shards, run, 8, checkpoint=KEEP, max_bad=1, fork=str(source))
    shutil.rmtree(run / "model")
    (run / "checkpoints/index.json").unlink()
    (run / "checkpoints/step-00000006/model.json").unlink()
    train(shards, run, 8, checkpoint=KEEP, max_bad=1, fork=str(source))
    assert same(run, straight)


@pytest.fixture
def folder(shards, source, tmp_path, monkeypatch):
    import yaml

    data = {"train": str(shards / "train-*.tar"), "val": str(shards / "test-*.tar"), "batch": 12, "workers": 0}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config | {"data": data}))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source, tmp_path / "old")
    return tmp_path


def test_forks_that_are_refused(folder, source, capsys):
    """One line, and a run folder that is there keeps its config."""
    shutil.copytree(source, folder / "has")
    (folder / "has/config.yaml").write_text("kept")
    same = ["train", "--config", "c.yaml", "--run"]
    for words, code, text in (
        (["has", "--fork", "old"], 1, "has has checkpoints already, and it is no fork; name another --run"),
        (["old", "--fork", "old"], 1, "a run cannot be forked into itself; name another --run"),
        (["new", "--fork", "nothing"], 1, "is no run folder with checkpoints"),
        (["new", "--fork", "old@5"], 1, "has no checkpoint '5'; it has best, last and the steps [3, 4, 6]"),
        (["new", "--fork", "old", "--fresh"], 2, "--fork and --fresh both say how the run begins: give one of them"),
        (["new", "--fork", "old", "--start", "old"], 2, "--fork and --start both say how the run begins"),
    ):
        assert text in refused(capsys, [*same, *words], code)
    (folder / "has/fork.json").write_text(json.dumps({"run": str(folder / "old"), "step": 3}))
    assert f"it was forked from {folder / 'old'}@3; name" in refused(capsys, [*same, "has", "--fork", "old@6"], 1)
    assert (folder / "has/config.yaml").read_text() == "kept"
    assert not (folder / "new/checkpoints").exists()


def test_another_model_is_refused_in_one_line(folder, capsys):
    """The towers of the config are not those of the run."""
    line = refused(capsys, ["train", "--config", "c.yaml", "--run", "new", "--fork", "old"], 1)
    assert "was trained with another model than this config's: towers." in line
    assert not (folder / "new/checkpoints").exists()
