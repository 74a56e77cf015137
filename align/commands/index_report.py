"""The result of a build on a terminal: the samples of the index, and the files that are in none."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from align.search.building import Report


def say_report(report: Report, folder: Path) -> None:
    """Print the result of a build. folder: the index as the user named it."""
    from align.commands.over import say_bad
    from align.commands.sizes import count_text

    rows = ", ".join(f"{n} {m}" for m, n in report.modalities.items())
    changes, unread = report.changes, report.filled.unread
    parts = {"new": len(changes.new), "changed": len(changes.changed), "unchanged": len(changes.same)}
    parts["tried again"] = len(changes.again)
    parts |= {"gone": len(changes.gone), "of these without a row": unread}
    counts = ", ".join(f"{n} {name}" for name, n in parts.items() if n)
    print(f"{folder}: {count_text(report.samples, 'sample')} ({rows}), {report.made} ({report.kind}s: {counts})")
    if report.resumed:
        print(f"{count_text(report.resumed, 'sample')} embedded before, by a build that was stopped")
    if report.left:
        say_left(report)
    say_bad(report.bad)
    if report.made == "built":
        most = max(report.modalities, key=lambda m: report.modalities[m])
        print(f"try next: align search {shlex.quote(str(folder))} 'words' --of {most}")


def say_left(report: Report) -> None:
    """Print the files that are in no sample, by suffix and reason."""
    from rich.table import Table

    from align.commands.shown import console, plain
    from align.commands.sizes import count_text

    table = Table(
        box=None, pad_edge=False, title=f"left out: {count_text(report.left.total(), 'file')}", title_justify="left"
    )
    for name in ("suffix", "files", "reason"):
        table.add_column(name, justify="right" if name == "files" else "left", overflow="fold")
    for (suffix, reason), n in sorted(report.left.items(), key=lambda one: (-one[1], one[0])):
        table.add_row(plain(suffix or "none"), str(n), plain(reason))
    console().print(table)
    if report.advice:
        print(plain(report.advice))
