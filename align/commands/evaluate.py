"""``align evaluate MODEL SHARDS``: scores with their protocol, as a table, results.json and report.html."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal


def evaluate(
    model: str,
    shards: list[str],
    /,
    *,
    out: str | None = None,
    templates: list[str] | dict[str, list[str]] | None = None,
    classes: list[str] | dict[str, list[str]] | None = None,
    hit: Literal["group", "sample", "label"] | None = None,
    attribute: str | None = None,
    batch: int = 64,
    workers: int = 0,
    json: bool = False,
    no_report: bool = False,
    checkpoint: str = "best",
    allow: str | None = None,
) -> None:
    """Measure a model on shards: zero-shot and retrieval

    Zero-shot classification for every attribute of the labels and every modality; retrieval for every ordered pair of
    modalities, by sample or group, and by label. Writes results.json with the protocol, and report.html.

    Args:
        model: a model folder, a run folder, or owner/name on the hub
        shards: shard files, or patterns such as 'shards/test-*.tar'
        out: where results.json and report.html go; default: the folder MODEL
        templates: of class prompts: '["a photo of a {}"]', or for each attribute '{shape: ["a {}"]}'
        classes: class names instead of the shards' own, as a list or for each attribute
        hit: when a retrieved row counts; default: group where samples have groups, else sample
        attribute: the label's attribute, for --hit label where there are several
        batch: samples at a time
        workers: processes that read and decode
        json: print results.json instead of tables
        no_report: write results.json only
        checkpoint: of a run: best, last, or a step
        allow: packages beside align, separated by commas, whose classes the model's config may name
    """
    from align import load
    from align.commands.named import device, split
    from align.commands.progress import progress
    from align.data import Shards
    from align.evaluation import evaluate as measure
    from align.evaluation import write_results

    folder = Path(out) if out is not None else Path(model)
    if out is None and not folder.is_dir():
        raise ValueError(f"{model} is no folder here; say where the results go with --out DIR")
    opened = Shards(shards, shuffle=False)
    loaded = load(model, allow=split(allow), checkpoint=checkpoint).to(device())
    with progress("evaluating") as say:
        results = measure(
            loaded,
            opened,
            batch=batch,
            workers=workers,
            classes=classes,
            templates=templates,
            hit=hit,
            attribute=attribute,
            command=typed(),
            progress=say,
        )
    path = write_results(results, folder)
    if json:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print_tables(results.scores, results.protocol)
    written = [str(path)]
    if not no_report:
        written.append(str(write_page(results, opened, folder, Path(model))))
    bad = {reason: n for reason, n in results.protocol["bad"].items() if n}
    if bad:
        print("bad members:", ", ".join(f"{n} {reason}" for reason, n in sorted(bad.items())), file=sys.stderr)
    print("wrote", *written, file=sys.stderr)


def typed() -> str:
    """The command line that this process was started with."""
    return shlex.join(["align", *sys.argv[1:]])


def write_page(results: Any, shards: Any, folder: Path, run: Path) -> Path:
    """FOLDER/report.html, with the curves of the run where there are any."""
    import csv

    from align.report import build_gallery, write_report

    log = run / "metrics.csv"
    curves: list[dict[str, str]] = []
    if log.is_file():
        with open(log, newline="", encoding="utf-8") as file:
            curves = list(csv.DictReader(file))
    present = [m for m, rows in results.embeddings.items() if rows.n]
    gallery = build_gallery(results.embeddings, shards.samples(0)) if len(present) > 1 else None
    path = folder / "report.html"
    write_report(path, title=run.name, scores=results.scores, protocol=results.protocol, curves=curves, gallery=gallery)
    return path


def print_tables(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> None:
    """The zero-shot block, and a retrieval matrix for each hit rule: rows ask, columns answer."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    zero = zeroshot_lines(scores)
    if zero:
        console.print(_table("zero-shot", ["attribute", "modality", "accuracy", "accuracy@5", "chance"], zero, left=2))
    for prefix in blocks(scores):
        rule = "shared class" if prefix else protocol["hit rule"].split(":")[0]
        head, lines = matrix(scores, prefix)
        title = f"{prefix}retrieval: recall@1 / recall@10 by {rule}; rows ask, columns answer"
        console.print()
        console.print(_table(title, head, lines, left=1))


def zeroshot_lines(scores: Mapping[str, float]) -> list[list[str]]:
    """A line for each attribute and modality."""
    lines = []
    for name in scores:
        parts = name.split("/")
        if parts[0] == "zeroshot" and parts[-1] == "accuracy":
            base = name.removesuffix("accuracy")
            values = [scores.get(base + key) for key in ("accuracy", "accuracy@5", "chance")]
            lines.append([parts[1], parts[2], *("" if value is None else f"{value:.3f}" for value in values)])
    return lines


def blocks(scores: Mapping[str, float]) -> list[str]:
    """The prefixes of the retrieval scores: "" for the hit rule asked for, "class/", "class/shape/", …"""
    found = [name.rpartition("/")[0].rpartition("/") for name in scores if name.endswith("/recall@1")]
    return list(dict.fromkeys(head + slash for head, slash, _ in found))


def matrix(scores: Mapping[str, float], prefix: str) -> tuple[list[str], list[list[str]]]:
    """(column heads, lines) of one retrieval matrix; a composed query is a line too."""
    pairs: dict[tuple[str, str], str] = {}
    for name in scores:
        head, _, key = name.rpartition("/")
        if key == "recall@1" and head.startswith(prefix) and "/" not in head[len(prefix) :]:
            query, _, of = head[len(prefix) :].rpartition("_to_")
            values = [scores[f"{head}/{k}"] for k in ("recall@1", "recall@10") if f"{head}/{k}" in scores]
            pairs[query, of] = " / ".join(f"{value:.3f}" for value in values)
    answers = sorted({of for _, of in pairs})
    asks = sorted({query for query, _ in pairs}, key=lambda query: (query.count("+"), query))
    return ["", *answers], [[query, *(pairs.get((query, of), "") for of in answers)] for query in asks]


def _table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < left else "right")
    for line in lines:
        table.add_row(*line)
    return table
