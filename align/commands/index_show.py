"""``align index show`` describes an index, ``align index check`` verifies every checksum in it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from align.commands.index_change import size_of
from align.commands.sizes import count_text, size

SHOWN = 20  # keys to filter by


def show(index: str, /, *, json: bool = False) -> None:
    """Describe an index: samples, rows, model, sources, and the keys to filter by

    Args:
        index: the index folder
        json: print JSON
    """
    from align.files import json_text

    found = describe(Path(index))
    if json:
        print(json_text(found, 2))
        return
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console, plain

    rows = ", ".join(f"{n} {m}" for m, n in found["modalities"].items())
    counted = count_text(found["samples"], "sample") + (f" ({rows})" if rows else "")
    print(f"{index}: {counted} of {found['dim']} numbers, {size(found['bytes'])}")
    model = found["model"]
    print(plain(f"model: {model.get('source') or 'not stated'} (sha256 {str(model.get('sha256'))[:12]})"))
    for one in found["makers"] if len(found["makers"]) > 1 else ():
        counts = ", ".join(f"{n} {m}" for m, n in one["modalities"].items())
        print(plain(f"  {count_text(one['samples'], 'sample')} by {one['source']} ({one['sha256'][:12]}): {counts}"))
    for part, origin in found["parts"].items():
        print(plain(f"  {part}: {origin['source']}, licence {origin['licence']}"))
    for source in found["sources"]:
        options = "".join(f", {name} {say_option(value)}" for name, value in source["options"].items())
        print(plain(f"source: {source['name']} ({count_text(source['n'], source['kind'])}{options})"))
    for name, some in found["correction"].items():
        later = f", {some['later']} rows came later" if some["later"] else ""
        print(f"hubs: {name} is corrected by {some['method']}, with {some['bank']} queries{later}")
    if found["backend"]:
        print(*say_backend(found["backend"]), sep="\n")
    if found["dead"]:
        print(f"dead: {found['dead']:.1%} of the rows; align index compact removes them")
    if not found["keys"]:
        return
    table = Table(box=None, pad_edge=False, title="keys to filter by", title_justify="left")
    for name in ("key", "kind", "values"):
        table.add_column(name, overflow="fold")
    for key in found["keys"][:SHOWN]:
        values = ", ".join(f"{value} ({n})" for value, n in key["values"][:5])
        more = f", … {key['distinct']} in all" if key["distinct"] > 5 else ""
        text = f"{key['low']:g} to {key['high']:g}" if key["low"] is not None else values + more
        table.add_row(plain(key["key"], 60), Text(key["kind"]), plain(text, 160))
    console().print(table)
    if len(found["keys"]) > SHOWN:
        print(f"… {len(found['keys']) - SHOWN} more keys; --json lists all")


def check(index: str, /) -> int:
    """Verify every checksum of an index, and look for the files of its samples

    Exit code 1 where something is damaged, or where the server of a mirror is away. Files that are gone are a note: the
    index answers without them, and only their pictures and sounds cannot be shown.

    Args:
        index: the index folder
    """
    from align.commands.progress import progress
    from align.commands.shown import plain
    from align.search.local import LocalIndex

    with LocalIndex.open(index) as opened:
        with progress("checking") as say:
            damaged = opened.check(say)
        known = opened.sources()
        damaged = [f"damaged: {line}" for line in damaged] + check_backend_files(opened, Path(index))
    for line in damaged:
        print(plain(line))
    gone, changed = find_missing(known)
    for title, places in (("gone", gone), ("changed", changed)):
        if places:
            print(plain(f"note: {len(places)} of {len(known)} sources are {title}, {places[0]} the first"))
    if changed or gone:
        print("note: align index add brings the index up to its files")
    if not damaged:
        print(f"{index}: every checksum is right")
    return 1 if damaged else 0


def describe(folder: Path) -> dict[str, Any]:
    """Return the facts of an index as plain data."""
    from align.search.building.maker import count_by_maker
    from align.search.building.roots import name_root, root_id
    from align.search.local import LocalIndex

    with LocalIndex.open(folder) as opened:
        about, known = dict(opened.about), opened.sources()
        roots = Counter(mark.get("root") for mark in known.values() if isinstance(mark, dict))
        return {
            "folder": str(folder),
            "samples": opened.count(),
            "modalities": dict(opened.modalities),
            "dim": about.get("dim"),
            "bytes": size_of(folder),
            "model": about.get("model", {}),
            "makers": [
                {"source": one.get("source"), "sha256": str(one.get("sha256")), "samples": len(one["numbers"])}
                | {"modalities": one["modalities"]}
                for one in count_by_maker(opened)
            ],
            "parts": about.get("parts", {}),
            "threshold": about.get("threshold"),
            "correction": {
                name: {**facts, "later": opened.count_unshifted(facts["of"], name)}
                for name, facts in (about.get("correction") or {}).items()
            },
            "backend": describe_backend(opened, folder),
            "dead": opened.dead_share,
            "sources": [
                {
                    "name": name_root(root),
                    "kind": "sample" if "folder" in root else "shard",
                    "n": roots[root_id(root)],
                    "options": root.get("options", {}),
                }
                for root in about.get("sources", [])
            ],
            "keys": [facet._asdict() for facet in opened.facets()],
        }


def describe_backend(index: Any, folder: Path) -> dict[str, Any] | None:
    """Return the facts of an index's approximate search, None where it has none. stale: modalities that changed."""
    from align.search.ann.notes import read_notes

    notes = read_notes(folder)
    if notes is None:
        return None
    return {
        "name": notes.backend,
        "effort": notes.effort,
        "modalities": {m: facts["rows"] for m, facts in notes.modalities.items()},
        "stale": [m for m, facts in notes.modalities.items() if facts.get("mark") != index.mark(m)],
        "measured": notes.measured,
    }


