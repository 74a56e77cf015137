"""Room on the disk for a checkpoint: the bytes that it needs, and one line where it cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Unsaved(OSError):
    """Failure of writing a checkpoint. Those that were there are as they were."""


def count_bytes(model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return about how many bytes a checkpoint needs: its tensors, and 64 KiB for its JSON."""
    tensors = [*model.state_dict().values(), *objective.state_dict().values(), *_list_tensors(optimizer.state)]
    return sum(x.nbytes for x in tensors if isinstance(x, Tensor)) + (1 << 16)


def _list_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inside in value.values():
            yield from _list_tensors(inside)
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from _list_tensors(inside)


@contextmanager
def making_room(folder: Path, needed: int = 0) -> Iterator[None]:
    """Raise Unsaved before the block where a disk has no room for it, and in place of an OSError inside it.

    folder: of the checkpoint. needed: bytes, 0 where they are few.
    """
    free = count_free(folder)
    if free is not None and free < needed:
        raise Unsaved(_describe(folder, needed, free, os.strerror(errno.ENOSPC)))
    try:
        yield
    except Unsaved:
        raise
    except OSError as error:
        reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
        raise Unsaved(_describe(folder, needed, count_free(folder), reason)) from error


def count_free(folder: Path) -> int | None:
    """Return the free bytes of the disk of a folder that may not be there yet. None: the system does not say."""
    for place in (folder, *folder.parents):
        try:
            usage = shutil.disk_usage(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return usage.free if usage.total else None
    return None


def _describe(folder: Path, needed: int, free: int | None, reason: str) -> str:
    """Return the line about a checkpoint that cannot be written."""
    sizes = f" it needs {_size(needed)}" if needed else ""
    sizes += f"{',' if sizes else ''} {_size(free)} are free" if free is not None else ""
    return (
        f"{folder} cannot be written: {reason};{sizes + ';' if sizes else ''} the checkpoints that were there are as "
        "they were. Make room, or make the folder writable, and give the same command again"
    )


def _size(n: int) -> str:
    """Return a number of bytes for a reader: ``1.5 GiB``."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"
