"""Folders that are no classes: one for each modality side by side, or the numbered ones that img2dataset writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from align.curation.members.files import file_modality
from align.media import MEDIA, Media


def are_parts(folders: Sequence[Path], media: Media = MEDIA) -> bool:
    """Return whether folders hold parts of one list of samples, of which files with one stem are one sample.

    Either all are called by modalities (``images``, ``captions``), or all are img2dataset's: five digits, and beside
    them its table or statistics, or a .json for a file inside.
    """
    called = {name: medium.modality for medium in media if medium.modality for name in medium.folders}
    found = {called.get(folder.name.lower()) for folder in folders}
    return (None not in found and len(found) > 1) or (bool(folders) and all(map(_img2dataset, folders)))


def check_apart(folders: Sequence[Path], media: Media = MEDIA) -> None:
    """Raise ValueError for a folder that holds nothing but the captions of another one's files: it is no class."""
    stems = {folder: _stems(folder, media) for folder in folders}
    for folder, of in stems.items():
        if set(of) != {"text"}:
            continue
        for other, theirs in stems.items():
            if any(of["text"] & some for modality, some in theirs.items() if modality != "text"):
                raise ValueError(
                    f"{folder} holds texts with the names of the files in {other}: a caption lies beside its file "
                    "(CLASS/1.jpg, CLASS/1.txt), or in a folder captions beside one that is called images"
                )


def _img2dataset(folder: Path) -> bool:
    if not re.fullmatch(r"\d{5}", folder.name):
        return False
    beside = (folder.with_name(f"{folder.name}{end}") for end in ("_stats.json", ".parquet"))
    return any(path.is_file() for path in beside) or any(folder.glob("*.json"))


def _stems(folder: Path, media: Media) -> dict[str, set[str]]:
    """Return modality -> the stems of its files that lie in the folder itself."""
    found: dict[str, set[str]] = {}
    for path in folder.iterdir():
        if not path.name.startswith(".") and (modality := file_modality(path, media)) is not None and path.is_file():
            found.setdefault(modality, set()).add(path.stem)
    return found
