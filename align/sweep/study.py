"""Study of a sweep: the trials in ``sweep.json``, and the next one, proposed by Optuna from those that ended.

A proposal is a function of the settings, the trial's number and the trials before it. So a sweep that was stopped goes
on with the values that it would have had.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from align.extras import has_part, pip_install
from align.files import read_json, write_json
from align.seeds import derive
from align.sweep.space import Choice, Space, list_grid

FILE = "sweep.json"
STATES = ("running", "done", "pruned", "failed")
Sampler = Literal["tpe", "random", "grid"]


@final
@dataclass(frozen=True)
class Settings:
    """Settings that a sweep keeps from its first start on.

    config: text of the config. space: as `read_space` returns it. score: a column of metrics.csv. mode: "min" or "max".
    prune: a trial that is worse than the median of the others at the same step ends early.
    """

    config: str
    space: Space
    score: str
    mode: Literal["min", "max"]
    sampler: Sampler = "tpe"
    seed: int = 0
    prune: bool = False

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return json.loads(json.dumps(asdict(self)))


@dataclass
class Tried:
    """A trial. run: its folder's name. values: key -> value. reached: (step, score) of each measurement.

    value: the best score, None where there is none. step: that of the best score. reason: of a failure.
    """

    number: int
    run: str
    values: dict[str, Any]
    state: str = "running"
    value: float | None = None
    step: int | None = None
    reached: list[tuple[int, float]] = field(default_factory=list)
    reason: str = ""


@final
class Study:
    """Trials of a sweep in a folder."""

    def __init__(self, folder: Path, settings: Settings, trials: Sequence[Tried]):
        self.folder, self.settings, self.trials = folder, settings, list(trials)

    @property
    def best(self) -> Tried | None:
        """The trial with the best score, among those that ended by themselves."""
        done = [trial for trial in self.trials if trial.state == "done" and trial.value is not None]
        return min(done, key=lambda t: self._sign * (t.value or 0.0), default=None)

    @property
    def _sign(self) -> int:
        return 1 if self.settings.mode == "min" else -1

    def start(self) -> Tried | None:
        """Return the trial that was running when the sweep stopped, else a new one. None: a grid has no more."""
        running = next((trial for trial in self.trials if trial.state == "running"), None)
        if running is not None:
            return running
        number = len(self.trials)
        values = self._propose(number)
        if values is None:
            return None
        trial = Tried(number, f"trial-{number:04d}", values)
        self.trials.append(trial)
        self.write()
        return trial

    def end(self, trial: Tried, state: str, *, reason: str = "") -> None:
        """Note the end of a trial, with the best of its measurements."""
        finite = [(step, value) for step, value in trial.reached if math.isfinite(value)]
        if finite:
            trial.step, trial.value = min(finite, key=lambda found: (self._sign * found[1], found[0]))
        trial.state, trial.reason = state, reason
        self.write()

    def should_prune(self, trial: Tried) -> bool:
        """Return True where a trial's last measurement is worse than the median of the earlier trials' at its step.

        The first 5 trials end by themselves (Golovin et al. 2017, the median stopping rule).
        """
        if not (self.settings.prune and trial.reached):
            return False
        study = self.as_optuna(trial.number)
        now = study.ask(self._distributions())
        for step, value in trial.reached:
            now.report(value, step)
        return now.should_prune()

    def write(self) -> None:
        """Write sweep.json."""
        content = {"schema": 1, **self.settings.plain(), "trials": [asdict(trial) for trial in self.trials]}
        write_json(self.folder / FILE, content)

    def _propose(self, number: int) -> dict[str, Any] | None:
        if self.settings.sampler == "grid":
            grid = list_grid(self.settings.space)
            return grid[number] if number < len(grid) else None
        asked = self.as_optuna(number).ask(self._distributions()).params
        space = self.settings.space
        return {key: json.loads(asked[key]) if isinstance(space[key], Choice) else asked[key] for key in space}

    def as_optuna(self, number: int | None = None) -> Any:
        """Return Optuna's study with the trials before `number`, by default all. Its proposal depends on the number."""
        optuna = import_optuna()
        number = len(self.trials) if number is None else number
        seed = derive(self.settings.seed, "sweep", number) % 2**31
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        study = optuna.create_study(
            sampler=kinds.get(self.settings.sampler, optuna.samplers.RandomSampler)(seed=seed),
            pruner=optuna.pruners.MedianPruner(),
            direction="minimize" if self.settings.mode == "min" else "maximize",
        )
        states = optuna.trial.TrialState
        distributions = self._distributions()
        for trial in self.trials[:number]:
            scored = trial.value is not None
            state = states.COMPLETE if trial.state == "done" and scored else states.PRUNED if scored else states.FAIL
            study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    value=trial.value if state != states.FAIL else None,
                    params={
                        key: json.dumps(value) if isinstance(self.settings.space[key], Choice) else value
                        for key, value in trial.values.items()
                    },
                    distributions=distributions,
                    intermediate_values=dict(trial.reached),
                )
            )
        return study

    def _distributions(self) -> dict[str, Any]:
        optuna = import_optuna()
        found: dict[str, Any] = {}
        for key, values in self.settings.space.items():
            if isinstance(values, Choice):
                found[key] = optuna.distributions.CategoricalDistribution([json.dumps(v) for v in values.values])
            elif values.whole:
                found[key] = optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
            else:
                found[key] = optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)
        return found


def open_study(folder: Path, settings: Settings) -> Study:
    """Return the study of a folder, a new one where there is none.

    Raises ValueError where the folder's sweep has other settings, and names the first of them, and for a grid over a
    range. Raises ImportError without Optuna, naming the extra.
    """
    import_optuna()
    if settings.sampler == "grid":
        list_grid(settings.space)
    path = folder / FILE
    if not path.is_file():
        return Study(folder, settings, [])
    known = read_json(path)
    for name, value in settings.plain().items():
        if known.get(name) != value:
            shown = "another text" if name == "config" else f"{known.get(name)!r}, not {value!r}"
            raise ValueError(f"{path}: this sweep began with {name} {shown}; take another --out")
    trials = [Tried(**trial | {"reached": [tuple(x) for x in trial["reached"]]}) for trial in known["trials"]]
    return Study(folder, settings, trials)


def import_optuna() -> Any:
    """Return Optuna, without its lines on stderr. Raises ImportError that names the extra."""
    if not has_part("optuna", "create_study"):
        raise ImportError(f"align sweep needs optuna: {pip_install('sweep')}")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
