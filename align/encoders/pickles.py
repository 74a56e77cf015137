"""Pickled files of torch, read without running code: tensors, plain values and the arguments of a training run."""

from __future__ import annotations

import argparse
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from align.files.confined import check_confined


def read_pickle(path: Path) -> Any:
    """Return the content of a .pt, .pth or .bin, its tensors mapped from the disk where the format allows it.

    Beside tensors and plain values it may hold an ``argparse.Namespace``, which training scripts save, and nothing else
    (``weights_only=True``).

    Raises FileNotFoundError for a file that is not there, ValueError in one line for one that is damaged or holds more.
    """
    import torch

    check_confined(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with explain_damage(path):
        check_packing(path)
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with explain_damage(path), warnings.catch_warnings(), allowed:
        warnings.simplefilter("ignore")  # of the pickle's protocol: it is read, or refused in one line
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, UnicodeEncodeError):  # torch before 1.6's format, or a path that is no UTF-8: not mapped
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)


def check_packing(path: Path) -> None:
    """Raise ValueError for an archive whose tensors are compressed, which torch never writes.

    Mapped from the disk their compressed bytes would pass for weights. Unpacked they could fill the memory.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = [x.filename for x in archive.infolist() if x.compress_type != zipfile.ZIP_STORED]
    if packed := [name for name in parts if "/code/" not in name]:  # of TorchScript, whose code is not read
        raise ValueError(f"{packed[0]} is compressed, and torch stores parts as they are; save the weights again")


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Raise ValueError in one line for whatever reading a file raises: pickles fail in many ways."""
    try:
        yield
    except Exception as error:
        words = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].split())  # torch's advice stands before
        for advice in (" Please use", " Check the documentation", " This is an internal miniz error"):
            words = words.partition(advice)[0]
        reason = shorten(words, 160, placeholder=" …")
        raise ValueError(f"{path} is damaged or holds more than tensors ({type(error).__name__}: {reason})") from error
