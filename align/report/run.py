"""A run as one page: its curves, diagnostics, alarms, checkpoints and data, its config and the machines it ran on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import align
from align.checkpoint import read_index
from align.files import read_json
from align.page.blocks import AnyBlock, Chapter, Entries, Fold, Sentence, Values
from align.page.section import Table, Tile
from align.page.shell import Page, write_page
from align.report import curves as lines
from align.report.facts import bad_data
from align.report.measured import draw_measures, list_alarms, list_starts
from align.report.run_facts import list_checkpoints, list_skipped, middle, read_config, read_length
from align.report.stages import read_stages

SCRIPTS = ("choice.js", "legend.js", "chart.js", "scroll.js")
NAME = "run.html"


def write_run(run: Path, path: Path | None = None) -> Path:
    """Write the page of a run and return its path. path: default RUN/run.html.

    It reads what is in the folder, also of a run that trains at this moment. A part that is missing is left out.
    Raises FileNotFoundError where the folder has no metrics.csv.
    """
    metrics = run / "metrics.csv"
    if not metrics.is_file():
        raise FileNotFoundError(f"{run} has no metrics.csv, so it is no run folder; align train --run {run} makes one")
    columns, config = lines.read(metrics), read_config(run)
    chapters = [
        Chapter("alarms", "Alarms", "Signs that a run goes wrong, with advice.", list_alarms(run)),
        Chapter("skipped", "Skipped steps", "Their loss or gradient was not finite.", _if_rows(list_skipped(run))),
        Chapter("curves", "Curves", "Move over a chart to read it; click a name to hide its line.", _charts(columns)),
        Chapter("space", "Space", "Measured on a fixed slice while the run trained.", draw_measures(run)),
        *(Chapter("stages", s.title, s.note, list(s.blocks)) for s in read_stages(run / "stages.json")),
        Chapter("scores", "Evaluation", "Of align evaluate on this run.", _scores(run)),
        Chapter("checkpoints", "Checkpoints", "Those that are kept.", _if_rows(list_checkpoints(run))),
        Chapter("bad", "Bad data", "What could not be read was left out and counted.", bad_data(None, {}, metrics)),
        Chapter("weights", "Weights", "Where published weights came from.", _origins(run)),
        Chapter("starts", "Starts", "One row for each start of the command.", list_starts(run)),
        Chapter("config", "Config", "As the run has it, in config.yaml.", _config(config)),
    ]
    page = Page(
        title=f"Run {run.resolve().name}",
        scripts=SCRIPTS,
        version=align.__version__,
        facts=read_facts(run, columns, config),
        tiles=read_tiles(run, columns),
        chapters=[chapter for chapter in chapters if chapter.blocks],
    )
    return write_page(path or run / NAME, page)


def read_facts(run: Path, columns: Mapping[str, lines.Points], config: Mapping[str, Any]) -> dict[str, str]:
    """Return names and values: modalities, steps, samples, time, the best checkpoint."""
    towers = ((config.get("model") or {}).get("towers")) or {}
    facts = {"modalities": ", ".join(towers)} if towers else {}
    facts |= read_length(run, columns, config).describe()
    known = read_index(run)
    if known.get("best") and isinstance(known.get("value"), float):
        facts["best"] = f"step {int(known['best'][5:]):,}, {known['monitor']} {known['value']:.4f}"
    if "seed" in config:
        facts["seed"] = str(config["seed"])
    return facts


def read_tiles(run: Path, columns: Mapping[str, lines.Points]) -> list[Tile]:
    """Return the headline numbers: the last losses, the mean recall@1, the speed, and the share of waiting."""
    tiles = [Tile(name, columns[name][-1][1], about) for name, about in _LOSSES if name in columns]
    recalls = [points[-1][1] for c, points in columns.items() if c.startswith("val/") and c.endswith("/recall@1")]
    if recalls:
        tiles.append(Tile("mean recall@1", sum(recalls) / len(recalls), "validation, the last step"))
    if "samples_per_second" in columns:
        tiles.append(Tile("samples/s", middle(columns["samples_per_second"]), "median"))
    if "wait" in columns:
        tiles.append(Tile("waiting", middle(columns["wait"]), "median share of the time, for data"))
    return tiles


_LOSSES = (("loss", "training, the last step"), ("val/loss", "validation, the last step"))


def _charts(columns: Mapping[str, lines.Points]) -> list[AnyBlock]:
    return lines.charts({name: points for name, points in columns.items() if not name.startswith("diagnose/")})


def _if_rows(table: Table) -> list[AnyBlock]:
    return [table] if table.rows else []


def _scores(run: Path) -> list[AnyBlock]:
    """Return the scores of RUN/results.json, behind a line that opens them."""
    path = run / "results.json"
    content = read_json(path) if path.is_file() else {}
    scores = {k: float(v) for k, v in content.items() if isinstance(v, int | float)}
    if not scores:
        return []
    page = "report.html beside this page shows them" if (run / "report.html").is_file() else "results.json has them"
    return [Sentence(f"{len(scores)} scores; {page}."), Fold("All scores, by their names", [Values(scores)])]


def _origins(run: Path) -> list[AnyBlock]:
    path = run / "model" / "model.json"
    parts = read_json(path).get("parts", {}) if path.is_file() else {}
    rows = [[name, *(str(about.get(key, "")) for key in _ORIGIN)] for name, about in parts.items()]
    return _if_rows(Table(["part", *_ORIGIN], rows, left=1 + len(_ORIGIN)))


_ORIGIN = ("source", "licence", "changed")


def _config(config: Mapping[str, Any]) -> list[AnyBlock]:
    """Return a config's keys, those without a value left out, behind a line for each group of keys."""
    out: list[AnyBlock] = []
    for name, value in config.items():
        kept = _without_none(value)
        if isinstance(kept, dict) and kept:
            text = {key: v if isinstance(v, str | int | float) else _yaml(v) for key, v in kept.items()}
            out.append(Fold(str(name), [Entries(text)]))
    plain = {k: v for k, v in config.items() if k not in _LINE and not isinstance(v, dict | list) and v is not None}
    return [*([Entries(plain)] if plain else []), *out]


_LINE = ("run", "fresh", "dry_run", "config")
"""Options of the command line that say nothing about the run."""


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: kept for k, v in value.items() if (kept := _without_none(v)) not in (None, {})}
    return value


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip()
