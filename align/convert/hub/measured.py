"""The scores of a model from the folder of ``align evaluate``, as a card shows them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from align.files import read_json

FILE = "results.json"
CHIEF = ("accuracy", "recall@1")
"""Last words of the scores that a card shows. The others are in results.json."""
MOST = 40


class Measured(NamedTuple):
    """Scores of an evaluation. scores: all. intervals: of those that have one. protocol: as ``evaluate`` wrote it."""

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    protocol: dict[str, Any]

    def chief(self) -> list[str]:
        """Return the names of the scores for the card: at most ``MOST``, class retrieval only where it has room."""
        names = [name for name in self.scores if name.rpartition("/")[2] in CHIEF] or [*self.scores]
        if len(names) > MOST:
            names = [name for name in names if not name.startswith("class/")] or names
        return names[:MOST]

    def data(self) -> str:
        """Return the data in words: ``test: 60 samples``, or several with commas."""
        counts: dict[str, int] = {}
        for shard, samples in self.protocol.get("shards", {}).items():
            split = re.sub(r"[-_]?\d*\.tar$", "", Path(shard).name) or shard
            counts[split] = counts.get(split, 0) + samples
        return ", ".join(f"{split}: {samples:,} samples" for split, samples in counts.items())


def read_results(folder: Path, checksum: str, dropped: Collection[str] = ()) -> Measured:
    """Return the scores of FOLDER/results.json.

    checksum: SHA-256 of the model's weights. dropped: modalities that the model has and the card's model has not;
    scores whose names hold one of them are left out.

    Raises FileNotFoundError where there is no file, ValueError for a file of another kind and for another model.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {FILE} in {folder}; align evaluate MODEL SHARDS --out {folder} writes it")
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("protocol"), dict):
        raise ValueError(f"{path} has no protocol, so it is not of align evaluate")
    protocol, around = content.pop("protocol"), content.pop("intervals", {})
    if protocol.get("model") != checksum:
        raise ValueError(
            f"{path} is of another model (sha256 {str(protocol.get('model'))[:12]}, this one's is {checksum[:12]}); "
            "evaluate this model, or name the folder of its results with --results"
        )
    gone = [re.compile(rf"(?<![A-Za-z0-9]){re.escape(m)}(?![A-Za-z0-9])") for m in dropped]
    scores = {
        name: float(value)
        for name, value in content.items()
        if isinstance(value, int | float) and not any(found.search(name) for found in gone)
    }
    intervals = {name: (float(low), float(high)) for name, (low, high) in around.items() if name in scores}
    return Measured(scores, intervals, protocol)


def keep_results(measured: Measured) -> Mapping[str, Any]:
    """Return the content of results.json for the folder of the card. Its command has names in place of whole paths."""
    protocol = dict(measured.protocol)
    if isinstance(protocol.get("command"), str):
        protocol["command"] = re.sub(r"(?<![\w./~-])[~/][^\s'\"]*/", "", protocol["command"])
    return {**measured.scores, "intervals": measured.intervals, "protocol": protocol}
