"""A small quickstart run, made once for all tests that need a trained four-modality model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_keep: list[TemporaryDirectory[str]] = []


@cache
def small_run() -> Path:
    """RUN of ``align quickstart`` with few objects and few steps: everything is there, the scores are poor."""
    from align.commands import main

    _keep.append(TemporaryDirectory())
    run = Path(_keep[-1].name) / "runs" / "quickstart"
    assert main(["quickstart", str(run), "--objects", "600", "--test", "60", "--steps", "12", "--workers", "0"]) == 0
    return run
