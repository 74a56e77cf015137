"""Sweeps: the search space as text, proposals that a stop does not change, trials that are real runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from test_commands_train import config
from tiny import write
from written import environment

from align import __version__
from align.commands import main
from align.commands.sweep import _show as show
from align.sweep import Choice, Range, Settings, open_study, read_space
from align.sweep.importance import find_importances
from align.sweep.study import Tried
from align.sweep.trial import write_arguments, write_value

SPACE = ["optim.lr=1e-4..1e-1:log", "model.dim=4,8", "data.batch=8..16"]


def settings(over=SPACE, **more) -> Settings:
    return Settings("seed: 0\n", read_space(over), "val/loss", "min", **more)


def test_space():
    assert read_space(["a=1e-4..1e-2:log", "b=2..8", "c=x,[1, 2],true", "--d=3"]) == {
        "a": Range(1e-4, 1e-2, False, True),
        "b": Range(2, 8, True, False),
        "c": Choice(("x", [1, 2], True)),
        "d": Choice((3,)),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optim.lr", "is no part of a search space"),
        ("a=3..1", "low end of a range is below"),
        ("a=0..1:log", "is above 0"),
        ("a=x..y", "is no range of numbers"),
        ("a=1..2:lin", "may end in ':log'"),
        ("a=1,1", "a choice two times"),
        ("a=[1", "are no YAML"),
    ],
)
def test_wrong_space_is_one_line(text, said):
    with pytest.raises(ValueError, match="a") as error:
        read_space([text])
    assert said in str(error.value)


def play(study, trials, *, stop=None):
    """Run trials whose loss is a function of their values, up to trial `stop`, which stays as it is."""
    while len(study.trials) < trials or any(trial.state == "running" for trial in study.trials):
        trial = study.start()
        if trial is None or trial.number == stop:
            return study
        loss = (trial.values["optim.lr"] - 0.01) ** 2 + trial.values["model.dim"] / 100
        trial.reached = [(1, loss + 1), (2, loss), (3, loss + 0.5)]
        study.end(trial, "done")
    return study


def test_a_stopped_sweep_goes_on_as_it_would_have(tmp_path):
    whole = play(open_study(tmp_path / "whole", settings()), 14)
    (tmp_path / "cut").mkdir()
    play(open_study(tmp_path / "cut", settings()), 14, stop=12)
    again = play(open_study(tmp_path / "cut", settings()), 14)
    assert [trial.values for trial in again.trials] == [trial.values for trial in whole.trials]
    assert len({repr(trial.values) for trial in whole.trials}) == 14
    best = min(whole.trials, key=lambda trial: trial.value)
    assert whole.best is best
    assert (best.step, best.state) == (2, "done")
    shares = find_importances(whole)
    assert set(shares) == {"optim.lr", "model.dim", "data.batch"}
    assert sum(shares.values()) == pytest.approx(1)


def test_proposals_learn(tmp_path):
    """The later half of the trials is better than the first: the sampler reads their scores."""
    study = play(open_study(tmp_path, settings(["optim.lr=0.0..1.0", "model.dim=4,8"])), 40)
    losses = [trial.value for trial in study.trials]
    assert sum(losses[20:]) < 0.5 * sum(losses[:20])


def test_a_grid_takes_every_combination(tmp_path):
    study = open_study(tmp_path, settings(["optim.lr=0.1,0.2", "model.dim=4,8"], sampler="grid"))
    play(study, 99)
    assert [tuple(t.values.values()) for t in study.trials] == [(0.1, 4), (0.1, 8), (0.2, 4), (0.2, 8)]
    with pytest.raises(ValueError, match="a grid is of choices alone"):
        open_study(tmp_path / "b", settings(sampler="grid"))


def test_other_settings_are_refused(tmp_path):
    play(open_study(tmp_path, settings()), 1)
    with pytest.raises(ValueError, match="began with seed 0, not 1; take another --out"):
        open_study(tmp_path, settings(seed=1))


def test_a_bad_trial_is_pruned_and_a_good_one_is_not(tmp_path):
    study = play(open_study(tmp_path, settings(prune=True)), 6)
    trial = study.start()
    assert not study.should_prune(trial)  # it has measured nothing
    trial.reached = [(1, 50.0)]
    assert study.should_prune(trial)
    trial.reached = [(1, 0.5)]
    assert not study.should_prune(trial)


def test_values_as_arguments(tmp_path):
    study = open_study(tmp_path, settings())
    trial = study.start()
    args = write_arguments(study, trial)
    assert args[:4] == ["--config", str(tmp_path / "config.yaml"), "--run", str(tmp_path / "trial-0000")]
    assert args[4] == f"--optim.lr={trial.values['optim.lr']!r}"
    assert [write_value(v) for v in (True, 3, [1, 2], {"a": None}, "x")] == ["true", "3", "[1, 2]", "{a: null}", "x"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write(tmp_path)
    write(tmp_path, "test", 20)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_wrong_keys_and_values_are_refused_before_a_run(folder, capsys):
    def line(*args):
        code = main(["sweep", "config.yaml", *args, "--out", "s"])
        assert not (folder / "s").exists()
        return code, capsys.readouterr().err.strip()

    code, text = line("optim.rl=0.1,0.2")
    assert (code, "--optim.rl" in text, "lr" in text) == (2, True, True)
    assert line("model.dim=4,eight")[0] == 2
    assert line("optim.lr=0.1", "--trials", "0") == (2, "align: --trials is at least 1; got 0")


def test_the_trial_in_which_a_sweep_stopped_is_not_said_to_run(tmp_path, capsys):
    study = open_study(tmp_path, settings(["model.dim=4,8"]))
    study.trials.append(Tried(0, "trial-0000", {"model.dim": 4}))
    show(study)
    heads, row = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert (heads[:2], row[:2], row[-1]) == (["trial", "model.dim"], ["trial-0000", "4"], "stopped")
    page = (tmp_path / "sweep.html").read_text()
    assert "running" not in page.partition("Trials")[2]
    assert f"<span>align {__version__}</span>" in page


@pytest.mark.sweep
def test_a_sweep_that_is_stopped_in_a_trial_goes_on(folder):
    """A real sweep: SIGTERM in the first trial, then the same command, and it ends."""
    over = ["optim.lr=0.01", "model.dim=4,8", "trainer.max_steps=300"]
    args = [sys.executable, "-m", "align", "sweep", "config.yaml", *over, "--out", "s", "--sampler", "grid"]
    process = subprocess.Popen(args, env=environment() | os.environ, stderr=subprocess.PIPE, text=True)
    metrics = folder / "s" / "trial-0000" / "metrics.csv"
    end = time.monotonic() + 300
    while not metrics.is_file() and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=300)
    assert process.returncode == 143, text
    assert "stopped in trial-0000; the same command continues" in text
    (trial,) = json.loads((folder / "s" / "sweep.json").read_text())["trials"]
    assert trial["state"] == "running"
    assert "stopped at step" in (folder / "s" / "trial-0000.log").read_text()
    assert subprocess.run(args, env=environment() | os.environ, check=False).returncode == 0
    trials = json.loads((folder / "s" / "sweep.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["done", "done"]
    assert "continuing at step" in (folder / "s" / "trial-0000.log").read_text()
    assert (folder / "s" / "sweep.html").is_file()


SCRIPT = """
import sys, time
from pathlib import Path
run = Path(sys.argv[sys.argv.index("--run") + 1])
run.mkdir(parents=True)
dim = next(a for a in sys.argv if a.startswith("--model.dim=")).partition("=")[2]
if dim == "0":
    print("align: model.dim is at least 1; got 0", file=sys.stderr)
    raise SystemExit(1)
(run / "metrics.csv").write_text(f"step,loss,val/loss\\n1,3.0,{dim}\\n2,2.0,\\n3,1.0,{float(dim) / 2}\\n")
"""


def test_trials_are_processes_whose_ends_are_noted(tmp_path, monkeypatch):
    """The process of a trial is a script that writes metrics.csv, as ``align train`` would."""
    from align.sweep import trial as trials

    (tmp_path / "train.py").write_text(SCRIPT)
    start = subprocess.Popen
    monkeypatch.setattr(
        trials.subprocess,
        "Popen",
        lambda command, **kw: start([sys.executable, str(tmp_path / "train.py"), *command[3:]], **kw),
    )
    study = open_study(tmp_path / "s", settings(["model.dim=6,0,2"], sampler="grid"))
    (tmp_path / "s").mkdir()
    while (one := study.start()) is not None:
        assert not trials.run_trial(study, one, asked=lambda: 0).stopped
    found = [(t.state, t.value, t.step, t.reason) for t in open_study(tmp_path / "s", study.settings).trials]
    assert found == [
        ("done", 3.0, 3, ""),
        ("failed", None, None, "model.dim is at least 1; got 0"),
        ("done", 1.0, 3, ""),
    ]
    assert study.best.number == 2
