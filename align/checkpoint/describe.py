"""An object as its import path and constructor arguments, and back.

Every preprocess, encoder, head and tower keeps each constructor argument under its own name, so that the config in a
checkpoint is the transcript of the Python call that made it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from align.model.inside import unwrap

PLAIN = (str, int, float, bool, type(None))


def describe(thing: Any, skip: Sequence[str] = ()) -> dict[str, Any]:
    """Return ``{"class_path": ..., "init_args": {...}}`` of an object.

    Raises ValueError where the object does not keep an argument, or the argument is not plain data.
    """
    thing = unwrap(thing)
    kind = _unwrap_class(thing)
    name = f"{kind.__module__}.{kind.__qualname__}"
    init_args = {}
    for p in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        if p.name in skip or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if not hasattr(thing, p.name):
            raise ValueError(
                f"{name} does not keep its constructor argument {p.name!r} as an attribute, so it cannot be saved"
            )
        init_args[p.name] = _to_plain(getattr(thing, p.name), f"{name}.{p.name}")
    return {"class_path": public_path(kind), "init_args": init_args}


def _unwrap_class(thing: Any) -> type:
    """Return the class of an object as code names it: FSDP2 derives a new one from FSDPModule and that class."""
    kind, *bases = type(thing).__mro__
    return bases[1] if bases[0].__name__ == "FSDPModule" else kind


def public_path(kind: type) -> str:
    """Return a class's shortest import path: ``align.encoders.PointNet``, not ``align.encoders.pointnet.PointNet``."""
    room = ".".join(kind.__module__.split(".")[:2])
    if room.startswith("align.") and getattr(import_module(room), kind.__name__, None) is kind:
        return f"{room}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _to_plain(value: Any, where: str) -> Any:
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_to_plain(v, where) for v in value]
    if is_dataclass(value) and not isinstance(value, type):  # a group of options
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {str(k): _to_plain(v, where) for k, v in value.items()}
    room = type(value).__module__.partition(".")[0]
    if room == "align" or (isinstance(value, nn.Module) and room != "torch"):
        return describe(value)  # a part within a part: the loss that a wrapper holds, the image encoder of VideoFrames
    raise ValueError(f"{where} is a {type(value).__name__}; a checkpoint holds numbers, strings, lists and dicts")


def build(description: Any, *, allow: Sequence[str] = (), delayed: bool = False) -> Any:
    """Return the object of a description. With `delayed`, a callable of the leading arguments that are missing.

    Raises ValueError for a class outside ``align`` and the packages in `allow`: the reader of a checkpoint decides
    which code runs, never the checkpoint.
    """
    if not isinstance(description, dict) or "class_path" not in description:
        raise ValueError(f"expected class_path and init_args, got {description!r}")
    path, init_args = str(description["class_path"]), dict(description.get("init_args") or {})
    module, _, name = path.rpartition(".")
    if not any(module == root or module.startswith(root + ".") for root in ("align", *allow)):
        root = path.split(".")[0]
        raise ValueError(
            f"the model names the class {path}, which is not align's; "
            f"to trust it, pass allow=({root!r},) or --allow {root}"
        )
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no class {path}: {error}") from error
    if not isinstance(kind, type) or not _is_part(kind):
        raise ValueError(f"{path} is no preprocess, encoder or head")
    for argument, value in init_args.items():
        if isinstance(value, dict) and "class_path" in value:
            init_args[argument] = build(value, allow=allow)
        elif isinstance(value, list):  # the heads of an average
            init_args[argument] = [
                build(v, allow=allow) if isinstance(v, dict) and "class_path" in v else v for v in value
            ]
        elif isinstance(value, dict):  # the heads of streams, by name
            init_args[argument] = {
                k: build(v, allow=allow) if isinstance(v, dict) and "class_path" in v else v for k, v in value.items()
            }
    return partial(kind, **init_args) if delayed else kind(**init_args)


def _is_part(kind: type) -> bool:
    """Return True for a class of modules or preprocesses, the parts of a model."""
    from torch import nn

    from align.preprocess import Preprocess

    return issubclass(kind, (nn.Module, Preprocess))
