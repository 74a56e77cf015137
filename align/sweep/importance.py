"""Share of the differences between trials that each key of a sweep explains."""

from __future__ import annotations

import warnings

from align.sweep.study import Study, import_optuna

LEAST = 8
"""Trials that ended, from which shares are told."""


def find_importances(study: Study) -> dict[str, float]:
    """Return key -> its share, by PED-ANOVA (Watanabe et al. 2023). {}: too few trials, or equal scores."""
    done = [trial for trial in study.trials if trial.state == "done" and trial.value is not None]
    varied = [key for key in study.settings.space if len({repr(trial.values[key]) for trial in done}) > 1]
    if len(done) < LEAST or len(varied) < 2 or len({trial.value for trial in done}) < 2:
        return {}
    optuna = import_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called experimental
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study.as_optuna(), evaluator=evaluator, params=varied)
    total = sum(found.values())
    return {key: value / total for key, value in found.items()} if total > 0 else {}
