"""``align shards order`` writes an order file: samples that are near each other in a cache share a batch."""

from __future__ import annotations

from align.commands.sizes import count_text


def order_(
    cache: str,
    /,
    *,
    of: str,
    out: str,
    set: str = "",
    shards: str = "",
    size: int = 16,
    force: bool = False,
) -> None:
    """Write an order file, in which near samples of a cache share a batch

    The samples are divided into clusters of equal size by the cosines of one column. Training with data.train:
    {urls: SHARDS, order: FILE} shuffles the clusters in each epoch, and the samples inside each cluster, so a batch
    holds whole clusters: hard negatives. Two samples that mean the same then meet more often: give them one group.

    Args:
        cache: the cache
        of: the modality whose rows are compared, or CACHE/SET:MODALITY
        out: the file
        set: the cache's set. Default: the only one that has the modality
        shards: names of the cache's shards that will be trained on, or globs such as 'train-*.tar', separated by
            commas. Default: all
        size: samples of a cluster. A batch of 256 holds 16 clusters of 16
        force: replace a file that stands there
    """
    from align.commands.named import split
    from align.commands.shards_mine import find_name
    from align.curation.mine.ordering import order_shards

    made = order_shards(find_name(cache, of, set), out, shards=split(shards) or None, size=size, force=force)
    print(f"{out}: {count_text(made.samples, 'sample')} in {count_text(made.clusters, 'cluster')}")
    print(f"mean cosine inside a cluster: {made.near:.3f}")
    if made.without:
        print(f"without a row of {of}, in clusters of their own: {count_text(made.without, 'sample')}")
    print(f"train on it with data.train: {{urls: SHARDS, order: {out}}}")
