"""Start of a run from another model: its weights, tower by tower, and the temperatures of its terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from align.checkpoint.describe import describe
from align.checkpoint.folder import load
from align.losses.kinds import KINDS, list_read
from align.model import JointModel
from align.model.inside import model_inside, unwrap, weights
from align.objective import Objective
from align.preprocess.wanted import differences
from align.values import TermInfo


class Started(NamedTuple):
    """Result of a start.

    taken: part (``image.encoder``) -> the model that its weights come from. lines: a report for the reader.
    """

    taken: dict[str, str]
    lines: list[str]


@torch.no_grad()
def start_from(model: nn.Module, objective: Objective, source: str) -> Started:
    """Put the weights of another model into the towers of the same names, and the scales of its terms into the losses.

    A part is an encoder or a head. It takes all of its weights or none. It begins anew if the source does not have it,
    or has other layers in it. A scale or bias that the config states stays.

    source: a model folder, a run folder or ``LAYOUT:SOURCE``.

    Raises FileNotFoundError where there is no such model. Raises ValueError where `align.load` does, for a part with
    the same layers in another width, and where no part fits.
    """
    inside = model_inside(model)
    allow = sorted({type(part).__module__.partition(".")[0] for part in inside.modules()} - {"torch", "align"})
    other = load(source, allow=allow)
    state, theirs = weights(inside), weights(other)
    taken: list[str] = []
    anew: dict[str, list[str]] = {}
    for part in _list_parts(inside):
        ours = _inside(state, part)
        if not ours:
            continue
        tower, given = part.partition(".")[0], _inside(_add_borrowed(other, theirs), part)
        if tower not in other.modalities:
            anew.setdefault("has no such tower", []).append(part)
        elif set(found := _fit(inside, part, given)) - _list_borrowed(inside, part) != set(ours):
            anew.setdefault("has other layers there", []).append(part)
        else:
            _check_shapes(source, part, ours, found)
            for name, x in ours.items():
                x.copy_(found[name])
            taken.append(part)
    if not taken:
        raise ValueError(
            f"start {source} has no part that fits: it has {', '.join(_list_parts(other))}, the model has "
            f"{', '.join(_list_parts(inside))}"
        )
    _mark(inside, other, taken)
    for m in inside.modalities:
        if f"{m}.head" in taken and f"{m}.encoder" not in taken:  # a head on cached features knows their tower
            unwrap(inside.towers[m]).fitted_on = unwrap(other.towers[m]).fitted_on
    scales = list(_start_terms(objective, other.terms))
    lines = [f"weights of {source}: {', '.join([*taken, *scales])}"]
    lines += [f"begins anew: {', '.join(parts)} ({source} {why})" for why, parts in anew.items()]
    if left := [name for name in other.modalities if name not in inside.modalities]:
        lines.append(f"left out of {source}: {', '.join(left)} (the model has no such tower)")
    lines += _list_other_preprocesses(inside, other, taken, source)
    return Started(dict.fromkeys(taken, source), lines)


def _list_parts(model: JointModel) -> list[str]:
    """Return ``image.encoder``, ``image.head`` and so on, an encoder under its lender alone."""
    share = model.share or {}
    return [f"{m}.{part}" for m in model.modalities for part in ("encoder", "head") if part == "head" or m not in share]


def _inside(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    start = f"towers.{part}."
    return {name[len(start) :]: x for name, x in state.items() if name.startswith(start)}


def _add_borrowed(other: JointModel, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights, with those of a shared encoder or tied part also under the name of the borrowing tower."""
    found = dict(state)
    for borrower, lender in (other.share or {}).items():
        inside = _inside(state, f"{lender}.encoder")
        found |= {f"towers.{borrower}.encoder.{name}": x for name, x in inside.items()}
    for borrower, lender in (other.tied or {}).items():
        found |= {f"towers.{borrower}.{name}": x for name, x in _inside(state, lender).items()}
    return found


def _fit(model: JointModel, part: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a part's weights as its module takes them, if it has ``fit_weights``, as longer and wrapped encoders do.

    Raises ValueError, with the part's name, where the module cannot take them.
    """
    tower, _, kind = part.partition(".")
    module = getattr(unwrap(model.towers[tower]), kind)
    try:
        return module.fit_weights(found) if hasattr(module, "fit_weights") else found
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from None


def _list_borrowed(model: JointModel, part: str) -> set[str]:
    """Return the names of the weights of a part that it has from another tower, which holds them."""
    state = weights(model)
    ties = {b: lender for b, lender in (model.tied or {}).items() if b.startswith(f"{part}.")}
    return {f"{b.removeprefix(f'{part}.')}.{name}" for b, lender in ties.items() for name in _inside(state, lender)}


def _check_shapes(source: str, part: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, x in ours.items():
        if x.shape != theirs[name].shape:
            sizes = f"{tuple(theirs[name].shape)} there and {tuple(x.shape)} in this model"
            raise ValueError(f"start {source} does not fit: {part}.{name} is {sizes}; give both one width")


def _mark(model: JointModel, other: JointModel, taken: list[str]) -> None:
    """Give encoders the origin of their weights."""
    state = weights(other)
    for part in taken:
        name, _, kind = part.partition(".")
        owner = (other.share or {}).get(name, name)
        if kind == "encoder" and (
            origin := unwrap(other.towers[owner]).read_origin(_inside(state, f"{owner}.encoder"))
        ):
            unwrap(model.towers[name]).mark_origin(origin)


def _start_terms(objective: Objective, infos: list[TermInfo]) -> Iterator[str]:
    """Set the scale and the bias of each term that the other model was trained with, and yield a note of each."""
    for name, contrasts in objective.contrasts.items():
        loss: Any = objective.losses[name]
        kind = KINDS[str(loss.kind)]
        read, joined = kind.read, {frozenset(contrast.modalities) for contrast in contrasts}
        if kind.pairs:
            joined = {frozenset(pair) for contrast in contrasts for pair in list_read(kind, contrast.modalities)}
        info = next((i for i in infos if i.kind == read and frozenset(i.modalities) in joined), None)
        learned = next((part for part in loss.modules() if isinstance(getattr(part, "log_scale", None), Tensor)), None)
        if info is None or learned is None or learned.start_scale is not None or info.scale <= 0:
            continue
        learned.log_scale.fill_(math.log(info.scale))
        said = f"scale {min(info.scale, learned.limit):.4g}"
        if isinstance(learned.bias, Tensor) and getattr(learned, "start_bias", None) is None:
            learned.bias.fill_(info.bias)
            said += f" and bias {info.bias:.4g}"
        loss.clamp_()
        yield f"{said} of {name}"


def _list_other_preprocesses(model: JointModel, other: JointModel, taken: list[str], source: str) -> list[str]:
    """Return a line for each tower whose preprocess differs from the one that its weights were trained with."""
    lines = []
    for name in [part.removesuffix(".encoder") for part in taken if part.endswith(".encoder")]:
        ours, theirs = (unwrap(m.towers[name]).preprocess for m in (model, other))
        if odd := differences(ours, describe(theirs)):
            lines.append(f"{name}: {source} reads other input: {', '.join(odd)}")
    return lines
