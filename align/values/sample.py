"""One example as a shard holds it, the grades of its pairs, and the error of a member that cannot be read."""

from __future__ import annotations

from typing import Any

Sample = dict[str, Any]
"""One example as read from a shard: member name -> bytes, plus "__key__", "__url__" and "__index__", its position in
the epoch."""

GRADES = ("good", "partial", "exclude", "bad")
"""Grades of a pair of a sample's modalities, the better first. A batch holds a grade as its place here.

good: a positive. partial: a positive of less weight. exclude: neither positive nor negative. bad: a negative.
"""


class BadSample(Exception):
    """Error of a member that cannot become a row. ``reason`` is a short name with its modality: ``image/truncated``."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # survives the way from a data worker to the main process
        return type(self), (self.reason, self.detail)
