"""Members of a sample on their way into a shard: read, judged, re-encoded, grouped."""
