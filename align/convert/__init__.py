"""Models of align as files, and as objects, of other libraries."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.convert.embedder import Embedder
    from align.convert.harness import mteb
    from align.convert.langchain import LangChainEmbeddings
    from align.convert.llama_index import LlamaIndexEmbedding

__all__ = ["Embedder", "LangChainEmbeddings", "LlamaIndexEmbedding", "mteb"]

FLOORS = (
    ("embedder", "graphs", "harness", "hub", "labelling", "langchain", "llama_index", "sentences"),
    ("open_clip_config",),
    ("open_clip",),
)

_ROOMS = {
    "Embedder": "embedder",
    "LangChainEmbeddings": "langchain",
    "LlamaIndexEmbedding": "llama_index",
    "mteb": "harness",
}


def __getattr__(name: str) -> Any:
    """Import a name on its first use, as each needs another library."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
