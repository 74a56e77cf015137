"""``align index build MODEL SHARDS|FOLDER`` makes an index."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.index_backend import check_backend, make, read_named, say_replaced, say_stale
from align.commands.index_report import say_report
from align.commands.index_settings import Embedding, as_given, read_options
from align.commands.stopping import ending, stopping


def build(
    model: str,
    samples: list[str],
    /,
    *,
    out: str | None = None,
    modalities: str | None = None,
    labels: Literal["none", "folders"] = "none",
    members: str = "",
    anew: bool = False,
    backend: str | None = None,
    embedding: Embedding,
    placing: Placing,
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
        anew: replace an index that is there, of another model or of other files
        backend: make an approximate search too, and measure it: hnsw, ivfpq, int8, binary, or a server's
            URL (see align index backend)
    """
    from align.checkpoint.source import is_published
    from align.files.hub import is_repository
    from align.search.building import build_index
    from align.search.building.place import kind_of

    embedding.check()
    if backend not in (None, "exact"):
        check_backend(backend)
    options = read_options(samples, modalities, labels, members)
    if out is None and not Path(model).exists() and (is_published(model) or is_repository(model)):
        raise Refused(f"{model} is no folder here; say where the index goes with --out FOLDER", code=2)
    found = weights.locate(model)
    folder = Path(out if out is not None else Path(model) / "index")
    kind, named = kind_of(folder), read_named(folder)  # before the model is loaded
    with stopping(folder):
        loaded = placing.load(weights, model)
        if kind == "version 1":
            print(f"{folder} has version 1; it is made anew", file=sys.stderr)
        report = embedding.run(
            lambda work: build_index(
                loaded,
                as_given(samples),
                folder,
                source=name_model(model, found),
                options=options,
                work=work,
                anew=anew,
            )
        )
        say_report(report, folder)
    with ending(lambda: f"{folder} is whole"):
        say_replaced(folder, *named)
        say_stale(folder)
    if backend not in (None, "exact"):
        make(folder, backend)
    return 0


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
