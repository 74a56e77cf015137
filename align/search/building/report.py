"""The settings of a build, and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import torch

from align.search.building.changes import Changes
from align.search.building.embed import Progress
from align.search.building.fill import Filled


@final
@dataclass(frozen=True)
class Work:
    """Settings of the embedding, on which no row depends.

    max_bad: share of samples with something unreadable above which no index is made. None: 0.001 of shards, 0.1 of a
    folder, which nobody has checked. device: None: the model's.
    progress: called with (samples done, samples in all).
    """

    batch: int = 64
    workers: int = 0
    max_bad: float | None = None
    allow_pipe: bool = False
    device: torch.device | None = None
    progress: Progress | None = None


@final
@dataclass
class Report:
    """The result of a build.

    made: "built" (a new index), "refreshed" or "unchanged". changes: of portions. kind: "shard", or "sample" where a
    portion is the files of one sample. resumed: samples that a stopped build had embedded. samples, modalities: in the
    index. bad: counts by reason. left: (suffix, reason) -> files of a folder that are in no sample. advice: how the
    first of them that could be converted becomes one that is read.
    """

    folder: Path
    made: str
    changes: Changes
    kind: str = "shard"
    resumed: int = 0
    filled: Filled = field(default_factory=Filled)
    samples: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)
    bad: Mapping[str, int] = field(default_factory=dict)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    advice: str = ""
