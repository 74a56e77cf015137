"""Columns: cached rows of a modality, joined to shards by position."""

from align.data.columns.columns import Columns
from align.data.columns.format import ColumnName, parse_column, read_cache
from align.data.columns.opening import open_cache

__all__ = ["ColumnName", "Columns", "open_cache", "parse_column", "read_cache"]
