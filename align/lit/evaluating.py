"""Evaluators that run while a model trains: a config's ``validate``."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict, cast, final

import lightning as L
import numpy as np
import torch

from align.data import Columns, Resampled, Shards
from align.data.mixing.sources import Sources
from align.distributed import exchange, world
from align.evaluation.findings import Evaluator
from align.evaluation.pick import pick
from align.evaluation.results import run_evaluator
from align.evaluation.space import Space
from align.lit.module import AlignModule
from align.lit.opened import Opened
from align.lit.sharding import gather_model
from align.model import JointModel
from align.model.eval_view import view_in_eval
from align.optim import evaluating
from align.values import Scores

Validate = TypedDict("Validate", {"with": list[str], "every_steps": int}, total=False)
"""``{with: [zeroshot, retrieval], every_steps: 500}``. with: evaluators, by name or import path. every_steps: how often
they run. Default: at each validation."""


def pick_evaluators(validate: Validate | None) -> list[Evaluator]:
    """Return the evaluators of a config's ``validate``, by default zero-shot and retrieval. None: no evaluator.

    Raises ValueError for an unknown one, with the nearest right name, and for `every_steps` below 1.
    """
    if validate is None:
        return []
    if (every := validate.get("every_steps")) is not None and every < 1:
        raise ValueError(f"validate.every_steps is at least 1; got {every}")
    try:
        return pick(validate.get("with", ["zeroshot", "retrieval"]))
    except ValueError as error:
        raise ValueError(f"validate.with: {error}") from error


@final
class Measure:
    """Measurement of a model that trains, by evaluators, on the validation shards.

    Args:
        evaluators: see `pick_evaluators`.
        data: the opened shards. Named sources of validation are measured one by one.
        workers: processes that read and decode.

    Raises ValueError for validation shards that evaluators cannot read.
    """

    def __init__(self, evaluators: Sequence[Evaluator], data: Opened, workers: int):
        self.evaluators, self.data, self.workers = evaluators, data, workers
        val = data.val
        named = val.sources if isinstance(val, Sources) else {"": val}
        for name, shards in named.items():
            if not isinstance(shards, Shards | Columns) or isinstance(shards, Resampled):
                raise ValueError(f"validate needs shards or columns in data.val; {_describe(name, shards)}")
        if isinstance(val, Sources) and val.overrides:
            raise ValueError(
                f"source {next(iter(val.overrides))!r} of data.val has a preprocess of its own, and evaluators read "
                "with the model's: leave it out, or leave validate out"
            )
        self.shards = cast(Mapping[str, Shards | Columns], named)

    def __call__(self, model: JointModel, progress: Callable[[], None]) -> Scores:
        """Return the scores as columns of metrics.csv: ``val/zeroshot/shape/image/accuracy``.

        A score without its evaluator's name at its front gets it: ``val/retrieval/image_to_text/recall@1``. A named
        source comes before that: ``val/digits/zeroshot/…``.

        model: in evaluation mode, float32. progress: called now and then. It may raise, to end the measurement.
        Raises ValueError where nothing can be measured.
        """
        found: Scores = {}
        notes: list[str] = []
        for source, shards in self.shards.items():
            space = Space(
                model,
                shards,
                train=self.data.train if isinstance(self.data.train, Shards | Columns) else None,
                batch=min(256, max(1, self.data.batch // world())),
                workers=self.workers,
                progress=lambda done, total: progress(),
                draws=0,
            )
            for one in self.evaluators:
                findings = run_evaluator(one, space)
                for name, value in findings.scores.items():
                    path = name if name.startswith(f"{one.name}/") else f"{one.name}/{name}"
                    found["/".join(filter(None, ("val", source, path)))] = float(value)
                notes += findings.protocol.get("notes", ())
        if not found:
            names = ", ".join(one.name for one in self.evaluators)
            raise ValueError("; ".join([f"validate: {names} measured nothing on data.val", *dict.fromkeys(notes)]))
        return found


def _describe(source: str, found: object) -> str:
    """Return the reason for which evaluators cannot read a source of validation. source: "" where it has no name."""
    if found is None:
        return "it has none"
    where = f"its source {source!r}" if source else "it"
    return f"{where} is {type(found).__name__}, which evaluators do not read"


class Abandoned(Exception):
    """End of a measurement that a signal cut short."""


def measure_on_first(trainer: L.Trainer, module: AlignModule, measure: Measure, stops: Callable[[], bool]) -> Scores:
    """Return the scores of the present weights, on every rank. {}: a signal cut the measurement short.

    The first rank measures, and the others wait. Random states, modes, and the weights of an optimiser with two modes
    stay as they were. Evaluators see the model in float32, as `align.load` would return it.

    stops: True where a signal has come. Raises on every rank where an evaluator does.
    """
    news: dict[str, Any] = {}
    raised: Exception | None = None

    def look() -> None:
        if stops():
            raise Abandoned

    whole = gather_model(trainer, module.model, *module.empty) if module.empty else None
    if trainer.is_global_zero:
        try:
            with _aside(trainer, module, whole) as model:
                news["scores"] = measure(model, look)
        except Abandoned:
            news["scores"] = {}
        except Exception as error:
            raised, news["error"] = error, str(error)
    news = json.loads(exchange(json.dumps(news).encode() if trainer.is_global_zero else b"")[0])
    if raised is not None:
        raise raised
    if "error" in news:
        raise ValueError(news["error"])
    return news["scores"]


@contextmanager
def _aside(trainer: L.Trainer, module: AlignModule, whole: JointModel | None = None) -> Iterator[JointModel]:
    """Yield the model as it would be saved, and put every random state back after the block.

    whole: a copy of a model whose weights are sharded.
    """
    draws, numbers = random.getstate(), np.random.get_state()
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), evaluating(trainer.optimizers[0]):
            module.model.terms = module.objective.infos()
            model = view_in_eval(module.model) if whole is None else whole
            model.terms = module.model.terms
            if any(p.is_floating_point() and p.dtype != torch.float32 for p in model.parameters()):
                model = copy.deepcopy(model).float()
            yield model
    finally:
        random.setstate(draws)
        np.random.set_state(numbers)
