"""Collation of samples to one Batch, a sparse table: the rows that exist, each with its sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from align.data.bad import ALONE, EMPTY, Bad
from align.data.grades import grade_columns
from align.data.join import join, mark
from align.data.mixing.overrides import Decoding
from align.data.names import FOREIGN, MemberNames
from align.data.opening import Opening, OpenRow, finish_row, open_sample
from align.data.wholes import place_parts, wholes_first
from align.seeds import generator
from align.values import Batch, Rows, Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess


class Counts(Protocol):
    """A counter of bad members, such as ``Shards``."""

    members: dict[str, list[str]]

    def count(self, reason: str, n: int = 1, where: str = "") -> None: ...


def collate(
    samples: Sequence[Sample | None],
    preprocess: Mapping[str, Preprocess],
    *,
    positions: Sequence[int],
    train: bool,
    seed: int,
    epoch: int,
    shards: Counts | None = None,
    members: MemberNames | None = None,
    decodings: Mapping[str, Decoding] | None = None,
) -> Batch:
    """Return the batch of some positions of an epoch. A sample that is None leaves its position empty.

    A member that cannot be decoded costs its row and is counted in ``shards``. A position without a row has the id "".
    In training each row is augmented by a generator seeded from (seed, epoch, position, modality). A modality that no
    sample has is there with n = 0 rows.

    members: modality -> names, by default the shards', else ``names.FOREIGN``. decodings: source -> the decoding and
    augmentation of its samples (see ``Mixture``). ``preprocess`` collates all rows.
    """
    mapping = members if members is not None else shards.members if shards is not None else FOREIGN
    marked, bad = piece(
        samples,
        preprocess,
        positions=positions,
        train=train,
        seed=seed,
        epoch=epoch,
        members=mapping,
        decodings=decodings,
    )
    if shards is not None:
        for found in bad:
            shards.count(found.reason, where=found.where)
    return join([marked])


def piece(
    samples: Sequence[Sample | Opening | None],
    preprocess: Mapping[str, Preprocess],
    *,
    positions: Sequence[int],
    train: bool,
    seed: int,
    epoch: int,
    members: MemberNames,
    decodings: Mapping[str, Decoding] | None = None,
    views: Mapping[str, int] | None = None,
) -> tuple[Batch, list[Bad]]:
    """Collate in the form that a worker sends: hard negatives still name their samples, which ``join`` ends.

    views: modality -> number of times that each row is augmented in training, each time as a row of its own. The first
    views are those without this argument. Hard negatives have one.
    """
    if len(samples) != len(positions):
        raise ValueError(f"{len(samples)} samples for {len(positions)} positions")
    bad: list[Bad] = []
    rows: dict[str, list[Any]] = {m: [] for m in preprocess}
    owner: dict[str, list[int]] = {m: [] for m in preprocess}
    parts: dict[str, list[int]] = {m: [] for m in preprocess}
    opened: list[Opening | None] = []
    alive = [False] * len(samples)
    usual = Decoding(members, preprocess)
    for i, (sample, position) in enumerate(zip(samples, positions, strict=True)):
        if sample is None:
            opened.append(None)
            continue
        name = sample.source if isinstance(sample, Opening) else sample.get("__source__", "")
        decoding = (decodings or {}).get(name, usual)
        opening = sample if isinstance(sample, Opening) else open_sample(sample, decoding)
        opened.append(opening)
        faults = list(opening.bad)
        order = wholes_first(decoding.preprocess)
        if any(reader.of for _, reader in order):
            opening = place_parts(opening, decoding.preprocess)
        missing: set[str] = set()  # modalities whose first row was not made
        for m, reader in order:
            draws = generator("row", seed, epoch, position, m) if train and opening.rows[m] else None
            again = (views or {}).get(m, 1) - 1 if train and not reader.of else 0
            repeated = [row for row in opening.rows[m] if not isinstance(row, Bad) and not row.negative] * again
            for k, row in enumerate([*opening.rows[m], *repeated]):
                if reader.of in missing and isinstance(row, OpenRow):
                    row = Bad(f"{m}/{ALONE}", opening.shard, opening.key, row.member)
                if reader.of and train:  # each part repeats the draws of its whole
                    draws = generator("row", seed, epoch, position, reader.of)
                made = row if isinstance(row, Bad) else finish_row(row, reader, draws, m, opening)
                if k == 0 and isinstance(made, Bad):
                    missing.add(m)
                if isinstance(row, Bad) or isinstance(made, Bad):
                    faults += [made] if k < len(opening.rows[m]) else []  # a bad row is counted once
                    continue
                rows[m].append(made)
                owner[m].append(mark(i) if row.negative else i)
                parts[m].append(row.part)
                alive[i] = True
        if not alive[i]:
            faults.append(Bad(EMPTY, opening.shard, opening.key))
        bad += [fault._replace(position=position) for fault in faults]
    kept = [opening if ok else None for opening, ok in zip(opened, alive, strict=True)]
    groups = [-1 if opening is None else opening.group for opening in kept]
    weights = [None if opening is None else opening.weight for opening in opened]
    batch = Batch(
        {
            m: Rows(
                preprocess[m].collate(rows[m]),
                torch.tensor(owner[m], dtype=torch.int64),
                part=torch.tensor(parts[m]) if max(parts[m], default=-1) >= 0 else None,
            )
            for m in preprocess
        },
        ids=["" if opening is None else opening.key for opening in kept],
        position=torch.tensor(list(positions), dtype=torch.int64),
        labels=[None if opening is None else opening.label for opening in kept],
        source=["" if opening is None else opening.source for opening in kept],
        group=torch.tensor(groups, dtype=torch.int64) if any(g >= 0 for g in groups) else None,
        weight=None
        if all(w is None for w in weights)
        else torch.tensor([1.0 if w is None else w for w in weights], dtype=torch.float32),
        grade=grade_columns([{} if opening is None else opening.grade for opening in kept]),
    )
    return batch, bad
