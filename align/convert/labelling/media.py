"""Members of a sample as files that a labelling tool shows: pictures, videos, sounds, and clouds as .pcd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from align.data.names import MemberNames, find_mapped, row_name
from align.media import MEDIA
from align.media.choice import medium_of
from align.media.cloud import CLOUD
from align.values import BadSample, Sample

Kind = Literal["picture", "video", "sound", "cloud"]

SHOWN: dict[Kind, tuple[str, ...]] = {
    "picture": ("jpg", "jpeg", "png", "webp", "gif", "bmp"),
    "video": ("mp4", "webm", "mov", "avi"),
    "sound": ("flac", "wav", "ogg", "mp3", "m4a"),
    "cloud": ("npy",),
}
"""Suffixes of files that both tools take for their kind: those that browsers open, and our clouds."""


class File(NamedTuple):
    """The first member of a modality that a tool shows. number: members of the modality that are left out beside it."""

    kind: Kind
    member: str
    number: int


def kind_of(modality: str, suffix: str) -> Kind | None:
    """Return the kind of a modality's members with a suffix, or None where no tool shows them.

    >>> kind_of("image", "png"), kind_of("points", "npy"), kind_of("depth", "npy"), kind_of("text", "txt")
    ('picture', 'cloud', None, None)
    """
    medium = medium_of(MEDIA, suffix, modality)
    kind: Kind | None = next((one for one in SHOWN if medium is not None and medium.name == one), None)
    if kind is None or suffix not in SHOWN[kind] or (kind == "cloud" and modality != CLOUD.modality):
        return None
    return kind


def find_files(names: Iterable[str], members: MemberNames) -> dict[str, File]:
    """Return modality -> its file, among the names of a sample's members. Hard negatives are none.

    >>> find_files(["image.1.png", "image.0.png", "text.txt"], {})
    {'image': File(kind='picture', member='image.0.png', number=1)}
    """
    names = [*names]
    found: dict[str, list[tuple[int, str, str]]] = {}
    for name in names:
        row = row_name(name)
        if row is not None and not row.negative:
            found.setdefault(row.modality, []).append((row.number, name, row.suffix))
    for modality in members:
        name = find_mapped(modality, members, names) if modality not in found else None
        if name is not None and ":" not in name:
            found[modality] = [(-1, name, name.rpartition(".")[2])]
    out: dict[str, File] = {}
    for modality, rows in sorted(found.items()):
        for _, name, suffix in sorted(rows):
            kind = kind_of(modality, suffix)
            if kind is not None:
                out[modality] = File(kind, name, len(rows) - 1)
                break
    return out


def find_kinds(names: Iterable[str], members: MemberNames) -> dict[str, Kind]:
    """Return modality -> kind of its files, among the names of all members of a set."""
    kinds: dict[str, Kind] = {}
    for name in sorted(names):
        for modality, file in find_files([name], members).items():
            kinds.setdefault(modality, file.kind)
    return kinds


def write_file(folder: Path, sample: Sample, file: File) -> str:
    """Write a member into a folder, and return its path below the folder. A cloud becomes a .pcd.

    The name is KEY.MEMBER. Where an earlier shard had the same key, the sample's position stands before the member.
    Raises BadSample for a cloud that cannot be read.
    """
    data, name = sample[file.member], file.member
    if file.kind == "cloud":
        data, name = to_pcd(CLOUD.read(data)), name.rpartition(".")[0] + ".pcd"
    place = f"{sample['__key__']}.{name}"
    path = folder / place
    if path.exists():
        place = f"{sample['__key__']}.{sample['__index__']}.{name}"
        path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        out.write(data)
    return place


def to_pcd(points: np.ndarray) -> bytes:
    """Return a cloud (P, 3 or 6), xyz and rgb from 0 to 1, as a binary .pcd of version 0.7.

    The format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html. A colour is one number, 0xRRGGBB.
    """
    coloured = points.shape[1] == 6
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), *([("rgb", "<u4")] if coloured else [])]
    rows = np.zeros(len(points), dtype=kinds)
    for i, axis in enumerate("xyz"):
        rows[axis] = points[:, i]
    if coloured:
        red, green, blue = (points[:, 3:] * 255).round().clip(0, 255).astype(np.uint32).T
        rows["rgb"] = red << 16 | green << 8 | blue
    header = {
        "VERSION": "0.7",
        "FIELDS": " ".join(name for name, _ in kinds),
        "SIZE": " ".join("4" for _ in kinds),
        "TYPE": " ".join(code[1].upper() for _, code in kinds),
        "COUNT": " ".join("1" for _ in kinds),
        "WIDTH": str(len(rows)),
        "HEIGHT": "1",
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(len(rows)),
        "DATA": "binary",
    }
    return "".join(f"{name} {value}\n" for name, value in header.items()).encode() + rows.tobytes()


def write_files(
    sample: Sample, members: MemberNames, folders: Mapping[str, Path], root: Path
) -> tuple[dict[str, str], list[str]]:
    """Write a sample's files, and return modality -> path below `root`, and the reasons of those that were not written.

    folders: modality -> the folder of its files. Modalities without one are not written.
    """
    written: dict[str, str] = {}
    bad: list[str] = []
    for modality, file in find_files([name for name in sample if not name.startswith("__")], members).items():
        if modality not in folders:
            continue
        try:
            place = write_file(folders[modality], sample, file)
        except BadSample as error:
            bad.append(error.reason)
        else:
            written[modality] = (folders[modality] / place).relative_to(root).as_posix()
    return written, bad
