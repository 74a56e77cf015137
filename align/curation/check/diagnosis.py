"""The whole check of a set of shards, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.curation.check.archive import check_archive, check_manifest
from align.curation.check.duplicates import check_captions, check_copies, check_keys, check_looks
from align.curation.check.findings import Finding, Findings, Place
from align.curation.check.labels import check_labels
from align.curation.check.leakage import check_leakage
from align.curation.check.said import check_said
from align.curation.check.seen import Odd, Seen
from align.curation.check.survey import survey
from align.data.archive.build import read_index
from align.data.names import CODE
from align.data.places.urls import resolve_shards
from align.data.shards import Shards
from align.media import MEDIA, Media

Progress = Callable[[int, int], None]
URLs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Diagnosis:
    """Result of a check. errors: number of samples with an error, plus errors of whole shards."""

    shards: list[str]
    samples: int
    bytes: int
    modalities: dict[str, int]  # samples that have a row of it
    labels: dict[str, dict[str, int]]  # attribute -> value -> samples, the most frequent first
    rates: dict[str, int]  # Hz -> sounds
    findings: list[Finding]
    errors: int
    max_bad: float
    source: Shards | None  # the set and the one that it was compared with, to read examples from
    other: Shards | None
    media: Media = MEDIA

    @property
    def allowed(self) -> int:
        """The number of errors that the budget allows."""
        return int(self.max_bad * self.samples)

    @property
    def failed(self) -> bool:
        """True where more than ``max_bad`` of the samples have errors."""
        return self.max_bad < 1 and self.errors > self.allowed

    def json(self) -> dict[str, Any]:
        """Return all numbers and findings, for ``json.dumps``."""
        return {
            "shards": self.shards,
            "samples": self.samples,
            "bytes": self.bytes,
            "modalities": {m: {"samples": n, "share": n / max(1, self.samples)} for m, n in self.modalities.items()},
            "labels": self.labels,
            "rates": self.rates,
            "errors": self.errors,
            "allowed": self.allowed,
            "failed": self.failed,
            "findings": [finding.json() for finding in self.findings],
        }


def diagnose(
    urls: URLs,
    against: URLs | None = None,
    *,
    modalities: Sequence[str] | None = None,
    max_bad: float = 0.001,
    rate: int | None = None,
    most: int = 12,
    members: Mapping[str, Sequence[str]] | None = None,
    workers: int = 0,
    allow_pipe: bool = False,
    progress: Progress | None = None,
    media: Media = MEDIA,
) -> Diagnosis:
    """Read every member of every sample and return the faults of the set.

    Memory grows by the index, 84 bytes for each picture, sound and cloud, and 16 for each caption. No decoded content
    is kept.

    Args:
        urls, members, allow_pipe: as for ``Shards``.
        against: another set that should share nothing with this one. It is read in the same way.
        modalities: the only ones to look at. Default: all that the names of members state.
        max_bad: share of samples that may have an error.
        rate: Hz that all sounds should have. Default: the most frequent rate.
        most: examples kept of each finding.
        workers: processes that read and decode, 0 for this one. The diagnosis does not depend on their number.
        progress: called with the number of samples done and their total.
        media: that members are read by.

    Raises FileNotFoundError for a missing shard, ValueError for a modality that no shard has or a share out of [0, 1].
    """
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max_bad is a share from 0 to 1, not {max_bad}")
    if workers < 0:
        raise ValueError(f"workers={workers}: 0 for none, or how many processes read")
    findings = Findings(most, media)
    paths, shards = _open(urls, members, allow_pipe, findings)
    other = Shards(against, shuffle=False, members=members, allow_pipe=allow_pipe) if against is not None else None
    wanted = _choose(shards, modalities)
    seen = Seen(most, media)
    if shards is not None:
        for path, index in zip(shards.urls, shards.indexes, strict=True):
            check_archive(path, index, findings)
        local = [path for path in paths if isinstance(path, Path)]
        check_manifest(local, findings)
        _find_pickles(shards, findings)
        check_said(shards, findings, media)
        size, total = len(shards), len(shards) + (len(other) if other is not None else 0)
        say = progress and (lambda n: progress(n, total))
        seen = survey(shards, wanted, most, workers=workers, progress=say, media=media)
        findings.merge(seen.findings)
        seen.findings = findings
        check_keys(shards, findings)
        check_copies(shards, wanted, findings)
        for medium in {medium.name: medium for medium in media}.values():
            check_looks(shards, seen.prints[medium.name], medium.modality, findings)
        check_captions(shards, seen.captions, findings)
        usual = {"rate": None if rate is None else str(rate)}
        for name, oddity in ((name, oddity) for medium in media for name, oddity in medium.odd.items()):
            seen.odd.get(name, Odd(most)).report(oddity, findings, usual.get(name))
        check_labels(seen, shards.classes if shards.manifest is not None else {})
        if other is not None:
            say = progress and (lambda n: progress(size + n, total))
            theirs = survey(other, wanted, most, workers=workers, progress=say, media=media)
            check_leakage(shards, seen, other, theirs, wanted)
    return Diagnosis(
        shards=[str(path) for path in paths],
        samples=len(shards) if shards is not None else 0,
        bytes=sum(path.stat().st_size for path in paths if isinstance(path, Path) and path.is_file()),
        modalities={m: n for m, n in (shards.modalities if shards is not None else {}).items() if m in wanted},
        labels={a: dict(counts.most_common()) for a, counts in sorted(seen.labels.items())},
        rates=dict(sorted(seen.odd.get("rate", Odd(most)).counts.items(), key=lambda item: -item[1])),
        findings=findings.rank(),
        errors=findings.errors,
        max_bad=max_bad,
        source=shards,
        other=other,
        media=media,
    )


def _open(urls: URLs, members: Any, allow_pipe: bool, findings: Findings) -> tuple[list[Any], Shards | None]:
    """Return the paths of all shards that are named, and an opened set of those that can be read."""
    paths = list(resolve_shards(urls, allow_pipe=allow_pipe))
    try:
        return paths, Shards(urls, shuffle=False, members=members, allow_pipe=allow_pipe)
    except ValueError:
        local = [path for path in paths if isinstance(path, Path)]
        if len(local) < len(paths):
            raise
        good = []
        for path in local:
            try:
                read_index(path)
                good.append(path)
            except ValueError as error:
                findings.add("shard/no-tar", Place(str(path)), str(error).removeprefix(f"{path} "))
        return paths, Shards(good, shuffle=False, members=members) if good else None


def _choose(shards: Shards | None, modalities: Sequence[str] | None) -> list[str]:
    there = list(shards.modalities) if shards is not None else []
    for name in modalities or ():
        if shards is not None and name not in there:
            raise ValueError(f"no member of modality {name!r}; these shards have {', '.join(there) or 'none'}")
    return [m for m in there if not modalities or m in modalities]


def _find_pickles(shards: Shards, findings: Findings) -> None:
    """Find members that other readers would unpickle. Only the index is read."""
    start = 0
    for path, index in zip(shards.urls, shards.indexes, strict=True):
        code = [name for name in index.names if name.rpartition(".")[2] in CODE]
        for i, key in enumerate(index.keys if code else ()):
            for member in index.members(i):
                if member in code:
                    findings.add("member/pickle", Place(str(path), key, member, start + i))
        start += len(index)
