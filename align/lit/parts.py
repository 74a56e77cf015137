"""Parts of a run's model and objective: their parameters, those that train, their rates, and their weights' origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from align.checkpoint import read_parts
from align.model import JointModel
from align.model.inside import unwrap
from align.objective import Objective
from align.optim import Optim, named_parameters
from align.tuning import Applied


class Rate(NamedTuple):
    """Learning rates of a part's parameters, and the key of the config that sets them.

    low, high: the smallest and the largest of the part at the peak of the schedule.
    """

    low: float
    high: float
    key: str


class Part(NamedTuple):
    """A part of a run.

    name: ``image.encoder``, ``image.head``, or ``objective.TERM``. adapters: settings and number of its adapters, ""
    for a part without any. rates: empty where nothing trains. weights: their source. licence: of the weights.
    """

    name: str
    adapters: str
    parameters: int
    trained: int
    rates: list[Rate]
    weights: str
    licence: str


def list_parts(
    model: JointModel,
    objective: Objective,
    optim: Optim,
    applied: Applied,
    taken: Mapping[str, str],
    factor: float = 1.0,
) -> Iterator[Part]:
    """Yield the parts of a model to which ``tuning`` is applied, adapters as a part of their own.

    taken: part -> the model that its weights were taken from. factor: of all learning rates.
    """
    rates = _read_rates(model, objective, optim, applied, factor)
    named, origins = named_parameters(model, objective), read_parts(model)
    names = [f"{m}.{kind}" for m in model.modalities for kind in ("encoder", "head")]
    for name in [*names, *(f"objective.{term}" for term in objective.terms)]:
        tower, _, kind = name.partition(".")
        lender = (model.share or {}).get(tower) if kind == "encoder" else None
        start = f"objective.losses.{kind}." if tower == "objective" else f"model.towers.{name}."
        inside = {n: p for n, p in named.items() if n.startswith(start)}
        added = {n for n in inside if "lora_" in n}
        origin = origins.get(name, {})
        weights = (
            f"as {lender}.encoder"
            if lender
            else str(origin.get("source") or taken.get(name) or (_read_loaded(model, tower) if inside else ""))
        )
        pieces = [("", set(inside) - added)] + ([(_describe_adapters(applied, start), added)] if added else [])
        for adapters, inner in pieces:
            trained = {n for n in inner if inside[n].requires_grad}
            yield Part(
                name,
                adapters,
                sum(inside[n].numel() for n in inner),
                sum(inside[n].numel() for n in trained),
                _join_rates([rates[n] for n in inside if n in trained]),
                "" if adapters else weights,
                "" if adapters else str(origin.get("licence", "")),
            )


def _read_loaded(model: JointModel, tower: str) -> str:
    """Return the model that ``align.load_tower`` took a tower from, "" where there is none."""
    return (unwrap(model.towers[tower]).loaded_from or "") if tower in model.modalities else ""


def _describe_adapters(applied: Applied, start: str) -> str:
    """Return "rank 8 in 24 layers" for the adapters of a part, "" where it has none."""
    inside = [lora for name, lora in applied.adapters.items() if name.startswith(start)]
    ranks = " and ".join(str(rank) for rank in dict.fromkeys(lora.rank for lora in inside))
    return f"rank {ranks} in {len(inside)} layer{'s'[: len(inside) != 1]}" if inside else ""


def _read_rates(
    model: JointModel, objective: Objective, optim: Optim, applied: Applied, factor: float
) -> dict[str, tuple[float, str]]:
    """Return parameter -> its highest learning rate, and the keys of the config that set it."""
    found = {}
    decays = applied.tuning.layer_decay
    share = model.share or {}
    for group in optim.build(model, objective).param_groups:
        pattern = group["pattern"]
        rate = factor * optim.lr * (1.0 if pattern is None else optim.groups[pattern].lr) * group.get("lr_factor", 1.0)
        for name in group["param_names"]:
            keys = ["optim.lr" if pattern is None else f"optim.groups.{pattern}"]
            tower = name.removeprefix("model.towers.").partition(".encoder.")[0]
            keys += [f"tuning.layer_decay.{key}" for key in decays if share.get(key, key) == tower]
            found[name] = rate, " x ".join(keys)
    return found


def _join_rates(rates: list[tuple[float, str]]) -> list[Rate]:
    """Return one entry for each key, with the smallest and the largest of its rates."""
    keys = dict.fromkeys(key for _, key in rates)
    of = {key: [rate for rate, k in rates if k == key] for key in keys}
    return [Rate(min(values), max(values), key) for key, values in of.items()]
