"""Towers of a config that names none: they come from the model that its ``start`` names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def set_towers(parser: Any, args: Sequence[str], config: str, start: str | None) -> None:
    """Give the parser the towers of ``start`` as defaults, if neither config nor options name towers.

    start: the option of the command line. None: the key of the config. A missing or broken config is reported later.

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
