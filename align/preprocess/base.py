"""The interface of every preprocess: bytes become rows on the CPU, rows become the encoder's input on its device."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.media import MEDIA, Medium
from align.media.choice import medium_of
from align.preprocess.view import View
from align.values import Values


class Preprocess(ABC):
    """The way of one modality from a member of a shard to the input of an encoder.

    ``row`` (``decode``, then ``train`` or ``eval``) and ``collate`` run on the CPU, in a data worker. ``device`` runs
    on the encoder's device, for a whole batch. Nothing mixes rows. Evaluation is deterministic. In training every draw
    comes from the generator.
    A subclass keeps each constructor argument as an attribute of that name, with values that JSON can hold: a
    checkpoint writes these attributes.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The extensions of members that ``decode`` reads, the preferred one first."""
    medium: ClassVar[Medium | None] = None
    """How its members are described, checked and shown; by default one of ours that reads the first of ``suffixes``."""

    of: str = ""
    """Modality whose rows its rows lie in, as boxes in pictures. ``row`` then gets an ``Inside`` (``view.py``)."""

    def __init_subclass__(cls) -> None:
        stated = vars(cls)
        if "medium" not in stated and isinstance(suffixes := stated.get("suffixes"), tuple) and suffixes:
            cls.medium = medium_of(MEDIA, suffixes[0])

    @abstractmethod
    def decode(self, source: Any) -> Tensor | str:
        """Return one row, as it stands, from bytes, a path or an object.

        Raises BadSample(reason) for content that cannot become a row, FileNotFoundError for a path that is not there,
        TypeError for an object of a kind that is never read.
        """

    @abstractmethod
    def train(self, x: Any, generator: torch.Generator) -> Tensor:
        """Return one augmented row of the preset's shape. Every draw comes from ``generator``, on the CPU."""

    @abstractmethod
    def eval(self, x: Any) -> Tensor:
        """Return one row of the preset's shape, always the same for the same ``x``."""

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return ``eval(decode(source))``, with a generator ``train(decode(source), generator)``. Data workers call it.

        A preprocess whose rows need only a part of a source reads no more than that part here. Raises as ``decode``.
        """
        x = self.decode(source)
        return self.eval(x) if generator is None else self.train(x, generator)

    def keep(self, source: Any) -> Any:
        """Return the part of a row that no draw changes, for ``finish``, or None where ``row`` has no such part.

        ``finish(keep(source), generator)`` is ``row(source, generator)`` to the bit, and draws as often. By default it
        is ``decode(source)``, and None for a preprocess with a ``row`` of its own. Raises as ``row``.
        """
        return self.decode(source) if type(self).row is Preprocess.row else None

    def finish(self, kept: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return the row of something that ``keep`` returned, with a generator the augmented one."""
        return self.eval(kept) if generator is None else self.train(kept, generator)

    def view(self, x: Any, generator: torch.Generator | None = None) -> View:
        """Return the rectangle of something decoded that ``eval(x)``, with a generator ``train(x, generator)``, shows.

        It draws as ``train`` does. Raises ValueError for a preprocess of anything but pictures.
        """
        raise ValueError(f"{type(self).__name__} has no view: the boxes of regions lie in the rows of an Image")

    @abstractmethod
    def collate(self, rows: Sequence[Tensor]) -> Values:
        """Join rows to values (n, ...). The preset fixes the shape beyond n, for n = 0 too."""

    def device(self, values: Any, generator: torch.Generator | None = None) -> Any:
        """Return the encoder's input, computed on the device of ``values``. With a generator it is augmented."""
        return values

    def join(self, values: Any, others: Any) -> Any:
        """Return (n, ...) collated rows that say both of two rows, for ``align.model.mixup``: captions of two sounds.

        Raises ValueError for a preprocess whose rows do not join.
        """
        raise ValueError(f"rows of {type(self).__name__} do not join; those of Bytes and Tokens do")

    def assets(self) -> dict[str, str]:
        """Return constructor argument -> content of the file that it names, for files that a checkpoint must carry.

        A checkpoint writes each as a JSON file beside its config, and gives the constructor its path when it is read.
        """
        return {}

    def ready(self) -> None:  # noqa: B027  most have nothing to load
        """Load shared resources. It is called before data workers are forked, so that none of them loads again."""

    def constant(self, name: str, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        """Return a constant tensor on a device. It is made at its first use, for all threads, and never saved."""
        kept: dict[tuple[str, torch.device], Tensor] = vars(self).setdefault("_constants", {})
        if (name, device) not in kept and torch.compiler.is_compiling():
            return make().to(device)  # a graph's tensor is no constant of ours
        if (name, device) not in kept:
            with torch.inference_mode(False):  # else the first call, under inference_mode, would spoil it for training
                return kept.setdefault((name, device), make().to(device))
        return kept[name, device]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in dict(self.__dict__).items() if k != "_constants"}

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def stack(rows: Sequence[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return (n, *shape) of n rows of that shape, n = 0 included.

    Raises ValueError for a row of another shape: ``train`` and ``eval`` return the preset's.
    """
    out = torch.empty((len(rows), *shape), dtype=dtype)
    for i, row in enumerate(rows):
        if tuple(row.shape) != shape:
            raise ValueError(
                f"row {i} has shape {tuple(row.shape)}, the preset's is {shape}; pass rows of train or eval"
            )
        out[i] = row
    return out


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; it may be {', '.join(map(repr, choices))}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError where ``value`` is below ``least``, or is no number."""
    if not value >= least:
        raise ValueError(f"{name}={value!r} is too small; it must be at least {least}")
