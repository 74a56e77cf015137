"""Early stopping: a run without progress ends as runs end, one with progress does not, and a resume changes no bit."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from cut import Cut, Kill
from ranks import on_ranks
from test_lit import exact, rows, train
from tiny import write

from align.checkpoint import read_index, read_state
from align.distributed import exchange, rank
from align.lit import Checkpoints
from align.lit.early_stopping import EarlyStopping, Patience
from align.lit.stages import Stage

PATIENCE = EarlyStopping(patience=3)
WORSE = Checkpoints(mode="max", keep=9)  # the loss falls, so that the first validation stays the best
BETTER = Checkpoints(mode="min", keep=9)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder, missing=0.2), "test", 20, missing=0.2)


def go(shards: Path, run: Path, early: EarlyStopping | None = PATIENCE, *, checkpoint=WORSE, steps=20, **options):
    """Train with a validation at every step: the run in `WORSE` ends at step 4, after the best step 1."""
    given = {"val_check_interval": 1, **options.pop("trainer", {})}
    more = {"checkpoint": checkpoint, "early_stopping": early, **options}
    return train(shards, run, steps, trainer=given, **more)[1]


@pytest.fixture(scope="module")
def stopped(shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("stopped")
    return run, go(shards, run)


def count(run: Path) -> dict:
    state = read_state(run / "checkpoints" / read_index(run)["last"])
    return {name: state["early_stopping"][name] for name in ("waited", "best_step", "step")}


def by_eye(values: list[float], patience: int, least: float, sign: int) -> int | None:
    """The measurement after which the run ends, counted the long way. None: it does not."""
    best, without = None, 0
    for i, value in enumerate(values):
        if value == value and (best is None or sign * value > sign * best + least):
            best, without = value, 0
        else:
            without += 1
        if without == patience:
            return i
    return None


NAN = float("nan")


@pytest.mark.parametrize("values", [[3, 2, 2, 2, 1], [3, 2.9, 2.8, 2.7, 0], [1, NAN, NAN, 0.5], [NAN, NAN], [1, 2, 0]])
@pytest.mark.parametrize(("patience", "least"), [(1, 0.0), (2, 0.0), (2, 0.25), (3, 0.0)])
@pytest.mark.parametrize(("mode", "sign"), [("min", -1), ("max", 1)])
def test_the_count_is_a_loop(values, patience, least, mode, sign):
    counted = Patience(EarlyStopping(patience, least), "val/loss", mode, {"step": 0})
    ends = None
    for i, value in enumerate(values):
        if ends is None:
            counted.count(i + 1, value)
            counted.count(i + 1, value)  # the same measurement after a stop
            counted = Patience(counted.settings, "val/loss", mode, json.loads(json.dumps(counted.entry)))
            ends = i if counted.ended else None
    assert ends == by_eye(values, patience, least, sign)


def test_a_run_without_progress_ends_as_runs_end(stopped):
    run, fitted = stopped
    assert (fitted.step, fitted.signal, fitted.early) == (4, 0, True)
    assert [row["step"] for row in rows(run)] == ["1", "2", "3", "4"]
    assert count(run) == {"waited": 3, "best_step": 1, "step": 4}
    assert read_index(run)["best"] == "step-00000001"
    best = run / "checkpoints" / "step-00000001" / "model.json"
    assert (run / "model" / "model.json").read_text() == best.read_text()


def test_the_line_says_why_and_which_step_was_best(shards, tmp_path, capsys):
    go(shards, tmp_path)
    said = capsys.readouterr().err
    value = float(read_index(tmp_path)["value"])
    why = "stops early at step 4: val/loss was not better in 3 measurements after step 1"
    assert f"{why}; the best is step 1, with {value:.6g}" in said


def test_the_same_command_again_does_nothing_and_more_patience_goes_on(shards, stopped, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(stopped[0], run)
    before = exact(run)
    assert go(shards, run).early
    said = capsys.readouterr().err
    assert "is trained: it stopped early at step 4" in said
    assert "raise early_stopping.patience above 3, or leave early_stopping out" in said
    assert exact(run) == before
    shutil.rmtree(run / "model")
    go(shards, run)
    assert (run / "model" / "model.json").is_file()
    longer = go(shards, run, EarlyStopping(patience=5))
    assert (longer.step, longer.early) == (6, True)
    whole = tmp_path / "whole"
    go(shards, whole, EarlyStopping(patience=5))
    assert exact(run) == exact(whole)
    assert (removed := go(shards, run, None, steps=8)).step == 8
    assert not removed.early


def test_a_run_with_progress_takes_all_of_its_steps_and_its_bits_are_those_without_the_key(shards, tmp_path):
    fitted = go(shards, tmp_path / "with", EarlyStopping(patience=2), checkpoint=BETTER, steps=6)
    assert (fitted.step, fitted.early) == (6, False)
    go(shards, tmp_path / "without", None, checkpoint=BETTER, steps=6)
    assert exact(tmp_path / "with") == exact(tmp_path / "without")
    assert "early_stopping" not in read_state(tmp_path / "without" / "checkpoints" / "step-00000006")


@pytest.mark.parametrize("killed", [3])
def test_a_killed_run_stops_where_the_other_did(shards, stopped, tmp_path, killed):
    with contextlib.suppress(Cut):
        go(shards, tmp_path, trainer={"callbacks": [Kill(killed)]})
    fitted = go(shards, tmp_path)
    assert (fitted.step, fitted.early) == (4, True)
    assert exact(tmp_path) == exact(stopped[0])
    assert count(tmp_path) == count(stopped[0])


def test_the_whole_run_ends_in_its_first_stage(shards, tmp_path, capsys):
    stages = {"first": Stage(until=10), "second": Stage()}
    fitted = go(shards, tmp_path, EarlyStopping(patience=2), stages=stages)
    assert "is trained" not in capsys.readouterr().err  # no later stage was begun
    assert (fitted.step, fitted.early) == (3, True)
    assert (tmp_path / "model" / "model.json").is_file()
    assert go(shards, tmp_path, EarlyStopping(patience=2), stages=stages).early


def test_the_count_goes_on_from_stage_to_stage(shards, tmp_path):
    stages = {"first": Stage(until=2), "second": Stage()}
    assert go(shards, tmp_path, stages=stages).step == 4
    assert go(shards, tmp_path, stages=stages).early


def test_a_score_of_an_evaluator_ends_a_run(shards, tmp_path):
    score = "val/retrieval/image_to_text/recall@1"
    for mode in ("min", "max"):
        options = {"validate": {"with": ["retrieval"], "every_steps": 2}, "trainer": {"val_check_interval": 100}}
        early = EarlyStopping(patience=2, min_delta=2.0)  # more than a recall can change
        fitted = go(shards, tmp_path / mode, early, checkpoint=Checkpoints(monitor=score, mode=mode), **options)
        assert (fitted.step, fitted.early) == (6, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"patience": 0}, "at least 1; got 0"), ({"patience": 1, "min_delta": -0.1}, "min_delta is a change, at least 0")],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**settings)


def test_a_run_that_measures_nothing_is_refused_before_its_folder_is_made(shards, tmp_path):
    with pytest.raises(ValueError, match="waits for val/loss, which nothing in this run measures: name data"):
        go(shards, tmp_path / "a", val=False)
    with pytest.raises(ValueError, match="nothing in this run measures"):
        go(shards, tmp_path / "b", trainer={"limit_val_batches": 0})
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def two() -> list[str]:
    """Two ranks stop in the same step, and again after a kill."""
    folder = Path(exchange(str(tempfile.mkdtemp()).encode() if not rank() else b"")[0].decode())
    os.environ |= {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    if not rank():
        write(write(folder / "shards", missing=0.2), "test", 20, missing=0.2)
    exchange(b"")
    ddp = {"devices": 2, "strategy": "ddp"}
    whole = go(folder / "shards", folder / "whole", trainer=ddp)
    exchange(b"")
    with contextlib.suppress(Cut):
        go(folder / "shards", folder / "killed", trainer={**ddp, "callbacks": [Kill(3)]})
    exchange(b"")
    killed = go(folder / "shards", folder / "killed", trainer=ddp)
    exchange(b"")
    again = go(folder / "shards", folder / "killed", trainer=ddp)
    exchange(b"")
    steps = [str((one.step, one.early)) for one in (whole, killed, again)]
    return [*steps, str(exact(folder / "whole")), str(exact(folder / "killed"))]


@pytest.mark.sweep
def test_two_ranks_stop_in_the_same_step(tmp_path_factory):
    first, second = on_ranks([two], tmp_path_factory.mktemp("ranks"))["two"]
    assert first == second
    assert first[:3] == ["(4, True)"] * 3
    assert first[3] == first[4]
