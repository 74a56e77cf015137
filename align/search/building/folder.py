"""A folder of files as samples: files of one folder and one stem are a sample, ``a.jpg``, ``a.wav`` and ``a.txt``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from align.data.meta import is_text
from align.data.names import CODE, TEXT
from align.media import Media
from align.media.choice import advise, converter_of, modality_of

JSON = "json"

UNREAD = "no medium reads it"
HIDDEN = "hidden"
ALONE = "no file beside it with the same stem"
OUTSIDE = "a link out of the folder"
BROKEN = "a link to nothing"
LINKED = "a link to a folder"
UNNAMED = "its name is no UTF-8"
REFUSED = "no permission"
NO_FILE = "no regular file"


class FileState(NamedTuple):
    """A file of a sample: its member name, its absolute path, its bytes and its time of change in ns."""

    member: str
    path: str
    size: int
    mtime_ns: int


class FolderSample(NamedTuple):
    """A sample of a folder. key: the path of its files below the folder, without a suffix."""

    key: str
    files: tuple[FileState, ...]

    @property
    def place(self) -> str:
        """The first file, which stands for the sample among the sources of an index."""
        return self.files[0].path


@dataclass
class Scan:
    """Samples of a folder, and the files that are none of theirs.

    left: (suffix with its dot, reason) -> files. advice: how the first file of a related format becomes one that is
    read.
    """

    samples: list[FolderSample] = field(default_factory=list)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    advice: str = ""


@dataclass(frozen=True)
class Wanted:
    """Modalities that make a sample.

    suffixes: modality -> the suffixes that its tower reads, none for any. text: a text without another file is a
    sample.
    """

    suffixes: Mapping[str, Sequence[str]]
    media: Media
    text: bool = False

    def slot(self, name: str) -> tuple[str, str, str] | None:
        """Return the stem, the modality and the suffix of a file's name: ``a.jpg``, or ``a.depth.png`` of a tower."""
        stem, dot, suffix = name.rpartition(".")
        suffix = suffix.lower()
        if not dot or not stem or suffix in CODE:
            return None
        head, dot, named = stem.rpartition(".")
        if dot and head and named in self.suffixes and suffix.isalnum():
            return head, named, suffix
        modality = JSON if suffix == JSON else modality_of(self.media, suffix)
        return None if modality is None else (stem, modality, suffix)

    def reads(self, modality: str, suffix: str) -> bool:
        """Return True where a tower reads such a file, or the member that it is converted to."""
        if modality not in self.suffixes:
            return False
        medium = converter_of(self.media, suffix, modality)
        stored = suffix if medium is None else medium.suffixes[0]
        known = self.suffixes[modality]
        return not known or stored in known


def scan(root: Path, wanted: Wanted) -> Scan:
    """Return the samples of all files below a folder, in the order of their names.

    Files of one stem and modality are rows of one sample (``image.0.jpg``, ``image.1.png``). Files beside them that no
    tower reads are members too, which a page shows. Nothing is opened.
    """
    found, whole = Scan(), os.path.realpath(root)
    _walk(whole, "", whole, wanted, found)
    return found


def _walk(folder: str, below: str, root: str, wanted: Wanted, found: Scan) -> None:
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        found.left["", REFUSED] += 1
        return
    stems: dict[str, dict[str, list[tuple[str, os.DirEntry[str]]]]] = {}
    folders: list[os.DirEntry[str]] = []
    for entry in inside:
        suffix = Path(entry.name).suffix.lower()
        if (reason := _refuse(entry, root)) is not None:
            found.left[suffix if is_text(suffix) else "", reason] += 1
        elif entry.is_dir():
            folders.append(entry)
        elif (slot := wanted.slot(entry.name)) is None:
            found.left[suffix, UNREAD] += 1
            found.advice = found.advice or advise(wanted.media, Path(entry.path))
        else:
            stem, modality, suffix = slot
            stems.setdefault(stem, {}).setdefault(modality, []).append((suffix, entry))
    for stem, parts in stems.items():
        _group(below + stem, parts, wanted, found)
    for entry in folders:
        _walk(entry.path, f"{below}{entry.name}/", root, wanted, found)


def _refuse(entry: os.DirEntry[str], root: str) -> str | None:
    """Return the reason why an entry of a folder is left out, or None."""
    if not is_text(entry.name):
        return UNNAMED
    if entry.name.startswith("."):
        return HIDDEN
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if not os.path.exists(target):
            return BROKEN
        if os.path.isdir(target):
            return LINKED
        if os.path.commonpath([root, target]) != root:
            return OUTSIDE
    return None if entry.is_dir() or entry.is_file() else NO_FILE


def _group(key: str, parts: Mapping[str, Sequence[tuple[str, os.DirEntry[str]]]], wanted: Wanted, found: Scan) -> None:
    """Add the sample of one stem, or count its files as left out."""
    makes = {m for m, files in parts.items() if any(wanted.reads(m, suffix) for suffix, _ in files)}
    if not wanted.text:
        makes -= {"text"}
    if makes:
        found.samples.append(FolderSample(key, tuple(_states(parts))))
        return
    for modality, files in parts.items():
        for suffix, _ in files:
            found.left[f".{suffix}", _explain(modality, suffix, wanted)] += 1


def _explain(modality: str, suffix: str, wanted: Wanted) -> str:
    if modality == JSON or suffix == TEXT:
        return ALONE
    if modality not in wanted.suffixes:
        return f"{modality} is not asked for, or the model has no tower for it"
    return f"the {modality} tower reads {', '.join(wanted.suffixes[modality])}"


def _states(parts: Mapping[str, Sequence[tuple[str, os.DirEntry[str]]]]) -> Iterable[FileState]:
    """Yield the files of a sample, media first, then texts, then the json."""
    order = sorted(parts, key=lambda m: (m == JSON, m == "text", m))
    for modality in order:
        files = parts[modality]
        for i, (suffix, entry) in enumerate(files):
            state = entry.stat()
            slot = modality if len(files) == 1 else f"{modality}.{i}"
            member = JSON if modality == JSON else f"{slot}.{suffix}"
            yield FileState(member, entry.path, state.st_size, state.st_mtime_ns)
