"""The house's floors, and a walk over the imports that finds any that climbs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

floors = {
    "__main__": 9,
    "commands": 8,
    "quickstart": 7,
    **dict.fromkeys(("lit", "convert"), 6),
    "checkpoint": 5,
    **dict.fromkeys(("evaluation", "report", "search", "optim", "tuning", "bind", "grad_cache", "diagnostics"), 4),
    **dict.fromkeys(("model", "objective", "scoring", "data"), 3),
    **dict.fromkeys(("losses", "encoders", "heads", "preprocess"), 2),
    **dict.fromkeys(("values", "files", "seeds", "distributed", "metrics", "extras"), 1),
}
light = {"torch", "__future__"}  # what floor 1 may use beside the standard library
only_home = {"lightning": {"lit", "commands"}, "webdataset": {"data"}}  # library -> the rooms that may import it


def room(path: Path, root: Path) -> str:
    """The room that a file of the package belongs to."""
    return path.relative_to(root).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.level:
                yield node.lineno, "." * node.level + node.module
            elif node.module == "align":
                yield from ((node.lineno, f"align.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def climbing(root: Path) -> list[str]:
    """A line for each import of the package at `root` that does not point down."""
    wrong = []
    for path in sorted(root.rglob("*.py")):
        here = room(path, root)
        if here == "__init__":
            continue
        if here not in floors:
            wrong.append(f"{path.name}: the room {here!r} is not in the house plan")
            continue
        for line, name in imported(path):
            where = f"{path.relative_to(root)}:{line}"
            if name.startswith("."):
                wrong.append(f"{where}: relative import {name}")
            elif name.split(".")[0] in only_home and here not in only_home[name.split(".")[0]]:
                wrong.append(f"{where}: {here} imports {name}")
            elif name.startswith("align."):
                there = name.split(".")[1]
                if there != here and there in floors and floors[there] >= floors[here]:
                    wrong.append(f"{where}: {here} (floor {floors[here]}) imports {there} (floor {floors[there]})")
    return wrong
