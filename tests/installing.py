"""Packages in an environment of a test's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def install(python: str | Path, *packages: str) -> None:
    """Install packages by uv where there is one, else by pip, into the environment of a Python without pip."""
    if uv := shutil.which("uv"):
        commands = [[uv, "pip", "install", "--quiet", "--python", str(python), *packages]]
    else:
        commands = [[str(python), "-m", "ensurepip"], [str(python), "-m", "pip", "install", "--quiet", *packages]]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
