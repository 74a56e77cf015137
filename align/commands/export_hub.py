"""Options of ``align export --to hub``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from align.commands.errors import Refused


@final
@dataclass(frozen=True)
class Hub:
    """with --to hub

    Args:
        push: owner/name on the hub, to which the folder is uploaded in one commit
        private: make the repository private, where it is not there yet
        licence: the licence of the model, such as apache-2.0. Default: that of its parts, where all are known
        results: a folder of align evaluate, whose scores the card shows. Default: MODEL, where it has results
    """

    push: str | None = None
    private: bool = False
    licence: str | None = None
    results: str | None = None

    def settings(self, to: str, model: str, checkpoint: str) -> dict[str, Any]:
        """Return the arguments of ``write_hub``, none for another format. Ends the command where they do not fit."""
        given = {"--push": self.push, "--private": self.private, "--licence": self.licence, "--results": self.results}
        named = [option for option, value in given.items() if value not in (None, False)]
        if to != "hub":
            if named:
                raise Refused(f"{named[0]} belongs to --to hub, not to --to {to}", code=2)
            return {}
        if self.private and self.push is None:
            raise Refused("--private is for --push owner/name", code=2)
        run = Path(model)
        return {
            "licence": self.licence,
            "results": self.results,
            "run": run if run.is_dir() else None,
            "checkpoint": checkpoint,
            "to": self.push,
            "private": self.private,
        }
