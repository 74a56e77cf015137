"""Locations of shards (a disk, a server, the cache), and reading of members from them."""
