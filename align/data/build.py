"""Shards from anyone's own files: a table, or a tree of folders."""

from __future__ import annotations


def build() -> None: ...
