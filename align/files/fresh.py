"""A new folder for files of other programs: refused where it would hide or lose others, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.files import atomic_folder
from align.files.swapping import remove_leftovers

MARKS = ("model.json", "index.json")
"""Files of the folders that are replaced as a whole when they are written again: models, checkpoints and indexes."""


def find_owner(out: Path) -> Path | None:
    """Return the nearest folder around `out` that is replaced as a whole, so that `out` would be lost with it."""
    return next((folder for folder in out.resolve().parents if any((folder / mark).is_file() for mark in MARKS)), None)


def check_fresh(out: Path) -> None:
    """Raise ValueError where a new folder cannot be: it has no name, is there with content, or lies in a model."""
    if not out.name or out.name == "..":
        raise ValueError(f"{out} has no name of its own; name a new folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} is there and is not empty; name a new folder")
    check_place(out)


def check_place(out: Path) -> None:
    """Raise ValueError for a folder in one that is replaced as a whole, see `find_owner`."""
    if (owner := find_owner(out)) is not None:
        raise ValueError(
            f"{out} lies in {owner}, which is replaced as a whole when it is written again; name a folder outside"
        )


@contextmanager
def fresh_folder(out: str | Path) -> Iterator[Path]:
    """Yield a work folder, which gets the name `out` when the block ends without an error.

    What a killed writer of `out` has left is removed first. Raises ValueError as `check_fresh`.
    """
    out = Path(out)
    check_fresh(out)
    if out.parent.is_dir():
        remove_leftovers(out.parent, [out.name])
    with atomic_folder(out) as work:
        yield work
