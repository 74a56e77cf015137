"""Found samples on a terminal: a table, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from align.search import Found, Item
    from align.search.explain import Share

    Because = Sequence[Sequence[Share]]


def print_json(
    found: Found, asked: Sequence[tuple[str, str, float]], files: Sequence[str], because: Because = ()
) -> None:
    """Print an answer as JSON: the query, the rule, the notes, and each hit with its item, and why it was found."""
    from dataclasses import asdict

    from align.files import json_text

    hits = [hit._asdict() | asdict(hit.item) for hit in found.hits]
    for hit in hits:
        del hit["item"]
    if because:
        for hit, shares in zip(hits, because, strict=True):
            hit["because"] = [share._asdict() for share in shares]
    query = [{"modality": m, "value": x, "weight": weight} for m, x, weight in asked]
    facts = {
        "of": found.of,
        "how": found.how,
        "correction": found.correction,
        "candidates": found.candidates,
        "seconds": found.seconds,
    }
    print(json_text({"query": query, **facts, "notes": list(found.notes), "hits": hits, "files": list(files)}, 2))


def print_table(found: Found, files: Sequence[str], folder: str | None, because: Because = ()) -> None:
    """Print a row for each hit: its rank, its score, the cosine of each part, its key and its first caption.

    because: for each hit the dimensions that its score comes from, in a last column.
    """
    from rich.table import Table

    from align.commands.shown import console, plain
    from align.commands.sizes import count_text
    from align.commands.tables import print_notes

    by = found.how + (f", corrected by {found.correction}" if found.correction else "")
    table = Table(box=None, pad_edge=False, title=f"{found.of}, by {by}", title_justify="left")
    names = list(dict.fromkeys(name for hit in found.hits for name in hit.cosines))
    names = [] if found.how == "cosine" and len(names) == 1 else names
    words = any(hit.text_rank is not None for hit in found.hits) and found.how == "hybrid"
    folded = any(hit.same for hit in found.hits)
    for name in ("rank", "score", *(f"cosine {m}" for m in names), *(["words"] * words), *(["same"] * folded)):
        table.add_column(name, justify="right")
    for name in ("key", "caption", *(["because"] * bool(because))):
        table.add_column(name, overflow="fold")
    for i, hit in enumerate(found.hits):
        table.add_row(
            str(hit.rank),
            f"{hit.score:.4f}" if found.how == "hybrid" else f"{hit.score:.3f}",
            *(f"{hit.cosines[m]:.3f}" if m in hit.cosines else "" for m in names),
            *([str(hit.text_rank or "")] * words),
            *([f"+{len(hit.same)}" if hit.same else ""] * folded),
            plain(hit.item.key),
            plain(describe(hit.item)),
            *([", ".join(f"{plain(name)} {value:.3f}" for name, value in because[i])] if because else []),
        )
    if found.hits:
        console().print(table)
    else:
        print(f"no hit among {count_text(found.candidates, 'sample')} with {found.of}")
    if files:
        print(f"{len(files)} files in {folder}")
    print_notes(found.notes)


def describe(item: Item) -> str:
    """Return the first caption of a sample, or its label in words where it has none."""
    from align.data.labels import in_words

    return item.captions[0] if item.captions else in_words(item.label)
