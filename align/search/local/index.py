"""An index in a folder: the items in SQLite, the rows in segments beside it.

    index.json                 {"schema": 2, "align": version}
    index.sqlite               items, the values that filters read, full text, deletions, the list of segments
    segments/NNNNNNNN.safetensors      rows of one modality; written a single time, mapped when they are read

A sample is known by (place, key) and has a number for good. Deleted samples' rows stay until ``compact``. A segment's
SHA-256 is compared when a process first searches it, an item's checksum when it is read; ``check`` compares them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from align.search.index import Facet
from align.search.item import Item
from align.search.local import ask, passing
from align.search.local import text as full_text
from align.search.local.change import Change
from align.search.local.checks import check_folder
from align.search.local.compaction import compact
from align.search.local.corrections import read_shift
from align.search.local.create import check_there, create_folder
from align.search.local.entries import read_items
from align.search.local.facets import count_values
from align.search.local.reader import Reader
from align.search.local.segments import Mapped
from align.search.local.state import Standing, State
from align.search.local.version1 import open_version1
from align.search.local.writing import shrink, write_to
from align.search.shift import Shift, match_segments
from align.search.where import Where
from align.values import Rows

T = TypeVar("T")


@final
class LocalIndex:
    """An index in a folder, see ``align.search.index.Index``. Threads may share it. It is
    also a context manager.

    A search begins with the newest state that a writer has committed, and keeps it to its end.
    """

    def __init__(self, folder: Path, reader: Reader, *, write: bool):
        self.folder = folder
        self.writable = write
        self._reader = reader

    @classmethod
    def create(cls, folder: str | Path, about: Mapping[str, Any] | None = None) -> LocalIndex:
        """Make an empty index and open it for writing.

        about: see ``Index.about``. ``dim`` may come with the first rows; ``dtype`` "float16" halves the segments.

        Raises FileExistsError where an index or something else is there, OSError where it cannot be written.
        """
        create_folder(Path(folder), about or {})
        return cls.open(folder, write=True)

    @classmethod
    def open(cls, folder: str | Path, write: bool = False) -> LocalIndex:
        """Open an index. One of version 1 is read into memory, and cannot be written.

        Raises FileNotFoundError where there is none, ValueError where it is damaged, newer than this align, or of
        version 1 and to be written, OSError where it cannot be read.
        """
        folder = Path(folder)
        if check_there(folder) == 1:
            return cls(folder, open_version1(folder, write=write), write=False)
        return cls(folder, Reader(folder), write=write)

    @property
    def about(self) -> Mapping[str, Any]:
        """The index's model, dim and notes, see ``Index.about``."""
        return self._ask(lambda connection, state: dict(state.about))

    @property
    def modalities(self) -> Mapping[str, int]:
        """Modality -> rows."""
        return self._ask(lambda connection, state: state.modalities)

    @property
    def generation(self) -> int:
        """The number of the newest change."""
        return self._ask(lambda connection, state: state.generation)

    @property
    def dead_share(self) -> float:
        """The share of the stored rows that belong to deleted samples."""

        def run(_: Any, state: State) -> float:
            return sum(one.dead for one in state.segments) / max(1, sum(one.rows for one in state.segments))

        return self._ask(run)

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Yield a change, which is made whole when the block ends, and not at all when an error leaves it.

        A second writer waits 5 seconds. Raises OSError where another is still writing or the disk is full,
        PermissionError where the index is open for reading.
        """
        if not self.writable:
            raise PermissionError(f"{self.folder} is open for reading; open it with write=True")
        with write_to(self.folder) as change:
            yield change

    def add(self, of: str, values: Tensor, sample: Tensor, items: Sequence[Item]) -> None:
        """Add rows of a modality, see ``Index.add`` and ``Change.add``."""
        with self.change() as change:
            change.add({of: Rows(values, sample)}, items)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the samples with these keys, and return their number."""
        with self.change() as change:
            return change.delete(keys)

    def compact(self) -> int:
        """Remove the rows of deleted samples and join small segments. Return the number of removed rows.

        Numbers of samples stay. Readers go on meanwhile.
        """
        with self.change() as change:
            gone = compact(change)
        shrink(self.folder)
        return gone

    def sources(self) -> dict[str, Any]:
        """Return the noted shards or files with their marks, see ``Change.source``."""
        sql = "SELECT place, mark FROM sources ORDER BY place"
        return self._ask(lambda connection, _: {place: json.loads(mark) for place, mark in connection.execute(sql)})

    def search(
        self,
        query: Tensor,
        of: str,
        k: int,
        where: Where | None = None,
        *,
        scaled: bool = False,
        shift: Shift | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the best samples of each query, see ``Index.search``.

        Raises ValueError for a modality or a key that the index lacks, and for a damaged segment.
        """

        def run(connection: Any, state: State) -> tuple[Tensor, Tensor]:
            segments = self._map(of, state)
            dim = state.about["dim"]
            if query.ndim != 2 or query.shape[1] != dim:
                raise ValueError(f"a query of {self.folder} is (q, {dim}); got {tuple(query.shape)}")
            passed = passing.mask(connection, state, where)
            shifts = None if shift is None else _match(shift, of, segments, state)
            return ask.search_segments(query, segments, k, passed, scaled=scaled, shifts=shifts)

        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        return self._ask(run)

    def shift(self, name: str) -> Shift:
        """Return a correction for hubs, see ``Corrected.shift``. Raises ValueError where it is damaged."""
        return self._ask(lambda connection, state: state.keep(f"shift {name}", lambda: read_shift(connection, name)))

    def count_unshifted(self, of: str, name: str) -> int:
        """Return the number of rows of a modality that came after a correction."""

        def run(connection: Any, state: State) -> int:
            living = torch.cat([one.sample for one in self._map(of, state)]).sort().values
            kept = read_shift(connection, name)
            return kept.count_missing(living if (alive := state.alive()) is None else living[alive[living]])

        return self._ask(lambda connection, state: state.keep(f"unshifted {of} {name}", lambda: run(connection, state)))

    def rows(self, of: str, samples: Sequence[int] | Tensor) -> Rows:
        """Return the rows of these samples, each with its norm, in ascending order of samples."""
        wanted = torch.as_tensor(samples, dtype=torch.long).unique()

        def run(connection: Any, state: State) -> Rows:
            return ask.pick_rows(self._map(of, state), wanted, state.alive(), state.about["dim"])

        return self._ask(run)

    def unit_rows(self, of: str, samples: Sequence[int] | Tensor) -> Rows:
        """Return the rows of these samples as they are scored: stored unit vectors, in ascending order of samples."""
        wanted = torch.as_tensor(samples, dtype=torch.long).unique()

        def run(connection: Any, state: State) -> Rows:
            return ask.pick_rows(self._map(of, state), wanted, state.alive(), state.about["dim"], scaled=False)

        return self._ask(run)

    def mark(self, of: str) -> str:
        """Return a text that is another one after each change of a modality's rows, "" where the index has none."""
        return self._ask(lambda _, state: state.mark(of))

    def stand(self, of: str, where: Where | None = None) -> Standing:
        """Return the facts of a modality at one generation. Raises ValueError for a key that the index lacks."""

        def run(connection: Any, state: State) -> Standing:
            counts = (passing.count(connection, state, of, one) for one in (None, where))
            return Standing(state.generation, state.about.get("dim", 0), state.mark(of), *counts)

        return self._ask(run)

    def items(self, samples: Sequence[int]) -> list[Item]:
        """Return the items with these numbers. Raises KeyError for a number that is not in the index."""
        return self._ask(lambda connection, _: read_items(connection, samples))

    def count(self, of: str | None = None, where: Where | None = None) -> int:
        """Return the number of samples (with rows of a modality) that the filter lets through."""
        return self._ask(lambda connection, state: passing.count(connection, state, of, where))

    def numbers(self, of: str | None = None, where: Where | None = None) -> Tensor:
        """Return the numbers of these samples, in ascending order: (m,)."""
        return self._ask(lambda connection, state: passing.numbers(connection, state, of, where))

    def find_text(self, text: str, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Return the BM25 scores (m,) and the samples (m,), m <= k, see ``align.search.local.text``."""
        return self._ask(
            lambda connection, state: full_text.find(connection, text, k, passing.condition(connection, state, where))
        )

    def facets(self, where: Where | None = None, *, values: int = 20) -> list[Facet]:
        """Return the keys of labels and json, and folders, with their most frequent values."""

        def run(connection: Any, state: State) -> list[Facet]:
            name = f"facets {values} {where!r}"
            return state.keep(
                name, lambda: count_values(connection, passing.condition(connection, state, where), values)
            )

        return self._ask(run)

    def check(self, progress: Callable[[int, int], Any] | None = None) -> list[str]:
        """Verify every checksum, and return a line for each damage. progress: called with (bytes done, bytes)."""
        return self._ask(lambda connection, state: check_folder(self._reader, connection, state, progress))

    def prepare(self, readers: int) -> None:
        """Make ready for so many threads, and map and verify every segment.

        Then the index is searched to its end, also after another one took its folder. Raises ValueError for damage.
        """
        self._reader.prepare(readers)

        def run(connection: Any, state: State) -> None:
            for of in state.modalities:
                self._map(of, state)

        self._ask(run)

    def close(self) -> None:
        """Close the files. A closed index raises ValueError."""
        self._reader.close()

    def __enter__(self) -> LocalIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _map(self, of: str, state: State) -> list[Mapped]:
        if of not in state.modalities:
            raise ValueError(f"the index has no {of!r}; it has {', '.join(state.modalities) or 'nothing'}")
        return [self._reader.map(entry, state) for entry in state.segments if entry.modality == of]

    def _ask(self, run: Callable[[Any, State], T]) -> T:
        return self._reader.ask(run)


def _match(shift: Shift, of: str, segments: list[Mapped], state: State) -> list[Tensor]:
    """Return the numbers of each segment's rows, from memory where the same correction was asked for lately."""

    def run() -> list[Tensor]:
        return match_segments(shift, [one.sample for one in segments])

    return state.keep(f"matched {of} {shift.mark}", run) if shift.mark else run()
