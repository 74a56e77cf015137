"""From a planned sample to the members that a shard gets: read, and re-encoded where that is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from align.curation.jobs.job import Made
from align.curation.members.clouds import Sampling, converted, judged
from align.curation.members.grouping import By, with_group
from align.curation.members.recode import Recode
from align.data.bad import BLANK, EMPTY, is_fault
from align.data.captions import is_blank
from align.data.meta import read_meta
from align.data.names import FOREIGN, modalities, row_name
from align.data.shards import Shards
from align.media.pictures import formats as pictures
from align.media.sounds import formats as sounds
from align.preprocess import Audio, Image
from align.values import BadSample


def check_format(name: str, data: bytes) -> None:
    """Raise BadSample for a sound or a picture without a byte, or of a format that no decoder here reads, whatever its
    name says: MP4, AAC, WMA and their like; HEIC, JPEG XL, SVG and theirs."""
    row = row_name(name)
    if row is None or row.suffix not in {"audio": Audio.suffixes, "image": Image.suffixes}.get(row.modality, ()):
        return
    if not data:
        raise BadSample(f"{row.modality}/empty", "no bytes")
    if row.modality == "audio" and (content := sounds.foreign(data[:400])) is not None:
        raise BadSample("audio/format", sounds.advice(content))
    head = data[: pictures.HEAD]
    if row.modality == "image" and pictures.kind_of(head) is None and pictures.foreign(head) is not None:
        raise pictures.refusal(head, None)


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


def prepare(making: Making, item: Readable) -> Made:
    """(what a planned sample becomes, (reason, member, …) of what was bad or noted); empty where no modality is left.

    Arrays and clouds are judged as a check would judge them.
    """
    members, bad = item.read(making.shards)
    out: dict[str, bytes] = {}
    for name, data in members.items():
        if (modality := _caption(name)) is not None and is_blank(data):
            bad.append((f"{modality}/{BLANK}", name))
            continue
        try:
            check_format(name, data)
            new, content, said = converted(item.key, name, data, making.sampling)
            content, more = judged(new, content)
            said += [(reason, name) for reason in making.recode.noted(new, content)]
            new, content = making.recode(new, content)
        except BadSample as error:
            bad.append((error.reason, name, error.detail))
            continue
        if new in out:
            bad.append(("shard/duplicate-member", name))
            continue
        bad += said + more
        out[new] = content
    if "json" in out and (wrong := read_meta(out, {})[1]):
        raise ValueError(f"the json of sample {item.key!r} has {', '.join(wrong)}: label or weight cannot be read back")
    if modalities(out, FOREIGN):
        return with_group(out, making.group), bad
    return {}, bad if any(is_fault(reason) for reason, *_ in bad) else [*bad, (EMPTY, "")]


def _caption(name: str) -> str | None:
    """The modality of a member that holds captions; a plain ``txt`` is one. None for any other."""
    if name == "txt":
        return "text"
    row = row_name(name)
    return row.modality if row is not None and row.suffix == "txt" else None
