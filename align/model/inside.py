"""The model inside the wrappers of torch, Lightning and Fabric, and its weights under their names without those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from align.model.adapters import find_adapters, is_adapter, merge_weights, read_adapters, skipped_steps
from align.model.joint import JointModel

_WRAPPERS = {  # class -> the attribute that holds the module; by name, as their imports take seconds
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "_FabricModule": "_original_module",
}


def model_inside(module: nn.Module) -> JointModel:
    """Return the JointModel that a module is or holds: compiled, parallel, set up by Fabric, in a LightningModule.

    Raises TypeError where it holds none, ValueError where it holds several, or FSDP's first version is around it.
    """
    if any(type(part).__name__ == "FullyShardedDataParallel" for part in module.modules()):
        raise ValueError(
            "FSDP's first version keeps weights without their names; take torch.distributed.fsdp.fully_shard"
        )
    if isinstance(module, JointModel):
        return module
    found = [part for part in module.modules() if isinstance(part, JointModel)]
    if not found:
        raise TypeError(f"a JointModel is needed, or a module that holds one; {type(module).__name__} holds none")
    if len(found) > 1:
        raise ValueError(f"{type(module).__name__} holds {len(found)} JointModels; give one of them")
    return found[0]


def unwrap(module: Any) -> Any:
    """Return a module without the wrappers around it, and anything else as it is."""
    while type(module).__name__ in _WRAPPERS:
        module = getattr(module, _WRAPPERS[type(module).__name__])
    return module


def weights(module: nn.Module, *, gather: bool = False) -> dict[str, Tensor]:
    """Return the state dict, with the names of a module that has no wrappers around it or its parts.

    Adapters are merged into their layers: the weights are those that give the module's output without them.

    gather: join weights that FSDP2 has sharded, on every rank. Raises ValueError for sharded weights without it.
    """
    if is_sharded(module) and not gather:
        raise ValueError("FSDP has sharded the weights, no rank has them whole; align.save on all ranks gathers them")
    plain = plain_name(module)
    state: dict[str, Any] = merge_weights(module.state_dict(), module)
    return {plain(k): x.detach().full_tensor() if in_shards(x) else x.detach() for k, x in state.items()}


def put(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state dict of ``weights``. Raises RuntimeError, as torch does, for weights of another module.

    Weights go into the layers inside of adapters, which stay as they are.
    """
    plain = plain_name(module)
    paths = {plain(path): path for path, _ in module.named_modules(remove_duplicate=False)}  # of several the innermost
    named = {}
    for name, x in state.items():
        owner, _, leaf = name.rpartition(".")
        named[f"{paths.get(owner, owner)}.{leaf}".removeprefix(".")] = x
    for name, x in read_adapters(module).items():
        named.setdefault(name, x)
    module.load_state_dict(named)


def is_sharded(module: nn.Module) -> bool:
    """Return True where FSDP2 has sharded a parameter."""
    return any(in_shards(p) for p in module.parameters())


def in_shards(x: Any) -> bool:
    """Return True for a tensor that FSDP2 has sharded."""
    return type(x).__name__ == "DTensor"  # whose import takes seconds


def plain_name(module: nn.Module) -> Callable[[str], str]:
    """Return a function that drops the wrappers around a module's parts from the name of a parameter or buffer."""
    wrapped = {
        f"{path}.{_WRAPPERS[type(part).__name__]}".removeprefix(".")
        for path, part in module.named_modules(remove_duplicate=False)
        if type(part).__name__ in _WRAPPERS and not is_adapter(part)
    }
    for path, adapter in find_adapters(module).items():
        wrapped.update(skipped_steps(path, adapter))

    def plain(name: str) -> str:
        kept, path = [], ""
        for step in name.split("."):
            path = f"{path}.{step}" if path else step
            if path not in wrapped:
                kept.append(step)
        return ".".join(kept)

    return plain
