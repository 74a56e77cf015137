"""The folder of an index: its kind before a build, and a new one put in its place in one step."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from uuid import uuid4

from align.files import read_json, sync_folder

Kind = Literal["new", "version 1", "index"]
EXCHANGE = 2  # of renameat2
HERE = -100  # paths are relative to the working folder


def kind_of(out: Path) -> Kind:
    """Return the kind of folder that a build meets at its place. An empty folder is new.

    Raises ValueError where something else stands there, or an index that is newer than this align.
    """
    if not out.exists() and not out.is_symlink():
        return "new"
    if out.is_dir() and not any(out.iterdir()):
        return "new"
    about = read_json(out / "index.json") if (out / "index.json").is_file() else None
    schema = about.get("schema") if isinstance(about, dict) else None
    if not isinstance(schema, int):
        raise ValueError(f"{out} is there and is no index; choose another folder with --out")
    if schema > 2:
        raise ValueError(f"{out} has schema {schema}; this align reads up to 2: upgrade align")
    return "version 1" if schema == 1 else "index"


def new_name(out: Path) -> Path:
    """Return the name of a folder beside ``out`` in which its next content is made."""
    return out.with_name(f".{out.name}.{uuid4().hex[:12]}.tmp")


def remove_left(out: Path) -> None:
    """Remove the folders of builds of ``out`` that were killed."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def put_in_place(out: Path) -> Iterator[Path]:
    """Yield the path of a folder to be made, which stands at ``out`` when the block ends without an error.

    A folder that is there is exchanged for it in one step, where the file system can do so.
    """
    work = new_name(out)
    try:
        yield work
        sync_folder(work)
        if out.exists() and any(out.iterdir()):
            if not _exchange(work, out):
                old = new_name(out)
                out.rename(old)
                work.rename(out)
                shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(work, out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)  # of an exchange, the old content


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step. False where the system cannot do that."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return renameat2(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0
