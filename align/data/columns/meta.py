"""Facts of samples that a cache keeps beside the rows: keys, labels, groups, weights, and the members that were bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch

from align.data.bad import EMPTY, Bad
from align.data.columns.column import Column
from align.data.columns.format import SourceShard
from align.data.columns.set_reader import SetReader
from align.data.grades import grade_columns, in_words
from align.data.join import mark
from align.data.names import MemberNames, member_modality
from align.values import Batch, Rows, Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess


class Fact(NamedTuple):
    """Facts of one sample. weight: None where it states none."""

    key: str
    shard: str
    label: Any
    group: int
    weight: float | None
    grade: Mapping[str, int] = MappingProxyType({})


@final
class MetaReader:
    """Facts of samples by number. Each comes from the first set whose block with the sample is sound."""

    def __init__(self, shards: Sequence[SourceShard], readers: Sequence[SetReader], members: MemberNames):
        self.shards, self.readers, self.members = shards, readers, members
        self._ends = np.cumsum([shard.samples for shard in shards])

    def facts(self, numbers: np.ndarray) -> list[Fact]:
        """Return the facts of samples. A sample whose blocks are all damaged has the key ""."""
        chosen = np.full(len(numbers), -1)
        blocks = np.zeros((len(self.readers), len(numbers)), dtype=np.int64)
        for r in range(len(self.readers) - 1, -1, -1):
            blocks[r] = self.readers[r].locate(numbers)
            chosen[self.readers[r].are_sound(blocks[r])] = r
        return [
            self._fact(n, r, int(blocks[r, i]))
            for i, (n, r) in enumerate(zip(numbers.tolist(), chosen.tolist(), strict=True))
        ]

    def _fact(self, number: int, r: int, block: int) -> Fact:
        if r < 0:
            return Fact("", self.shards[int(np.searchsorted(self._ends, number, side="right"))].name, None, -1, None)
        reader = self.readers[r]
        about, i = reader.about(block), number - int(reader.first[block])
        weight = None if about.weight is None else float(about.weight[i])
        return Fact(
            about.key(i),
            about.sources[i] or reader.blocks[block].part.path.name,
            about.labels[i],
            -1 if about.group is None else int(about.group[i]),
            None if weight is None or weight != weight else weight,
            about.grades[i],
        )

    def sample(self, number: int, position: int) -> Sample:
        """Return a sample without rows. Its json is decoded already."""
        fact = self.facts(np.array([number]))[0]
        stated = {"label": fact.label, "group": None if fact.group < 0 else fact.group, "weight": fact.weight}
        stated |= {"grade": in_words(fact.grade)} if fact.grade else {}
        return {"__key__": fact.key, "__url__": fact.shard, "__index__": position, "json": stated}

    def labels(self) -> Iterator[Any]:
        """Yield the labels of all samples in sound blocks of the first set."""
        reader = self.readers[0]
        for b in range(len(reader.blocks)):
            if reader.are_sound(np.array([b]))[0]:
                yield from reader.about(b).labels

    def find_bad(self, number: int, columns: Mapping[str, Column], *, alone: bool) -> list[Bad]:
        """Return the bad members of a sample in these columns. alone: also its other faults, from the first set."""
        numbers = np.array([number])
        return [bad for _, bad in self._faults(numbers, self.facts(numbers), columns, alone)]

    def _faults(
        self, numbers: np.ndarray, facts: Sequence[Fact], columns: Mapping[str, Column], alone: bool
    ) -> Iterator[tuple[int, Bad]]:
        """Yield (place among the numbers, fault), one column after another."""
        if alone:
            for i, reason, member in self._find_listed(self.readers[0], numbers):
                if self._modality(reason, member) not in self.readers[0].modalities and reason != EMPTY:
                    yield i, Bad(reason, facts[i].shard, facts[i].key, member)
        for m, column in columns.items():
            blocks = column.reader.locate(numbers)
            for i in np.flatnonzero(~column.reader.are_sound(blocks)).tolist():
                part = column.reader.blocks[int(blocks[i])].part.path
                yield i, Bad(f"{m}/checksum", str(part), facts[i].key)
            for i, reason, member in self._find_listed(column.reader, numbers):
                if self._modality(reason, member) == column.name.modality:
                    yield i, Bad(reason, facts[i].shard, facts[i].key, member)

    def _find_listed(self, reader: SetReader, numbers: np.ndarray) -> Iterator[tuple[int, str, str]]:
        """Yield (place among the numbers, reason, member) of the faults that a set's writer listed."""
        blocks = reader.locate(numbers)
        sound = reader.are_sound(blocks)
        with_bad = [b for b in np.unique(blocks[sound]).tolist() if reader.about(b).bad]
        for i in np.flatnonzero(np.isin(blocks, with_bad)).tolist():
            at = int(numbers[i] - reader.first[blocks[i]]) + reader.blocks[blocks[i]].block.start
            for reason, member in reader.about(int(blocks[i])).bad.get(at, ()):
                yield i, reason, member

    def _modality(self, reason: str, member: str) -> str:
        """Return the modality of a fault: its member's, by name or by the mapping, or else the reason's."""
        if found := member_modality(member) or next((m for m, names in self.members.items() if member in names), ""):
            return found
        first, _, rest = reason.partition("/")
        return rest.partition(".")[0] if first == "ignored" else first

    def batch(
        self,
        numbers: np.ndarray,
        positions: Sequence[int],
        columns: Mapping[str, Column],
        preprocess: Mapping[str, Preprocess],
    ) -> tuple[Batch, list[Bad]]:
        """Return a piece of a batch, see ``Columns.batch``."""
        alive = np.zeros(len(numbers), dtype=bool)
        rows: dict[str, Rows] = {}
        for m, reader in preprocess.items():
            if m not in columns:
                rows[m] = Rows(reader.collate([]), torch.zeros(0, dtype=torch.int64))
                continue
            found = columns[m].rows(numbers)
            alive[found.owner] = True
            owner = torch.tensor(found.owner)
            rows[m] = Rows(found.values, torch.where(torch.tensor(found.negative), mark(owner), owner))
        facts = self.facts(numbers)
        faults = [*self._faults(numbers, facts, columns, alone=True)]
        faults += [(i, Bad(EMPTY, facts[i].shard, facts[i].key)) for i in np.flatnonzero(~alive).tolist()]
        faults.sort(key=lambda fault: fault[0])
        kept = [fact if ok else None for fact, ok in zip(facts, alive.tolist(), strict=True)]
        groups = [-1 if fact is None else fact.group for fact in kept]
        weights = [fact.weight for fact in facts]
        stated = any(weight is not None for weight in weights)
        batch = Batch(
            rows,
            ids=["" if fact is None else fact.key for fact in kept],
            position=torch.tensor(list(positions), dtype=torch.int64),
            labels=[None if fact is None else fact.label for fact in kept],
            source=["" if fact is None else fact.shard for fact in kept],
            group=torch.tensor(groups, dtype=torch.int64) if max(groups, default=-1) >= 0 else None,
            weight=torch.tensor([1.0 if w is None else w for w in weights]) if stated else None,
            grade=grade_columns([{} if fact is None else fact.grade for fact in kept]),
        )
        return batch, [bad._replace(position=positions[i]) for i, bad in faults]
