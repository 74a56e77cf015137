"""Modules of other classes as losses: checked at the door, and given the attributes that they lack."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from align.losses.kinds import KINDS
from align.losses.loss import Loss


def as_loss(module: nn.Module) -> Loss:
    """Return the module as a Loss.

    A module of another class needs a ``kind`` and Loss's ``forward``. The other attributes that it lacks are added
    here, and nowhere else.

    Raises ValueError for a module without a known kind, TypeError where it is no module, where one of Loss's methods
    takes other arguments, or where its scale or bias is no number.
    """
    if not isinstance(module, nn.Module):
        got = f"the class {module.__name__}, not one of its objects" if isinstance(module, type) else repr(module)[:80]
        raise TypeError(f"a loss is a torch.nn.Module; got {got}")
    name = type(module).__name__
    if type(module).__hash__ is None:
        raise TypeError(f"{name} cannot be hashed, as torch asks of modules; a dataclass does with eq=False")
    kind = getattr(module, "kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        has = "no kind" if kind is None else f"the kind {kind!r}"
        raise ValueError(f"{name} has {has}; kinds are {', '.join(KINDS)}")
    if not isinstance(module, Loss):
        _complete(module)
    loss = cast(Loss, module)
    keywords = ["groups", "weights", "generator"]
    keywords += ["tokens"] * loss.needs_tokens + ["part", "merge"] * loss.in_parts
    keywords += ["rule"] * loss.takes_rule + ["numbers"] * loss.needs_numbers
    keywords += ["labels"] * loss.needs_labels
    _check_call(loss, "forward", "embeddings", "samples", *(f"{keyword}=" for keyword in keywords))
    for method, words in _CALLS.items():
        _check_call(loss, method, *words)
    _check_number(loss, "scale")
    _check_number(loss, "bias")
    return loss


_CALLS = {
    "start": ("dim", "modalities", "batch"),
    "clamp_": (),
    "between": ("modalities",),
    "list_blocks": ("modalities",),
    "list_prefixes": (),
    "set_negatives": ("kind",),
    "name_classes": ("names",),
}
"""Methods that others call, with their arguments."""


def _check_call(loss: Loss, method: str, *words: str) -> None:
    called = f"{type(loss).__name__}.{method} is called as {method}({', '.join(words)})"
    places = [word for word in words if not word.endswith("=")]
    try:
        signature = inspect.signature(getattr(loss, method))
        signature.bind(*places, **{word[:-1]: None for word in words if word.endswith("=")})
    except TypeError as error:
        raise TypeError(f"{called}: {error}") from None


def _check_number(loss: Loss, name: str) -> None:
    where = f"{type(loss).__name__}.{name}"
    try:
        value: Any = getattr(loss, name)
    except AttributeError as error:
        raise TypeError(f"{where} is not there: call super().__init__() first ({error})") from None
    if isinstance(value, int | float) or (name == "bias" and value is None):
        return
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:80]
        raise TypeError(f"{where} is {got}; it is one number, a tensor (1,)")


def _complete(module: nn.Module) -> None:
    flags = ("needs_tokens", "in_parts", "takes_unpaired", "takes_rule", "needs_numbers", "needs_labels")
    for name in (*flags, "attribute", "classes", "negative_kinds"):
        if not hasattr(module, name):
            setattr(module, name, getattr(Loss, name))
    for name in ("start", "clamp_", "between"):
        if not hasattr(module, name):
            setattr(module, name, _do_nothing)
    if not hasattr(module, "list_blocks"):
        vars(module)["list_blocks"] = _read_all
    if not hasattr(module, "list_prefixes"):
        vars(module)["list_prefixes"] = tuple
    if not hasattr(module, "find_read_tokens"):
        vars(module)["find_read_tokens"] = partial(_find_read_tokens, module)
    if not hasattr(module, "set_negatives"):
        vars(module)["set_negatives"] = partial(setattr, module, "negatives")
    if not hasattr(module, "name_classes"):
        vars(module)["name_classes"] = partial(setattr, module, "classes")
    if not hasattr(module, "scale"):
        module.register_buffer("scale", torch.ones(1), persistent=False)
    if not hasattr(module, "bias"):
        module.register_parameter("bias", None)


def _do_nothing(*_: object) -> None: ...


def _read_all(modalities: object) -> tuple[()]:
    return ()


def _find_read_tokens(module: nn.Module, modalities: Sequence[str]) -> list[str]:
    return [*modalities] if module.needs_tokens else []
