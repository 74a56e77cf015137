"""Pass over a whole set, by one process or several with the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from align.curation.check.samples import examine
from align.curation.check.seen import Seen
from align.curation.jobs.pool import run_in_order
from align.data.shards import Shards
from align.media import MEDIA, Media

STRETCH = 64  # positions that a process examines between two reports of progress


def survey(
    shards: Shards,
    modalities: Sequence[str],
    most: int,
    *,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
    media: Media = MEDIA,
) -> Seen:
    """Examine every sample of a set.

    workers: number of processes, 0 for this one. progress: called with the number of samples done.
    """
    seen = Seen(most, media)
    stretches = [range(start, min(len(shards), start + STRETCH)) for start in range(0, len(shards), STRETCH)]
    for _, part in run_in_order(_examine, (shards, modalities, most, media), stretches, workers, chunk=1):
        seen.merge(part)
        if progress is not None:
            progress(seen.samples)
    return seen


def _examine(state: tuple[Shards, Sequence[str], int, Media], positions: range) -> Seen:
    shards, modalities, most, media = state
    return examine(shards, positions, modalities, most, media)
