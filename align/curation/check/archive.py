"""Check of the tar itself: gaps, unsafe names, samples whose members are not neighbours, and the manifest.

An index only counts the members that its scan left out. A shard with such notes is scanned again here to find them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from align.curation.check.findings import Findings, Place
from align.data.archive.members import ShardIndex
from align.data.archive.tar import Entry, Gap, scan
from align.data.names import is_safe, split_name
from align.data.places.manifest import read_manifest
from align.files import sha256


def check_archive(shard: object, index: ShardIndex, findings: Findings) -> None:
    """Find faults of a shard as a file.

    shard: its path, or a URL, of which only the index is looked at.
    """
    path = shard if isinstance(shard, Path) and shard.is_file() else None
    if len(index) == 0:
        findings.add("shard/empty", Place(str(shard)), f"{path.stat().st_size} bytes" if path is not None else "")
    if path is not None and path.stat().st_size == 0:
        return
    missing = Counter(index.notes)
    if index.notes and path is not None:
        walk = _Walk(str(path), findings)
        with open(path, "rb") as file:
            walk.run(scan(file))
        have = set(index.keys)
        for key in [key for key in walk.members if key not in have]:
            walk.add("sample/cut", key)
        missing -= walk.counts
    for reason, n in sorted(missing.items()):  # left out without a name
        findings.add(reason, Place(str(shard)), n=n)


class _Walk:
    """Walk over a tar, as in ``archive.build.build_index``, that keeps the names of members."""

    def __init__(self, shard: str, findings: Findings):
        self.shard, self.findings = shard, findings
        self.members: dict[str, set[str]] = {}  # key -> members, in the order of the shard
        self.counts: Counter[str] = Counter()
        self.last = ""

    def add(self, reason: str, key: str, member: str = "", detail: str = "") -> None:
        self.counts[reason] += 1
        self.findings.add(reason, Place(self.shard, key, member), detail)

    def run(self, found: Any) -> None:
        for one in found:
            if isinstance(one, Entry):
                self._entry(one.name, one.file)
            elif isinstance(one, Gap):
                detail = f"at byte {one.offset}" + (f", after {self.last!r}" if self.last else "")
                self.add(f"shard/{one.kind}", self.last, "", detail)

    def _entry(self, name: str, file: bool) -> None:
        parts = split_name(name)
        if parts is None:
            base = name.rpartition("/")[2]
            if not (base.startswith("__") and base.endswith("__")):  # webdataset writes such notes
                hidden = (base.startswith(".") or "." not in base) and is_safe(name)
                self.add("shard/other-file" if hidden else "shard/unsafe-name", name)
            return
        key, member = parts
        if key != self.last and key in self.members:
            self.add("shard/not-adjacent", key, member)
        self.last = key
        if not file:
            self.add("shard/no-file", key, member)
            return
        have = self.members.setdefault(key, set())
        if member in have:
            self.add("shard/duplicate-member", key, member)
        have.add(member)


def check_manifest(paths: list[Path], findings: Findings) -> None:
    """Find shards that differ from the manifest of their folder.

    A shard that the manifest names and that is not there counts as missing only where others of its split are checked.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        stated: Any = (read_manifest(folder) or {}).get("shards")
        if not isinstance(stated, dict):
            continue
        here = {path.name: path for path in paths if path.parent == folder and path.is_file()}
        splits = {stated[name].get("split") for name in here if isinstance(stated.get(name), dict)}
        for name, about in stated.items():
            if not isinstance(about, dict):
                continue
            place = Place(str(folder / name))
            if name in here:
                _compare(here[name], about, place, findings)
            elif about.get("split") in splits and not (folder / name).is_file():
                findings.add("shard/missing", place)


def _compare(path: Path, about: dict[str, Any], place: Place, findings: Findings) -> None:
    size = path.stat().st_size
    if isinstance(about.get("size"), int) and about["size"] != size:
        findings.add("shard/manifest", place, f"{size} bytes, the manifest says {about['size']}")
    elif isinstance(about.get("sha256"), str) and sha256(path) != about["sha256"]:
        findings.add("shard/manifest", place, "its sha256 is another one")
