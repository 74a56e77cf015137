"""Cutting of a set of shards into parts: by key, by group, or in equal shares of every class."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from math import floor
from pathlib import Path
from typing import Any, Literal

from align.curation.cut.copying import check_keys, check_output, check_split, divide
from align.curation.jobs.job import Progress
from align.curation.sources.foreign import walk
from align.data.meta import Meta, read_meta
from align.data.shards import Shards
from align.files import read_json

By = Literal["key", "group", "label"]


def split_shards(
    urls: str | Path | Sequence[str | Path],
    out: str | Path,
    parts: Mapping[str, str | float | Fraction],
    *,
    by: By = "key",
    seed: int = 0,
    per_shard: int = 1000,
    members: Mapping[str, Sequence[str]] | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Cut shards into ``OUT/PART-000000.tar``, …, with the bytes of all members and the classes of the whole.

    by: "key": the hash of a sample's key chooses its part, so it stays there when others are added. The shares are met
        up to chance. "group": the hash of its group chooses (of its key where it has none), and a group is never cut.
        "label": within each label (of a dict: each combination) the shares are exact to one sample, the samples are
        drawn at random, and groups may be cut.
    parts: name -> share. Shares sum to 1. seed: another seed gives another cut. workers: processes that copy, 0 for
    this one. The next such call keeps the shards that a killed call finished.

    Returns samples per part, and reason -> samples and members that could not be copied. Raises ValueError for shares
    that do not sum to 1, for a part that would be empty, and where ``out`` has other parts already, before anything is
    written.
    """
    shares = {name: _share(name, share) for name, share in parts.items()}
    if not shares or any(share <= 0 for share in shares.values()) or sum(shares.values()) != 1:
        said = ", ".join(f"{name}={share}" for name, share in parts.items())
        total = float(sum(shares.values()))
        raise ValueError(f"parts {said or '(none)'}: shares are above 0 and sum to 1 (these to {total:g})")
    if by not in ("key", "group", "label"):
        raise ValueError(f"by={by!r}: it is key, group or label")
    check_split(shares, per_shard)
    shards = Shards(urls, shuffle=False, members=members)
    folder = check_output(out, [shards])
    check_keys(shards)
    for name in _splits(folder):
        if name not in shares:
            raise ValueError(
                f"{folder} has the split {name!r} already, which would stay beside {', '.join(shares)}; "
                "write to another folder"
            )
    part = cut_by_label(_labels(shards), seed, shares) if by == "label" else _cut_by_hash(shards, by, seed, shares)
    found = Counter(part)
    empty = [name for name in shares if not found[name]]
    if empty:
        raise ValueError(
            f"part {empty[0]!r} would get none of the {len(shards)} samples; give it a larger share, or another seed"
        )
    written, dropped = divide(shards, part, folder, per_shard=per_shard, workers=workers, progress=progress)
    shards.close()
    return {name: written[name] for name in shares}, dropped


def _splits(folder: Path) -> list[str]:
    path = folder / "manifest.json"
    return list(read_json(path).get("splits") or {}) if path.is_file() else []


def _share(name: str, share: str | float | Fraction) -> Fraction:
    try:
        return Fraction(str(share))  # as written: 0.1 is a tenth
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{name}={share}: a share is a number such as 0.8") from None


def draw(seed: int, text: str) -> Fraction:
    """Return a number in [0, 1) that depends on seed and text alone."""
    digest = hashlib.blake2b(f"{seed}\n{text}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return Fraction(int.from_bytes(digest, "little"), 2**64)


def pick_part(u: Fraction, shares: Mapping[str, Fraction]) -> str:
    """Return the part in whose interval of [0, 1) u lies. The intervals are as long as the shares."""
    return next(name for name, end in zip(shares, accumulate(shares.values()), strict=True) if u < end)


def cut_by_label(samples: Sequence[tuple[str, str]], seed: int, shares: Mapping[str, Fraction]) -> list[str]:
    """Return the part of each (label, key).

    The n samples of a label, in the order of their draws, are cut at floor(n · (share of this and the parts before it)
    + u). One random u for each label makes the shares of small classes fair too.
    """
    out = [""] * len(samples)
    classes: dict[str, list[int]] = {}
    for i, (label, _) in enumerate(samples):
        classes.setdefault(label, []).append(i)
    for label, order in classes.items():
        order.sort(key=lambda i: (draw(seed, f"key {samples[i][1]}"), i))
        u, begin = draw(seed, f"label {label}"), 0
        for name, until in zip(shares, accumulate(shares.values()), strict=True):
            end = len(order) if until == 1 else floor(len(order) * until + u)
            for i in order[begin:end]:
                out[i] = name
            begin = end
    return out


def _cut_by_hash(shards: Shards, by: By, seed: int, shares: Mapping[str, Fraction]) -> list[str]:
    out = []
    for position, index, i in walk(shards):
        group = (_meta(shards, position).json or {}).get("group") if by == "group" else None
        owner = f"key {index.keys[i]}" if group is None else f"group {_canonical(group)}"
        out.append(pick_part(draw(seed, owner), shares))
    return out


def _labels(shards: Shards) -> list[tuple[str, str]]:
    return [(_canonical(_meta(shards, position).label), index.keys[i]) for position, index, i in walk(shards)]


def _meta(shards: Shards, position: int) -> Meta:
    sample, _ = shards.read(position, 0, frozenset())  # the json alone
    return read_meta(sample, shards.members)[0]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
