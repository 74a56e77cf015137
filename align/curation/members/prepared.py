"""From a planned sample to the members that a shard gets: read, judged, and written anew where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from align.curation.jobs.job import Fault, Made
from align.curation.members.files import Sampling
from align.curation.members.grouping import By, with_group
from align.curation.members.regions import complete_regions
from align.data.bad import BLANK, EMPTY, is_fault
from align.data.captions import is_blank
from align.data.meta import read_meta
from align.data.names import FOREIGN, TEXT, modalities, row_name
from align.data.rows import explain
from align.data.shards import Shards
from align.media import MEDIA, Media
from align.media.choice import converter_of, medium_of
from align.media.medium import Note
from align.media.recode import Recode
from align.seeds import derive
from align.values import BadSample


class Readable(Protocol):
    """An item whose bytes are read from where it says, or from opened shards."""

    @property
    def key(self) -> str: ...
    def read(self, shards: Any) -> Made: ...


class Making(NamedTuple):
    """Inputs that the members of a build follow from: shards, and how members are made of them."""

    shards: Shards | None
    recode: Recode
    sampling: Sampling
    group: By | None
    media: Media = MEDIA


def prepare(making: Making, item: Readable) -> Made:
    """Return the members of a planned sample and (reason, member, …) of those that were bad or noted.

    Without any modality left there are no members.

    Arrays and clouds are judged as a check would judge them.
    """
    members, bad = item.read(making.shards)
    out: dict[str, bytes] = {}
    for name, data in members.items():
        if (modality := _caption(name)) is not None and is_blank(data):
            bad.append((f"{modality}/{BLANK}", name))
            continue
        try:
            new, content, said = store(making, item.key, name, data)
        except BadSample as error:
            bad.append((explain(error, name.partition(".")[0]), name, error.detail))
            continue
        if new in out:
            bad.append(("shard/duplicate-member", name))
            continue
        bad += said
        out[new] = content
    if "json" in out and (wrong := read_meta(out, {})[1]):
        raise ValueError(f"the json of sample {item.key!r} has {', '.join(wrong)}: label or weight cannot be read back")
    out, odd = complete_regions(out)
    bad += odd
    if modalities(out, FOREIGN):
        return with_group(out, making.group), bad
    return {}, bad if any(is_fault(reason) for reason, *_ in bad) else [*bad, (EMPTY, "")]


def store(making: Making, key: str, name: str, data: bytes) -> tuple[str, bytes, list[Fault]]:
    """Return the name and the bytes that a shard gets for a member, and notes about them. Raises BadSample.

    The bytes of a file that its medium converts have no files beside them: a texture that a mesh names is not at hand.
    """
    row = row_name(name)
    if row is None:
        return name, data, []
    slot, suffix, said = name.removesuffix(f".{row.suffix}"), row.suffix, []
    if (medium := converter_of(making.media, suffix, row.modality)) is not None:
        seed = derive(making.sampling.seed, key, slot)
        data, suffix, notes = medium.convert(data, suffix, points=making.sampling.points, seed=seed)
        said = _faults(notes, name)
    if (medium := medium_of(making.media, suffix, row.modality)) is None:
        return f"{slot}.{suffix}", data, said
    stored = medium.recode(data, suffix, row.modality, making.recode)
    return f"{slot}.{stored.suffix}", stored.data, said + _faults(stored.notes, f"{slot}.{suffix}")


def _faults(notes: Sequence[Note], name: str) -> list[Fault]:
    return [(reason, name, detail) if detail else (reason, name) for reason, detail in notes]


def _caption(name: str) -> str | None:
    """Return the modality of a member that holds captions, such as a plain ``txt``, or None."""
    if name == TEXT:
        return "text"
    row = row_name(name)
    return row.modality if row is not None and row.suffix == TEXT else None
