"""Evaluation of a model on shards, and the file that its results are written to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from align.data import Shards
from align.embedding.embed import Progress
from align.evaluation.classes import Classes, Templates
from align.evaluation.counts import counts
from align.evaluation.descriptions import Descriptions
from align.evaluation.findings import Evaluator, Findings
from align.evaluation.hits import Hit, of_samples
from align.evaluation.pick import pick
from align.evaluation.protocol import protocol
from align.evaluation.samples import LEVEL, Samples, Statistics, write_samples
from align.evaluation.space import Space
from align.files import write_json
from align.model import JointModel
from align.page.section import Section
from align.values import Embeddings, Scores


class Results(NamedTuple):
    """Findings of all evaluators as one.

    scores: flat names -> numbers. protocol: all that is needed to get them again. embeddings: every row, for a report
    or an index. hit: True for two samples that are hits for each other, for a gallery. sections: the evaluators' parts
    of a page. samples: score -> its value for each query, and the query's sample. intervals: score -> its lowest and
    highest value, by the bootstrap over samples or, of accuracies, by Wilson's formula. statistics: score -> how it
    follows from its samples, where it is not their mean.
    """

    scores: Scores
    protocol: dict[str, Any]
    embeddings: Embeddings
    hit: Callable[[int, int], bool] | None = None
    sections: Sequence[Section] = ()
    samples: Samples = MappingProxyType({})
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({})
    statistics: Statistics = MappingProxyType({})


def evaluate(
    model: JointModel,
    shards: Shards,
    *,
    batch: int = 64,
    workers: int = 0,
    classes: Classes | None = None,
    templates: Templates | None = None,
    hit: Hit | None = None,
    attribute: str | None = None,
    ks: Sequence[int] = (1, 5, 10),
    command: str | None = None,
    progress: Progress | None = None,
    with_: Sequence[str | Evaluator] = ("zeroshot", "retrieval"),
    train: Shards | None = None,
    distractors: Shards | None = None,
    draws: int = 1000,
    descriptions: Descriptions | None = None,
    together: bool = False,
) -> Results:
    """Embed every row once and run the evaluators, by default zero-shot and retrieval.

    Zero-shot is measured for every attribute × modality, retrieval for every ordered pair of modalities.

    Args:
        batch, workers: as of ``align.data.Loader``. They change the speed, not the numbers.
        classes: attribute -> class names, or the names of ``attribute`` or of the only one. Default: those of the
            shards. A mapping instead of a list of names is label -> its name in prompts, or a list of its names, all of
            which are asked with. A label that is a number is a position in the shards' names, or in `classes` where
            these are numbers too.
        templates: of the class prompts, for all attributes or attribute -> templates. Default: "{}" and "a {}".
        hit: the rule by which a retrieved row counts: of the same "sample", of the same "group" (the default where
            samples have groups), with the same "label", or with an equal text ("caption", see ``hits.Captions``). Class
            retrieval is measured under ``class/`` in any case.
        attribute: the one for hit "label", and for classes without attributes where there are several.
        ks: of recall@k.
        command: the command line, for the protocol.
        progress: called with the numbers of samples embedded and in all.
        with_: the evaluators: names of ours, import paths of classes, or evaluators themselves (see ``pick``).
        train: training shards, for evaluators that learn from them.
        distractors: shards whose rows are candidates of retrieval and ask nothing.
        draws: of the bootstrap that gives each score its interval. 0: no intervals.
        descriptions: label -> texts, or attribute -> label -> texts: whole prompts instead of the templates, in which a
            "{}" is the class name.
        together: all ranks of the process group call this with equal arguments, and share the embedding (see
            ``embedding.sharing``). Each returns the results of a single process.

    The protocol has the samples that are not scored, the numbers that are not measured and the rows that cannot be told
    apart. Its ``notes`` say them in lines.

    Raises ValueError where the shards are not as their manifest says or lack an attribute, for a class that comes
    twice, for an unknown evaluator and for two that give one score, TooManyBad above the shards' ``max_bad``.
    """
    evaluators = pick(with_)
    space = Space(
        model,
        shards,
        train=train,
        classes=classes,
        templates=templates,
        hit=hit,
        attribute=attribute,
        ks=ks,
        batch=batch,
        workers=workers,
        progress=progress,
        distractors=distractors,
        draws=draws,
        descriptions=descriptions,
        together=together,
    )
    table, rule = space.table(), space.hit
    found = {one.name: run_evaluator(one, space) for one in evaluators}
    about = protocol(
        model,
        shards,
        table,
        classes=space.classes,
        templates=space.templates,
        hit=rule.text,
        command=command,
        bad=space.bad["test"],
    )
    if train is not None:
        about["train"] = {"shards": counts(train), "bad": dict(space.bad.get("train", {}))}
    if distractors is not None:
        about["distractors"] = {"shards": counts(distractors), "bad": dict(space.bad.get("distractors", {}))}
    scores = _join({name: one.scores for name, one in found.items()}, {"protocol", "intervals"})
    facts = {name: {k: v for k, v in one.protocol.items() if k != "notes"} for name, one in found.items()}
    about |= _join(facts, set(about))
    notes = [note for one in found.values() for note in one.protocol.get("notes", ())]
    if left := len(shards) - table.size:
        notes.insert(0, f"{left:,} of {len(shards):,} samples have no row that could be read: they are left out")
    around: dict[str, tuple[float, float]] = {}
    for one in found.values():
        missing = {
            score: value for score, value in one.samples.items() if score in scores and score not in one.intervals
        }
        around |= space.intervals(missing, one.statistics) | {k: v for k, v in one.intervals.items() if k in scores}
    if draws:
        about["without intervals"] = sorted({name.rpartition("/")[2] for name in scores if name not in around})
        about["intervals"] = f"{LEVEL:.0%}, bootstrap over samples, {draws:,} draws; accuracies: Wilson"
    about["notes"] = list(dict.fromkeys(notes))
    if not scores:
        raise ValueError("; ".join(["nothing could be measured", *about["notes"]]))
    return Results(
        scores,
        about,
        replace(table, labels=space.labels["test"]),
        of_samples(rule.rule, table.size),
        [one.section for one in found.values() if one.section is not None],
        {score: values for one in found.values() for score, values in one.samples.items() if score in scores},
        around,
        {score: statistic for one in found.values() for score, statistic in one.statistics.items()},
    )


def write_results(results: Results, folder: str | Path) -> Path:
    """Write FOLDER/results.json: the scores, flat, ``protocol`` and ``intervals``. Return its path.

    FOLDER/samples.safetensors beside it has the values of single queries, see ``samples.write_samples``.
    """
    path = Path(folder) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_samples(path.parent, results.samples, results.embeddings.ids, results.statistics)
    write_json(path, {**results.scores, "intervals": dict(results.intervals), "protocol": results.protocol})
    return path


def _join(parts: Mapping[str, Mapping[str, Any]], taken: Collection[str]) -> dict[str, Any]:
    """Return the entries of all evaluators as one mapping. Raises ValueError for a name that is taken or differs."""
    out: dict[str, Any] = {}
    for evaluator, entries in parts.items():
        for key, value in entries.items():
            if key in taken or (key in out and out[key] != value):
                raise ValueError(f"evaluator {evaluator!r} states {key!r}, which is stated already; rename it")
            out[key] = value
    return out


def run_evaluator(evaluator: Evaluator, space: Space) -> Findings:
    """Return the findings without scores that are NaN or infinite, which get a note.

    Raises ValueError where the evaluator returns no Findings, or a score that is no number.
    """
    name, found = evaluator.name, evaluator.run(space)
    if not isinstance(found, Findings):
        raise ValueError(f"evaluator {name!r} returned {type(found).__name__}; run(space) returns Findings")
    for key, value in found.scores.items():
        if not isinstance(value, int | float):
            raise ValueError(f"evaluator {name!r}: the score {key!r} is of type {type(value).__name__}, not a float")
    odd = [key for key, value in found.scores.items() if not isfinite(value)]
    if not odd:
        return found
    notes = [*found.protocol.get("notes", ()), *(f"{key} is {found.scores[key]}: it is left out" for key in odd)]
    scores = {key: value for key, value in found.scores.items() if key not in odd}
    return replace(found, scores=scores, protocol={**found.protocol, "notes": notes})
