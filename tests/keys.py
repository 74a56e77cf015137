"""Lists of the tensors of a published file: a name and a shape a line. ``blocks.{0..31}.weight`` is a range."""

from __future__ import annotations

import re
from pathlib import Path

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def read_keys(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of all tensors that a list names. A line is ``NAME 3x64x7``, or ``NAME ()`` for a number."""
    found: dict[str, tuple[int, ...]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, shape = line.split()
            sizes = () if shape == "()" else tuple(map(int, shape.split("x")))
            found |= dict.fromkeys(_expand(name), sizes)
    return found


def _expand(name: str) -> list[str]:
    found = RANGE.search(name)
    if not found:
        return [name]
    start, end = map(int, found.groups())
    return [x for i in range(start, end + 1) for x in _expand(f"{name[: found.start()]}{i}{name[found.end() :]}")]


def condense(shapes: dict[str, tuple[int, ...]]) -> str:
    """Return the list of these tensors. Names that differ in their first number, without a gap, share a line."""
    lines: dict[tuple[str, str], list[int]] = {}
    for name, shape in shapes.items():
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "{}", name, count=1)
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        size = "x".join(map(str, shape)) or "()"
        lines.setdefault((pattern, size), []).append(int(number[0]) if number else -1)
    out = []
    for (pattern, size), numbers in lines.items():
        for first, last in _runs(numbers):
            part = "" if first < 0 else str(first) if first == last else f"{{{first}..{last}}}"
            out.append(f"{pattern.replace('{}', part, 1)} {size}")
    return "\n".join(out) + "\n"


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for x in sorted(numbers):
        if runs and x == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], x)
        else:
            runs.append((x, x))
    return runs
