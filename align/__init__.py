"""One embedding space over images, audio, 3D points and text, and then your own modality.

The names below are resolved on first use: ``import align`` imports no library at all.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_home = {
    "BadSample": "values",
    "Batch": "values",
    "Embeddings": "values",
    "Features": "values",
    "JointModel": "model",
    "Objective": "objective",
    "Rows": "values",
    "Sample": "values",
    "Scores": "values",
    "Shards": "data",
    "Term": "objective",
    "TermInfo": "values",
    "Tower": "model",
    "classify": "evaluation",
    "evaluate": "evaluation",
    "load": "checkpoint",
    "load_tower": "checkpoint",
    "open_index": "search",
    "save": "checkpoint",
    "score": "scoring",
}

__all__ = [
    "BadSample",
    "Batch",
    "Embeddings",
    "Features",
    "JointModel",
    "Objective",
    "Rows",
    "Sample",
    "Scores",
    "Shards",
    "Term",
    "TermInfo",
    "Tower",
    "classify",
    "evaluate",
    "load",
    "load_tower",
    "open_index",
    "save",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _home:
        raise AttributeError(f"module 'align' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"align.{_home[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
