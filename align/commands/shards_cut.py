"""``align shards split``, ``merge`` and ``filter``: other shards with the same samples, their bytes untouched."""
