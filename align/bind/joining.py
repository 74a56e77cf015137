"""Unpaired sets in several spaces -> shards of pseudo-pairs, which ``align train`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.bind.chaining import Chains, chain_items
from align.bind.columns import read_side
from align.data.archive.writer import ShardWriter
from align.data.columns.column import Column
from align.data.columns.opening import join_caches
from align.files import atomic_folder, write_json
from align.media.npy import save_npy

RECORD = "joined.json"
SPACE = "space"
"""Modality of the spaces that a pseudo-pair's first item belongs to."""


class Joining(NamedTuple):
    """Outcome of ``join_spaces``.

    samples: first modality -> pseudo-pairs that begin with its items. rows: modality -> pseudo-pairs with a row of it.
    cosine: modality -> mean cosine of the retrievals that found its rows. widths: modality -> the widths of its spaces.
    """

    samples: dict[str, int]
    rows: dict[str, int]
    cosine: dict[str, float]
    widths: dict[str, list[int]]


class Joined(NamedTuple):
    """Rows of one modality in several spaces. values: space -> (n, W_k). sample, group: (n,), -1 for no group."""

    values: dict[str, Tensor]
    sample: Tensor
    group: Tensor

    @property
    def side_by_side(self) -> Tensor:
        """(n, ΣW_k), as the head ``Router`` reads a row."""
        return torch.cat([x.float() for x in self.values.values()], 1)


def join_rows(columns: Mapping[str, str]) -> Joined:
    """Return the rows of one modality's columns over the same shards. columns: space -> ``CACHE/SET:MODALITY``.

    Raises ValueError for caches of different shards, and where a sample has another number of rows in one of them.
    """
    columns = dict(columns)
    return _align(join_caches(columns, None, None).columns)


def join_spaces(
    spaces: Mapping[str, Mapping[str, str]],
    out: str | Path,
    *,
    via: str = "text",
    starts: Sequence[str] | None = None,
    bound: float = -1.0,
    per_shard: int = 1000,
) -> Joining:
    """Write pseudo-pairs of several models' unpaired sets to ``OUT/train-000000.tar``, … (see ``chain_items``).

    A sample has a row ``MODALITY.npy`` (1, ΣW_k) of each modality that its chain found, the embeddings in all spaces of
    the modality side by side, and ``space.npy`` (1, K) with a one for each space of its first item, where that is none
    of ``via``. A sample has the group of its row of ``via``. Without one, samples of equal rows of ``via`` (to three
    digits) are one group. All rows are in memory.
    ``OUT/joined.json`` has the spaces of each modality, their widths and the outcome.

    spaces: name -> modality -> ``CACHE/SET:MODALITY``, the embeddings of one model. All have ``via``, over the same
        shards. A modality of several spaces is over the same shards in all of them.
    starts: modalities whose items begin a chain. None: all. bound: least cosine of a retrieval, -1 for all.

    Nothing is written where it raises ValueError: fewer than two spaces, a space without ``via`` or with nothing else,
    columns of features or of another model, widths that differ within a space, no pseudo-pair above ``bound``, and an
    ``out`` that holds something else.
    """
    starts, out = _check(spaces, via, starts, bound), Path(out)
    if out.exists() and not (out / RECORD).is_file():
        raise ValueError(f"{out} is there and has no {RECORD}, so it is not replaced; name a new folder")
    sets = {}
    for m in _modalities(spaces, via):
        columns = join_caches({k: parts[m] for k, parts in spaces.items() if m in parts}, None, None).columns
        sets[m] = columns
    _check_models(spaces, sets)
    rows = {m: _align(columns) for m, columns in sets.items()}
    chains = chain_items({m: joined.values for m, joined in rows.items()}, via, starts, bound)
    if not len(chains.start):
        raise ValueError(f"no pseudo-pair has a cosine of {bound:g} or more: lower bound, or join other sets")
    done = Joining(
        {m: int((chains.start == i).sum()) for i, m in enumerate(starts)},
        {m: int((x >= 0).sum()) for m, x in chains.row.items()},
        {m: float(x[chains.row[m] >= 0].mean()) for m, x in chains.cosine.items()},
        {m: [x.shape[1] for x in joined.values.values()] for m, joined in rows.items()},
    )
    with atomic_folder(out) as work:
        _write(work, chains, rows, list(spaces), via, starts, per_shard)
        about = {m: dict(zip(joined.values, done.widths[m], strict=True)) for m, joined in rows.items()}
        write_json(work / RECORD, {**done._asdict(), "spaces": about, "via": via, "bound": bound})
    return done


