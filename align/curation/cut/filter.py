"""Samples of shards that meet a condition, written to other shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from align.curation.cut.columns import Columns, list_names, modalities_of
from align.curation.cut.copying import check_keys, check_output, check_split, divide
from align.curation.cut.expression import Expression, Pair
from align.curation.jobs.job import Progress
from align.curation.sources.foreign import split_name
from align.data.shards import Shards
from align.media import MEDIA, Media

Scorer = Callable[[Shards, Sequence[Pair]], Mapping[Pair, Sequence[float | None]]]
"""(shards, pairs) -> pair -> (N,) number at each position, None where the sample lacks a modality."""


def filter_shards(
    urls: str | Path | Sequence[str | Path],
    out: str | Path,
    where: str,
    *,
    split: str | None = None,
    score: Scorer | None = None,
    per_shard: int = 1000,
    members: Mapping[str, Sequence[str]] | None = None,
    workers: int = 0,
    progress: Progress | None = None,
    media: Media = MEDIA,
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the samples that meet ``where`` to ``OUT/SPLIT-000000.tar``, …, their members byte for byte.

    where: a condition over a sample's columns (see ``Expression`` and ``Columns``), such as
        ``"width >= 256 and label == 'cat' and cosine(image, text) > 0.2"``.
    split: name of the new shards. None: that of the shards that a sample comes from (train where they name none).
    score: computes the numbers of score() and cosine(). workers: processes that copy the samples, 0 for this one.
    media: whose columns a condition may name.

    Returns (samples per split, reason -> samples dropped). Raises ValueError for a text that is no condition, a name
    that no sample has, and a condition that no sample meets. Nothing is written then.
    """
    condition = Expression(where)
    check_split([] if split is None else [split], per_shard)
    shards = Shards(urls, shuffle=False, members=members, max_bad=1)
    folder = check_output(out, [shards])
    check_keys(shards)
    if condition.pairs and score is None:
        raise ValueError(f"{min(condition.pairs)} compares embeddings of a model; say which with --model RUN")
    modalities = {*shards.modalities, *shards.members} - {"label"}
    for name in sorted(condition.names):
        for modality in modalities_of(name, media) if name.startswith(("has_", "bytes_")) else ():
            if modality not in modalities:
                raise ValueError(f"no modality {modality!r}: {_nearest(name, list_names(modalities, (), media))}")
    scores = score(shards, sorted(condition.pairs)) if condition.pairs and score is not None else {}
    splits = [split or split_name(Path(str(url))) or "train" for url in shards.urls]
    owners = [name for name, index in zip(splits, shards.indexes, strict=True) for _ in index.keys]
    wanted = frozenset(m for name in condition.names for m in modalities_of(name, media))
    part: list[str | None] = []
    reasons: Counter[str] = Counter()
    found: set[str] = set()
    keys: set[str] = set()
    for position in range(len(shards)):
        columns = Columns(shards.read(position, 0, wanted)[0], shards.members, media)
        why = condition.why_not(columns, {pair: many[position] for pair, many in scores.items()})
        part.append(owners[position] if why is None else None)
        reasons.update([why] if why is not None else [])
        found |= columns.found
        keys |= columns.stated.keys()
        if progress is not None:
            progress(position + 1, 2 * len(shards))
    for name in sorted(condition.names - found):
        if reasons[f"no {name}"]:
            raise ValueError(f"no sample has {name!r}: {_nearest(name, list_names(modalities, keys, media))}")
    if not any(part):
        said = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common(5))
        raise ValueError(f"none of the {len(shards)} samples meets {where!r}: {said}")
    after = None if progress is None else lambda done, total: progress(total + done, 2 * total)
    kept, dropped = divide(shards, part, folder, per_shard=per_shard, workers=workers, progress=after)
    shards.close()
    return kept, dict((reasons + Counter(dropped)).most_common())


def _nearest(name: str, names: Sequence[str]) -> str:
    others = [other for other in names if other != name]
    close = get_close_matches(name, others, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(others)}"
