"""Checks of the options of ``align evaluate`` before any work: those without their evaluator, numbers out of range."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from align.commands.errors import Refused

MOST = 1_000_000  # draws and permutations, each of which takes time


def list_given(group: Any) -> Iterator[str]:
    """Yield the options of a group that have another value than their default."""
    for field in fields(group):
        if getattr(group, field.name) != field.default:
            yield f"--{field.name.replace('_', '-')}"


def check_evaluators(groups: Mapping[str, Any], wanted: Collection[str]) -> None:
    """End the command for an option of an evaluator that is not in ``wanted``: it would change nothing.

    groups: name of an evaluator -> its options. Two evaluators may have the same ones.
    """
    for name, group in groups.items():
        used = any(other is group and evaluator in wanted for evaluator, other in groups.items())
        for option in () if used else list_given(group):
            raise Refused(
                f"{option} is an option of the evaluator {name}; add it: --with {','.join([*wanted, name])}", 2
            )


def check_range(option: str, value: int, least: int, most: int = MOST) -> None:
    """End the command for a number outside of least..most."""
    if not least <= value <= most:
        raise Refused(f"{option} is a whole number from {least:,} to {most:,}; got {value:,}", 2)
