"""Ingredients of a soup: model folders of one architecture. Their weights stay on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from align.checkpoint import list_present, read_index
from align.files import read_json, sha256


class Ingredient(NamedTuple):
    """One model of a soup. name: as the user gave it. about: its model.json. config: its config.yaml's ``model``."""

    name: str
    folder: Path
    about: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"


def find_ingredients(
    models: Sequence[str], locate: Callable[[str, str | None], Path], checkpoints: Sequence[str] = ()
) -> list[Ingredient]:
    """Return the models by name. ``RUN@1000`` is a run's checkpoint of that step.

    Args:
        locate: gives the folder of a model from its name, and of a run's checkpoint: a step, best, last, or None.
        checkpoints: steps of the only model, a run, which are the ingredients then. "all": each that is there.

    Raises ValueError for fewer than two models, one that comes twice, checkpoints of several models, and damaged
    weights. Raises what ``locate`` raises.
    """
    names = [(name, *_split(name)) for name in models]
    if checkpoints:
        if len(models) != 1 or names[0][2] is not None:
            raise ValueError(
                f"--checkpoints are steps of one run; {len(models)} models are named, as RUN@STEP if need be"
            )
        steps = _list_steps(models[0]) if list(checkpoints) == ["all"] else list(checkpoints)
        names = [(f"{models[0]}@{step}", models[0], step) for step in steps]
    if len(names) < 2:
        raise ValueError(f"a soup has two models at least; got {len(names)}: {', '.join(name for name, *_ in names)}")
    found: list[Ingredient] = []
    for name, model, step in names:
        folder = locate(model, step)
        if twice := [one.name for one in found if one.folder.resolve() == folder.resolve()]:
            raise ValueError(f"{twice[0]} and {name} are one model; name each a single time")
        found.append(_open(name, folder))
    return found


def _split(name: str) -> tuple[str, str | None]:
    """Return RUN and STEP of ``RUN@STEP``. Any other name, and a folder that is named so, stays whole."""
    run, at, step = name.rpartition("@")
    if at and Path(run).is_dir() and not Path(name).exists():
        return run, step
    return name, None


def _list_steps(run: str) -> list[str]:
    if not read_index(Path(run)):
        raise ValueError(f"{run} is no run folder: it has no checkpoints/index.json")
    return [str(int(name[5:])) for name in list_present(Path(run))]


def _open(name: str, folder: Path) -> Ingredient:
    about = read_json(folder / "model.json")
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'config.yaml'} is no model config: {' '.join(str(error).split())}") from error
    one = Ingredient(name, folder, about, config)
    if about.get("sha256") not in (None, sha256(one.weights)):
        raise ValueError(f"{one.weights} is damaged: its SHA-256 is not the one in model.json; copy it again")
    return one


def check_alike(ingredients: Sequence[Ingredient]) -> None:
    """Raise ValueError, with both names and the first difference, for models of two architectures.

    Their configs, the files that their preprocesses need, and the names, shapes and kinds of their weights are equal.
    """
    from safetensors import safe_open

    first, *others = ingredients
    with safe_open(first.weights, "pt") as base:
        names = set(base.keys())
        for other in others:
            for where, ours, theirs in _differences(first.config, other.config):
                raise ValueError(f"{first.name} and {other.name} differ: {where} is {ours!r}, not {theirs!r}")
            if (ours := first.about.get("assets")) != (theirs := other.about.get("assets")):
                name = next(iter({*(ours or {}), *(theirs or {})}))
                raise ValueError(f"{first.name} and {other.name} differ in the file {name} of their preprocessing")
            with safe_open(other.weights, "pt") as file:
                if odd := sorted(names ^ set(file.keys())):
                    one = first.name if odd[0] in names else other.name
                    raise ValueError(f"{first.name} and {other.name} differ: only {one} has the weight {odd[0]}")
                for name in names:
                    ours, theirs = base.get_slice(name), file.get_slice(name)
                    if ours.get_shape() != theirs.get_shape():
                        shapes = f"{tuple(ours.get_shape())}, not {tuple(theirs.get_shape())}"
                        raise ValueError(f"{first.name} and {other.name} differ: {name} has the shape {shapes}")


def _differences(a: Any, b: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, one's value, the other's) of each difference between plain data."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            if a.get(key) != b.get(key):
                yield from _differences(a.get(key), b.get(key), f"{where}.{key}".removeprefix("."))
    elif a != b:
        yield where, a, b
