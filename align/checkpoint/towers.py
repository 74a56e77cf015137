"""Towers of a model folder as a config describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from align.checkpoint.assets import find_assets
from align.checkpoint.source import locate
from align.files import read_json


def describe_towers(source: str) -> dict[str, Any]:
    """Return ``dim``, ``normalize``, ``share`` and ``towers`` of a model, as they stand under ``model`` in a config.

    A file that a preprocess needs is named by its path.

    source: a model folder, a run folder or ``LAYOUT:SOURCE``.

    Raises FileNotFoundError and ValueError as `locate` does. Raises ValueError for a model that names a class of
    another package, since only a config may name such a class.
    """
    path = locate(source)
    try:
        described = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))["model"]
        towers = {name: dict(tower) for name, tower in described["towers"].items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path / 'config.yaml'} is no model config: {' '.join(str(error).split())}") from error
    for class_path in _list_classes(towers):
        if class_path.split(".")[0] != "align":
            raise ValueError(
                f"{source} names the class {class_path}, which is not align's; to trust it, copy model.towers of "
                f"{path / 'config.yaml'} into the config"
            )
    sums = read_json(path / "model.json").get("assets", {})
    for tower in towers.values():
        tower["preprocess"] = find_assets(tower["preprocess"], path, sums)
    return {**described, "share": described.get("share") or None, "towers": towers}


def _list_classes(value: Any) -> Iterator[str]:
    """Yield every class path in nested data."""
    if isinstance(value, dict):
        if "class_path" in value:
            yield str(value["class_path"])
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _list_classes(inner)
