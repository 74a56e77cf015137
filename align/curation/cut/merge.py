"""Merging of several sets of shards: equal keys are renamed, differently numbered classes are matched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from align.curation.cut.copying import Copied, check_output, check_split, copy, plan_copies
from align.curation.jobs.job import Progress
from align.data.labels import merge_classes
from align.data.meta import read_meta
from align.data.shards import Shards
from align.values import Sample

Classes = Mapping[str, Sequence[str]]
Renumber = Callable[[str, Any], Any]


def merge_shards(
    sets: Sequence[str | Path | Sequence[str | Path]],
    out: str | Path,
    *,
    split: str = "train",
    duplicates: Literal["refuse", "rename"] = "refuse",
    per_shard: int = 1000,
    members: Mapping[str, Sequence[str]] | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> tuple[int, dict[str, int], dict[str, int]]:
    """Write the samples of several sets, one after the other, to ``OUT/SPLIT-000000.tar``, …

    Members keep their bytes, with one exception: a label in the json that is a number and means another class in the
    merged list becomes the class's name. The merged list has the classes of all sets, in the order of the first set
    that has them. Equal groups of two sets become one group.

    duplicates: "refuse" raises for a key that an earlier sample has. "rename" calls the second ``KEY-2``, the third
        ``KEY-3``, …, with the next number where a name is taken.
    workers: processes that copy, 0 for this one. The next such call keeps the shards that a killed call finished.

    Returns (samples, {"renamed": n, "relabelled": n}, reason -> samples and members that could not be copied). Raises
    ValueError for a key that comes twice, before anything is written.
    """
    if not sets:
        raise ValueError("no sets are named: give at least one pattern of shards")
    if duplicates not in ("refuse", "rename"):
        raise ValueError(f"duplicates={duplicates!r}: it is refuse or rename")
    check_split([split], per_shard)
    many = [Shards(urls, shuffle=False, members=members) for urls in sets]
    folder = check_output(out, many)
    keys, renamed = unique_keys(many, duplicates)
    stated = [shards.classes for shards in many]
    merged = merge_classes(stated)
    licences = {licence for shards in many if (licence := (shards.manifest or {}).get("licence"))}
    licence = "; ".join(sorted(licences)) or None
    changed = Counter(renamed=renamed, relabelled=0)
    items = _items(
        many, keys, [make_renumber(classes, merged) if classes != merged else None for classes in stated], changed
    )
    written, dropped = copy(
        many,
        {split: (len(keys), items)},
        folder,
        per_shard=per_shard,
        classes=merged,
        licence=licence,
        workers=workers,
        progress=progress,
    )
    for shards in many:
        shards.close()
    return written[split], dict(changed), dropped


def _items(
    many: Sequence[Shards], keys: Sequence[str], renumber: Sequence[Renumber | None], changed: Counter[str]
) -> Iterator[Copied]:
    """Yield every sample of every set under its new key. ``changed`` counts the labels that change."""
    key = iter(keys)
    for number, (shards, same) in enumerate(zip(many, renumber, strict=True)):
        for item in plan_copies(shards, number):
            about = None if same is None else relabel(shards.read(item.position, 0, frozenset())[0], same)
            changed["relabelled"] += about is not None
            new = next(key)
            yield item._replace(key=new, about=about, mark=f"{new}\n{about}\n{item.mark}")


def unique_keys(many: Sequence[Shards], duplicates: str) -> tuple[list[str], int]:
    """Return the key of each sample in the order of the sets, and the number of keys that are new."""
    wanted = [
        (key, str(url))
        for shards in many
        for url, index in zip(shards.urls, shards.indexes, strict=True)
        for key in index.keys
    ]
    first: dict[str, str] = {}
    given = {key for key, _ in wanted}
    out, renamed, last = [], 0, Counter[str]()
    for key, url in wanted:
        if key not in first:
            first[key] = url
            out.append(key)
            continue
        if duplicates == "refuse":
            raise ValueError(
                f"key {key!r} is in {first[key]} and again in {url}; rename later ones with --duplicates rename"
            )
        number = last[key] or 1
        while (new := f"{key}-{number + 1}") in given:
            number += 1
        last[key] = number + 1
        given.add(new)
        out.append(new)
        renamed += 1
    return out, renamed


def make_renumber(classes: Classes, merged: Classes) -> Renumber:
    """Make (attribute, label) -> label that means the same in the merged classes. A number may become a name."""

    def meaning(label: Any, names: Sequence[str]) -> str:
        return str(label) if str(label) in names or not 0 <= label < len(names) else str(names[label])

    def same(attribute: str, label: Any) -> Any:
        if isinstance(label, list):
            return [same(attribute, one) for one in label]
        if not isinstance(label, int):
            return label
        name = meaning(label, classes.get(attribute, ()))
        return label if name == meaning(label, merged.get(attribute, ())) else name

    return same


def relabel(sample: Sample, same: Renumber) -> bytes | None:
    """Return the json with labels that mean the same in the merged classes, or None where it need not change."""
    meta, _ = read_meta(sample, {})
    label = meta.label
    new = {a: same(a, x) for a, x in label.items()} if isinstance(label, dict) else same("label", label)
    if new == label or meta.json is None:
        return None
    return json.dumps({**meta.json, "label": new}, ensure_ascii=False).encode("utf-8", "replace")
