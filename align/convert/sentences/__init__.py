"""Folders of Sentence Transformers: in its own modules, or in one of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from align.convert.sentences.write import write_sentence_transformers

if TYPE_CHECKING:
    from align.convert.sentences.module import AlignTowers

__all__ = ["AlignTowers", "write_sentence_transformers"]


def __getattr__(name: str) -> Any:
    """Import the module that Sentence Transformers loads, which needs that library."""
    if name != "AlignTowers":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from align.convert.sentences.module import AlignTowers

    return AlignTowers
