"""Models of align as files, and as objects, of other libraries."""

from importlib import import_module
from typing import Any

_home = {
    "mteb": "harness",
}


def __getattr__(name: str) -> Any:
    if name not in _home:
        raise AttributeError(f"module 'align.convert' has no attribute {name!r}; it has {', '.join(sorted(_home))}")
    value = getattr(import_module(f"align.convert.{_home[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_home)
