"""The pass over the samples: every member read and decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from align.curation.check.findings import Place
from align.curation.check.seen import Captions, Odd, Seen
from align.data.labels import attributes
from align.data.meta import Meta, read_meta
from align.data.names import CODE, LABEL, REGIONS, TEXT, find_ignored, find_mapped, row_name
from align.data.names import modalities as modalities_of
from align.data.rows import RowSource, explain, find_rows
from align.data.shards import Shards
from align.media import MEDIA, Media
from align.media.box import BOX
from align.media.choice import medium_of
from align.values import BadSample, Sample


def examine(
    shards: Shards, positions: Iterable[int], modalities: Sequence[str], most: int = 12, media: Media = MEDIA
) -> Seen:
    """Examine the samples at these positions. most: examples kept of each finding."""
    seen = Seen(most, media)
    for position in positions:
        sample, unread = shards.read(position)
        at = Place(str(sample["__url__"]), sample["__key__"], "", position)
        for bad in unread:
            seen.findings.add(bad.reason, at._replace(member=bad.member))
        seen.samples += 1
        _sample(sample, at, {bad.reason.partition("/")[0] for bad in unread}, shards, modalities, seen)
    return seen


def _sample(sample: Sample, at: Place, unread: set[str], shards: Shards, wanted: Sequence[str], seen: Seen) -> None:
    names = [name for name in sample if not name.startswith("__")]
    have = modalities_of(names, shards.members)
    if not have and not unread:
        seen.findings.add("sample/no-modality", at, f"it has {', '.join(names) or 'no members'}")
    meta = _meta(sample, at, shards, seen)
    matching = modalities_of((name for name in names if ".neg." not in name), shards.members)
    used = {name.partition(":")[0] for modality in have for name in shards.members.get(modality, ())}
    for modality in wanted:
        if modality not in matching and have and not unread & {modality, "shard"}:
            seen.findings.add(f"{modality}/missing", at, "only hard negatives" if modality in have else "")
        if modality not in have:
            continue
        rows = find_rows(sample, modality, (), shards.members, meta.json)
        positive = {row.data.strip() for row in rows if isinstance(row, RowSource) and not row.negative}
        for row in rows:
            used.add(row.member)
            place = at._replace(member=row.member)
            if not isinstance(row, RowSource):
                seen.findings.add(row.reason, place)
                continue
            _row(row, modality, place, seen)
            if row.negative and row.data.strip() in positive:
                seen.findings.add(f"{modality}/negative", place)
        for name in names:
            row_of = row_name(name)
            if row_of is not None and row_of.modality == modality and name not in used:
                seen.findings.add("sample/shadowed", at._replace(member=name), f"it has {', '.join(sorted(names))}")
    for modality, mapped in REGIONS.items():  # also where no mapping names them
        if modality not in have and find_mapped(modality, REGIONS, names):
            suffixes = (TEXT,) if mapped[0].endswith("text") else BOX.suffixes
            for row in find_rows(sample, modality, suffixes, {modality: mapped}, meta.json):
                if isinstance(row, RowSource):
                    _row(row, modality, at._replace(member=row.member), seen)
                else:
                    seen.findings.add(row.reason, at._replace(member=row.member))
    for name in find_ignored(names, shards.members):
        if name.rpartition(".")[2] not in CODE:
            seen.findings.add("member/unknown", at._replace(member=name))


def _row(row: RowSource, modality: str, place: Place, seen: Seen) -> None:
    medium = medium_of((*seen.media, BOX), row.suffix, modality)
    if medium is None:
        seen.findings.add(f"ignored/{modality}.{row.suffix}", place)
        return
    try:
        found = medium.examine(row.data, row.suffix, modality)
        for name, value in found.properties.items():
            seen.odd.setdefault(name, Odd(seen.most)).add(value, place)
        if found.text is not None and not row.negative:
            seen.captions.setdefault(modality, Captions()).add(found.text, place.position)
        if found.content is not None:
            seen.prints[medium.name].add(medium.fingerprint(found.content), row.data, place)
    except BadSample as error:
        seen.findings.add(explain(error, modality), place, error.detail)
        return
    except Exception as error:  # a decoder's own; a check goes on where training would stop
        seen.findings.add(f"{modality}/unreadable", place, f"{type(error).__name__}: {' '.join(str(error).split())}")
        return
    for reason, detail in found.faults:
        seen.findings.add(reason, place, detail)


def _meta(sample: Sample, at: Place, shards: Shards, seen: Seen) -> Meta:
    """Read label, group, weight and grades, and note their faults."""
    meta, bad = read_meta(sample, shards.members)
    place = at._replace(member="json")
    for reason in bad:
        seen.findings.add(reason, place, sample["json"][:80].decode("utf-8", "replace"))
    if "json" in sample and not bad and not sample["json"].lstrip().startswith(b"{"):
        bad = ["json/not-object"]
        seen.findings.add(bad[0], place, sample["json"][:80].decode("utf-8", "replace"))
    if meta.label is None and bad:
        seen.labelled += 1  # it has one that cannot be taken, which was said
    elif meta.label is None:
        if len(seen.unlabelled) < seen.most:
            seen.unlabelled.append(at)
    else:
        seen.labelled += 1
    for attribute, value in attributes(meta.label).items():
        for one in value if isinstance(value, list) else [value]:
            kind = "number" if isinstance(one, int) else "name"
            seen.labels.setdefault(attribute, Counter())[str(one)] += 1
            seen.kinds.setdefault(attribute, {}).setdefault(kind, at)
            seen.first.setdefault((attribute, str(one)), at)
    if meta.group >= 0:
        seen.groups.setdefault(meta.group, at.position)
    return meta


def media_modality(name: str, shards: Shards) -> str | None:
    """Return the modality of a member whose exact copies are duplicates. Text, json and hard negatives have none."""
    suffix = name.rpartition(".")[2]
    if suffix in (TEXT, "json", LABEL) or suffix in CODE:
        return None
    row = row_name(name)
    if row is not None:
        return None if row.negative else row.modality
    return next((m for m in shards.members if m != "label" and find_mapped(m, shards.members, [name]) == name), None)
