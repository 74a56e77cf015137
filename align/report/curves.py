"""A run's metrics.csv as charts: loss, loss per term, validation, scales, and the pace of the run."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from align.page.blocks import AnyBlock, Fold
from align.page.chart import Chart, Series

Points = list[tuple[float, float]]
PACE = {
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "samples_per_second": "Samples per second",
    "wait": "Share of time waiting for data",
}
SOURCE = "source/"  # of a mixture: source/NAME/loss, source/NAME/samples, source/NAME/epoch
LEARNED = {"Scale": "/scale", "Bias": "/bias"}  # of a term: TERM/scale
MOST = 300  # points of a line: more cannot be told apart at the size it is drawn


def read(path: Path) -> dict[str, Points]:
    """Return (step, value) by column, without empty and non-finite values. A column without any value is left out.

    A last row without an end of line is left out: the run that writes it is in the middle of it.
    Raises ValueError where the file has no column ``step``.
    """
    columns: dict[str, Points] = {}
    reader = csv.DictReader(_whole_lines(path))
    if reader.fieldnames is not None and "step" not in reader.fieldnames:
        raise ValueError(f"{path} has the columns {', '.join(reader.fieldnames)}; curves need 'step'")
    for row in reader:
        step = _float(row.pop("step"))
        for name, text in row.items():
            value = _float(text)
            if name and math.isfinite(step) and math.isfinite(value):
                columns.setdefault(name, []).append((step, value))
    return columns


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return lines if not lines or lines[-1].endswith("\n") else lines[:-1]


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def smooth(points: Points, share: float = 0.01) -> Points:
    """Return the mean of each point's neighbours, whose weight halves over `share` of the points.

    Points on both sides count, so that no line lags.
    """
    keep = 0.5 ** (1 / max(1.0, share * len(points)))

    def behind(values: Sequence[float]) -> list[tuple[float, float]]:
        out, total, weight = [], 0.0, 0.0
        for y in values:
            total, weight = keep * total + y, keep * weight + 1
            out.append((total, weight))
        return out

    ys = [y for _, y in points]
    past, future = behind(ys), behind(ys[::-1])[::-1]
    both = zip(points, past, future, strict=True)
    return [(x, (a[0] + b[0] - y) / (a[1] + b[1] - 1)) for (x, y), a, b in both]


def thin(points: Points, most: int = MOST) -> Points:
    """Return at most `most` points: of each stretch the lowest and the highest, in order, so that no spike is lost."""
    if len(points) <= most:
        return points
    stretches = max(1, most // 2 - 1)
    out = [points[0]]
    for i in range(stretches):
        part = points[i * len(points) // stretches : (i + 1) * len(points) // stretches]
        out += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return [*out, points[-1]] if out[-1] != points[-1] else out


def _training_line(name: str, points: Points, *, strong: bool = False) -> Series:
    if len(points) < 20:
        return Series(name, points, strong=strong)
    return Series(name, thin(smooth(points)), thin(points), strong=strong)


def _mean(columns: Iterable[Points]) -> Points:
    """Return the mean at the steps where every column has a value."""
    tables = [dict(points) for points in columns]
    return [(x, sum(t[x] for t in tables) / len(tables)) for x in sorted(set.intersection(*map(set, tables)))]


def charts(columns: Mapping[str, Points]) -> list[AnyBlock]:
    """Return all charts that these columns can fill, those of the pace of the run folded."""
    out: list[AnyBlock] = []
    steps = [x for points in columns.values() for x, _ in (points[0], points[-1])]
    x_limits = (min(steps), max(steps)) if steps else None  # all charts have the axis of the run

    def draw(title: str, series: list[Series], about: str = "", y_limits: tuple[float, float] | None = None) -> Chart:
        return Chart(title, series, about, y_limits=y_limits, x_limits=x_limits)

    def add(title: str, series: list[Series], about: str = "", y_limits: tuple[float, float] | None = None) -> None:
        if series:
            out.append(draw(title, series, about, y_limits))

    total = [_training_line("training", columns["loss"], strong=True)] if "loss" in columns else []
    if "val/loss" in columns:
        total.append(Series("validation", thin(columns["val/loss"]), dots=True))
    add("Loss", total, "smoothed over the raw values")
    known, ends = {"loss", "epoch", "bad", "skipped", *PACE}, tuple(LEARNED.values())
    others = ("val/", "diagnose/", SOURCE)
    terms = [c for c in columns if c not in known and not c.startswith(others) and not c.endswith(ends)]
    shown = [c for c in terms if columns[c] != columns.get("loss")]  # a single term of weight 1 is the loss again
    add("Loss per term", [_training_line(c, columns[c]) for c in shown], "before weighting")
    add("Loss per source", [_training_line(n, p) for n, p in of_sources(columns, "loss")], "only its samples ask")
    measured = group_evaluators(columns)
    recalls = [c for c in columns if c.startswith("val/") and c.count("/") == 2 and "/recall@" in c]
    for k in sorted({c.rsplit("@")[-1] for c in recalls}, key=lambda k: (len(k), k)):
        some = [c for c in recalls if c.endswith(f"/recall@{k}")]
        series = [Series(_arrow(c), thin(columns[c]), dots=True) for c in some]
        mean = _mean(columns[c] for c in some)
        if len(series) > 2 and mean:
            series.append(Series("mean", thin(mean), strong=True))
        add(f"Validation recall@{k}", series, "query → answer", (0.0, 1.02))
    for title, end in LEARNED.items():
        found = [Series(c.removesuffix(end), thin(columns[c])) for c in columns if c.endswith(end)]
        add(title, found, "1 / temperature" if title == "Scale" else "")
    for c in columns:
        if c.startswith("val/") and c not in recalls and c != "val/loss" and c.count("/") < 3:
            add(c, [Series(c.removeprefix("val/"), thin(columns[c]), dots=True)])
    more: list[AnyBlock] = []
    for (evaluator, metric), found in measured.items():
        series = [Series(name, thin(points), dots=True) for name, points in found.items()]
        (out if metric in ("accuracy", "recall@1") else more).append(
            draw(f"{evaluator}: {metric}", series, "on data.val")
        )
    out += [Fold("Further scores of the evaluators", more)] if more else []
    pace: list[AnyBlock] = [draw(title, [_training_line(c, columns[c])]) for c, title in PACE.items() if c in columns]
    epochs = [Series(name, thin(points)) for name, points in of_sources(columns, "epoch")]
    pace += [draw("Epoch of each source", epochs)] if epochs else []
    return [*out, Fold("How the run went: gradient, learning rate, speed", pace)] if pace else out


def of_sources(columns: Mapping[str, Points], value: str) -> list[tuple[str, Points]]:
    """Return (source, points) of the columns ``source/NAME/value``."""
    end = f"/{value}"
    found = [c for c in columns if c.startswith(SOURCE) and c.endswith(end)]
    return [(c.removeprefix(SOURCE).removesuffix(end), columns[c]) for c in found]


def group_evaluators(columns: Mapping[str, Points]) -> dict[tuple[str, str], dict[str, Points]]:
    """Return (evaluator, metric) -> name -> points, of scores such as ``val/zeroshot/shape/image/accuracy``."""
    found: dict[tuple[str, str], dict[str, Points]] = {}
    for column, points in columns.items():
        parts = column.split("/")
        if parts[0] == "val" and len(parts) > 3:
            found.setdefault((parts[1], parts[-1]), {})["/".join(parts[2:-1])] = points
    return found


def _arrow(column: str) -> str:
    """Return "audio + image → text" for ``val/audio+image_to_text/recall@1``."""
    return column.split("/")[1].replace("+", " + ").replace("_to_", " → ")
