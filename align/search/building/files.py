"""Samples of a folder of files, read by position as those of shards are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

from align.curation.members.files import Sampling
from align.data.bad import Bad, Lost
from align.data.meta import is_text
from align.data.names import row_name, with_foreign
from align.data.reading import Reading
from align.media import Media
from align.media.choice import converter_of
from align.search.building.folder import JSON, FileState, FolderSample
from align.seeds import derive
from align.values import BadSample, Sample

MOST, MOST_JSON = 2 << 30, 16 << 20  # bytes of a file that is read


@final
class Files(Reading):
    """Samples of a folder. A mesh becomes a cloud, as `align shards build` converts it.

    ``"__mark__"`` of a sample is its ``FolderSample`` with the checksum of each file that was read.

    Args:
        root: the folder.
        samples: of ``align.search.building.folder.scan``.
        media: that files are converted by.
        labels: the first folder below the root is the label where the json states none.
    """

    def __init__(
        self,
        root: Path,
        samples: Sequence[FolderSample],
        media: Media,
        *,
        labels: bool = False,
        sampling: Sampling = Sampling(),
    ):
        super().__init__([], with_foreign(None), streams=1, block=1, max_bad=1, name=str(root))
        self.root, self.plan, self.media, self.labels, self.sampling = root, samples, media, labels, sampling

    def __len__(self) -> int:
        return len(self.plan)

    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """See ``Reading.read``. A file that cannot be read or converted is bad, and the others stand."""
        planned = self.plan[position]
        sample: Sample = {"__key__": planned.key, "__url__": planned.place, "__index__": position}
        bad: list[Bad] = []
        sums: dict[str, str] = {}
        for file in planned.files:
            row = row_name(file.member)
            modality = row.modality if row is not None else file.member
            if modalities is not None and modality not in modalities and file.member != JSON:
                continue
            try:
                data = _read(file)
                sums[file.member] = hashlib.sha256(data).hexdigest()
                name, data = self._convert(file.member, data, planned, Path(file.path))
            except BadSample as error:
                reason = error.reason if "/" in error.reason else f"{modality}/{error.reason}"
                bad.append(Bad(reason, str(self.root), planned.key, file.member))
                continue
            sample[name] = data
        if self.labels and (label := planned.key.partition("/")[0]) != planned.key and is_text(label):
            sample[JSON] = _with_label(sample.get(JSON, b"{}"), label)
        sample["__mark__"] = mark_of(planned, sums)
        return sample, bad

    def _convert(self, member: str, data: bytes, planned: FolderSample, path: Path) -> tuple[str, bytes]:
        row = row_name(member)
        medium = None if row is None else converter_of(self.media, row.suffix, row.modality)
        if row is None or medium is None:
            return member, data
        slot = member.removesuffix(f".{row.suffix}")
        seed = derive(self.sampling.seed, planned.key, slot)
        stored = medium.convert(path, row.suffix, points=self.sampling.points, seed=seed, within=self.root)
        return f"{slot}.{stored.suffix}", stored.data

    @property
    def lost(self) -> list[Lost]:
        return []

    def report(self) -> dict[str, int]:
        return dict(sorted(self._counts.items()))

    def close(self) -> None:
        """Do nothing: a file is open only while it is read."""


def mark_of(planned: FolderSample, sums: dict[str, str]) -> dict[str, list[object]]:
    """Return member -> [path, bytes, time of change in ns, SHA-256 or ""]: the state of a sample's files."""
    return {file.member: [file.path, file.size, file.mtime_ns, sums.get(file.member, "")] for file in planned.files}


def _read(file: FileState) -> bytes:
    most = MOST_JSON if file.member == JSON else MOST
    if file.size > most:
        raise BadSample("too-large", f"{file.path} has {file.size} bytes; at most {most} are read")
    try:
        return Path(file.path).read_bytes()
    except OSError as error:
        raise BadSample("unreadable", f"{file.path}: {error.strerror}") from None


def _with_label(data: bytes, label: str) -> bytes:
    """Return a json with this label where it states none. A json that cannot be read stays as it is."""
    try:
        stated = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(stated, dict) or stated.get("label") is not None:
        return data
    return json.dumps({**stated, "label": label}, ensure_ascii=False).encode("utf-8", "surrogatepass")
