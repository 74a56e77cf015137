"""Adapters in a model: peft's for linear layers and convolutions, and our own for fused attention."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from align.extras import has_part, pip_install
from align.model import JointModel
from align.model.adapters import PEFT, find_adapters, merge
from align.model.eval_view import view_in_eval
from align.model.inside import plain_name
from align.seeds import derive
from align.tuning.attention import FusedAttention
from align.tuning.patterns import list_forms, names_it, names_part, nearest_part
from align.tuning.tuning import Lora

log = logging.getLogger("align.tuning")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FUSED = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)  # in evaluation they read the weights, not the layers


def find_layers(model: JointModel) -> dict[str, nn.Module]:
    """Return the layers that an adapter can take, by plain name: linear, plain convolution, fused attention.

    The output of a fused attention is among them, so that it can be refused by name.
    """
    plain, layers = plain_name(model), {}
    skipped = [path for path, part in model.named_modules() if isinstance(part, FUSED)]
    for path, part in model.named_modules():
        if path.count(".") < 3 or any(path.startswith(f"{outer}.") for outer in skipped):  # towers.NAME.head is a part
            continue
        fused = isinstance(part, nn.MultiheadAttention) and part._qkv_same_embed_dim
        if fused or _is_linear(part) or _is_convolution(part):
            layers[f"model.{plain(path)}"] = part
    return layers


def _is_linear(part: nn.Module) -> bool:
    """Return True for a linear layer that peft adapts. It must not belong to a class that changes its input first."""
    return isinstance(part, nn.Linear) and type(part).forward is nn.Linear.forward


def _is_convolution(part: Any) -> bool:
    """Return True for a plain convolution. peft drops the dilation, so a convolution with dilation is none."""
    kind = next((kind for kind in CONVOLUTIONS if isinstance(part, kind)), None)
    if kind is None or type(part).forward is not kind.forward:
        return False
    return part.groups == 1 and set(part.dilation) == {1} and part.padding_mode == "zeros"


def choose_layers(model: JointModel, lora: Mapping[str, Lora]) -> dict[str, dict[str, bool]]:
    """Return pattern -> plain name of a layer -> True where the pattern names the layer itself.

    The first pattern that names a layer counts. A pattern that names a part takes all layers in it, except a
    convolution that cuts patches.

    Raises ValueError for a pattern that names no part, for a part without layers, or the output of a fused attention.
    """
    layers, share = find_layers(model), model.share or {}
    outputs = {f"{name}.out_proj" for name, part in layers.items() if isinstance(part, nn.MultiheadAttention)}
    forms = {name: list_forms(name, share) for name in layers}
    chosen: dict[str, dict[str, bool]] = {}
    for pattern in lora:
        taken = {name for names in chosen.values() for name in names}
        exact = {name for name in layers if not pattern.endswith(".*") and names_it(pattern, forms[name])}
        for name in sorted(exact & outputs):
            attention = name.removesuffix(".out_proj")
            if attention not in exact:
                raise ValueError(
                    f"tuning.lora: {pattern!r} names {name}, which a fused attention reads without calling it, so an "
                    f"adapter there has no gradient; name the attention: {list_forms(attention, {})[1]}"
                )
        inside = [name for name in layers if name not in exact | outputs and names_part(pattern, forms[name])]
        inside = [name for name in inside if not _cuts_patches(layers[name])]
        found = {name: name in exact for name in layers if name in exact - outputs or name in inside}
        if not found:
            raise ValueError(f"tuning.lora: {_say_nothing(model, pattern)}")
        chosen[pattern] = {name: named for name, named in found.items() if name not in taken}
        if not chosen[pattern]:
            raise ValueError(f"tuning.lora: an earlier pattern has every layer that {pattern!r} names")
    return chosen


def _cuts_patches(layer: nn.Module) -> bool:
    """Return True for the convolution at the start of a vision transformer, whose windows lie side by side."""
    return isinstance(layer, CONVOLUTIONS) and layer.kernel_size == layer.stride != (1,) * len(layer.stride)


def _say_nothing(model: JointModel, pattern: str) -> str:
    plain, share = plain_name(model), model.share or {}
    names = [f"model.{plain(path)}" for path, _ in model.named_modules() if path]
    names += [f"model.{plain(path)}" for path, _ in model.named_parameters()]
    formed = [list_forms(name, share) for name in names]
    if any(names_it(pattern, forms) or names_part(pattern, forms) for forms in formed):
        return f"{pattern!r} names no layer that takes an adapter: a linear layer, a plain convolution or a fused \
attention inside an encoder or a head"
    return f"{pattern!r} names no part of the model; {nearest_part(pattern, names, share)}"


def put_adapters(model: JointModel, lora: Mapping[str, Lora], seed: int, frozen: Collection[str]) -> dict[str, Lora]:
    """Put adapters into the layers that the patterns name, and return plain name of a layer -> its settings.

    frozen: plain names of the parameters that do not train. A frozen layer gets no adapter. A warning names a pattern
    whose layers are all frozen.

    The first matrix of an adapter is random and follows from the seed. The second is zero, so the output stays.

    Raises ImportError without peft, and ValueError where `choose_layers` does, and for a named layer whose encoder
    reads its weights without calling it.
    """
    chosen = choose_layers(model, lora)
    layers = find_layers(model)
    for pattern, names in chosen.items():
        left = {name: at for name, at in names.items() if not _is_frozen(name, layers[name], frozen)}
        if not left:
            log.warning("tuning.lora: %r has no adapter, as every layer that it names is frozen", pattern)
        chosen[pattern] = left
    chosen = {pattern: names for pattern, names in chosen.items() if names}
    if chosen and not has_part("peft", "inject_adapter_in_model"):
        raise ImportError(f"tuning.lora needs peft; {pip_install('lora')}")
    paths = {f"model.{plain_name(model)(path)}": path for path, _ in model.named_modules()}
    settings = {}
    for pattern, names in chosen.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "adapter", pattern))
            _inject(model, [paths[name] for name in names], lora[pattern])
        settings |= dict.fromkeys(names, lora[pattern])
    for name in find_unreached(model):
        pattern = next(pattern for pattern, names in chosen.items() if name in names)
        if chosen[pattern][name]:
            take_out(model, list(find_adapters(model)))
            raise ValueError(
                f"tuning.lora: {pattern!r} names {name}, whose weights its encoder reads without calling it, so an "
                "adapter there has no gradient; leave it out"
            )
        take_out(model, [paths[name]])
        del settings[name]
    return settings


def _is_frozen(name: str, layer: nn.Module, frozen: Collection[str]) -> bool:
    return all(f"{name}.{leaf}" in frozen for leaf, _ in layer.named_parameters())


def _inject(model: JointModel, paths: Sequence[str], lora: Lora) -> None:
    """Put an adapter into each of these layers. Which parameters train stays as it is."""
    from peft import LoraConfig, inject_adapter_in_model

    trains = {path: p.requires_grad for path, p in model.named_parameters()}
    others = [path for path in paths if not isinstance(model.get_submodule(path), nn.MultiheadAttention)]
    for path in paths:
        layer = model.get_submodule(path)
        if isinstance(layer, nn.MultiheadAttention):
            _replace(model, path, FusedAttention(layer, lora.rank, lora.scale))
    if others:
        alpha: Any = lora.rank * lora.scale
        config = LoraConfig(
            r=lora.rank, lora_alpha=alpha, lora_dropout=lora.dropout, target_modules="|".join(map(re.escape, others))
        )
        inject_adapter_in_model(config, model, PEFT)
        del model.peft_config  # a note for peft's own way of saving
        for path in others:
            adapter: Any = model.get_submodule(path)
            adapter.train(adapter.base_layer.training)  # peft makes it in training mode
            _lend_attributes(adapter)
    for path, p in model.named_parameters():
        p.requires_grad_(trains.get(path.replace(".base_layer", ""), True))


def _lend_attributes(adapter: Any) -> None:
    """Give an adapter the plain attributes of its layer, such as a stride, which an encoder may read."""
    for name, value in vars(adapter.base_layer).items():
        if not name.startswith("_") and not hasattr(adapter, name):
            setattr(adapter, name, value)


def find_unreached(model: JointModel) -> list[str]:
    """Return the plain names of layers whose adapters have no gradient: their encoder does not call them.

    Each encoder with adapters is run on no rows, which gives every gradient a zero.
    """
    plain, unreached = plain_name(model), []
    view = view_in_eval(model)
    for name, tower in view.towers.items():
        inside = find_adapters(tower)
        if not inside:
            continue
        pieces = {path: next(p for n, p in a.named_parameters() if "lora_" in n) for path, a in inside.items()}
        with torch.enable_grad():
            features = tower.features(view._no_rows(name).values)
            total = features.pooled.sum() + (0 if features.tokens is None else features.tokens.sum())
            total = total + tower.head(features).sum()
            found = torch.autograd.grad(total, list(pieces.values()), allow_unused=True)
        unreached += [
            f"model.{plain(f'towers.{name}.{path}')}" for path, g in zip(pieces, found, strict=True) if g is None
        ]
    return unreached


def take_out(model: JointModel, paths: Sequence[str]) -> None:
    """Replace adapters by their merged layers. The layers' parameters are the same objects."""
    for path in paths:
        adapter = model.get_submodule(path)
        layer = cast(nn.Module, adapter.base_layer)
        layer.load_state_dict(merge(adapter).state_dict())
        _replace(model, path, layer)


def _replace(model: JointModel, path: str, part: nn.Module) -> None:
    outer, _, name = path.rpartition(".")
    setattr(model.get_submodule(outer), name, part)
