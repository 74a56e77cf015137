"""Facts of the run that a model comes from: its data, with their licences, and the length of its training."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from align.checkpoint import find_checkpoint, read_index
from align.files import read_json


class Source(NamedTuple):
    """Shards that a model was trained on, under the name of their folder.

    samples: None where their manifest cannot be read.
    """

    pattern: str
    name: str
    samples: int | None
    licence: str


class Training(NamedTuple):
    """Facts of a run. sources: its data. facts: the rest, in words by name."""

    sources: list[Source]
    facts: dict[str, str]


def read_training(run: Path, checkpoint: str) -> Training | None:
    """Return the facts of a run folder, None where the folder is no run's."""
    if not (run / "config.yaml").is_file() or not read_index(run):
        return None
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
    data = config.get("data") or {}
    facts = {}
    step = find_checkpoint(run, checkpoint).name.removeprefix("step-")
    if step.isdigit():
        facts["steps"] = f"{int(step):,}"
    if isinstance(data.get("batch"), int):
        facts["batch"] = f"{data['batch']:,}"
    facts["seed"] = str(config.get("seed", 0))
    roots = [Path(), *(Path(start) for start in _started_in(run))]
    sources = [_describe(pattern, roots) for pattern in dict.fromkeys(list_patterns(data.get("train")))]
    return Training(sources, facts)


def list_patterns(value: Any) -> Iterator[str]:
    """Yield the patterns of shards under ``data.train``: one, a list, ``{urls: …}``, or named sources.

    >>> list(list_patterns({"a": {"urls": "a/train-*.tar", "columns": {"text": "c/x:text"}}, "b": ["b/x.tar"]}))
    ['a/train-*.tar', 'b/x.tar']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from list_patterns(one)
    elif isinstance(value, dict):
        for one in [value["urls"]] if "urls" in value else value.values():
            yield from list_patterns(one)


def _started_in(run: Path) -> list[str]:
    """Return the folders in which the run's commands were started, the last first. Its patterns begin there."""
    path = run / "environment.json"
    starts = read_json(path).get("starts", []) if path.is_file() else []
    return [str(start["folder"]) for start in reversed(starts) if start.get("folder")]


def _describe(pattern: str, roots: list[Path]) -> Source:
    """Return a source by the name of its folder, without the path to it, which is of one machine."""
    folder, _, file = pattern.rpartition("/")
    name = folder.rstrip("/").rpartition("/")[2] or file
    if "://" in pattern or pattern.startswith("pipe:"):
        return Source(pattern, name, None, "unstated")
    for root in roots:
        path = root / folder / "manifest.json"
        if not path.is_file():
            continue
        manifest = read_json(path)
        shards = manifest.get("shards", {})
        counts = [about.get("samples") for shard, about in shards.items() if fnmatch(shard, file)]
        counted = [n for n in counts if isinstance(n, int)]
        return Source(pattern, name, sum(counted) if counted else None, manifest.get("licence") or "unstated")
    return Source(pattern, name, None, "unstated")
