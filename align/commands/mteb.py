"""``align mteb MODEL`` measures a model by the harness of mteb, on its tasks or on tasks of shards."""

from __future__ import annotations

import json as json_format
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.devices import Placing
from align.commands.groups import Weights

if TYPE_CHECKING:
    from align.convert.harness.beside import Measured
    from align.model import JointModel


def mteb(
    model: str,
    /,
    *,
    tasks: str | None = None,
    shards: str | None = None,
    only: str = "*",
    queries: str | None = None,
    asks: str = "image",
    answers: str = "image",
    template: str = "a {}",
    how: Literal["cosine", "mip", "objective"] | None = None,
    name: str | None = None,
    out: str | None = None,
    members: str = "",
    max_bad: float = 0.001,
    batch: int = 64,
    json: bool = False,
    placing: Placing,
    weights: Weights,
) -> None:
    """Measure a model by the harness of mteb

    --tasks names tasks of mteb (Flickr30kI2TRetrieval,ESC50_Zeroshot). It loads their data from the Hugging Face hub.
    --shards builds tasks of your shards, without a network: retrieval from every modality to every other one,
    zero-shot classification by every attribute of the labels, queries of several modalities where a trained term joins
    them, and the composed queries of a file.

    The table has mteb's scores, and those of align evaluate beside them where both measure the same. Lines below it
    say how the two differ. mteb's own results go to OUT. Those of its own tasks that are there already, of the same
    weights and data, are not computed again.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        tasks: names of mteb's tasks, separated by commas
        shards: shard files or patterns, separated by commas, of which tasks are built
        only: patterns of the names of built tasks, separated by commas, as in '*-image_to_text,*-zeroshot-*'
        queries: a JSON-lines file of composed queries, as of align evaluate --with composed
        asks: the modality of the references of composed queries
        answers: the modality of the candidates of composed queries
        template: the prompt of a class in built tasks: mteb asks with one
        how: the rule of every search. Default: the trained terms where they read the whole query, else cosines
        name: owner/name of the model in mteb's results. Default: align/ and the name of its folder
        out: the folder for mteb's results. Default: mteb in MODEL, where that is a folder here
        members: members under other names, as of align evaluate
        max_bad: the share of samples with something unreadable above which nothing is measured. 1: always measure
        batch: inputs that are embedded at a time
        json: print the table as JSON
    """
    from align.commands.errors import Refused
    from align.commands.named import split
    from align.convert.harness.model import check_installed

    if not tasks and not shards:
        raise Refused("name tasks of mteb with --tasks, or shards with --shards", code=2)
    if queries and not shards:
        raise Refused("--queries names samples of shards; name them: --shards SHARDS", code=2)
    if batch < 1:
        raise Refused(f"--batch is 1 at least, got {batch}", code=2)
    if name is not None and name.count("/") != 1:
        raise Refused(f"--name {name!r} is to be of the form owner/name", code=2)
    check_installed()
    folder = Path(out) if out is not None else Path(model) / "mteb"
    if out is None and not Path(model).is_dir():
        raise ValueError(f"{model} is no folder here; say where the results go with --out FOLDER")
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is a file; name a folder for the results with --out")
    from align.convert import mteb as wrap
    from align.convert.harness.beside import find_missing, find_tasks, measure

    wanted = find_tasks(split(tasks))
    loaded = placing.load(weights, model)
    name = name or f"align/{Path(model).resolve().name}"
    harness = wrap(loaded, name=name, how=how, keep=bool(shards))
    runnable: list[Any] = []
    for task in wanted:
        if missing := find_missing(harness, task):
            have = ", ".join(loaded.modalities)
            print(f"skipped {task.metadata.name}: it needs {', '.join(missing)}; the model has {have}", file=sys.stderr)
        else:
            runnable.append(task)
    ours: dict[str, float] = {}
    notes: list[str] = []
    if shards:
        settings = {"asks": asks, "answers": answers, "template": template, "how": how, "batch": batch}
        built, ours, notes = _build(loaded, split(shards), queries, members, max_bad, settings)
        chosen = [one for one in built if any(fnmatch(one.metadata.name, p) for p in split(only))]
        if built and not chosen:
            names = ", ".join(one.metadata.name for one in built)
            raise Refused(f"--only {only!r} is none of the tasks of these shards: {names}")
        runnable += chosen
    if not runnable:
        raise Refused("no task is left to run")
    told = iter(range(1, len(runnable) + 1))
    found = measure(
        harness,
        runnable,
        folder,
        ours,
        batch=batch,
        say=lambda task: print(f"task {next(told)} of {len(runnable)}: {task}", file=sys.stderr),
    )
    _print(found, notes, json)
    print(f"wrote {folder}", file=sys.stderr)


def _build(
    model: JointModel,
    patterns: list[str],
    queries: str | None,
    members: str,
    max_bad: float,
    settings: dict[str, Any],
) -> tuple[list[Any], dict[str, float], list[str]]:
    """Return the tasks of shards, the scores of ``align evaluate`` on them, and notes."""
    from align.commands.errors import Refused
    from align.commands.over import budget, say_bad
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.convert.harness.build import build_tasks
    from align.data import Shards
    from align.evaluation import Composed, Evaluator, Retrieval, ZeroShot, evaluate, read_composed

    try:
        asked = read_composed(queries) if queries else []
    except ValueError as error:
        raise Refused(f"--queries: {error}") from None
    opened = Shards(patterns, shuffle=False, members=mapping(members), max_bad=max_bad)
    asks, answers = settings["asks"], settings["answers"]
    evaluators: list[Evaluator] = [Retrieval(), *([ZeroShot()] if "text" in model.modalities else [])]
    evaluators += [Composed(asked, asks, answers)] if asked else []
    with budget("--max-bad"), progress("align evaluate") as say:
        templates = [settings["template"]]
        results = evaluate(
            model, opened, with_=evaluators, templates=templates, draws=0, batch=settings["batch"], progress=say
        )
    say_bad(results.protocol["bad"])
    built = build_tasks(
        model,
        opened,
        template=settings["template"],
        queries=asked,
        reference=asks,
        of=answers,
        how=settings["how"],
    )
    return list(built.tasks), results.scores, built.notes


def _print(found: Measured, notes: list[str], json: bool) -> None:
    """Print the table and the lines below it."""
    from align.commands.tables import print_notes

    notes = [*notes, *found.notes]
    if json:
        tables: dict[str, dict[str, Any]] = {}
        for line in found.lines:
            entry = {"mteb": line.theirs, "align": line.ours, "rule": line.rule or None}
            tables.setdefault(line.task, {})[line.score] = entry
        print(json_format.dumps({"tasks": tables, "notes": notes}, indent=2, ensure_ascii=False))
        return
    wide = max(len(line.task) for line in found.lines)
    print(f"{'task':<{wide}}  {'score':<15} {'mteb':>7} {'align':>7}  rule")
    for line in found.lines:
        ours = "" if line.ours is None else f"{line.ours:.4f}"
        print(f"{line.task:<{wide}}  {line.score:<15} {line.theirs:>7.4f} {ours:>7}  {line.rule}".rstrip())
    print_notes(notes)
