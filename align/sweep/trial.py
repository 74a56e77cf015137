"""One trial of a sweep: ``align train`` in a process, watched through its metrics.csv."""

from __future__ import annotations

import csv
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from align.sweep.study import Study, Tried

POLL = 1.0  # seconds between two looks at metrics.csv
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)


class Ended(NamedTuple):
    """End of a trial's process. code: its exit code. stopped: a signal to this process ended it."""

    code: int
    stopped: bool


def write_arguments(study: Study, trial: Tried) -> list[str]:
    """Return the arguments of ``align train`` for a trial."""
    given = [f"--{key}={write_value(value)}" for key, value in trial.values.items()]
    return ["--config", str(study.folder / "config.yaml"), "--run", str(study.folder / trial.run), *given]


def write_value(value: object) -> str:
    """Return a value as the command line has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def run_trial(study: Study, trial: Tried, *, asked: Callable[[], int], more: Sequence[str] = ()) -> Ended:
    """Run a trial to its end, and note the end in the study. Its output is in the file ``RUN.log`` beside the run.

    asked: returns the number of a signal that this process got, or 0. The trial then saves and leaves, and stays
    "running" in the study. more: further arguments of ``align train``.
    """
    command = [sys.executable, "-m", "align", "train", *write_arguments(study, trial), *more]
    log, pruned, stopped, sent = study.folder / f"{trial.run}.log", False, False, False
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with
        )
        try:
            while process.poll() is None:
                _read(study, trial)
                stopped = stopped or bool(asked())
                pruned = pruned or (not stopped and study.should_prune(trial))
                if (stopped or pruned) and not sent:
                    process.send_signal(signal.SIGTERM)  # it finishes the step and saves
                    sent = True
                _wait(process, POLL)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    code = process.returncode
    _read(study, trial)
    stopped = (stopped or code in STOPPED) and not pruned
    if stopped:
        study.write()
    elif pruned:
        study.end(trial, "pruned")
    elif code:
        study.end(trial, "failed", reason=_last_line(log) or f"exit code {code}")
    elif not trial.reached:
        columns = ", ".join(_columns(study.folder / trial.run / "metrics.csv"))
        study.end(trial, "failed", reason=f"metrics.csv has no value of {study.settings.score!r}; it has {columns}")
    else:
        study.end(trial, "done")
    return Ended(code, stopped)


def _die_with() -> None:
    """Let this process get SIGTERM when its parent dies. Linux alone can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)


def _read(study: Study, trial: Tried) -> None:
    """Read a trial's measurements of the score from its metrics.csv."""
    path, score = study.folder / trial.run / "metrics.csv", study.settings.score
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as f:
        rows = [(row.get("step"), row.get(score)) for row in csv.DictReader(f)]
    found = [(int(step), float(value)) for step, value in rows if step and step.isdigit() and value]
    trial.reached = [(step, value) for step, value in found if math.isfinite(value)]


def _columns(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return next(csv.reader(f), [])


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("align: ")]
    return (errors or lines or [""])[-1].removeprefix("align: ")[:400]
