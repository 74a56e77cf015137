"""A family of cases of which the default suite runs a few: those of the others are a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], number: int) -> list[Any]:
    """Return all cases, in their order: ``number`` of them, evenly spaced, as they are, and the others as sweeps."""
    every = list(cases)
    kept = {round(i * (len(every) - 1) / max(number - 1, 1)) for i in range(min(number, len(every)))}
    return [case if i in kept else _sweep(case) for i, case in enumerate(every)]


def only(cases: Iterable[Any], *names: str) -> list[Any]:
    """Return all cases, paths or texts: those of these names as they are, the others as sweeps."""
    every = list(cases)
    found = {getattr(case, "stem", case) for case in every}
    assert set(names) <= found, f"no case {sorted(set(names) - found)}; there are {sorted(found)}"
    return [case if getattr(case, "stem", case) in names else _sweep(case) for case in every]


def _sweep(case: Any) -> Any:
    values, marks, name = ((case,), (), None) if not hasattr(case, "marks") else (case.values, case.marks, case.id)
    values = case if isinstance(case, tuple) and not hasattr(case, "marks") else values
    return pytest.param(*values, marks=[*marks, pytest.mark.sweep], id=name)
