"""``align index build MODEL SHARDS|FOLDER`` makes an index, ``align index add`` brings one up to its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.index_report import say_report
from align.commands.stopping import stopping

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
    options = read_options(samples, modalities, labels, members)
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
    say_report(report, folder)
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
    """Add shards or a folder to an index, or look for changes in its sources

    Unchanged shards and files are passed over. A shard or a file that has changed replaces its samples, and samples
    whose files are gone from a folder are removed. A deleted sample stays deleted until its shard or file changes.

    Args:
        index: the index folder
        samples: shard files, patterns, or one folder of files. Default: all sources of the index
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
        raise Refused(f"{folder} does not name its sources; name shards or a folder", code=2)
    source = model or str(about["model"]["source"])
    with stopping(folder):
        try:
            loaded = weights.load(source)
        except FileNotFoundError as error:
            remedy = "" if model else "; where the index's model is elsewhere now, name it with --model"
            raise FileNotFoundError(f"{error}{remedy}") from None
        for one in given:
            stored = dict(find_options(roots, root_of(one)))
            options = read_options(_as_list(one), modalities, labels, members, stored)
            report = _run(
                lambda work, one=one, options=options: add_to_index(loaded, one, folder, options=options, work=work),
                batch=batch,
                workers=workers,
                max_bad=max_bad,
                allow_pipe=allow_pipe,
            )
            say_report(report, folder)
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


def name_model(model: str, folder: Path) -> str:
    """Return the name by which an index finds its model again: a hub id, LAYOUT:SOURCE, or the folder's path.

    A file or a folder that SOURCE names here gets its absolute path.
    """
    from align.files.hub import LOCAL

    if Path(model).exists():
        return str(folder.resolve())
    source = model.partition(":")[2].removeprefix(LOCAL)
    for path in (source, source.partition("@")[2]):
        if path and Path(path).exists():
            return model.removesuffix(path) + os.path.abspath(path)
    return model


def _as_list(samples: list[str] | str) -> list[str]:
    return [samples] if isinstance(samples, str) else samples


def _one(samples: list[str]) -> list[str] | str:
    return samples[0] if len(samples) == 1 else samples


def _run(make: Any, *, batch: int, workers: int, max_bad: float, allow_pipe: bool) -> Report:
    from align.commands.named import device
    from align.commands.over import budget
    from align.commands.progress import progress
    from align.search.building import Work

    with budget("--max-bad"), progress("embedding") as say:
        return make(Work(batch, workers, max_bad, allow_pipe, device(), say))
