"""``align index backend INDEX NAME`` makes an approximate search of an index, and measures what it finds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align.commands.errors import Refused
from align.commands.sizes import count_text, size
from align.commands.stopping import making_search

if TYPE_CHECKING:
    from align.search.ann.measure import Recall

NAMED = 5  # samples that do not find themselves, of a line


def backend(index: str, name: str, /, *, effort: float = 1.0) -> None:
    """Make an approximate search of an index, and measure it

    It proposes samples, and the best of them are scored by the exact rows: their order and scores are the exact ones.
    A sample that it does not propose is missed. The recall is measured with the index's own rows as queries, from every
    modality to every one, because rows of another modality lie apart and find less. Searches use it until the rows
    change. From then on they are exact, until it is made again.

    A URL is that of a Milvus or Qdrant server, which then mirrors the rows: http://HOST:PORT, milvus:http://HOST:PORT
    or qdrant:http://HOST:PORT. Its token comes from ALIGN_MILVUS_TOKEN or ALIGN_QDRANT_KEY. Adding and deleting keep it
    in step, and the same command brings it in step where they could not.

    hnsw is a graph over the whole rows, int8 the same over 8 bits a number. ivfpq has D / 4 bytes a row, binary D / 8.
    exact removes what is there.

    Args:
        index: the index folder
        name: hnsw, ivfpq, int8, binary, a server's URL, or exact
        effort: the factor of the effort of a search. More finds more, and takes longer
    """
    from align.search.ann.named import EXACT
    from align.search.building.build import check_index

    folder = Path(index)
    if name != EXACT:
        check_backend(name, effort)
    check_index(folder)
    if name == EXACT:
        from align.search.ann.attach import remove_backend

        old = remove_backend(folder)
        print(f"{index}: {f'the {old} is removed' if old else 'there was no approximate search'}, searches are exact")
        return
    make(folder, name, effort)


def check_backend(name: str, effort: float = 1.0) -> None:
    """End the command for a name or an effort that cannot be, a server that is away, and where the extra is missing."""
    from align.search.ann.local import check_installed
    from align.search.ann.named import find_backend, is_local
    from align.search.remote import Remote

    if not 0 < effort < 1000:
        raise Refused(f"--effort {effort:g}: it is a factor between 0 and 1000, as in --effort 2", code=2)
    try:
        found = find_backend(Path(), name, effort)
    except ValueError as error:
        raise Refused(str(error), code=2) from None
    if isinstance(found, Remote) and (line := found.trouble()):
        raise Refused(line)
    if is_local(name):
        try:
            check_installed()
        except ImportError as error:
            raise Refused(str(error)) from None


def make(folder: Path, name: str, effort: float = 1.0) -> None:
    """Make an approximate search, print what it took, measure it and print that.

    SIGINT and SIGTERM end it with a line.
    """
    with making_search(folder, name):
        _make(folder, name, effort)


def _make(folder: Path, name: str, effort: float) -> None:
    from align.commands.progress import progress
    from align.search.ann.make import make_backend
    from align.search.ann.mirror import make_mirrors, say_mirror
    from align.search.remote import is_address

    if is_address(name):
        with progress("sending") as say:
            mirrors = make_mirrors(folder, name, effort=effort, progress=say)
        for mirror in mirrors:
            print(f"{folder}: {say_mirror(mirror, name)}")
        measure(folder)
        return
    with progress(name) as say:
        made, left = make_backend(folder, name, effort=effort, progress=say)
    for one in made:
        more = f", {size(one.disk)} on the disk" if one.disk else ""
        more += f", {size(one.memory)} of memory to make it" if one.memory else ""
        print(f"{folder}: {name} of {count_text(one.rows, one.of + ' row')}: {one.seconds:.1f} s{more}")
    for line in left:
        print(line)
    measure(folder)


def measure(folder: Path) -> None:
    """Measure the approximate search of an index, print the recall of every pair, and keep it in the index."""
    from rich.table import Table

    from align.commands.shown import console, plain
    from align.search.ann.attach import Following, attach
    from align.search.ann.measure import QUERIES, K, find_lost, keep_measured, measure_recall
    from align.search.local import LocalIndex

    made = Following(folder).read()
    assert made is not None
    with LocalIndex.open(folder) as opened:
        index = attach(opened)
        table = Table(box=None, pad_edge=False, title_justify="left", title=f"recall@{K}, {QUERIES} queries at most")
        for column in ("query", "searched", "queries", f"recall@{K}", "worst query", "exact ms", "ms"):
            table.add_column(column, justify="left" if column in ("query", "searched") else "right")
        recalls = [measure_recall(index, by, of) for of in made.modalities for by in index.modalities]
        for one in recalls:
            numbers = (f"{one.recall:.3f}", f"{one.worst:.1f}", f"{one.exact:.2f}", f"{one.approximate:.2f}")
            table.add_row(plain(one.by), plain(one.of), str(one.queries), *numbers)
        selves = [find_lost(index, of) for of in made.modalities]
        for of, facts in made.modalities.items():
            say = getattr(made.backend, "say_effort", None)
            if say is not None:
                print(plain(f"effort for {of}: {say(facts)}"))
        console().print(table)
        for line in say_exact(recalls):
            print(plain(line))
        for one in selves:
            print(plain(say_selves(one, [item.key for item in opened.items(one.lost[:NAMED])])))
    keep_measured(folder, made, recalls, selves)


def say_exact(recalls: Sequence[Recall]) -> list[str]:
    """Return a sentence for each modality that was searched exactly while its approximate search was measured."""
    lines = []
    for of in dict.fromkeys(one.of for one in recalls):
        asked = sum(one.queries for one in recalls if one.of == of)
        exactly = asked - sum(one.proposed for one in recalls if one.of == of)
        if exactly == asked:
            lines.append(f"all searches of {of} were exact, and so is their recall: it has too few samples for another")
        elif exactly:
            lines.append(f"of {asked} searches of {of}, {exactly} were exact, for want of proposals")
    return lines


def say_selves(one: object, keys: list[str]) -> str:
    """Return a sentence about the rows that look for themselves. keys: of the first samples that are not found."""
    from align.search.ann.measure import Selves

    assert isinstance(one, Selves)
    which = (
        f"{one.tried:,} of {one.rows:,} {one.of} rows" if one.tried < one.rows else f"all {one.rows:,} {one.of} rows"
    )
    if not one.lost:
        return f"{which} find themselves"
    names = ", ".join(keys) + (", …" if len(one.lost) > len(keys) else "")
    return f"of {which}, those of {count_text(len(one.lost), 'sample')} do not find themselves: {names}"


def read_named(folder: Path) -> tuple[str, str]:
    """Return the name of an index's approximate search and the index's id, "" for what it lacks."""
    from align.search.ann.notes import read_id, read_notes

    try:
        notes = read_notes(folder)
        return ("" if notes is None else notes.backend), read_id(folder)
    except ValueError:
        return "", ""


def say_replaced(folder: Path, name: str, index: str) -> None:
    """Print a line where another index has taken the place of one with an approximate search, and remove its mirror.

    name, index: those of the earlier one, see ``read_named``.
    """
    from align.search.ann.attach import remedy
    from align.search.ann.notes import read_id
    from align.search.remote import connect, is_address

    if not name or read_id(folder) == index:
        return
    line = f"the {name} of the earlier index is gone with it; make it again: {remedy(folder, name)}"
    if is_address(name):
        try:
            connect(name, index=index).drop()
        except (ImportError, OSError) as error:
            line += f"; its mirror stays on the server ({error})"
    print(line, file=sys.stderr)


def say_stale(folder: Path) -> None:
    """Remove approximate searches of rows that have changed, or bring a mirror in step, and print a line for each."""
    from align.search.ann.mirror import keep_in_step

    for line in keep_in_step(folder):
        print(line, file=sys.stderr)
