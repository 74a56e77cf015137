"""evaluate: a model and a shard set -> scores and their protocol; and the file that holds both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from align.data import Shards
from align.embedding.embed import Progress, embed_shards
from align.evaluation.classes import Classes, Templates, listed, named, worded
from align.evaluation.counts import check_counts
from align.evaluation.hits import Captions, Rule, by_caption, by_group, by_label, by_sample, has_groups, of_samples
from align.evaluation.labels import spelled
from align.evaluation.notes import facts
from align.evaluation.protocol import protocol
from align.evaluation.retrieval import retrieval_shards
from align.evaluation.zeroshot import zeroshot_shards
from align.files import write_json
from align.model import JointModel
from align.values import Embeddings, Scores

Hit = Literal["group", "sample", "label", "caption"]


class Results(NamedTuple):
    """scores: flat names -> numbers; protocol: what made them; embeddings: every row, for a report or an index; hit:
    whether a sample is a hit for another by the hit rule, for a gallery."""

    scores: Scores
    protocol: dict[str, Any]
    embeddings: Embeddings
    hit: Callable[[int, int], bool] | None = None


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
) -> Results:
    """Embed every row once, then zero-shot for every attribute × modality, and retrieval for every ordered pair.

    Args:
        batch, workers: as of ``align.data.Loader``; they change the speed, not the numbers.
        classes: attribute -> class names, or the names of ``attribute`` or of the only one; default: what the shards
            say. A mapping instead of a list of names is label -> its name in prompts. A label that is a number is a
            position in what the shards say, or in `classes` where that is numbers too.
        templates: of the class prompts, for all attributes or attribute -> templates; default: "{}" and "a {}".
        hit: when a retrieved row counts: of the same "sample", of the same "group" (the default where samples have
            groups), with the same "label", or with an equal text ("caption", see ``hits.Captions``). Class retrieval is
            measured under ``class/`` in any case.
        attribute: which one, for hit "label" and for classes without attributes where there are several.
        ks: of recall@k.
        command: what was typed, for the protocol.
        progress: called with the numbers of samples embedded and in all.

    What is not scored, not measured or cannot be told apart is in the protocol; its ``notes`` say it in lines.

    Raises ValueError where the shards are not what their manifest says, or lack what was asked for, and for a class
    that comes twice; TooManyBad above the shards' ``max_bad``.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"recall@k needs k >= 1, got {list(ks)}")
    known = {name: list(map(str, names)) for name, names in shards.classes.items()}
    asked = named(known, classes, attribute)
    templated = worded(asked, templates)
    check_counts(shards)
    before = Counter(shards.report())
    embeddings = embed_shards(model, shards, batch, workers, content=True, progress=progress)
    read = replace(embeddings, labels=spelled(embeddings.labels, known))
    rule, says = _hits(read, asked, hit, attribute)
    scores = zeroshot_shards(model, read, asked, templated)
    scores |= retrieval_shards(read, rule, terms=model.terms, ks=ks)
    for name, names in asked.items():
        prefix = "class/" if len(asked) == 1 else f"class/{name}/"
        same = by_label(read, name, list(names))
        scores |= retrieval_shards(read, same, terms=model.terms, ks=ks, prefix=prefix, precision=False)
    about = facts(model, read, scores, asked, templated, rule, known=list(known), total=len(shards))
    if not scores:
        raise ValueError("; ".join(["nothing could be measured", *about["notes"]]))
    bad = Counter(shards.report()) - before
    for _, reason, n in shards.lost:
        bad[reason] += n
    block = protocol(model, shards, embeddings, classes=asked, templates=templated, hit=says, command=command, bad=bad)
    return Results(scores, block | about, embeddings, of_samples(rule, embeddings.size))


def write_results(results: Results, folder: str | Path) -> Path:
    """Write FOLDER/results.json: the scores, flat, and ``protocol``. Returns its path."""
    path = Path(folder) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**results.scores, "protocol": results.protocol})
    return path


def _hits(
    embeddings: Embeddings, asked: Mapping[str, Mapping[str, str]], hit: str | None, attribute: str | None
) -> tuple[Rule | Captions, str]:
    hit = hit or ("group" if has_groups(embeddings) else "sample")
    if hit == "sample":
        return by_sample(), hit
    if hit == "group":
        return by_group(embeddings), hit if has_groups(embeddings) else "sample"
    if hit == "caption":
        return by_caption(embeddings), hit
    if hit != "label":
        raise ValueError(f"hit is 'group', 'sample', 'label' or 'caption', not {hit!r}")
    if attribute is None and len(asked) == 1:
        attribute = next(iter(asked))
    if attribute is None or attribute not in asked:
        problem = "is needed" if attribute is None else f"{attribute!r} is unknown"
        raise ValueError(f"hit 'label': an attribute {problem}; the shards have {listed(asked)}")
    rule = by_label(embeddings, attribute, list(asked[attribute]))
    return rule, f"label: a row whose sample has the same {attribute}"
