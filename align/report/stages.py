"""A run's stages.json as a section of its report: the recall of every pair of modalities after each stage."""

from __future__ import annotations

from pathlib import Path

from align.files import read_json
from align.page.section import Section, Table


def read_stages(path: Path) -> list[Section]:
    """Return the section of a run that was trained in stages, [] where there is no such file."""
    if not path.is_file():
        return []
    about = read_json(path)
    stages = about["stages"]
    pairs = list(dict.fromkeys(pair for stage in stages for pair in stage["recall@1"]))
    head = ["Pair", *(f"{stage['stage']}, step {stage['step']}" for stage in stages)]
    rows = []
    for pair in pairs:
        cells = []
        for stage in stages:
            value = stage["recall@1"].get(pair)
            fallen = pair in stage["fallen"]
            cells.append("–" if value is None else f"{value:.3f} ▼" if fallen else f"{value:.3f}")
        rows.append([pair.replace("+", " + ").replace("_to_", " → "), *cells])
    note = f"Recall@1 on the validation set. ▼: more than {about['fall']} below the pair's best earlier stage."
    return [Section("After each stage", note, [Table(head, rows)])]
