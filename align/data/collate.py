"""Collation of samples to one Batch, a sparse table: the rows that exist, each with its sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from align.data.bad import EMPTY, Bad
from align.data.decoded import is_decoded
from align.data.join import join, mark
from align.data.meta import Meta, read_meta
from align.data.mixing.overrides import Decoding
from align.data.names import FOREIGN, MemberNames
from align.data.rows import UnusableMember, explain, find_rows
from align.seeds import generator
from align.values import BadSample, Batch, Rows, Sample

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
    samples: Sequence[Sample | None],
    preprocess: Mapping[str, Preprocess],
    *,
    positions: Sequence[int],
    train: bool,
    seed: int,
    epoch: int,
    members: MemberNames,
    decodings: Mapping[str, Decoding] | None = None,
) -> tuple[Batch, list[Bad]]:
    """Collate in the form that a worker sends: hard negatives still name their samples, which ``join`` ends."""
    if len(samples) != len(positions):
        raise ValueError(f"{len(samples)} samples for {len(positions)} positions")
    bad: list[Bad] = []
    metas: list[Meta] = []
    rows: dict[str, list[Any]] = {m: [] for m in preprocess}
    owner: dict[str, list[int]] = {m: [] for m in preprocess}
    alive = [False] * len(samples)
    usual = Decoding(members, preprocess)
    for i, (sample, position) in enumerate(zip(samples, positions, strict=True)):
        if sample is None:
            metas.append(Meta())
            continue
        mapping, readers = (decodings or {}).get(sample.get("__source__", ""), usual)
        meta, reasons = read_meta(sample, mapping)
        metas.append(meta)
        bad += [_bad(reason, sample, "", position) for reason in reasons]
        for m, reader in readers.items():
            draws = generator("row", seed, epoch, position, m) if train else None
            for source in find_rows(sample, m, reader.suffixes, mapping, meta.json):
                if isinstance(source, UnusableMember):
                    bad.append(_bad(source.reason, sample, source.member, position))
                    continue
                try:
                    rows[m].append(reader.row(source.data, draws))
                except BadSample as error:
                    bad.append(_bad(explain(error, m), sample, source.member, position))
                    continue
                except TypeError as error:
                    where = _bad("", sample, source.member, position).where
                    if is_decoded(source.data):  # every preprocess reads bytes, but objects of its kind only
                        raise ValueError(f"{where}: {error}") from error
                    error.add_note(f"while reading {where}")
                    raise
                except Exception as error:
                    error.add_note(f"while reading {_bad('', sample, source.member, position).where}")
                    raise
                owner[m].append(mark(i) if source.negative else i)
                alive[i] = True
        if not alive[i]:
            bad.append(_bad(EMPTY, sample, "", position))
    groups = [meta.group if ok else -1 for meta, ok in zip(metas, alive, strict=True)]
    weights = [meta.weight for meta in metas]
    kept = [sample if ok else None for sample, ok in zip(samples, alive, strict=True)]
    batch = Batch(
        {m: Rows(preprocess[m].collate(rows[m]), torch.tensor(owner[m], dtype=torch.int64)) for m in preprocess},
        ids=["" if sample is None else sample["__key__"] for sample in kept],
        position=torch.tensor(list(positions), dtype=torch.int64),
        labels=[meta.label if ok else None for meta, ok in zip(metas, alive, strict=True)],
        source=["" if sample is None else sample.get("__source__", sample["__url__"]) for sample in kept],
        group=torch.tensor(groups, dtype=torch.int64) if any(g >= 0 for g in groups) else None,
        weight=None
        if all(w is None for w in weights)
        else torch.tensor([1.0 if w is None else w for w in weights], dtype=torch.float32),
    )
    return batch, bad


def _bad(reason: str, sample: Sample, member: str, position: int) -> Bad:
    return Bad(reason, sample.get("__url__", ""), sample.get("__key__", ""), member, position)
