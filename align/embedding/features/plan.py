"""The plan of a set: everything that determines its bytes. All processes that write the set agree on it."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from align.checkpoint.fingerprint import fingerprint
from align.checkpoint.write import read_parts
from align.data import Shards
from align.data.columns.format import BLOCK, FILE, hash_keys, read_cache, schema, work_folder
from align.embedding.features.encode import Want
from align.embedding.features.hashes import preprocess_hash, tower_weights
from align.files import read_json
from align.files.fresh import check_place
from align.model import JointModel
from align.model.inside import unwrap
from align.model.place import name_dtype

PLAN = "plan.json"


class Plan(NamedTuple):
    """The plan of one set.

    name: of the set. shards: name, samples and hash of keys of each source shard, as in ``cache.json`` but for the
    checksums. about: the set's entry in ``cache.json``.
    """

    name: str
    shards: list[dict[str, Any]]
    about: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Return the content of plan.json."""
        return {"schema": schema, "shards": self.shards, "set": self.about}


def make_plan(
    model: JointModel,
    shards: Shards,
    want: Want,
    *,
    name: str,
    source: str,
    batch: int,
    members: Mapping[str, Sequence[str]] | None = None,
) -> Plan:
    """Return the plan of a set of these shards.

    source: the model, as ``align.load`` takes it. members: as given for the shards.

    Raises ValueError for a batch that does not divide a block, a name that no folder can have, and two shards of one
    name.
    """
    if batch < 1 or BLOCK % batch:
        near = min((n for n in range(1, BLOCK + 1) if BLOCK % n == 0), key=lambda n: abs(n - batch))
        raise ValueError(f"a batch of {batch} does not divide a block of {BLOCK} positions; take {near}")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ValueError(f"{name!r} is no name of a set; give one of letters, digits, _, - and . with --name")
    places: dict[str, Any] = {}
    for place in shards.urls:
        if place.name in places:
            raise ValueError(
                f"{places[place.name]} and {place} have the same file name, so their parts would have one too; rename "
                "one, or take two caches"
            )
        places[place.name] = place
    listed = [
        {"name": place.name, "samples": len(index.keys), "keys": hash_keys(index.keys)}
        for place, index in zip(shards.urls, shards.indexes, strict=True)
    ]
    about = {
        "model": source,
        "sha256": fingerprint(model),
        "computed": name_dtype(model),
        "columns": {m: describe_column(model, m, want) for m in want.modalities},
        "batch": batch,
        "members": {m: list(names) for m, names in sorted((members or {}).items())},
        "parts": _list_parts(model),
    }
    return Plan(name, listed, about)


def _list_parts(model: JointModel) -> dict[str, Any]:
    """Return the origins of published weights, those of a tower that borrows its encoder too."""
    parts = read_parts(model)
    lent = {f"{m}.encoder": parts.get(f"{lender}.encoder") for m, lender in (model.share or {}).items()}
    return dict(sorted({**parts, **{name: origin for name, origin in lent.items() if origin is not None}}.items()))


def describe_column(model: JointModel, modality: str, want: Want) -> dict[str, Any]:
    """Return the entry of a column in ``cache.json``."""
    tower = unwrap(model.towers[modality])
    embedding = want.kind == "embedding"
    scales = {term.scale for term in model.terms if modality in term.modalities}
    return {
        "weights": tower_weights(tower, want.kind),
        "preprocess": preprocess_hash(tower.preprocess),
        "kind": want.kind,
        "unit": embedding and model.normalize,
        "scale": scales.pop() if embedding and len(scales) == 1 else None,
        "windows": getattr(getattr(tower.preprocess, "window", None), "count", None),
        "dtype": want.dtype,
        "width": model.dim if embedding else tower.encoder.width,
        "tokens": want.tokens,
    }


