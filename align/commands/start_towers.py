"""Towers of a config that names none: those of the model that its ``start`` names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def set_towers(parser: Any, args: Sequence[str], config: str, start: str | None) -> None:
    """Give the parser the towers of the start as its defaults, where neither config nor options name towers.

    start: of the command line. None: the config's. A config that is not there or no YAML is left to its check.

    Raises FileNotFoundError and ValueError as `align.checkpoint.describe_towers` does.
    """
    import yaml

    from align.checkpoint import describe_towers

    try:
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return
    content = content if isinstance(content, dict) else {}
    model = content.get("model")
    named = isinstance(model, dict) and "towers" in model
    start = start or content.get("start")
    if not isinstance(start, str) or named or any(arg.partition("=")[0] == "--model.towers" for arg in args):
        return
    parser.set_defaults({f"model.{key}": value for key, value in describe_towers(start).items()})
