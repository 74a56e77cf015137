"""The pass over a whole set, by this process or by several; the result is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from align.curation.check.samples import examine
from align.curation.check.seen import Seen
from align.curation.jobs.pool import ordered
from align.data.shards import Shards
from align.media import MEDIA, Media

STRETCH = 64  # positions that are looked at between two words of progress, by one process


def survey(
    shards: Shards,
    modalities: Sequence[str],
    most: int,
    *,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
    media: Media = MEDIA,
) -> Seen:
    """Every sample of a set. progress: called with how many are done; workers: processes, 0 for this one alone."""
    seen = Seen(most, media)
    stretches = [range(start, min(len(shards), start + STRETCH)) for start in range(0, len(shards), STRETCH)]
    for _, part in ordered(_examine, (shards, modalities, most, media), stretches, workers, chunk=1):
        seen.merge(part)
        if progress is not None:
            progress(seen.samples)
    return seen


def _examine(state: tuple[Shards, Sequence[str], int, Media], positions: range) -> Seen:
    shards, modalities, most, media = state
    return examine(shards, positions, modalities, most, media)
