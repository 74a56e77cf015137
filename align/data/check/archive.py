"""The tar itself: gaps, names that are refused, samples whose members are not neighbours, and the manifest's word.

An index only counts what the scan had to leave out. A shard with such notes is scanned once more here, to say where.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.data.check.findings import Findings, Place
from align.data.names import safe, split
from align.data.tar import Entry, Gap, scan
from align.files import sha256


def check_archive(path: Path, notes: dict[str, int], samples: int, findings: Findings) -> None:
    """What is wrong with a shard as a file. notes: its index's; samples: how many the index has."""
    if samples == 0:
        findings.add("shard/empty", Place(str(path)), f"{path.stat().st_size} bytes" if path.is_file() else "")
    if not notes or (path.is_file() and path.stat().st_size == 0):
        return
    if not path.is_file():  # a remote shard: only how many
        for reason, n in sorted(notes.items()):
            findings.add(reason, Place(str(path)), n=n)
        return
    with open(path, "rb") as file:
        _Walk(str(path), findings).run(scan(file))


class _Walk:
    """The walk of ``index.build_index`` once more, with the names that it passes."""

    def __init__(self, shard: str, findings: Findings):
        self.shard, self.findings = shard, findings
        self.members: dict[str, set[str]] = {}
        self.cut: dict[str, None] = {}  # keys, in order
        self.last = ""
        self.after_gap = False

    def run(self, found: Any) -> None:
        for one in found:
            if isinstance(one, Gap):
                place = f"at byte {one.offset}" + (f", after {self.last!r}" if self.last else "")
                self.findings.add(f"shard/{one.kind}", Place(self.shard, self.last), place)
                if self.last:
                    self.cut[self.last] = None
                self.after_gap = one.kind == "header"
            elif isinstance(one, Entry):
                self._entry(one.name)
        for key in self.cut:
            self.findings.add("sample/cut", Place(self.shard, key))

    def _entry(self, name: str) -> None:
        parts = split(name)
        if parts is None:
            base = name.rpartition("/")[2]
            if base.startswith("__") and base.endswith("__"):
                return
            hidden = (base.startswith(".") or "." not in base) and safe(name)
            self.findings.add("shard/other-file" if hidden else "shard/unsafe-name", Place(self.shard, name))
            return
        key, member = parts
        if self.after_gap:
            self.cut[key] = None
        self.after_gap = False
        if key != self.last and key in self.members:
            self.findings.add("shard/not-adjacent", Place(self.shard, key, member))
        have = self.members.setdefault(key, set())
        if member in have:
            self.findings.add("shard/duplicate-member", Place(self.shard, key, member))
        have.add(member)
        self.last = key


def check_manifest(paths: list[Path], manifests: dict[Path, dict[str, Any]], findings: Findings) -> None:
    """Whether each shard is the one that the manifest of its folder names. manifests: folder -> its content.

    Missing are shards of a split of which others are checked.
    """
    for folder, manifest in manifests.items():
        stated: Any = manifest.get("shards")
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
