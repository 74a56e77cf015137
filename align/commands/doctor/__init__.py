"""``align doctor`` lists the installed packages, the missing extras, and the parts that do not work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from align.commands.doctor.examine import Examination


def doctor(*, json: bool = False) -> int:
    """Tell whether the installation works, and which extra brings a missing part

    Every package is imported, in a process of its own. A tiny file of each format is decoded. The GPU computes a
    product. The cache folder is written to, and the hub is asked for a few seconds. The exit code is 1 where something
    that everyone needs is missing or broken. A missing extra, GPU or hub is no failure.

    Args:
        json: print JSON instead of text
    """
    from align.commands.doctor.examine import examine
    from align.commands.progress import progress

    with progress("looking") as said:
        found = examine(said)
    if json:
        from align.files import json_text

        print(json_text(found.as_data(), 2))
    else:
        _print(found)
    return 1 if found.problems else 0


def _print(found: Examination) -> None:
    from align.commands.doctor.told import tell

    for line in tell(found):
        print(line)