def say_backend(found: dict[str, Any]) -> list[str]:
    """Return an approximate search in lines, one a modality."""
    from align.commands.shown import plain

    lines = [plain(f"approximate search: {found['name']}")]
    for m, rows in found["modalities"].items():
        recall = found["measured"].get(m, {}).get("recall", {})
        told = ", ".join(f"{value:.3f} by {by}" for by, value in recall.items())
        state = "stale, searched exactly" if m in found["stale"] else f"recall@10 {told}" if told else "not measured"
        lines.append(f"  {rows} {m}: {state}")
    return lines


def check_backend_files(index: Any, folder: Path) -> list[str]:
    """Return a line for each damaged file of an approximate search that is not stale, and for a server that is away."""
    from align.search.ann.attach import Following
    from align.search.finder import Unavailable

    try:
        made = Following(folder).read()
        check = None if made is None else getattr(made.backend, "check", None)
        for m, facts in {}.items() if made is None or check is None else made.modalities.items():
            if check is not None and facts.get("mark") == index.mark(m):
                check(m, facts)
    except Unavailable as error:
        return [f"not checked: {error}"]
    except (OSError, ValueError) as error:
        return [f"damaged: {error}"]
    return []


def say_option(value: Any) -> str:
    """Return the value of a stored option in words."""
    if isinstance(value, dict):
        return ", ".join(f"{m}={'|'.join(names)}" for m, names in value.items())
    return ",".join(value) if isinstance(value, list) else "folders" if value is True else str(value)


def find_missing(known: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the local places that are gone, and those whose size or time of change differs."""
    gone, changed = [], []
    for place, mark in known.items():
        if "://" in place or place.startswith("pipe:") or not isinstance(mark, dict):
            continue
        states = [tuple(state[:3]) for state in mark.get("files", {}).values()]
        states = states or [(place, mark.get("size"), mark.get("mtime_ns"))]
        try:
            found = [(path, os.stat(path)) for path, _, _ in states]
        except OSError:
            gone.append(place)
            continue
        if any(
            (now.st_size, now.st_mtime_ns) != (size, time)
            for (_, now), (_, size, time) in zip(found, states, strict=True)
        ):
            changed.append(place)
    return gone, changed
