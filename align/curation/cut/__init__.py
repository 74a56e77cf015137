"""Shards from shards: split, merged and filtered, their members byte for byte."""
