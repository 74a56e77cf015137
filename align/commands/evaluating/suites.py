"""Options of ``align evaluate --suite``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from align.commands.errors import Refused

if TYPE_CHECKING:
    from align.evaluation.suites import EvalSet

USUAL = "shards"


@final
@dataclass(frozen=True)
class Suites:
    """suites of public sets

    A set that is not there is listed with the way to get it, and the others are measured. OUT/suite.json has a row for
    each model that was measured with the same --out, OUT/suite.html the tables, OUT/suite/MODEL/SET the results of a
    set. The exit code is 1 where a set failed, 3 where nothing worse than too many bad samples came.

    Args:
        suite: image, audio, points or all, or names of single sets, separated by commas. They state their protocol:
            classes, templates, evaluators and hit rule
        data: the folder that the recipes wrote to, a folder for each set. Default: shards. Sets in CLIP_benchmark's
            layout have its names there, such as wds_vtab-cifar10
    """

    suite: str | None = None
    data: str | None = None

    def are_named(self, shards: Sequence[str]) -> bool:
        """Return True for --suite. Ends the command where shards and --suite are named together, or neither."""
        if self.suite is None and self.data is not None:
            raise Refused("--data is the folder of the sets of --suite, which is not given", code=2)
        if self.suite is None and not shards:
            raise Refused("name the shards to measure on, or a suite: --suite image", code=2)
        if self.suite is not None and shards:
            raise Refused(f"--suite {self.suite} finds its shards in --data; leave {shards[0]} out", code=2)
        return self.suite is not None

    def choose(self) -> list[EvalSet]:
        """Return the sets of --suite. Ends the command for an unknown name."""
        from align.evaluation.suites import choose_sets

        try:
            return choose_sets(self.suite or "")
        except ValueError as error:
            raise Refused(f"--suite: {error}", code=2) from None

    def folder(self) -> Path:
        """Return the folder of the sets. Ends the command where it is none."""
        folder = Path(self.data or USUAL)
        if not folder.is_dir():
            raise Refused(
                f"--data {folder} is no folder here; the recipes write to one: python datasets/NAME.py DIR/NAME"
            )
        return folder
