"""``align index build MODEL SHARDS|FOLDER`` makes an index, ``align index add`` brings one up to its files."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.errors import Refused
from align.commands.groups import Weights

if TYPE_CHECKING:
    from align.search.building import Report


def build(
    model: str,
    samples: list[str],
    /,
    *,
    out: str | None = None,
    modalities: str | None = None,
    labels: Literal["none", "folders"] = "none",
    members: str = "",
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    anew: bool = False,
    allow_pipe: bool = False,
    weights: Weights,
) -> int:
    """Make an index for search, from shards or from a folder of files

    Files of one folder with the same name up to the suffix are one sample: a.jpg, a.wav, and a.txt, its caption. a.json
    gives its label and the keys to filter by. Meshes become clouds.

    The index appears whole, or not at all. A build that was stopped goes on where it was, by the same command. Where
    the index is there, the same command refreshes it: new and changed files are embedded, and samples whose files are
    gone are removed.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        samples: shard files, patterns such as 'shards/test-*.tar', or one folder of files
        out: the folder for the index. Default: MODEL/index, where MODEL is a folder here
        modalities: those to embed, separated by commas. Default: all that the model has. With text, a .txt without
            another file is a sample too
        labels: folders: the first folder below FOLDER is the label of its files, where their json states none
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        max_bad: the share of samples with something unreadable above which no index is made. 1: always make it
        batch: samples that are embedded at a time
        workers: processes that read and decode
        anew: replace an index that is there, of another model or of other files
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
    """
    from align.checkpoint.source import is_published
    from align.files.hub import is_repository
    from align.search.building import build_index
    from align.search.building.place import kind_of

    check_sizes(batch, workers, max_bad)
    options = read_options(modalities, labels, members)
    if out is None and not Path(model).exists() and (is_published(model) or is_repository(model)):
        raise Refused(f"{model} is no folder here; say where the index goes with --out FOLDER", code=2)
    found = weights.locate(model)
    folder = Path(out if out is not None else Path(model) / "index")
    kind = kind_of(folder)  # before the model is loaded
    with stopping(folder):
        loaded = weights.load(model)
        if kind == "version 1":
            print(f"{folder} has version 1; it is made anew", file=sys.stderr)
        report = _run(
            lambda work: build_index(
                loaded, _one(samples), folder, source=name_model(model, found), options=options, work=work, anew=anew
            ),
            batch=batch,
            workers=workers,
            max_bad=max_bad,
            allow_pipe=allow_pipe,
        )
    say_report(report)
    return 0


def add(
    index: str,
    samples: list[str] = [],  # noqa: B006  it is only read
    /,
    *,
    modalities: str | None = None,
    labels: Literal["none", "folders"] | None = None,
    members: str | None = None,
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    allow_pipe: bool = False,
    model: str | None = None,
    weights: Weights,
) -> int:
    """Add shards or a folder to an index, or look for changes in what it is of

    What is in the index unchanged is passed over. A shard or a file that has changed replaces its samples, and samples
    whose files are gone from a folder are removed. A deleted sample stays deleted until its shard or file changes.

    Args:
        index: the index folder
        samples: shard files, patterns, or one folder of files. Default: all that the index is of
        modalities: as for align index build. Default: as the index was built
        labels: as for align index build. Default: as the index was built
        members: as for align index build. Default: as the index was built
        max_bad: the share of samples with something unreadable above which nothing is added. 1: always add
        batch: samples that are embedded at a time
        workers: processes that read and decode
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
        model: the index's model, where it is elsewhere now. Default: where the index says
    """
    from align.search.building import add_to_index
    from align.search.building.build import check_index
    from align.search.building.roots import find_options, names_of, root_of
    from align.search.local import LocalIndex

    folder = Path(index)
    check_sizes(batch, workers, max_bad)
    check_index(folder)
    with LocalIndex.open(folder) as opened:
        about = dict(opened.about)
    roots = about.get("sources", [])
    given = [_one(samples)] if samples else [_one(names_of(root)) for root in roots]
    if not given:
        raise Refused(f"{folder} does not say what it is of; name shards or a folder", code=2)
    source = model or str(about["model"]["source"])
    with stopping(folder):
        loaded = weights.load(source)
        for one in given:
            stored = dict(find_options(roots, root_of(one)))
            options = read_options(modalities, labels, members, stored)
            report = _run(
                lambda work, one=one, options=options: add_to_index(loaded, one, folder, options=options, work=work),
                batch=batch,
                workers=workers,
                max_bad=max_bad,
                allow_pipe=allow_pipe,
            )
            say_report(report)
    return 0


def check_sizes(batch: int, workers: int, max_bad: float) -> None:
    """End the command for a number that cannot be."""
    if batch < 1 or workers < 0 or not 0 <= max_bad <= 1:
        raise Refused(
            f"--batch {batch} --workers {workers} --max-bad {max_bad:g}: a batch has at least 1 sample, workers are at "
            "least 0, --max-bad is a share from 0 to 1",
            code=2,
        )


def read_options(
    modalities: str | None, labels: str | None, members: str | None, stored: dict[str, Any] | None = None
) -> Any:
    """Return the options of an index, those not given as they are stored."""
    from align.commands.named import split
    from align.commands.pairs import mapping
    from align.search.building import Options

    plain = dict(stored or {})
    if modalities is not None:
        plain["modalities"] = split(modalities)
        if not plain["modalities"]:
            raise Refused("--modalities names none; write --modalities image,text", code=2)
    if labels is not None:
        plain["labels"] = labels == "folders"
    if members is not None:
        plain["members"] = mapping(members)
    return Options.of(plain)


def name_model(model: str, folder: Path) -> str:
    """Return the name by which an index finds its model again: a hub id, LAYOUT:SOURCE, or the folder's path."""
    return str(folder.resolve()) if Path(model).exists() else model


