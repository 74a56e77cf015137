"""``align search INDEX --correct SHARDS`` corrects an index for hubs by a bank of queries, and stores that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align.commands.named import split
from align.commands.search_groups import Correcting

if TYPE_CHECKING:
    from align.scoring import How
    from align.search import Searcher
    from align.search.local import LocalIndex

BLOCK = 1 << 14  # samples whose keys are read at a time


def correct(searcher: Searcher, of: str, asked: Correcting, by: str | None, how: How | None, *, json: bool) -> None:
    """Make the corrections, store them in the index, and print them.

    Raises ValueError where the shards lack a modality, and where the index cannot be written.
    """
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.data import Shards
    from align.embedding import embed_shards
    from align.embedding.tables import vectors
    from align.files import json_text
    from align.scoring import choose
    from align.search.correcting import make_shift
    from align.search.local import LocalIndex
    from align.search.shift import name_shift

    if not isinstance(searcher.index, LocalIndex):
        raise ValueError("a correction is stored in an index folder; this index is in none")
    queries = split(by) or ["text"]
    shards = Shards(expand_folders(split(asked.correct)), shuffle=False)
    terms = searcher.model.terms
    with LocalIndex.open(searcher.index.folder, write=True) as index:  # refuses one of version 1 before any work
        with progress("embedding") as say:
            table = embed_shards(searcher.model, shards, progress=say)
        rows = {m: vectors(table, m)[table[m].sample >= 0] for m in table}
        none = next(iter(rows.values()))[:0]
        made = {}
        for query in queries:
            rule = how or choose(terms, (query,), of)
            unit = rule == "cosine" or searcher.model.normalize
            bank, gallery = rows.get(query, none), rows.get(of, none)
            found = make_shift(index, query, of, bank, gallery, asked.correction, how=rule, terms=terms, unit=unit)
            made[name_shift(query, of, rule)] = found
        shards_named = split(asked.correct)
        facts = {name: {**one.facts, "shards": shards_named} for name, one in made.items()}
        if shared := _count_shared(index, table.ids):
            for some in facts.values():
                some |= {"method": f"{some['method']}-transductive", "samples of the index": shared}
        with index.change() as change:
            for name, one in made.items():
                change.correct(name, one.shift._replace(method=facts[name]["method"]), facts[name])
    if json:
        print(json_text(facts, 2))
        return
    for name, some in facts.items():
        print(f"{name}: {some['rows']:,} rows of {of} corrected by {some['method']}, with {some['bank']:,} queries")
    if shared:
        print(f"{shared:,} samples of the bank are in the index, which a transductive correction has seen")
    print("stored in the index; searches use it, and --no-correction leaves it out")


def _count_shared(index: LocalIndex, ids: list[str]) -> int:
    """Return the number of keys that the index has."""
    bank, found = set(ids), 0
    for part in index.numbers().split(BLOCK):
        found += sum(item.key in bank for item in index.items(part.tolist()))
    return found
