"""Checkpoints: folders of safetensors and JSON, in and out. No pickle is ever written or read."""

from align.checkpoint.compatible import declare_compatible
from align.checkpoint.describe import build, describe
from align.checkpoint.folder import build_model, load, load_tower
from align.checkpoint.room import Unsaved
from align.checkpoint.run import drop_lost, find_checkpoint, list_present, read_index, write_index
from align.checkpoint.source import locate
from align.checkpoint.start import start_from
from align.checkpoint.sums import find_damage
from align.checkpoint.towers import describe_towers
from align.checkpoint.training import load_training, read_state, save_state, save_training
from align.checkpoint.write import list_files, read_heads, read_parts, save, transcript

__all__ = [
    "Unsaved",
    "build",
    "build_model",
    "declare_compatible",
    "describe",
    "describe_towers",
    "drop_lost",
    "find_checkpoint",
    "find_damage",
    "list_files",
    "list_present",
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
    (
        "adapters",
        "assets",
        "describe",
        "fingerprint",
        "layout",
        "room",
        "shards",
        "subclasses",
        "sums",
        "together",
        "tower_weights",
    ),
    ("cast", "migrate", "nested", "write"),
    ("compatible", "optimizer", "published", "run"),
    ("sharded", "source"),
    ("folder", "towers", "training"),
    ("start",),
)
"""Files of this room, the lowest first: parts of a folder, its writer, the index of a run, its places, its readers."""
