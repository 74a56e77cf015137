"""Files that a preprocess needs beside its numbers, such as a tokenizer: they stand in the model folder as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.files import sha256
from align.model import JointModel
from align.model.inside import unwrap


def write_assets(model: JointModel, config: Mapping[str, Any], work: Path) -> dict[str, str]:
    """Write the assets of all towers into a folder, and their names into the model's config.

    Return file name -> SHA-256.
    """
    written = {}
    for modality, tower in config["towers"].items():
        for argument, text in unwrap(model.towers[modality]).preprocess.assets().items():
            name = f"{modality}.{argument}.json"
            (work / name).write_text(text, encoding="utf-8")
            tower["preprocess"]["init_args"][argument] = {"asset": name}
            written[name] = sha256(work / name)
    return written


def find_assets(preprocess: Mapping[str, Any], folder: Path | None, sums: Mapping[str, str]) -> dict[str, Any]:
    """Return a preprocess's description with the paths of its assets in ``folder``.

    Raises ValueError for an asset that is not there, is damaged, or lies outside the folder.
    """
    arguments = dict(preprocess.get("init_args") or {})
    for argument, value in arguments.items():
        if not (isinstance(value, dict) and set(value) == {"asset"}):
            continue
        name = str(value["asset"])
        if folder is None or name != Path(name).name or not (folder / name).is_file():
            raise ValueError(f"{argument}: no file {name} in the model folder")
        if name in sums and sums[name] != sha256(folder / name):
            raise ValueError(f"{folder / name} is damaged: its SHA-256 is not the one in model.json; copy it again")
        arguments[argument] = str(folder / name)
    return {**preprocess, "init_args": arguments}
