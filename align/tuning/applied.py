"""Settings of training in a model: frozen parameters, adapters, and rates by layer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

from align.model import JointModel
from align.model.adapters import find_adapters
from align.model.inside import model_inside, plain_name
from align.tuning.depth import read_depths
from align.tuning.lora import put_adapters, take_out
from align.tuning.patterns import find_tower, nearest_part, select
from align.tuning.tuning import Lora, Tuning


def apply(model: nn.Module, tuning: Tuning, *, objective: nn.Module | None = None, seed: int = 0) -> Applied:
    """Freeze parameters, put adapters in, and set the rates by layer. The model's output stays the same.

    Args:
        model: a JointModel, or a wrapper around one. Call it before the optimiser is built.
        tuning: the settings.
        objective: the losses, whose temperatures a pattern may freeze too.
        seed: the adapters' first matrices follow from it.

    Raises ValueError for a pattern or a tower that is not there, for a part that takes no adapter, and where no
    parameter of the model would train. Raises ImportError for adapters without peft. The model is unchanged then.
    """
    inside = model_inside(model)
    frozen = _choose_frozen(inside, objective, tuning)
    for tower in tuning.layer_decay:
        find_tower("layer_decay", tower, inside.towers, lambda: inside.share or {})
    applied = Applied(inside, objective, tuning)
    try:
        applied.put(frozen, seed)
    except (ValueError, ImportError):
        applied.remove()
        raise
    return applied


def name_parameters(model: JointModel, objective: nn.Module | None) -> dict[str, nn.Parameter]:
    """Return every parameter by its plain name: ``model.towers.image.…``, ``objective.losses.…``."""
    plain = plain_name(model)
    named = {f"model.{plain(path)}": p for path, p in model.named_parameters()}
    if objective is not None:
        plain = plain_name(objective)
        named |= {f"objective.{plain(path)}": p for path, p in objective.named_parameters()}
    return named


def _choose_frozen(model: JointModel, objective: nn.Module | None, tuning: Tuning) -> set[str]:
    named, share, frozen = name_parameters(model, objective), model.share or {}, set()
    for pattern in tuning.freeze:
        found = select(pattern, named, share)
        if not found:
            raise ValueError(f"tuning.freeze: {pattern!r} names no parameter; {nearest_part(pattern, named, share)}")
        frozen.update(found)
    for key, count in tuning.freeze_first.items():
        tower = find_tower("freeze_first", key, model.towers, lambda: share)
        encoder, plain = model.towers[tower].encoder, plain_name(model)
        depths = read_depths(encoder)
        if count > depths.blocks:
            raise ValueError(f"tuning.freeze_first.{key}: {count} blocks, but its encoder has {depths.blocks}")
        start = f"towers.{tower}.encoder"
        frozen |= {f"model.{plain(f'{start}.{name}')}" for name, depth in depths.of.items() if depth <= count}
    return frozen


@final
class Applied:
    """Settings that ``apply`` has put into a model.

    Attributes:
        adapters: plain name of a layer -> the settings of its adapter.
    """

    def __init__(self, model: JointModel, objective: nn.Module | None, tuning: Tuning):
        self.model, self.objective, self.tuning = model, objective, tuning
        self.adapters: dict[str, Lora] = {}
        self._trained = {name: p.requires_grad for name, p in name_parameters(model, objective).items()}
        self._still: list[nn.Module] = []  # frozen parts
        self._bytes: dict[str, bytes] = {}

    def put(self, frozen: set[str], seed: int) -> None:
        """Make the changes. frozen: plain names of the parameters that do not train."""
        model = self.model
        if self.tuning.lora:
            self.adapters = put_adapters(model, self.tuning.lora, seed, frozen)
        names, share = plain_name(model), model.share or {}
        adapted = {name: f"model.{names(name)}" for name in find_adapters(model)}
        parts = {".".join(name.split(".")[:4]) for name in adapted.values()}  # model.towers.NAME.encoder
        for name, p in name_parameters(model, self.objective).items():
            part = ".".join(name.split(".")[:4])
            if name not in self._trained:  # of an adapter
                p.requires_grad_(True)
            elif name in frozen or (part in parts and not self._is_trained_bias(name)):
                p.requires_grad_(False)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(f"tuning freezes every parameter of the model ({len(frozen)}), so nothing would train")
        for tower, decay in self.tuning.layer_decay.items():
            owner = share.get(tower, tower)
            depths = read_depths(model.towers[owner].encoder)
            if not depths.blocks:
                raise ValueError(f"tuning.layer_decay.{tower}: its encoder has no blocks one after the other")
            for name, depth in depths.of.items():
                factor = decay ** max(0, depths.blocks - depth)
                model.rates[f"model.{names(f'towers.{owner}.encoder.{name}')}"] = factor
        for part in self._find_still():
            part.keeps_eval = True  # pyright: ignore[reportArgumentType]
            part.eval()
            self._still.append(part)
        self.remember()

    def _is_trained_bias(self, name: str) -> bool:
        """Return True for a bias that trains beside the adapters of its encoder."""
        layer, _, leaf = name.rpartition(".")
        if "bias" not in leaf:
            return False
        here = self.adapters.get(layer) or self.adapters.get(layer.removesuffix(".out_proj"))
        part = ".".join(name.split(".")[:4])
        everywhere = any(lora.bias == "all" for at, lora in self.adapters.items() if at.startswith(f"{part}."))
        return everywhere or (here is not None and here.bias == "lora_only")

    def _find_still(self) -> Iterator[nn.Module]:
        """Yield the largest parts of encoders and heads that have parameters, of which none trains."""
        waiting = [part for tower in self.model.towers.values() for part in tower.children()]
        while waiting:
            part = waiting.pop()
            trains = [p.requires_grad for p in part.parameters()]
            if trains and not any(trains):
                yield part
            else:
                waiting += part.children()

    def remember(self) -> None:
        """Take the checksums that ``check`` compares with. Call it again where a checkpoint was loaded since."""
        self._bytes = {name: _hash(x) for name, x in self._frozen_tensors().items()}

    def check(self) -> None:
        """Raise ValueError where a frozen parameter or buffer has other bytes than it had."""
        now = self._frozen_tensors()
        changed = [name for name, was in self._bytes.items() if name not in now or _hash(now[name]) != was]
        if changed:
            raise ValueError(
                f"{len(changed)} frozen tensors were changed by training, {changed[0]} among them: "
                "an optimiser or a callback writes to parameters that are not its own"
            )

    def _frozen_tensors(self) -> dict[str, Tensor]:
        """Return the parameters that do not train, and the buffers of frozen parts, by name."""
        named = name_parameters(self.model, self.objective)
        found: dict[str, Tensor] = {name: p for name, p in named.items() if not p.requires_grad}
        for i, part in enumerate(self._still):
            found |= {f"a buffer {name} of frozen part {i}": x for name, x in part.named_buffers()}
        return found

    def remove(self) -> None:
        """Merge the adapters, and restore which parameters train. The model's output stays the same."""
        take_out(self.model, list(find_adapters(self.model)))
        self.adapters = {}
        for name, p in name_parameters(self.model, self.objective).items():
            p.requires_grad_(self._trained[name])
        for part in self._still:
            del part.keeps_eval
        self._still.clear()
        self.model.rates = {}
        self.model.train(self.model.training)


def _hash(x: Any) -> bytes:
    """Return a checksum of a tensor's bytes, of this rank's where it is sharded."""
    x = x.detach()
    x = x.to_local() if hasattr(x, "to_local") else x
    content = x.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(content.data).digest()
