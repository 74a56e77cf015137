"""FSDP2 in a run: Lightning's ModelParallelStrategy, the settings that go with it, one folder that all ranks see."""

from __future__ import annotations

import copy
import socket
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning as L
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.optim import Optimizer

from align.distributed import exchange, rank, world
from align.model import JointModel
from align.model.sharding import gather_weights, outline, shard_model
from align.optim import evaluating
from align.optim.trial import find_subclass
from align.tuning import Tuning

SHORT = "fsdp2"
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-true")
"""Those that Lightning's strategy takes."""
SEEN = 15.0  # seconds within which a file of rank 0 is visible on the other hosts of a network file system


def make_strategy(given: Any, precision: Any = "32-true") -> Any:
    """Return the strategy of a config for Lightning's Trainer: a name, an object, or one made from its description.

    given: a name that Lightning knows, ``fsdp2``, or ``{"class_path": …, "init_args": {…}}``.

    Raises ValueError for a description that names no strategy, for one whose weights or ranks a run cannot take, for
    tensor parallelism, for a precision that Lightning does not shard, and for shards on another system than Linux.
    """
    if given == SHORT:
        given = ModelParallelStrategy(data_parallel_size="auto", tensor_parallel_size="auto")
    elif isinstance(given, Mapping):
        path = str(given.get("class_path"))
        module, _, name = path.rpartition(".")
        try:
            given = getattr(import_module(module), name)(**(given.get("init_args") or {}))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"trainer.strategy {path}: {error}; take ddp, {SHORT} or a class of Lightning's"
            ) from error
    _refuse_others(given)
    if isinstance(given, ModelParallelStrategy):
        if not sys.platform.startswith("linux"):
            raise ValueError(f"trainer.strategy {SHORT} runs on Linux only; take ddp here")
        if given._tensor_parallel_size not in ("auto", 1):
            size = given._tensor_parallel_size
            raise ValueError(f"trainer.strategy: tensor_parallel_size is {size}, but no tower splits a product; take 1")
        if precision not in PRECISIONS:
            raise ValueError(
                f"trainer.strategy {SHORT} takes trainer.precision {', '.join(PRECISIONS)}; got {precision}"
            )
    return given


def _refuse_others(given: Any) -> None:
    name = given if isinstance(given, str) else type(given).__name__.removesuffix("Strategy").lower()
    if name.startswith(("fsdp", "deepspeed")):
        raise ValueError(
            f"trainer.strategy {name} keeps weights in a form that no checkpoint of a run has; take ddp, or {SHORT} to "
            "split them"
        )
    start = name if isinstance(given, str) else str(getattr(given, "_start_method", ""))
    if any(word in start for word in ("spawn", "fork", "notebook")):
        raise ValueError(
            f"trainer.strategy {name} starts its ranks as copies of a process in which the run has begun; take ddp, "
            "which starts each rank by the same command"
        )


def spread(trainer: L.Trainer) -> None:
    """Let a strategy that shards do so over all ranks. Raises ValueError where it names another number of them."""
    strategy = trainer.strategy
    if isinstance(strategy, ModelParallelStrategy):
        size = strategy._data_parallel_size
        if size not in ("auto", trainer.world_size):
            raise ValueError(
                f"trainer.strategy: data_parallel_size is {size}, but {trainer.world_size} ranks run "
                "(trainer.devices times trainer.num_nodes); make the two equal, or leave it out"
            )
        strategy._data_parallel_size, strategy._tensor_parallel_size = trainer.world_size, 1


def check_sharding(
    trainer: L.Trainer, *, chunk: Any, stages: bool, tuning: Tuning | None, build: Callable[[], Optimizer]
) -> None:
    """Raise ValueError, in one line, for a setting of a run that does not go with FSDP2.

    chunk: rows that a tower reads at a time, or None. stages: the run has some. build: makes an optimiser of the run.
    """
    if not isinstance(trainer.strategy, ModelParallelStrategy):
        return
    lora = tuning is not None and tuning.lora
    kind = find_subclass(build())
    reasons = {
        "optim.optimizer": kind is not None and f"its state is {kind}, whose scales do not split with it",
        "chunk": chunk is not None and "its second pass would gather and free the shards again",
        "stages": stages and "a stage changes which parameters train, after they are split",
        "tuning.lora": lora and "adapters are merged into whole weights when they are saved",
    }
    for key, reason in reasons.items():
        if reason:
            raise ValueError(f"{key} and trainer.strategy {SHORT} do not go together: {reason}; take strategy ddp")


def split(trainer: L.Trainer, model: JointModel) -> tuple[JointModel, ...]:
    """Shard a model over the ranks of Lightning's device mesh, and return its outline. (): the model stays whole."""
    if not isinstance(trainer.strategy, ModelParallelStrategy):
        return ()
    empty = outline(model)
    shard_model(model, trainer.strategy.device_mesh["data_parallel"])
    return (empty,)


def gather_model(trainer: L.Trainer, model: JointModel, empty: JointModel) -> JointModel:
    """Return a whole model in evaluation mode on rank 0, and the empty one on the others. All ranks call it.

    It has the weights that are saved. empty: the outline of the model, which stays as it is.
    """
    with evaluating(trainer.optimizers[0]):
        tensors = gather_weights(model)
    if not trainer.is_global_zero:
        return empty
    whole = copy.deepcopy(empty)
    whole.load_state_dict(tensors, assign=True)
    return whole.to(model.device).eval()


class SharedFolder(L.Callback):
    """Check, before the first step, that every rank sees the run folder that rank 0 writes to."""

    def __init__(self, run: Path):
        self.run = run

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if world() > 1:
            check_shared(self.run)


def check_shared(run: Path, seconds: float = SEEN) -> None:
    """Raise ValueError on every rank where one does not see a file that rank 0 has just written into the run folder.

    Ranks resume from its checkpoints, and write into them where weights are sharded.
    """
    mark = run / f".seen-{uuid4().hex[:12]}"
    if rank() == 0:
        mark.touch()
    mark = run / exchange(mark.name.encode())[0].decode()
    try:
        said = exchange(b"" if _appears(mark, seconds) else socket.gethostname().encode())
    finally:
        if rank() == 0:
            mark.unlink(missing_ok=True)
    for number, host in enumerate(said):
        if host:
            raise ValueError(
                f"rank {number} on {host.decode()} does not see the files of rank 0 in {run}: "
                "give --run a folder that all nodes share"
            )


def _appears(path: Path, seconds: float) -> bool:
    """Return True where a file is there before the time is over. A listing brings a network file system up to date."""
    end = time.monotonic() + seconds
    while True:
        if path.parent.is_dir() and path.name in {one.name for one in path.parent.iterdir()}:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
