"""The model that makes an index: its name, its weights and its preprocessing, which all rows of an index share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.checkpoint import read_parts
from align.checkpoint.describe import describe
from align.checkpoint.fingerprint import fingerprint
from align.files import json_text
from align.model import JointModel
from align.model.inside import unwrap
from align.model.place import name_dtype
from align.search.local import LocalIndex
from align.search.makers import find_stranger, list_makers, read_maker


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


def check_joining(about: Mapping[str, Any], maker: Mapping[str, Any], out: Path, model: JointModel) -> None:
    """Raise ValueError where a model's rows cannot be added to an index, see ``align.search.makers``."""
    new = maker["model"]
    if new["sha256"] == read_maker(about).get("sha256"):
        check_maker(about, maker, out)
    elif (old := find_stranger(about, model)) is not None:
        raise ValueError(
            f"{out} was made by another model ({old.get('source')}, {str(old.get('sha256'))[:12]}; this one is "
            f"{new['source']}, {new['sha256'][:12]}), and this one is not declared compatible with it; make another "
            "index, or, for a model that was trained to replace it: align compatible MODEL OLD"
        )


def join_makers(about: Mapping[str, Any], maker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``about`` that change where a model adds rows to an index."""
    new, first = maker["model"], read_maker(about)
    if new["sha256"] == first.get("sha256"):
        dtype = join_precisions(about, maker)
        return {} if dtype == new["dtype"] else {"model": {**first, "dtype": dtype}}
    others = [one for one in list_makers(about)[1:] if one.get("sha256") != new["sha256"]]
    return {"makers": [*others, {**new, "dims": about.get("dim")}]}


def count_by_maker(index: LocalIndex) -> list[dict[str, Any]]:
    """Return each model of an index, with the numbers of samples that have a row of it, in all and by modality.

    ``numbers`` are those of the samples, (n,), ascending. A sample's rows are all of one model.
    """
    makers, marks = list_makers(index.about), [mark for mark in index.sources().values() if isinstance(mark, dict)]
    out = []
    for one in makers:
        theirs = spread_marks(marks, "" if one is makers[0] else str(one.get("sha256")))
        numbers = {m: found[torch.isin(found, theirs)] for m in index.modalities if len(found := index.numbers(m))}
        every = torch.cat([theirs[:0], *numbers.values()]).unique()
        out.append({**one, "numbers": every, "modalities": {m: len(n) for m, n in numbers.items()}})
    if len(makers) == 1:  # rows that were added in Python have no source
        counts = {m: len(index.numbers(m)) for m in index.modalities}
        out[0] |= {"numbers": index.numbers(), "modalities": counts}
    return out


def spread_marks(marks: Iterable[Any], maker: str) -> Tensor:
    """Return the numbers (n,) of the samples whose source notes a model. maker: "" for the index's first."""
    ranges = [r for mark in marks if mark.get("model", "") == maker for r in mark.get("numbers", ())]
    return torch.cat([torch.zeros(0, dtype=torch.long), *(torch.arange(first, last + 1) for first, last in ranges)])


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
