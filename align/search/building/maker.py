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
from align.model.place import name_dtype


def describe_maker(model: JointModel, source: str) -> dict[str, Any]:
    """Return the entries of an index's ``about`` that name its model.

    ``model`` has the source, the SHA-256 of the stored weights, and the precision that they ran in. ``preprocess`` has
    the checksum of all towers' preprocessing, ``parts`` the origin and licence of published weights.
    """
    parts = read_parts(model)
    about = {"source": source, "sha256": fingerprint(model), "dtype": name_dtype(model)}
    made = {"model": about, "preprocess": hash_preprocess(model)}
    return {**made, **({"parts": parts} if parts else {})}


def staging_key(maker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that rows depend on: blocks that were made with others are not used."""
    key = {"schema": 1, "model": maker["model"]["sha256"], "preprocess": maker["preprocess"]}
    return key if maker["model"]["dtype"] == "float32" else {**key, "dtype": maker["model"]["dtype"]}


def join_precisions(about: Mapping[str, Any], maker: Mapping[str, Any]) -> str:
    """Return the precision of an index that gets rows in this one: "float32 and bfloat16" where the two differ."""
    known, new = str((about.get("model") or {}).get("dtype", "float32")), maker["model"]["dtype"]
    return known if new in known.split(" and ") else f"{known} and {new}"


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
