"""Tensors that FSDP2 has split over ranks, as safetensors files of each rank: training/shards/shard-00001-….

torch.distributed.checkpoint writes and reads them, and each file states the place of its rows in the whole tensors. So
any number of ranks can read them. They hold tensors alone: that storage would pickle anything else into its files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.model.inside import in_shards

FOLDER = "shards"


class Stated(NamedTuple):
    """Shape and dtype of a whole tensor, as files state them."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def write_shards(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write the rows of this rank into a folder. All ranks call it with the same names.

    Raises OSError on every rank where one cannot write, TypeError for a value that is no sharded tensor.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    for name, x in tensors.items():
        if not in_shards(x):
            raise TypeError(f"{name} is a {type(x).__name__}, no sharded tensor")
        local: Any = x.to_local()  # pyright: ignore[reportAttributeAccessIssue]
        if type(local) is not Tensor:
            raise ValueError(
                f"{name} is a {type(local).__name__} in shards, whose scales do not split with it: "
                "8-bit states train under ddp, or take another optimiser for fsdp2"
            )
    try:
        save({**tensors}, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        number, (reason, _) = min(error.failures.items())
        raise OSError(f"{folder} cannot be written by rank {number}: {' '.join(str(reason).split())}") from error


def read_stated(folder: Path) -> dict[str, Stated]:
    """Return the tensors of the safetensors files in a folder, those in shards as one, without their values."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    found: dict[str, Any] = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: Stated(tuple(one.size), one.properties.dtype) for name, one in found.items()}


def read_into(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Fill tensors, whole or sharded, with the values that a folder has for their names. A rank reads its rows alone.

    Every rank may call it by itself. Raises KeyError or RuntimeError for a name that no file has.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    if not tensors:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as asked for
        load({**tensors}, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


def read_split(folder: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a folder by name. One of a sharded parameter, in the parameter's shape, is sharded like it.

    parameters: by name. A tensor is named as its parameter, or NAME/KEY.
    """
    made = {}
    for name, stated in read_stated(folder).items():
        owner = parameters.get(name.partition("/")[0])
        if owner is not None and in_shards(owner) and tuple(owner.shape) == stated.shape:
            made[name] = torch.empty_like(owner.detach(), dtype=stated.dtype)
        else:
            made[name] = torch.empty(stated.shape, dtype=stated.dtype)
    read_into(made, folder)
    return made
