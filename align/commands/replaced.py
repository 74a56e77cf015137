"""The model folder that a command is about to replace."""

from __future__ import annotations

from pathlib import Path

from align.commands.errors import Refused

BOUND = ("bind.json", "bind.html")
"""Files of a binding beside its model."""


def check_out(out: Path) -> None:
    """Raise Refused where a folder is there that holds something else than a model and a binding's results."""
    from align.checkpoint import list_files

    if out.exists() and not (out / "model.json").is_file():
        raise Refused(f"{out} is there and is no model folder; name a new one")
    if out.is_dir():
        known = {*list_files(out), *BOUND}
        if strangers := sorted({path.name for path in out.iterdir()} - known):
            raise Refused(f"{out} holds {strangers[0]} beside a model, which would be lost; name a new folder")
