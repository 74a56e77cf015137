"""Published weights -> a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align.model import JointModel
from align.model.video import VideoPool, with_videos
from align.published import load_published


def import_published(
    layout: str,
    source: str,
    out: str | Path,
    *,
    beside: Sequence[str] = (),
    towers: Sequence[str] = (),
    video: VideoPool | None = None,
) -> JointModel:
    """Write a published model as a model folder, whole or not at all, and return it.

    layout, source, beside, towers, video: as ``align import`` takes them.

    Raises ValueError and OSError in one line for a source that does not exist, cannot be reached, is damaged or is of
    another layout, and ValueError for ``video`` where ``with_videos`` raises it.
    """
    from align.checkpoint.write import save

    model = load_published(layout, source, beside=beside, towers=towers)
    if video is not None:
        model = with_videos(model, video)
    save(model, out)
    return model
