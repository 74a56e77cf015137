"""The folder that a command writes a model to."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from align.commands.errors import Refused


def check_out(out: Path, more: Collection[str] = ()) -> None:
    """Raise Refused where a folder is there with other content than a model, which the new one would replace.

    more: names of files that may stand beside the model.
    """
    from align.checkpoint import list_files

    if out.exists() and not (out / "model.json").is_file():
        raise Refused(f"{out} is there and is no model folder; name a new one")
    if out.is_dir():
        known = {*list_files(out), *more}
        if strangers := sorted({path.name for path in out.iterdir()} - known):
            raise Refused(f"{out} holds {strangers[0]} beside a model, which would be lost; name a new folder")
