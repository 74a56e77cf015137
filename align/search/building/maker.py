"""The model that makes an index: its name, its weights and its preprocessing, which all rows of an index share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.checkpoint import read_parts
from align.checkpoint.describe import describe
from align.checkpoint.fingerprint import fingerprint
from align.files import json_text
from align.model import JointModel
from align.model.inside import unwrap


def describe_maker(model: JointModel, source: str) -> dict[str, Any]:
    """Return the entries of an index's ``about`` that name its model.

    ``model`` has the source and the SHA-256 of the weights, ``preprocess`` the checksum of all towers' preprocessing,
    ``parts`` the origin and licence of published weights.
    """
    parts = read_parts(model)
    made = {"model": {"source": source, "sha256": fingerprint(model)}, "preprocess": hash_preprocess(model)}
    return {**made, **({"parts": parts} if parts else {})}


def staging_key(maker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that rows depend on: blocks that were made with others are not used."""
    return {"schema": 1, "model": maker["model"]["sha256"], "preprocess": maker["preprocess"]}


def hash_preprocess(model: JointModel) -> str:
    """Return a checksum of the preprocessing of all towers: their classes and arguments."""
    described = {}
    for m in model.modalities:
        preprocess: Any = unwrap(model.towers[m]).preprocess
        try:
            described[m] = describe(preprocess)
        except ValueError:  # a class of the user's that no checkpoint could hold
            described[m] = repr(preprocess)
    return hashlib.sha256(json_text(described).encode()).hexdigest()


def check_maker(about: Mapping[str, Any], maker: Mapping[str, Any], out: Path) -> None:
    """Raise ValueError where an index was made by another model, or by other preprocessing."""
    old, new = about.get("model") or {}, maker["model"]
    if old.get("sha256") != new["sha256"]:
        raise ValueError(
            f"{out} was made by another model ({old.get('source')}, {str(old.get('sha256'))[:12]}; this one is "
            f"{new['source']}, {new['sha256'][:12]}); choose another --out, or --anew to replace it"
        )
    if about.get("preprocess") not in (None, maker["preprocess"]):
        raise ValueError(
            f"{out} was made with other preprocessing than {new['source']} has now; choose another --out, or --anew "
            "to replace it"
        )
