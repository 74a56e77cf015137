"""Videos: files of moving pictures, read at stated times."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from align.media.medium import Medium


@final
class Video(Medium):
    """Videos in the containers that PyAV reads."""

    name = "video"
    modality = "video"
    suffixes = ("mp4", "webm", "mkv", "mov", "avi", "m4v")
    folders = ("video", "videos", "clips")

    def read(self, source: bytes | Path) -> Any:
        raise NotImplementedError


VIDEO = Video()
