"""The house's floors, and a walk over the imports that finds any that climbs: between rooms, and inside large ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

floors = {
    "__main__": 12,
    "commands": 11,
    **dict.fromkeys(("quickstart", "sweep"), 10),
    **dict.fromkeys(("lit", "convert", "report", "serve", "soup"), 9),
    **dict.fromkeys(("evaluation", "search", "bind", "diagnostics"), 8),
    **dict.fromkeys(("curation", "embedding"), 7),
    "checkpoint": 6,
    **dict.fromkeys(("optim", "tuning", "grad_cache", "published", "page"), 5),
    **dict.fromkeys(("data", "model", "objective", "scoring"), 4),
    **dict.fromkeys(("preprocess", "encoders", "heads"), 3),
    **dict.fromkeys(("media", "losses"), 2),
    **dict.fromkeys(("values", "files", "seeds", "distributed", "metrics", "extras"), 1),
}
light = {"torch", "__future__"}  # what floor 1 may use beside the standard library
lazy = {"files": {"urllib3", "huggingface_hub"}}  # room of floor 1 -> a library that it imports inside functions alone
only_home = {"lightning": {"lit", "commands"}, "webdataset": {"data"}}  # library -> the rooms that may import it
LARGE = 1500  # lines from which a folder states floors for its children


def room(path: Path, root: Path) -> str:
    """Return the child of `root` (a file's stem or a folder's name) that holds a file."""
    return path.relative_to(root).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.level:
                yield node.lineno, "." * node.level + node.module
            elif node.module.split(".")[0] == "align":
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def climbing(root: Path) -> list[str]:
    """Return a line for each import of the package at `root` that does not point down."""
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


def lines(folder: Path) -> int:
    """Return the number of lines of a folder's Python files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


def large_rooms(root: Path) -> list[Path]:
    """Return the folders below `root` that have more lines than a room without floors may have."""
    return [p.parent for p in sorted(root.rglob("*/__init__.py")) if lines(p.parent) > LARGE]


def stated(folder: Path) -> dict[str, int]:
    """Return child -> floor as a folder's `__init__.py` states them: `FLOORS`, tuples of names, the lowest first."""
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS":
            return {name: i for i, names in enumerate(ast.literal_eval(node.value), 1) for name in names}
    return {}


def climbing_inside(folder: Path, dotted: str) -> list[str]:
    """Return a line for each import between children of a folder that does not point down, or child without a floor."""
    levels = stated(folder)
    if not levels:
        return [f"{dotted}: {lines(folder)} lines, and no FLOORS in its __init__.py"]
    children = {room(path, folder) for path in folder.rglob("*.py")} - {"__init__"}
    wrong = [f"{dotted}: {name!r} has no floor" for name in sorted(children - set(levels))]
    wrong += [f"{dotted}: there is no {name!r}" for name in sorted(set(levels) - children)]
    for path in sorted(folder.rglob("*.py")):
        here = room(path, folder)
        if here in levels:
            wrong += [
                f"{path.relative_to(folder)}:{line}: {text}" for line, text in _inside(path, here, levels, dotted)
            ]
    return wrong


def _inside(path: Path, here: str, levels: Mapping[str, int], dotted: str) -> Iterator[tuple[int, str]]:
    for line, name in imported(path):
        there = name.removeprefix(f"{dotted}.").split(".")[0] if name.startswith(f"{dotted}.") else ""
        if there and there not in levels:  # a name that the room's __init__ takes from all of its children
            yield line, f"{here} imports {name} through the room"
        elif there and there != here and levels[there] >= levels[here]:
            yield line, f"{here} (floor {levels[here]}) imports {there} (floor {levels[there]})"