def choose_towers(model: JointModel, shards: Shards, towers: Sequence[str] | None) -> tuple[str, ...]:
    """Return the modalities to encode: those named, else those of the model that the shards have.

    Raises ValueError, with the nearest name, for one without a tower, and where the shards have no row of one.
    """
    have = ", ".join(sorted(shards.modalities)) or "none"
    for m in towers or ():
        if m not in model.modalities:
            close = difflib.get_close_matches(m, model.modalities, 1, 0.5)
            near = f"did you mean {close[0]}?" if close else f"it has {', '.join(model.modalities)}"
            raise ValueError(f"the model has no tower {m!r}; {near}")
        if m not in shards.modalities:
            raise ValueError(f"the shards have no {m}; they have {have}")
    chosen = [m for m in model.modalities if m in (towers or shards.modalities)]
    if not chosen:
        raise ValueError(f"the model has towers of {', '.join(model.modalities)}; the shards have {have}")
    return tuple(chosen)


def check_cache(plan: Plan, out: Path) -> bool:
    """Return True where the cache has the set already.

    Raises ValueError where it was made of other shards, has the set of another plan, or is no cache.
    """
    if (out / "model.json").is_file():
        raise ValueError(f"{out} is a model folder, whose next writing would remove the cache; name another --out")
    check_place(out)
    for shards, where in _known_shards(plan, out):
        _check_shards(plan.shards, shards, where)
    if not (out / FILE).is_file():
        return False
    read_cache(out)
    known = read_json(out / FILE)["sets"].get(plan.name)
    if known is not None:
        check_same(known, plan.about, f"{out} has the set {plan.name!r}", "--name or --out")
    return known is not None


def _known_shards(plan: Plan, out: Path) -> Iterator[tuple[Any, Path]]:
    """Yield the shards of the cache, and of other sets that are being written to it."""
    if (out / FILE).is_file():
        yield [shard._asdict() for shard in read_cache(out).shards], out / FILE
    for path in sorted(out.glob(f".*.work/{PLAN}")):
        if path.parent != work_folder(out, plan.name):
            yield read_json(path)["shards"], path


def _check_shards(here: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]], where: Path) -> None:
    names = ("name", "samples", "keys")
    asked, known = ([tuple(shard[n] for n in names) for shard in shards] for shards in (here, there))
    if asked != known:
        raise ValueError(
            f"{where} was made of other shards: {_list(known)}, not {_list(asked)}; name those shards, or another --out"
        )


def _list(shards: Sequence[tuple[Any, ...]]) -> str:
    """Return shards for a message: up to three with their samples and the hash of their keys, and a hash of all."""
    shown = [f"{name} ({samples} samples, keys {keys[:8]})" for name, samples, keys in shards[:3]]
    more = f" and {len(shards) - 3} more" if len(shards) > 3 else ""
    return f"{', '.join(shown)}{more} [{hashlib.sha256(repr(shards).encode()).hexdigest()[:8]}]"


def check_same(known: Mapping[str, Any], asked: Mapping[str, Any], where: str, remedy: str) -> None:
    """Raise ValueError, with the differences, where the entry of a set is not the one that is asked for."""
    found = [
        f"{said} {_short(known.get(name))}, not {_short(asked.get(name))}"
        for said, name in (("model sha256", "sha256"), ("batch", "batch"), ("members", "members"))
        if known.get(name) != asked.get(name)
    ]
    made, now = (about.get("computed", "float32") for about in (known, asked))
    if made != now:
        found.append(f"computed in {made}, not {now}")
    new, old = asked["columns"], known["columns"]
    if [*new] != [*old]:
        found.append(f"towers {','.join(old)}, not {','.join(new)}")
    for m in [m for m in new if m in old]:
        names = ["kind", "weights", "preprocess", "dtype", "tokens"]
        if new[m]["kind"] != old[m]["kind"]:
            names.remove("weights")  # those of an embedding have the head's too
        found += [
            f"{m}.{name} {_short(old[m][name])}, not {_short(new[m][name])}"
            for name in names
            if new[m][name] != old[m][name]
        ]
    if found:
        raise ValueError(f"{where} with {', '.join(found)}; name another {remedy}")


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
