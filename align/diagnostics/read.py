"""Readers of a run's measurements, alarms and environments: for its report, and for the run itself when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from align.diagnostics.lines import read_lines
from align.files import read_json

MEASURES = "diagnostics.jsonl"
ALARMS = "alarms.jsonl"
ENVIRONMENT = "environment.json"


class Histogram(NamedTuple):
    """Cosines of a pair of modalities in equal bins.

    edges: of the bins, one more than the counts. positives: number of pairs of rows of one sample in each bin.
    negatives: number of pairs of rows of two samples.
    """

    edges: list[float]
    positives: list[int]
    negatives: list[int]


class Measurement(NamedTuple):
    """Measures of a space at a step of its training.

    scores: flat names such as ``trained/image_to_text/recall@1`` and ``gap/image+text``. histograms: by pair
    (``image+text``, sorted). seconds: the time that the measurement took. facts: the slice that is measured (its shards
    and number of samples), and the pairs that a term trains.
    """

    step: int
    scores: dict[str, float]
    histograms: dict[str, Histogram]
    seconds: float = 0.0
    facts: Mapping[str, Any] = {}


class Alarm(NamedTuple):
    """A sign that a run goes wrong.

    step: the step at which it was seen. name: collapse, stuck-loss, no-gradient, clamped-temperature, exhausted-source
    or growing-memory. cause: the part that it is about, such as a modality, a term or a source. text: the sign, in a
    sentence. advice: a remedy.
    """

    step: int
    name: str
    cause: str
    text: str
    advice: str


def read_measures(run: str | Path) -> list[Measurement]:
    """Return the measurements of RUN/diagnostics.jsonl by step, [] where there is none.

    Raises ValueError, with the file and the line, where it holds something else.
    """
    return [parse_measure(line) for line in read_lines(Path(run) / MEASURES)]


def parse_measure(line: Mapping[str, Any]) -> Measurement:
    """Return the measurement of a line of RUN/diagnostics.jsonl."""
    low, high, bins = line["bins"]
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    histograms = {pair: Histogram(edges, *counts) for pair, counts in line["histograms"].items()}
    facts = {"slice": line.get("slice", {}), "trained": line.get("trained", [])}
    return Measurement(line["step"], line["scores"], histograms, line.get("seconds", 0.0), facts)


def read_alarms(run: str | Path) -> list[Alarm]:
    """Return the alarms of RUN/alarms.jsonl in their order, [] where there is none."""
    return [Alarm(*(line[name] for name in Alarm._fields)) for line in read_lines(Path(run) / ALARMS)]


def read_environments(run: str | Path) -> list[dict[str, Any]]:
    """Return an entry of RUN/environment.json for each start of the run, the first one first. [] where there is none.

    An entry has ``step``, ``time``, ``command``, ``world``, ``host``, ``system``, ``cpu``, ``gpus``, ``threads``,
    ``python``, ``packages`` (name -> version), and ``git`` (``folder`` and ``align``: revision and dirty, where they
    are in a repository).
    """
    path = Path(run) / ENVIRONMENT
    return read_json(path)["starts"] if path.is_file() else []
