"""A small quickstart run, made once for all tests that need a trained four-modality model."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

SMALL = ["--objects", "600", "--test", "60", "--steps", "6", "--workers", "0"]
_keep: list[TemporaryDirectory[str]] = []


@cache
def small_run() -> Path:
    """RUN of ``align quickstart`` with few objects and few steps: everything is there, the scores are poor."""
    from align.commands import main

    _keep.append(TemporaryDirectory())
    run = Path(_keep[-1].name) / "runs" / "quickstart"
    with patch.object(os, "cpu_count", lambda: 1):  # no processes that import for longer than they work
        assert main(["quickstart", str(run), *SMALL]) == 0
    return run
