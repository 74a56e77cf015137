"""Loggers of a run beside metrics.csv: TensorBoard, Weights & Biases, MLflow, or any of Lightning's by class path."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from align.extras import has_part, pip_install
from align.files import read_json
from align.lit.first import is_first

Loggers = bool | str | dict[str, Any] | list[str | dict[str, Any]] | None
"""Values of ``trainer.logger``: false, true (TensorBoard), a name, a class path with its init_args, or a list."""

NAMES = ("tensorboard", "wandb", "mlflow")
PACKAGES = {"wandb": ("wandb", "init"), "mlflow": ("mlflow.tracking", "MlflowClient")}
FILE = "loggers.json"
"""File of a run with the ids of its W&B and MLflow runs, and the last step that they have."""


def check_loggers(asked: Loggers | Logger | Sequence[Any]) -> None:
    """Raise ValueError for an unknown logger, with the nearest right name, and for one whose package is missing."""
    for one in _as_list(asked):
        if isinstance(one, Mapping):
            _find_class(one)
        if not isinstance(one, str):
            continue
        if one not in NAMES:
            close = get_close_matches(one, NAMES, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"trainer.logger {one!r} is none of {', '.join(NAMES)}, false, or {{class_path: …, init_args: …}}{hint}"
            )
        if one in PACKAGES:
            with quiet():
                there = has_part(*PACKAGES[one])
            if not there:
                raise ValueError(f"trainer.logger {one} needs a package that is missing: {pip_install('tracking')}")


def make_loggers(asked: Loggers | Logger | Sequence[Any], run: Path, step: int) -> list[Logger]:
    """Return the loggers of a run that goes on from a step.

    TensorBoard's files past this step count no more. W&B and MLflow go on with the run whose id is in
    ``RUN/loggers.json``. W&B writes to RUN, and MLflow to ``RUN/mlflow.db`` where MLFLOW_TRACKING_URI names no server.
    Raises ValueError where one does not start, as W&B without an account.
    """
    if not is_first():
        return []
    ids = read_json(run / FILE) if (run / FILE).is_file() else {}
    found: list[Logger] = []
    for one in _as_list(asked):
        if isinstance(one, Logger):
            found.append(one)
        elif isinstance(one, Mapping):
            found.append(_construct(one))
        elif one == "wandb":
            found.append(_make_wandb(run, ids.get("wandb") or uuid4().hex[:8]))
        elif one == "mlflow":
            uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run / 'mlflow.db').resolve()}"
            with quiet():
                found.append(MLFlowLogger("align", run.name, tracking_uri=uri, run_id=ids.get("mlflow")))
        else:
            purge = step + 1 if step else None
            found.append(TensorBoardLogger(run, name="", version="tensorboard", purge_step=purge))
    for one in found:
        _start(one)
    return found


def _start(logger: Logger) -> None:
    """Begin the logger's run, before Lightning does so and lets the error of its library through."""
    try:
        with quiet():
            _ = getattr(logger, "experiment", None)
    except Exception as error:
        raise ValueError(_explain(logger, error)) from error


def is_noted(logger: Logger) -> bool:
    """Return True for a logger that cannot take back a step, so that ``RUN/loggers.json`` notes its last one."""
    return not isinstance(logger, TensorBoardLogger)


def close_loggers(loggers: Any) -> None:
    """End the runs of W&B, so that another run of this process begins its own."""
    for one in loggers if isinstance(loggers, list) else []:
        if isinstance(one, WandbLogger) and one._experiment is not None:
            one._experiment.finish()
            one._experiment = None


def _as_list(asked: Any) -> list[Any]:
    if asked is False or asked is None:
        return []
    if asked is True:
        return ["tensorboard"]
    return list(asked) if isinstance(asked, list | tuple) else [asked]


def _construct(asked: Mapping[str, Any]) -> Logger:
    """Return the logger of a class path. Raises ValueError where it takes other arguments."""
    try:
        return _find_class(asked)(**asked.get("init_args", {}))
    except (ImportError, TypeError) as error:
        raise ValueError(f"trainer.logger {asked['class_path']!r}: {error}") from error


def _find_class(asked: Mapping[str, Any]) -> type[Logger]:
    """Return the class of a class path. Raises ValueError where there is no such class, and where it is no logger."""
    path = str(asked.get("class_path", ""))
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"trainer.logger {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Logger)):
        raise ValueError(f"trainer.logger {path!r} is no lightning.pytorch.loggers.Logger")
    return found


def _make_wandb(run: Path, number: str) -> WandbLogger:
    import wandb

    project = os.environ.get("WANDB_PROJECT", "align")
    settings = wandb.Settings(quiet=True, console="off")  # its console would take stderr from the progress bar
    return WandbLogger(run.name, run, id=number, project=project, settings=settings)


def _explain(logger: Logger, error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    name = type(logger).__name__.removesuffix("Logger")
    remedy = "; WANDB_MODE=offline writes to RUN/wandb without an account" if isinstance(logger, WandbLogger) else ""
    return f"trainer.logger: {name} did not start: {text}{remedy}"


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the lines that MLflow writes on its first use of a database, and the warnings of its libraries."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # "not found. Creating it."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
