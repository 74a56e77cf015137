"""A model in evaluation mode for one reader, while others train it or read it too."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, Generic, TypeVar, cast, final

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


def view_in_eval(model: M) -> M:
    """Return the model in evaluation mode, as new modules around the same parameters and buffers.

    A model whose parts are all in evaluation mode is returned itself. All threads see a module's ``training``, so it is
    never written: a thread that trains goes on in training mode, and none that embeds ends another's evaluation.

    A compiled module is taken without its compilation, which knows the module in training mode only. The parameters of
    a scripted module are copied, as its mode stands beside them.
    """
    if not _trains(model):
        return model
    modules = [*model.modules()]
    views: dict[nn.Module, nn.Module] = {}
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            views[module] = copy.deepcopy(module).eval()
        else:
            views[module] = object.__new__(type(module))
    for module, view in views.items():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, value in dict(vars(module)).items():  # at once: another thread may write
            vars(view)[name] = value if name in ("_parameters", "_buffers") else _move(value, views)
        vars(view).update(training=False, _compiled_call_impl=None)
    return cast(M, _view(model, views))


@final
class EvalReader(Generic[M]):
    """Reader of a model in evaluation mode, batch by batch.

    A model in evaluation mode is its own view, so another thread may put it into training mode meanwhile, as a run does
    after a validation. Then that batch is read a second time, through a new view, and so are all later ones.
    """

    def __init__(self, model: M):
        self._model, self._view = model, view_in_eval(model)

    def read(self, batch: Callable[[M], T]) -> T:
        """Return ``batch`` of the model in evaluation mode. It may be called twice."""
        out = batch(self._view)
        if self._view is self._model and _trains(self._model):
            self._view = view_in_eval(self._model)
            out = batch(self._view)
        return out


def _trains(model: nn.Module) -> bool:
    return any(module.training for module in model.modules())


def _view(module: nn.Module, views: dict[nn.Module, nn.Module]) -> nn.Module:
    if type(module).__name__ == "OptimizedModule":  # of torch.compile, whose import takes seconds
        return _view(cast(nn.Module, module._orig_mod), views)
    return views.get(module, module)


def _move(value: Any, views: dict[nn.Module, nn.Module]) -> Any:
    """Return a module's attribute with views in place of the modules that it holds, or itself where it holds none."""
    if isinstance(value, nn.Module):
        return _view(value, views)
    if isinstance(value, MethodType):
        owner = _move(value.__self__, views)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if type(value) is functools.partial:
        return functools.partial(
            _move(value.func, views),
            *(_move(x, views) for x in value.args),
            **{name: _move(x, views) for name, x in value.keywords.items()},
        )
    if type(value) in (list, tuple, dict):
        parts = value.values() if isinstance(value, dict) else value
        moved = [_move(x, views) for x in list(parts)]
        if all(a is b for a, b in zip(moved, parts, strict=True)):
            return value
        return dict(zip(value, moved, strict=True)) if isinstance(value, dict) else type(value)(moved)
    return value
