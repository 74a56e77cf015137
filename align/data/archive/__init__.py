"""Shards as files: the tar, the index of its members, and facts that follow from the members' names."""
