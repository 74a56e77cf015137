"""Stages of a run: from a step on, other parts train, under other terms, on other sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple, final

from align.objective import Objective
from align.tuning import Lora


@final
@dataclass(frozen=True)
class Stage:
    """One stage of a run. Only what it states differs from the run's own keys.

    Args:
        until: the step at which it ends, None for the last stage: the end of the run.
        freeze: patterns of parameters that do not train in it, beside ``tuning.freeze``.
        lora: pattern of layers -> their adapters, beside ``tuning.lora``.
        terms: term -> its weight in this stage. A term that is not named is off. None: all, at their weights.
        sources: source -> its weight in this stage. A source that is not named is off. None: as ``data`` has them.
        lr: factor of ``optim.lr``. The schedule goes on over the whole run.
    """

    until: int | None = None
    freeze: list[str] = field(default_factory=list)
    lora: dict[str, Lora] = field(default_factory=dict)
    terms: dict[str, float] | None = None
    sources: dict[str, float] | None = None
    lr: float = 1.0


Stages = dict[str, Stage]
"""A config's ``stages``: name -> Stage, in order."""


class Span(NamedTuple):
    """A stage with its name and its steps: those from `start` to before `end`. A run without stages is one span."""

    name: str
    start: int
    end: int
    stage: Stage


def list_spans(stages: Mapping[str, Stage], steps: int) -> list[Span]:
    """Return the spans of a run of so many steps, in order. Raises ValueError where they do not end with the run."""
    spans, start = [], 0
    for name, stage in stages.items():
        last = len(spans) == len(stages) - 1
        end = steps if stage.until is None else stage.until
        if end > steps or (last and end < steps) or end <= start:
            raise ValueError(
                f"stages.{name} "
                + (f"ends at step {end}" if stage.until else f"begins at step {start}")
                + f", but the run has {steps} steps: "
                + ("leave its until out, or " if last and stage.until else "")
                + f"set trainer.max_steps {'above' if end <= start else 'to'} {max(start, end)}"
            )
        spans.append(Span(name, start, end, stage))
        start = end
    return spans or [Span("", 0, steps, Stage())]


def weights_by_step(stages: Mapping[str, Stage]) -> dict[int, dict[str, float] | None] | None:
    """Return first step -> the weights of the sources, for `align.lit.data.AlignData.open`. None: no stage has any."""
    if all(stage.sources is None for stage in stages.values()):
        return None
    ends = [stage.until or 0 for stage in stages.values()]
    return {start: stage.sources for start, stage in zip([0, *ends[:-1]], stages.values(), strict=True)}


def check_stages(
    stages: Mapping[str, Stage],
    objective: Objective,
    sources: Collection[str],
    mixed: Mapping[int, Any],
    scheduled: Collection[str],
) -> None:
    """Raise ValueError for stages whose ends do not rise, or that name something unknown or set elsewhere.

    Args:
        sources: names of the training sources, none where ``data.train`` names no sources.
        mixed: ``data.mix.weights``. scheduled: the terms of ``negatives``.
    """
    before = 0
    for i, (name, stage) in enumerate(stages.items()):
        where, last = f"stages.{name}", i == len(stages) - 1
        if stage.until is None and not last:
            raise ValueError(f"{where} has no until, the step at which it ends; only the last stage may have none")
        if stage.until is not None and stage.until <= before:
            than = f"the stage before ends at step {before}" if i else "the run begins at step 0"
            raise ValueError(f"{where}.until is {stage.until}, but {than}: until rises from stage to stage")
        before = stage.until or before
        if stage.lr < 0:
            raise ValueError(f"{where}.lr is a factor of optim.lr, at least 0; got {stage.lr}")
        if stage.terms is not None:
            _check_names(f"{where}.terms", stage.terms, objective.terms, "term of the objective")
            if both := [term for term in stage.terms if term in scheduled]:
                raise ValueError(f"{where}.terms and negatives both name {both[0]!r}: give it in one of them")
        if stage.sources is not None:
            if not sources:
                raise ValueError(f"{where}.sources: data.train names no sources; write {{NAME: {{urls: …}}}}")
            _check_names(f"{where}.sources", stage.sources, sources, "source of data.train")
            if mixed:
                raise ValueError(f"{where}.sources and data.mix.weights both weigh the sources: give one of them")


def _check_names(where: str, given: Mapping[str, float], known: Collection[str], kind: str) -> None:
    """Raise ValueError, with the nearest right name, for no name, an unknown one, or a negative weight."""
    for name, weight in given.items():
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"{where}: {name!r} is no {kind}; {hint}")
        if not weight >= 0:
            raise ValueError(f"{where}: the weight of {name!r} is {weight}; it is at least 0")
    if not any(given.values()):
        raise ValueError(f"{where} has no weight above 0; there are {', '.join(known)}")
