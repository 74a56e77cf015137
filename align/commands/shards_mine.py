"""``align shards mine`` finds hard negatives in a cache and writes them beside the samples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from align.commands.dropped import print_dropped
from align.commands.errors import Refused, nearest
from align.commands.sizes import count_text


def mine_negatives(
    cache: str,
    shards: list[str],
    /,
    *,
    out: str,
    of: str,
    by: str = "",
    set: str = "",
    ranks: str = "0:100",
    margin: float | None = None,
    relative_margin: float | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    count: int = 5,
    sampling: Literal["nearest", "random"] = "nearest",
    seed: int = 0,
    split: str | None = None,
    per_shard: int = 1000,
    members: str = "",
    workers: int = 0,
) -> None:
    """Find hard negatives in a cache, and write them as .neg rows

    For each sample the rows of --of in other samples are ranked by their cosine with its own row of --by. The rows
    inside the windows of ranks and scores become its hard negatives: KEY.text.neg.txt in new shards, which training
    reads as negatives of all anchors. A sample's own rows, rows of equal content, and rows of its group are never
    taken. The search is exact. All other members keep their bytes. A killed command resumes when it is given again.

    Ranks count the rows of other samples, the nearest first. Some of the nearest are false negatives, which mean the
    same. Pass them over with --ranks, or set --margin, a distance below the cosine of the sample's own row.

    Args:
        cache: the cache
        shards: the shards that the cache was made of: files, patterns, or folders of shards
        out: the folder for the new shards
        of: the modality whose rows are the negatives, or CACHE/SET:MODALITY
        by: the modality that asks, or CACHE/SET:MODALITY. It needs embeddings of one model. Default: that of --of
        set: the cache's set. Default: the only one that has the modality
        ranks: LOW:HIGH passes the LOW nearest rows over, and takes none after the HIGH-th
        margin: a negative's cosine is lower by at least this than that of the sample's own row
        relative_margin: a negative's cosine is at most (1 - this) times that of the sample's own row
        max_score: the largest cosine of a negative
        min_score: the smallest cosine of a negative
        count: negatives of a sample at most
        sampling: take the nearest rows in the windows, or random ones
        seed: the seed of random sampling
        split: the name of the new shards. Default: that of the shards that the samples come from
        per_shard: samples of a shard at most. The shards have nearly equal sizes
        members: members under other names: text=json:caption reads text from caption in the json
        workers: processes that copy
    """
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.curation import mine_shards
    from align.curation.mine.rules import Rules
    from align.data.places.patterns import typeable

    window = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", ranks)
    if window is None:
        raise Refused(f"--ranks {ranks!r}: write LOW:HIGH, as in --ranks 10:50", code=2)
    rules = Rules(
        (int(window[1]), int(window[2])), margin, relative_margin, max_score, min_score, count, sampling, seed
    )
    with progress("samples") as say:
        mined = mine_shards(
            find_name(cache, of, set),
            expand_folders(shards),
            out,
            by=find_name(cache, by, set) if by else None,
            rules=rules,
            split=split,
            per_shard=per_shard,
            members=mapping(members),
            workers=workers,
            progress=say,
        )
    total = sum(n * samples for n, samples in mined.found.items())
    for name, n in mined.written.items():
        print(f"{typeable(out, f'{name}-*.tar')}: {count_text(n, 'sample')}")
    print(f"{count_text(total, 'hard negative')} of {of} for {count_text(sum(mined.found.values()), 'sample')}")
    print(f"mean cosine: {mined.positive:.3f} of own rows, {mined.negative:.3f} of negatives")
    if mined.found.get(0):
        print(f"without any in the window: {count_text(mined.found[0], 'sample')}")
    for reason, n in mined.left_out.items():
        print(f"not asked, {reason}: {count_text(n, 'sample')}")
    print_dropped(mined.dropped)


def find_name(cache: str, modality: str, chosen: str) -> str:
    """Return ``CACHE/SET:MODALITY`` for a modality in a cache. A full name stays as it is.

    Raises Refused where no set has it, or several have and none was chosen.
    """
    from align.data.columns.format import read_cache

    if ":" in modality:
        return modality
    info = read_cache(Path(cache))
    if chosen and chosen not in info.sets:
        raise Refused(f"{cache} has no set {chosen!r}: {nearest(chosen, info.sets)}")
    names = [name for name, about in info.sets.items() if modality in about.columns and chosen in ("", name)]
    if not names:
        known = sorted({m for name, about in info.sets.items() if chosen in ("", name) for m in about.columns})
        raise Refused(f"{cache} has no column {modality!r}: {nearest(modality, known)}")
    if len(names) > 1:
        raise Refused(f"{cache} has {modality} in {', '.join(names)}: choose one with --set", code=2)
    return f"{Path(cache) / names[0]}:{modality}"
