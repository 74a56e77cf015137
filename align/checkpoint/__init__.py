"""Checkpoints: folders of safetensors and JSON, in and out. No pickle is ever written or read."""

from align.checkpoint.describe import build, describe
from align.checkpoint.folder import build_model, list_files, load, load_tower, read_heads, read_parts, save, transcript
from align.checkpoint.room import Unsaved
from align.checkpoint.run import drop_lost, find_checkpoint, read_index, write_index
from align.checkpoint.source import locate
from align.checkpoint.start import start_from
from align.checkpoint.sums import find_damage
from align.checkpoint.towers import describe_towers
from align.checkpoint.training import load_training, read_state, save_state, save_training

__all__ = [
    "Unsaved",
    "build",
    "build_model",
    "describe",
    "describe_towers",
    "drop_lost",
    "find_checkpoint",
    "find_damage",
    "list_files",
    "load",
    "load_tower",
    "load_training",
    "locate",
    "read_heads",
    "read_index",
    "read_parts",
    "read_state",
    "save",
    "save_state",
    "save_training",
    "start_from",
    "transcript",
    "write_index",
]

FLOORS = (
    ("assets", "describe", "layout", "room", "subclasses", "sums", "together", "adapters"),
    ("migrate", "nested", "shards"),
    ("optimizer", "run"),
    ("published", "source"),
    ("fingerprint", "towers"),
    ("tower_weights",),
    ("cast",),
    ("folder",),
    ("sharded", "start"),
    ("training",),
)
"""Files of this room, the lowest first: parts of a folder, their sums, the index of a run, a model's folder, a run's."""
