"""Wholes of parts: a row that lies in a row of another modality, as a box in a picture, meets that row's content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from align.data.bad import ALONE, Bad
from align.data.opening import Opening, OpenRow, attempt
from align.preprocess.view import Inside

if TYPE_CHECKING:
    from align.preprocess import Preprocess


def wholes_first(preprocess: Mapping[str, Preprocess]) -> list[tuple[str, Preprocess]]:
    """Return the readers in their order, those whose rows lie in another modality's last."""
    return sorted(preprocess.items(), key=lambda item: bool(item[1].of))


def place_parts(opening: Opening, preprocess: Mapping[str, Preprocess]) -> Opening:
    """Return a sample whose parts hold the content of their whole, which is decoded for that one time.

    The whole is the first row of its modality. A part of a sample without it is a hole (``region/alone``).
    """
    rows = dict(opening.rows)
    for m, reader in preprocess.items():
        if not reader.of or not rows[m]:
            continue
        of, whole = preprocess.get(reader.of), None
        first = rows[reader.of][0] if of is not None and rows[reader.of] else None
        if of is not None and isinstance(first, OpenRow) and not first.negative:
            kept = (
                first.data
                if first.kept
                else attempt(
                    lambda of=of, first=first: of.keep(first.data), first, reader.of, opening.shard, opening.key
                )
            )
            if isinstance(kept, Bad):
                first = kept
            elif kept is not None:
                first, whole = first._replace(data=kept, kept=True), kept
            else:  # its rows are not made of what ``decode`` returns
                whole = attempt(
                    lambda of=of, first=first: of.decode(first.data), first, reader.of, opening.shard, opening.key
                )
                first = whole if isinstance(whole, Bad) else first
            rows[reader.of] = [first, *rows[reader.of][1:]]
        alone = whole is None or isinstance(whole, Bad)
        rows[m] = [
            row
            if isinstance(row, Bad)
            else Bad(f"{m}/{ALONE}", opening.shard, opening.key, row.member)
            if alone or of is None
            else row._replace(data=Inside(row.data, whole, of))
            for row in rows[m]
        ]
    return opening._replace(rows=rows)