def _one(samples: list[str]) -> list[str] | str:
    return samples[0] if len(samples) == 1 else samples


def _run(make: Any, *, batch: int, workers: int, max_bad: float, allow_pipe: bool) -> Report:
    from align.commands.named import device
    from align.commands.over import budget
    from align.commands.progress import progress
    from align.search.building import Work

    with budget("--max-bad"), progress("embedding") as say:
        return make(Work(batch, workers, max_bad, allow_pipe, device(), say))


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """End the block at SIGINT and SIGTERM with codes 130 and 143, and say that the embedded samples are kept."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Stopped as stopped:
        from align.search.building.staging import count_staged

        n, name = count_staged(folder), signal.Signals(stopped.number).name
        kept = f"{n} embedded samples are kept beside {folder}, and the same command goes on from them"
        said = kept if n else f"nothing was embedded yet, and {folder} is as it was"
        raise Refused(f"stopped by {name}: {said}", 128 + stopped.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(BaseException):
    """A signal's end of the command."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def say_report(report: Report) -> None:
    """Print the result of a build."""
    from align.commands.over import say_bad

    rows = ", ".join(f"{n} {m}" for m, n in report.modalities.items())
    changes, unread = report.changes, report.filled.unread
    parts = {"new": len(changes.new), "changed": len(changes.changed), "unchanged": len(changes.same)}
    parts |= {"gone": len(changes.gone), "of these without a row": unread}
    counts = ", ".join(f"{n} {name}" for name, n in parts.items() if n)
    print(f"{report.folder}: {report.samples} samples ({rows}), {report.made} ({report.kind}s: {counts})")
    if report.resumed:
        print(f"{report.resumed} samples had been embedded by a build that was stopped")
    if report.left:
        say_left(report)
    say_bad(report.bad)
    if report.made == "built":
        print(f"try next: align search {shlex.quote(str(report.folder))} 'words' --of {next(iter(report.modalities))}")


def say_left(report: Report) -> None:
    """Print the files that are in no sample, by suffix and reason."""
    from rich.table import Table

    from align.commands.shown import console, plain

    table = Table(box=None, pad_edge=False, title=f"left out: {report.left.total()} files", title_justify="left")
    for name in ("suffix", "files", "reason"):
        table.add_column(name, justify="right" if name == "files" else "left", overflow="fold")
    for (suffix, reason), n in sorted(report.left.items(), key=lambda one: (-one[1], one[0])):
        table.add_row(plain(suffix or "none"), str(n), plain(reason))
    console().print(table)
    if report.advice:
        print(plain(report.advice))
