"""Diagnostics of a run as blocks of its page: measures over the steps, histograms, alarms, and the starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.diagnostics import Measurement, read_alarms, read_environments, read_measures
from align.page.blocks import AnyBlock, Sentence
from align.page.chart import Chart, Series
from align.page.section import Histogram, Table

FEW = 8
"""Lines of a chart; measures with more of them get a chart for each modality or pair of their first word."""


def list_alarms(run: Path) -> list[AnyBlock]:
    """Return the alarms of a run as rows, or a sentence where it was watched and raised none."""
    alarms = read_alarms(run)
    if not alarms:
        return [Sentence("None was raised.")] if read_measures(run) else []
    rows = [[str(alarm.step), alarm.name, alarm.text, alarm.advice] for alarm in alarms]
    return [Table(["step", "alarm", "sign", "advice"], rows, left=4)]


def draw_measures(run: Path) -> list[AnyBlock]:
    """Return a chart for each measure, with a line for each pair or modality, and the last histograms."""
    found = read_measures(run)
    if not found:
        return []
    out: list[AnyBlock] = []
    for name, series in group_measures(found).items():
        out.append(Chart(name, [Series(of, points, dots=True) for of, points in series.items()], "on a fixed slice"))
    for pair, (edges, positives, negatives) in found[-1].histograms.items():
        out.append(
            Histogram(f"{pair}, step {found[-1].step}", "cosine", edges, {"positives": positives, "negatives": negatives})
        )
    return out


def group_measures(found: Sequence[Measurement]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return measure -> what it is of -> (step, value), of scores such as ``image_to_text/recall@1``."""
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for one in found:
        for name, value in one.scores.items():
            of, _, measure = name.removeprefix("diagnose/").rpartition("/")
            groups.setdefault(measure, {}).setdefault(of or "all", []).append((float(one.step), value))
    return groups


def list_starts(run: Path) -> list[AnyBlock]:
    """Return a row for each start of the command, from RUN/environment.json."""
    rows = []
    for start in read_environments(run):
        git = start.get("git") or {}
        rows.append([_text(start.get(key)) for key in _STARTS] + [_describe(git)])
    return [Table([*_STARTS, "git"], rows, left=1 + len(_STARTS))] if rows else []


_STARTS = ("time", "host", "python", "torch", "align", "world")


def _describe(git: Any) -> str:
    if not isinstance(git, dict) or not git.get("revision"):
        return ""
    return str(git["revision"])[:12] + (" and changes" if git.get("dirty") else "")


def _text(value: Any) -> str:
    return "" if value is None else str(value)
