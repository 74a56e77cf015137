"""The settings that ``align index build`` and ``align index add`` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from align.commands.errors import Refused

if TYPE_CHECKING:
    from align.search.building import Report, Work


@final
@dataclass(frozen=True)
class Embedding:
    """embedding

    Args:
        batch: samples that are embedded at a time
        workers: processes that read and decode
        max_bad: the share of samples with something unreadable above which nothing is written. 1: always write.
            Default: 0.001 of shards, 0.1 of a folder of files
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
    """

    batch: int = 64
    workers: int = 0
    max_bad: float | None = None
    allow_pipe: bool = False

    def check(self) -> None:
        """End the command for a number that cannot be."""
        if self.batch < 1 or self.workers < 0:
            raise Refused(
                f"--batch {self.batch} --workers {self.workers}: a batch has at least 1 sample, workers are at least 0",
                code=2,
            )
        if self.max_bad is not None and not 0 <= self.max_bad <= 1:
            raise Refused(f"--max-bad {self.max_bad:g} is no share; it is a number from 0 to 1", code=2)

    def run(self, make: Callable[[Work], Report]) -> Report:
        """Return the result of a build with these settings, which shows its progress."""
        from align.commands.over import budget
        from align.commands.progress import progress
        from align.search.building import Work

        with budget("--max-bad"), progress("embedding") as say:
            return make(Work(self.batch, self.workers, self.max_bad, self.allow_pipe, None, say))


def read_options(
    samples: list[str],
    modalities: str | None,
    labels: str | None,
    members: str | None,
    stored: dict[str, Any] | None = None,
) -> Any:
    """Return the options of an index, those not given as they are stored. Ends the command where one has no sense."""
    from align.commands.named import split
    from align.commands.pairs import mapping
    from align.search.building import Options
    from align.search.building.roots import root_of

    folder = "folder" in root_of(samples)
    if members and folder:
        raise Refused("--members names members of shards; a file of a folder is named by its suffix", code=2)
    if labels == "folders" and not folder:
        raise Refused(
            "--labels folders is for a folder of files; samples of shards have their label in the json", code=2
        )
    plain = {name: x for name, x in (stored or {}).items() if name != ("members" if folder else "labels")}
    if modalities is not None:
        plain["modalities"] = split(modalities)
        if not plain["modalities"]:
            raise Refused("--modalities names none; write --modalities image,text", code=2)
    if labels is not None:
        plain["labels"] = labels == "folders"
    if members is not None:
        plain["members"] = mapping(members)
    return Options.of(plain)


def as_given(samples: list[str]) -> list[str] | str:
    """Return the only one of several names as a text: it may be a folder."""
    return samples[0] if len(samples) == 1 else samples
