"""Columns: cached rows of a modality, joined to shards by position."""

__all__: list[str] = []