def _modalities(spaces: Mapping[str, Mapping[str, str]], via: str) -> list[str]:
    return [via, *dict.fromkeys(m for parts in spaces.values() for m in parts if m != via)]


def _check(
    spaces: Mapping[str, Mapping[str, str]], via: str, starts: Sequence[str] | None, bound: float
) -> Sequence[str]:
    if len(spaces) < 2:
        raise ValueError(f"two spaces or more are joined; got {', '.join(spaces) or 'none'}")
    for name, parts in spaces.items():
        if via not in parts:
            raise ValueError(f"the space {name} has no column of {via}, the shared modality; it has {', '.join(parts)}")
        if len(parts) < 2:
            raise ValueError(f"the space {name} has {via} alone; give it a column of another modality too")
        if SPACE in parts:
            raise ValueError(f"the space {name} has a modality named {SPACE!r}, which pseudo-pairs have themselves")
    known = _modalities(spaces, via)
    if odd := [m for m in starts or () if m not in known]:
        raise ValueError(f"starts names {odd[0]}, which no space has; there are {', '.join(known)}")
    if starts is not None and not starts:
        raise ValueError(f"starts names no modality; there are {', '.join(known)}")
    if not -1 <= bound <= 1:
        raise ValueError(f"bound is a cosine, -1 to 1; got {bound:g}")
    return known if starts is None else list(dict.fromkeys(starts))


def _check_models(spaces: Mapping[str, Mapping[str, str]], sets: Mapping[str, Mapping[str, Column]]) -> None:
    """Raise ValueError where the rows of a space cannot be compared by cosine."""
    for name, parts in spaces.items():
        columns = [sets[m][name] for m in parts]
        first = columns[0]
        for column in columns:
            if column.info.kind != "embedding":
                raise ValueError(
                    f"{column.name} has features; a space has one model's embeddings (`align embed` without --features)"
                )
            if column.reader.sha256 != first.reader.sha256:
                shown = [c.reader.sha256[:12] for c in (first, column)]
                raise ValueError(f"{first.name} and {column.name} of the space {name} are of two models: {shown}")
            if column.info.width != first.info.width:
                widths = f"{first.info.width} and {column.info.width}"
                raise ValueError(f"{first.name} and {column.name} of the space {name} have widths {widths}")


def _align(columns: Mapping[str, Column]) -> Joined:
    sides = {k: read_side(column, torch.arange(int(column.reader.first[-1]))) for k, column in columns.items()}
    (first, side), *others = sides.items()
    for name, other in others:
        if not torch.equal(side.sample, other.sample):
            both = f"{columns[first].name} and {columns[name].name}"
            raise ValueError(f"{both} differ in the rows of a sample: embed the same shards with both models")
    return Joined({k: side.values for k, side in sides.items()}, side.sample, side.group)


def _write(
    folder: Path,
    chains: Chains,
    rows: Mapping[str, Joined],
    spaces: Sequence[str],
    via: str,
    starts: Sequence[str],
    per_shard: int,
) -> None:
    whole = {m: joined.side_by_side for m, joined in rows.items()}
    stated = rows[via].group
    alike = (whole[via] * 1000).round().unique(dim=0, return_inverse=True)[1]  # equal texts have almost equal rows
    group = torch.where(stated >= 0, stated, stated.max() + 1 + alike)
    belongs = [torch.tensor([[float(k in rows[m].values) for k in spaces]]) for m in starts]
    with ShardWriter(folder, per_shard=per_shard) as writer:
        for i in range(len(chains.start)):
            at = {m: int(x[i]) for m, x in chains.row.items() if x[i] >= 0}
            members = {f"{m}.npy": save_npy(whole[m][row : row + 1].numpy()) for m, row in at.items()}
            start = starts[int(chains.start[i])]
            if start != via:
                members[f"{SPACE}.npy"] = save_npy(belongs[starts.index(start)].numpy())
            found = {m: [int(rows[m].sample[row]), round(float(chains.cosine[m][i]), 4)] for m, row in at.items()}
            about: dict[str, Any] = {"pseudo": found}
            if via in at:
                about["group"] = int(group[at[via]])
            members["json"] = json.dumps(about).encode()
            writer.write(f"pseudo-{i:08d}", members)
