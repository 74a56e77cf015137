"""Samples as far as no epoch changes them: their meta data, and the rows of each modality before they are augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from align.data.bad import Bad
from align.data.decoded import is_decoded
from align.data.meta import read_meta
from align.data.mixing.overrides import Decoding
from align.data.rows import UnusableMember, explain, find_rows
from align.values import BadSample, Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess


class OpenRow(NamedTuple):
    """A row before it is augmented."""

    data: Any  # ``Preprocess.keep`` of its source where ``kept``, else the source
    kept: bool
    negative: bool
    member: str
    part: int = -1


class Opening(NamedTuple):
    """A sample before it is augmented. Bad members have no position yet."""

    key: str
    shard: str
    source: str  # its name in ``Batch.source``
    label: Any
    group: int
    weight: float | None
    grade: Mapping[str, int]
    unread: Sequence[Bad]  # faults of the reading
    bad: Sequence[Bad]  # faults of the meta data
    rows: dict[str, list[OpenRow | Bad]]  # modality -> rows and bad members, in order


def open_sample(sample: Sample, decoding: Decoding, *, keep: bool = False, unread: Sequence[Bad] = ()) -> Opening:
    """Return a sample's meta data and rows. keep: decode every row that ``Preprocess.keep`` can."""
    key, shard = sample.get("__key__", ""), sample.get("__url__", "")
    meta, reasons = read_meta(sample, decoding.members)
    rows: dict[str, list[OpenRow | Bad]] = {}
    for m, reader in decoding.preprocess.items():
        rows[m] = [
            Bad(source.reason, shard, key, source.member)
            if isinstance(source, UnusableMember)
            else OpenRow(source.data, False, source.negative, source.member, source.part)
            for source in find_rows(sample, m, reader.suffixes, decoding.members, meta.json)
        ]
        if keep:
            _keep_rows(rows[m], reader, m, shard, key)
    name = sample.get("__source__", shard)
    bad = [Bad(reason, shard, key) for reason in reasons]
    return Opening(key, shard, name, meta.label, meta.group, meta.weight, meta.grade, unread, bad, rows)


def _keep_rows(rows: list[OpenRow | Bad], reader: Preprocess, modality: str, shard: str, key: str) -> None:
    """Put ``Preprocess.keep`` of each row in its place.

    A bad row stays bad where it is the last. One before others is read anew each time: its draws come before theirs.
    """
    for i, row in enumerate(rows):
        if isinstance(row, Bad):
            continue
        kept = attempt(lambda row=row: reader.keep(row.data), row, modality, shard, key)
        if isinstance(kept, Bad):
            if not any(isinstance(other, OpenRow) for other in rows[i + 1 :]):
                rows[i] = kept
        elif kept is not None:
            rows[i] = row._replace(data=kept, kept=True)


def finish_row(row: OpenRow, reader: Preprocess, draws: torch.Generator | None, modality: str, opening: Opening) -> Any:
    """Return a row as a preprocess collates it, or a Bad where its source cannot become one."""
    work = reader.finish if row.kept else reader.row
    return attempt(lambda: work(row.data, draws), row, modality, opening.shard, opening.key)


def attempt(work: Callable[[], Any], row: OpenRow, modality: str, shard: str, key: str) -> Any:
    """Return the result of a preprocess's work on a row, or a Bad. Any other error gets a note of the member."""
    try:
        return work()
    except BadSample as error:
        return Bad(explain(error, modality), shard, key, row.member)
    except Exception as error:
        where = Bad("", shard, key, row.member).where
        if isinstance(error, TypeError) and not row.kept and is_decoded(row.data):
            raise ValueError(
                f"{where}: {error}"
            ) from error  # every preprocess reads bytes, but objects of its kind only
        error.add_note(f"while reading {where}")
        raise
