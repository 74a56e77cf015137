"""mteb's harness: a model of align under its protocols, and tasks of it that are built from shards."""

from align.convert.harness.model import Harness, mteb

__all__ = ["Harness", "mteb"]

FLOORS = (
    ("batches", "content", "meta", "rules"),
    ("model", "tasks"),
    ("composing", "directing", "labelling"),
    ("build",),
    ("beside",),
)
