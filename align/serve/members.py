"""The files of an item: where the bytes of each member lie, in a shard or in a folder."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple, final

from align.data.archive.build import read_index
from align.data.archive.members import ShardIndex
from align.data.names import FOREIGN, MemberNames, find_mapped, has_lines, row_name
from align.search.item import Item
from align.serve.refusal import Refusal

BLOCK = 1 << 16  # bytes read at a time
SAMPLES = 1 << 19  # of the shards whose indexes stay in memory, some hundred bytes each


class Member(NamedTuple):
    """A file of an item.

    row: its number among the files of its modality in this item. size: -1 for a file of its own, until it is opened.
    root: the indexed folder of such a file, which a link stays within. "": the folder that the file is in.
    """

    modality: str
    row: int
    name: str
    path: Path
    offset: int = 0
    size: int = -1
    root: str = ""

    @property
    def suffix(self) -> str:
        """The suffix, in lower case and without its dot."""
        return self.name.rpartition(".")[2].lower()


class Slice(NamedTuple):
    """Bytes of a file, or bytes in memory where ``data`` is given. tag: a quoted mark that changes with the content."""

    size: int
    tag: str
    path: Path | None = None
    offset: int = 0
    data: bytes | None = None

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from start to stop. Raises OSError where the file has become shorter."""
        stop = self.size if stop is None else stop
        if self.data is not None:
            yield self.data[start:stop]
            return
        assert self.path is not None
        with open(self.path, "rb") as file:
            file.seek(self.offset + start)
            left = stop - start
            while left > 0:
                part = file.read(min(BLOCK, left))
                if not part:
                    raise OSError(f"{self.path.name} has become shorter")
                left -= len(part)
                yield part


def of_bytes(data: bytes) -> Slice:
    """Return bytes in memory as a slice."""
    return Slice(len(data), f'"{hashlib.sha256(data).hexdigest()[:32]}"', data=data)


def of_member(member: Member) -> Slice:
    """Return the bytes of a member.

    Raises Refusal (404) where the file is gone, and where something else has taken its place since it was indexed: a
    link out of the folder, a folder, a pipe or a device.
    """
    try:
        stat = member.path.stat()
        inside = member.size >= 0 or _is_inside(member.path, member.root or member.path.parent)
    except (OSError, ValueError):
        raise Refusal(404, f"the file of this item is gone ({member.path.name})", code="file_gone") from None
    if not S_ISREG(stat.st_mode) or not inside:
        raise Refusal(404, f"{member.path.name} is no longer the file that was indexed", code="file_gone")
    size = member.size if member.size >= 0 else stat.st_size
    mark = f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}-{member.offset}-{size}"
    return Slice(size, f'"{hashlib.sha256(mark.encode()).hexdigest()[:32]}"', member.path, member.offset)


def list_names(about: Mapping[str, Any]) -> MemberNames:
    """Return modality -> member names, those first that the sources of an index were read by, then the usual ones."""
    found: dict[str, list[str]] = {}
    for names in (source.get("options", {}).get("members", {}) for source in about.get("sources", ())):
        for modality, stated in names.items():
            found.setdefault(modality, []).extend(stated)
    return {m: [*found.get(m, ()), *FOREIGN.get(m, ())] for m in {**FOREIGN, **found}}


@final
class Members:
    """Finder of the files of items. names: modality -> member names, for shards that do not say it in their names."""

    def __init__(self, names: MemberNames = FOREIGN):
        self._names = names
        self._shards: OrderedDict[str, tuple[ShardIndex, dict[str, int]]] = OrderedDict()
        self._samples = 0
        self._lock = threading.Lock()

    def list_members(self, item: Item) -> list[Member]:
        """Return the files of an item that hold rows, by modality and row. A file that is gone counts too.

        Raises Refusal (404) where its shard is gone, is on a server, or no longer has it.
        """
        where, root = self._where(item), _root(item)
        found: list[Member] = []
        for modality, names in self._by_modality(list(where)).items():
            for row, name in enumerate(names):
                found.append(Member(modality, row, name, *where[name], root))
        return found

    def _where(self, item: Item) -> dict[str, tuple[Path, int, int]]:
        """Return member name -> (path, offset, size or -1)."""
        if "shard" not in item.source:
            return {name: (Path(path), 0, -1) for name, path in dict(item.source.get("members", {})).items()}
        shard = str(item.source["shard"])
        if "://" in shard or shard.startswith("pipe:"):
            raise Refusal(404, "this item's shard is on a server, and nothing is fetched", code="file_remote")
        index, number = self._open(shard)
        i = number.get(str(item.source.get("key", item.key)))
        if i is None:
            raise Refusal(404, f"{Path(shard).name} no longer has this item", code="file_gone")
        places = range(int(index.first[i]), int(index.first[i + 1]))
        return {index.names[index.name[p]]: (Path(shard), int(index.offset[p]), int(index.size[p])) for p in places}

    def _open(self, shard: str) -> tuple[ShardIndex, dict[str, int]]:
        with self._lock:
            try:
                stat = os.stat(shard)
                if not S_ISREG(stat.st_mode):
                    raise OSError(f"{shard} is no file")
                mark = f"{shard}:{stat.st_mtime_ns}"
                if mark not in self._shards:
                    index = read_index(Path(shard))
                    self._shards[mark] = (index, {key: i for i, key in enumerate(index.keys)})
                    self._samples += len(self._shards[mark][1])
            except (OSError, ValueError):
                raise Refusal(404, f"the shard of this item is gone ({Path(shard).name})", code="file_gone") from None
            self._shards.move_to_end(mark)
            while len(self._shards) > 1 and self._samples > SAMPLES:
                self._samples -= len(self._shards.popitem(last=False)[1][1])
            return self._shards[mark]

    def _by_modality(self, names: list[str]) -> Mapping[str, list[str]]:
        rows = {name: row for name in names if (row := row_name(name)) is not None and not row.negative}
        found: dict[str, list[str]] = {}
        for name in sorted(rows, key=lambda name: (rows[name].modality, rows[name].number, name)):
            found.setdefault(rows[name].modality, []).append(name)
        for modality in self._names:
            name = find_mapped(modality, self._names, names)
            name = name.partition(":")[0] if name is not None and has_lines(name) else name
            if modality != "label" and modality not in found and name in names:
                found[modality] = [str(name)]
        return found


def _root(item: Item) -> str:
    """Return the indexed folder, or "" where an item does not tell it.

    A key is the path of a sample's files below the folder, without a suffix.
    """
    first = str(item.source.get("file") or "")
    return first[: max(0, first.rfind(f"/{item.key}."))]


def _is_inside(path: Path, folder: str | Path) -> bool:
    real = os.path.realpath(folder)
    return os.path.commonpath([real, os.path.realpath(path, strict=True)]) == real


def file_name(item: Item, member: Member) -> str:
    """Return a name for a downloaded file: letters, digits, dot, dash and underscore."""
    name = f"{item.key}.{member.name}".replace("/", "_")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[-120:] or "file"
