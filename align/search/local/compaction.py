"""Compaction: the rows of deleted samples go, and many small segments become a few."""

from __future__ import annotations

import torch
from torch import Tensor

from align.search.local.change import Change
from align.search.local.segments import Entry, Mapped, list_segments, map_segment

BLOCK = 1 << 14  # rows copied at a time
SMALL = 0.5  # share of a full segment below which it is joined with others


def compact(change: Change) -> int:
    """Write the living rows of each modality anew, in the order of their samples, and return the rows that went.

    Modalities whose segments are full, in order and without dead rows stay. The old files are the caller's to remove.
    """
    connection, gone = change.connection, 0
    dead = torch.tensor([number for (number,) in connection.execute("SELECT number FROM dead ORDER BY number")]).long()
    entries = list_segments(connection)
    for m in sorted({entry.modality for entry in entries}):
        old = [entry for entry in entries if entry.modality == m]
        if any(entry.dead for entry in old) or len(old) > 1:
            gone += _rewrite(change, m, old, dead)
    change.finish()
    connection.execute("DELETE FROM dead")
    connection.execute("DELETE FROM keys WHERE id NOT IN (SELECT key FROM leaves)")
    for table in ("words", "grams"):
        connection.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")
    return gone


def _rewrite(change: Change, m: str, old: list[Entry], dead: Tensor) -> int:
    segments = [map_segment(change.folder, entry, change.about_now["dim"]) for entry in old]
    sample = torch.cat([rows.sample for rows in segments])
    place = torch.cat([torch.full((len(rows.sample),), i) for i, rows in enumerate(segments)])
    row = torch.cat([torch.arange(len(rows.sample)) for rows in segments])
    order = (~torch.isin(sample, dead)).nonzero()[:, 0]
    order = order[sample[order].argsort(stable=True)]
    if len(order) == len(sample) and _is_tidy(sample, old):
        return 0
    for some in order.split(BLOCK) if len(order) else ():  # an empty tensor is split into one
        change.append(m, _gather(segments, place[some], row[some], sample[some]))
    change.connection.executemany("DELETE FROM segments WHERE id = ?", [(entry.id,) for entry in old])
    return len(sample) - len(order)


def _is_tidy(sample: Tensor, old: list[Entry]) -> bool:
    from align.search.local import segments

    full = all(entry.rows >= SMALL * segments.ROWS for entry in old[:-1])
    return full and bool((sample[1:] >= sample[:-1]).all())


def _gather(segments: list[Mapped], place: Tensor, row: Tensor, sample: Tensor) -> Mapped:
    values = segments[0].values.new_empty(len(row), segments[0].values.shape[1])
    norm = torch.empty(len(row))
    for i in place.unique().tolist():
        at = place == i
        values[at], norm[at] = segments[i].values[row[at]].to(values.dtype), segments[i].norm[row[at]]
    return Mapped(values, norm, sample)
