"""Earlier models whose embeddings can be compared with a model's, as ``compatible_with`` in its model.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.checkpoint.fingerprint import fingerprint
from align.checkpoint.sums import SUMS, replace_json
from align.checkpoint.write import read_object
from align.files import write_json
from align.model import JointModel


def declare_compatible(folder: Path, new: JointModel, old: JointModel, dims: int | None = None) -> int:
    """State in a model folder that the first coordinates of its embeddings compare with an earlier model's.

    A cosine of a new and an old embedding is then that of their first ``dims`` coordinates. Nothing here measures that.
    ``align evaluate --with compatibility`` does.

    folder: that of the new model. dims: None for all coordinates of the old one. Returns the number.
    Raises ValueError where the folder holds another model, for a model and itself, for models without a common
    modality, and for more coordinates than either has.
    """
    about = read_object(folder / "model.json")
    shared = [m for m in new.modalities if m in old.modalities]
    dims, checksum = old.dim if dims is None else dims, fingerprint(old)
    if about.get("sha256") != fingerprint(new):
        raise ValueError(f"{folder} holds another model than the one that is declared")
    if checksum == about.get("sha256"):
        raise ValueError(f"{folder} and the earlier model are one model")
    if not shared:
        raise ValueError(
            f"the models share no modality: {', '.join(new.modalities)} here, {', '.join(old.modalities)} there"
        )
    if not 1 <= dims <= min(new.dim, old.dim):
        raise ValueError(
            f"{dims} coordinates cannot be compared: {folder} has {new.dim}, the earlier model {old.dim}; dims is 1 to "
            f"{min(new.dim, old.dim)}"
        )
    known = read_compatible(folder, about, new.dim) | {checksum: dims}
    content = {**about, "compatible_with": [{"sha256": one, "dims": n} for one, n in known.items()]}
    if (folder / SUMS).is_file():
        replace_json(folder, "model.json", content)
    else:
        write_json(folder / "model.json", content)
    new.compatible_with = known
    return dims


def read_compatible(path: Path, about: Mapping[str, Any], dim: int) -> dict[str, int]:
    """Return SHA-256 -> coordinates of the earlier models in a model.json. Raises ValueError for another form."""
    stated = about.get("compatible_with", [])
    try:
        found = {str(one["sha256"]): int(one["dims"]) for one in stated}
    except (TypeError, KeyError, ValueError):
        found = {"": 0}
    if not all(1 <= dims <= dim for dims in found.values()):
        raise ValueError(f"{path / 'model.json'}: compatible_with lists sha256 and dims, 1 to {dim}; got {stated}")
    return found
