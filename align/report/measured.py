"""Diagnostics of a run as blocks of its page: measures over the steps, histograms, alarms, and the starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.diagnostics import Measurement, read_alarms, read_environments, read_measures
from align.page.blocks import AnyBlock, Sentence
from align.page.chart import Chart, Series
from align.page.section import Histogram, Table


def list_alarms(run: Path) -> list[AnyBlock]:
    """Return the alarms of a run as rows, or a sentence where it was watched and raised none."""
    alarms = read_alarms(run)
    if not alarms:
        return [Sentence("None was raised.")] if read_measures(run) else []
    rows = [[str(alarm.step), alarm.name, alarm.text, alarm.advice] for alarm in alarms]
    return [Table(["step", "alarm", "sign", "advice"], rows, left=4)]


def draw_measures(run: Path) -> list[AnyBlock]:
    """Return a chart for each measure, with a line for each pair or modality, and the first and last histograms."""
    found = read_measures(run)
    if not found:
        return []
    out: list[AnyBlock] = []
    for name, series in group_measures(found).items():
        about = "pairs that no term trains" if name.startswith("emergent ") else ""
        out.append(Chart(name, [Series(of, points, dots=True) for of, points in series.items()], about))
    ends = [found[0], found[-1]] if len(found) > 1 else [found[-1]]
    for pair in found[-1].histograms:
        for one in ends:
            if pair in one.histograms:
                edges, *counts = one.histograms[pair]
                shares = {name: _share(c) for name, c in zip(("positives", "negatives"), counts, strict=True)}
                out.append(Histogram(f"{pair.replace('+', ' and ')}, step {one.step:,}", "cosine", edges, shares))
    return out


def _share(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [n / total for n in counts] if total else []


def group_measures(found: Sequence[Measurement]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return measure -> its pair or modality -> (step, value).

    ``trained/image_to_text/recall@1`` is "trained recall@1" of "image → text", ``gap/image+text`` "gap" of "image +
    text".
    """
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for one in found:
        for name, value in one.scores.items():
            first, *rest = name.removeprefix("diagnose/").split("/")
            if len(rest) > 1:
                first, rest = f"{first} {rest[-1]}", rest[:-1]
            of = " ".join(rest).replace("_to_", " → ").replace("+", " + ") or first
            groups.setdefault(first, {}).setdefault(of, []).append((float(one.step), value))
    return groups


def list_starts(run: Path) -> list[AnyBlock]:
    """Return a row for each start of the command, from RUN/environment.json."""
    rows = []
    for start in read_environments(run):
        packages = start.get("packages") or {}
        cells = [start.get("step"), start.get("time"), start.get("host"), start.get("world"), start.get("python")]
        rows.append([*map(_text, cells), *(_text(packages.get(name)) for name in _PACKAGES), _describe(start)])
    head = ["from step", "time", "host", "ranks", "python", *_PACKAGES, "git"]
    return [Table(head, rows, left=len(head))] if rows else []


_PACKAGES = ("torch", "lightning")


def _describe(start: Mapping[str, Any]) -> str:
    """Return the git revisions of a start: of the folder where the command ran, and of align."""
    found = []
    for name, about in (start.get("git") or {}).items():
        if isinstance(about, Mapping) and about.get("revision"):
            found.append(f"{name} {str(about['revision'])[:12]}" + (" with changes" if about.get("dirty") else ""))
    return ", ".join(found)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
