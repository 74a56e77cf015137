"""A set measured by its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from align.data import Shards
from align.embedding.embed import Progress
from align.evaluation.results import Results, evaluate
from align.evaluation.suites.finding import Found
from align.evaluation.suites.words import Words, read_classes, read_templates
from align.model import JointModel


class Measured(NamedTuple):
    """Results of a set. attribute: of its labels. about: its protocol in few entries, ``differs`` from the set's."""

    results: Results
    attribute: str
    about: Mapping[str, Any]


def measure(
    model: JointModel,
    found: Found,
    *,
    batch: int = 64,
    workers: int = 0,
    draws: int = 1000,
    max_bad: float = 0.001,
    command: str | None = None,
    progress: Progress | None = None,
    together: bool = False,
) -> Measured:
    """Measure a set. Args: as of ``align.evaluate``. Raises as it does.

    In CLIP_benchmark's layout class names and templates are those beside the shards, else those of the set.
    """
    of = found.of
    shards = Shards([str(path) for path in found.shards], shuffle=False, max_bad=max_bad)
    beside = shards.benchmark if found.is_benchmark else None
    attribute = "label" if found.is_benchmark and of.attribute else of.attribute
    classes = read_classes(of.classes) if of.classes else None
    templates = read_templates(of.templates) if of.templates else None
    if beside is not None and classes is not None and beside.classes:
        classes = Words("classnames.txt beside the shards", list(dict.fromkeys(beside.classes)))
    if beside is not None and templates is not None and beside.templates:
        templates = Words("zeroshot_classification_templates.txt beside the shards", beside.templates)
    results = evaluate(
        model,
        shards,
        batch=batch,
        workers=workers,
        draws=draws,
        command=command,
        progress=progress,
        together=together,
        with_=list(of.evaluators),
        classes={attribute: classes.words} if classes else None,
        templates={attribute: templates.words} if templates else None,
        hit=of.hit or None,  # pyright: ignore[reportArgumentType]
    )
    score = of.score.replace("{attribute}", attribute)
    if score not in results.scores:
        raise ValueError("; ".join([f"{score} could not be measured", *results.protocol["notes"]]))
    shards.close()
    return Measured(results, attribute, _about(found, results, classes, templates))


def _about(found: Found, results: Results, classes: Words | None, templates: Words | None) -> dict[str, Any]:
    """Return the entries of a set's protocol that a table of suites needs. results.json has them all."""
    of, protocol = found.of, results.protocol
    words = {}
    if classes is not None:
        words |= {"classes": len(classes.words), "classes from": classes.source}
    if templates is not None:
        words |= {"templates": len(templates.words), "templates from": templates.source}
    names = ("shards", "samples", "rows", "hit rule", "tie rule", "seed", "max bad", "bad", "notes")
    names += ("intervals", "without intervals")
    return {
        "evaluators": list(of.evaluators),
        **words,
        **{name: protocol[name] for name in names if protocol.get(name) not in (None, {})},
        "differs": _differences(found, protocol["samples"], classes, templates),
    }


def _differences(found: Found, samples: int, classes: Words | None, templates: Words | None) -> list[str]:
    """Return the ways in which this measurement is not the set's protocol, by which numbers were published."""
    of = found.of
    out = [found.place.note] if found.place.note else []
    if of.samples and samples != of.samples:
        out.append(f"{samples:,} of {of.samples:,} samples")
    if templates is not None and templates.words != read_templates(of.templates).words:
        out.append("the templates are those beside the shards")
    if classes is not None and set(classes.words) != set(read_classes(of.classes).words):
        out.append("the class names are those beside the shards")
    return out
