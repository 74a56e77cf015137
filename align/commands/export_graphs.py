"""Options of ``align export --to onnx``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from align.commands.errors import Refused
from align.commands.named import split


@final
@dataclass(frozen=True)
class Graphs:
    """with --to onnx

    Args:
        int8: write a graph with weights of 8 bits beside each
        check: shard files or patterns, separated by commas, on whose samples the recall and the time of the graphs are
            measured, beside the model's
    """

    int8: bool = False
    check: str | None = None

    def settings(self, to: str) -> dict[str, Any]:
        """Return the arguments of ``write_onnx``. Ends the command for options of it beside another format."""
        if to != "onnx":
            if self.int8 or self.check is not None:
                option = "--int8" if self.int8 else "--check"
                raise Refused(f"{option} belongs to --to onnx, not to --to {to}", code=2)
            return {}
        return {"int8": self.int8, "check": None if self.check is None else split(self.check)}
