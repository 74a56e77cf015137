"""``align embed``: reserved for the cache of features. An index is made by ``align index build``."""

from __future__ import annotations

from align.commands.errors import Refused


def embed(model: str, shards: list[str] = [], /) -> None:  # noqa: B006  it is only read
    """Say how an index is made: with align index build

    The cache of embeddings and features, which this command will write, comes later.

    Args:
        model: as for align index build
        shards: as for align index build
    """
    import shlex

    words = " ".join(map(shlex.quote, [model, *(shards or ["SHARDS"])]))
    raise Refused(f"align embed makes no index any more; use: align index build {words} (a cache comes later)", code=2)
