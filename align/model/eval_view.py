"""A model in evaluation mode for one reader, while others train it or read it too."""

from __future__ import annotations

import copy
import functools
from types import MethodType
from typing import Any, TypeVar, cast

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def view_in_eval(model: M) -> M:
    """The model in evaluation mode: itself where every part already is, else new modules around the same parameters and
    buffers. ``training`` of a module is seen by all threads, so it is never written: a thread that trains goes on in
    training mode, and none that embeds ends another's evaluation.

    A compiled module is taken without its compilation, which knows the module in training mode only. Parameters and
    buffers are the model's own; a scripted module's are copied, as its mode stands beside them.
    """
    modules = [*model.modules()]
    if not any(module.training for module in modules):
        return model
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
            vars(view)[name] = value if name in ("_parameters", "_buffers") else _moved(value, views)
        vars(view).update(training=False, _compiled_call_impl=None)
    return cast(M, _view(model, views))


def _view(module: nn.Module, views: dict[nn.Module, nn.Module]) -> nn.Module:
    if type(module).__name__ == "OptimizedModule":  # of torch.compile, whose import takes seconds
        return _view(cast(nn.Module, module._orig_mod), views)
    return views.get(module, module)


def _moved(value: Any, views: dict[nn.Module, nn.Module]) -> Any:
    """A module's attribute with views in place of the modules that it holds; itself where it holds none."""
    if isinstance(value, nn.Module):
        return _view(value, views)
    if isinstance(value, MethodType):
        owner = _moved(value.__self__, views)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if type(value) is functools.partial:
        return functools.partial(
            _moved(value.func, views),
            *(_moved(x, views) for x in value.args),
            **{name: _moved(x, views) for name, x in value.keywords.items()},
        )
    if type(value) in (list, tuple, dict):
        parts = value.values() if isinstance(value, dict) else value
        moved = [_moved(x, views) for x in list(parts)]
        if all(a is b for a, b in zip(moved, parts, strict=True)):
            return value
        return dict(zip(value, moved, strict=True)) if isinstance(value, dict) else type(value)(moved)
    return value
