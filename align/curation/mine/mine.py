"""Mining of hard negatives: near rows of other samples, written as ``.neg`` members of new shards."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from align.curation.cut.copying import Copied, check_keys, check_output, check_split, copy, plan_copies
from align.curation.jobs.job import Progress
from align.curation.mine.near import Near, find_near
from align.curation.mine.pool import Material, read_queries
from align.curation.mine.rules import Rules
from align.curation.sources.foreign import split_name
from align.data.columns.columns import Columns
from align.data.columns.format import find_column, parse_column, read_cache
from align.data.shards import Shards


class Mined(NamedTuple):
    """Outcome of a mining.

    written: samples in each split. dropped: reason -> samples and members that could not be copied. found: number of
    new negatives -> samples with that number. left_out: reason -> samples for which none were searched. positive,
    negative: mean cosine of the samples' own rows, and of the negatives (NaN where there are none).
    """

    written: dict[str, int]
    dropped: dict[str, int]
    found: dict[int, int]
    left_out: dict[str, int]
    positive: float
    negative: float


def mine_shards(
    of: str,
    urls: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    by: str | None = None,
    rules: Rules | None = None,
    split: str | None = None,
    per_shard: int = 1000,
    members: Mapping[str, Sequence[str]] | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Mined:
    """Write the samples of shards to ``OUT/SPLIT-000000.tar``, …, each with hard negatives of one modality.

    A sample's negatives are rows of other samples whose cosine with its row is high. ``Rules`` chooses them by rank and
    score. The sample's own rows, rows of equal content and rows of its group are never taken. Lines of text become
    ``KEY.text.neg.txt``, other rows ``KEY.image.neg.0.jpg``. Negatives that a sample has already are kept. All other
    members keep their bytes. The search is exact, and the same command gives the same bytes.

    of: ``CACHE/SET:MODALITY``, the negatives' column. by: the column of the queries. Another modality than that of
        ``of`` needs embeddings of the same model. None: ``of`` itself.
    urls: the shards that the caches were made of. split: name of the new shards. None: the name of a sample's shards.
        workers: processes that copy. A call after a killed one keeps the shards that were finished.

    Before it writes, it raises FileNotFoundError and ValueError for a column that is not there, for two columns whose
    rows cannot be compared by cosine, and for shards of another set.
    """
    rules, by = rules or Rules(), of if by is None else by
    modality, asking = check_columns(of, by)
    check_split([] if split is None else [split], per_shard)
    shards = Shards(urls, shuffle=False, members=members, max_bad=1)
    folder = check_output(out, [shards])
    check_keys(shards)
    columns = Columns({modality: of}, raw=shards)
    other = columns if by == of else Columns({asking: by}, raw=shards)
    material = Material(shards, columns, modality, progress)
    queries, owner = read_queries(other, asking, len(shards))
    samples = torch.from_numpy(np.intersect1d(owner.numpy(), material.pool.number.numpy()))
    if not len(samples):
        raise ValueError(f"no sample of {shards.name} … has a row of {asking} and one of {modality}")
    near = find_near(queries, owner, samples, material.pool, rules.ranks[1], progress)
    keys = [key for index in shards.indexes for key in index.keys]
    chosen = choose_all(rules, near, samples.tolist(), material.pool.content.tolist(), keys)
    splits = [split or split_name(Path(str(url))) or "train" for url in shards.urls]
    part = [name for name, index in zip(splits, shards.indexes, strict=True) for _ in index.keys]
    parts = {name: (n, _items(shards, part, name, material, chosen)) for name, n in Counter(part).items()}
    written, dropped = copy(
        [shards],
        parts,
        folder,
        per_shard=per_shard,
        classes=shards.classes,
        licence=(shards.manifest or {}).get("licence"),
        workers=workers,
        progress=progress,
    )
    shards.close()
    scores = [near.score[i, places] for i, (_, places) in enumerate(chosen.values())]
    return Mined(
        written,
        dropped,
        dict(sorted(Counter(len(places) for _, places in chosen.values()).items())),
        dict(material.left_out + Counter({"no pair": len(shards) - len(samples)})),
        float(near.positive.mean()),
        float(np.concatenate(scores).mean()) if any(map(len, scores)) else float("nan"),
    )


def check_columns(of: str, by: str) -> tuple[str, str]:
    """Return the modalities of two columns. Raises ValueError where their rows cannot be compared by cosine."""
    names = [parse_column(name) for name in (of, by)]
    infos = [read_cache(name.cache) for name in names]
    facts = [find_column(info, name) for info, name in zip(infos, names, strict=True)]
    if of != by:
        models = [info.sets[name.set].sha256 for info, name in zip(infos, names, strict=True)]
        if facts[0].kind != "embedding" or facts[1].kind != "embedding" or models[0] != models[1]:
            says = [f"{kind.kind} of {model[:12]}" for kind, model in zip(facts, models, strict=True)]
            raise ValueError(
                f"{by} and {of} are {says[1]} and {says[0]}: two modalities are compared by embeddings of one model "
                "(`align embed` without --features)"
            )
    return names[0].modality, names[1].modality


def choose_all(
    rules: Rules, near: Near, samples: Sequence[int], contents: Sequence[int], keys: Sequence[str]
) -> dict[int, tuple[list[int], list[int]]]:
    """Return sample -> its negatives: rows of the pool, and their places among its nearest rows."""
    out = {}
    for i, sample in enumerate(samples):
        places = rules.choose(near.row[i], near.score[i], float(near.positive[i]), contents, keys[sample])
        out[sample] = (near.row[i, places].tolist(), places)
    return out


def _items(
    shards: Shards,
    part: Sequence[str],
    name: str,
    material: Material,
    chosen: Mapping[int, tuple[list[int], list[int]]],
) -> Iterator[Copied]:
    """Yield the samples of a split with their new members."""
    for item in plan_copies(shards):
        if part[item.position] != name:
            continue
        rows, _ = chosen.get(item.position, ([], []))
        added = tuple(material.members(item.position, rows)) if rows else ()
        digest = hashlib.sha256(b"\0".join(x for pair in added for x in (pair[0].encode(), pair[1]))).hexdigest()
        yield item._replace(added=added, mark=f"{item.mark}\n{digest}")
