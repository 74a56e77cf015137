"""The pages on the house say the truth: the tree's rooms, their floors, and a row for each kind of addition."""

from __future__ import annotations

import re
from pathlib import Path

from floors import floors

root = Path(__file__).parent.parent
page = (root / "docs" / "house.md").read_text(encoding="utf-8")
there = {
    path.stem for path in (root / "align").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
} - {"__init__"}


def test_the_tree_is_the_house():
    named = {name.rstrip("/").removesuffix(".py") for name in re.findall(r"^  (\S+?)\s", page, flags=re.MULTILINE)}
    assert named == there


def test_the_floors_are_those_of_the_test():
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", page, flags=re.MULTILINE)
    stated = {name.strip(): int(floor) for floor, names in rows for name in re.sub(r"\(.*?\)", "", names).split(",")}
    assert stated == {name: floor for name, floor in floors.items() if name in there - {"__main__"}}
