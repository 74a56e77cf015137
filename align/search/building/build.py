"""An index made of shards or of a folder of files, or brought up to them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from align.data import Shards
from align.model import JointModel
from align.search.building.maker import (
    check_joining,
    check_maker,
    describe_maker,
    join_makers,
    join_precisions,
    staging_key,
)
from align.search.building.place import kind_of, remove_left
from align.search.building.report import Report, Work
from align.search.building.roots import adopt_id, check_root, name_root, root_of
from align.search.building.staging import hold_index
from align.search.building.stock import Options, Stock, of_folder, of_shards
from align.search.building.update import There, read_there, update
from align.values import Embeddings

Samples = str | Path | Sequence[str | Path] | Shards


EVERYTHING, USUAL = Options(), Work()


def build_index(
    model: JointModel,
    samples: Samples,
    out: str | Path,
    *,
    source: str,
    options: Options = EVERYTHING,
    work: Work = USUAL,
    anew: bool = False,
    embeddings: Embeddings | None = None,
) -> Report:
    """Build an index, or bring one up to its shards or its folder.

    The index appears whole, or not at all. Blocks of embeddings stand in a folder beside it until then, and the same
    call goes on from them. An index that is there gets the new and the changed samples of the same source, and loses
    those whose files are gone. Samples that were deleted stay deleted until their shard or file changes. An index of
    version 1 is replaced.

    Args:
        samples: shards (paths, patterns, URLs, or opened without a shuffle), or a folder of files.
        out: the folder of the index.
        source: the model's name, by which ``align.open_index`` loads it: an absolute path, a hub id or LAYOUT:SOURCE.
        options: modalities, labels and member names.
        anew: replace an index that is there, whatever it is of.
        embeddings: of these shards, which are then not embedded again.

    Raises ValueError where something else stands at ``out``, where the index there is of another model or of other
    samples, and where the model embeds nothing of them. Raises TooManyBad, and OSError on a full disk.
    """
    out = real_path(out)
    maker = describe_maker(model, source)
    old = kind_of(out) == "index" and not anew
    if old:
        check_maker(read_there(out).about, maker, out)
    stock = open_stock(model, samples, options, work)
    with hold_index(out):
        remove_left(out)
        there = read_there(out) if old else There()
        if old:
            check_maker(there.about, maker, out)
            stock = _go_on(stock, there)
            check_root(there.about.get("sources", ()), stock.root, out)
        told = {**maker, "model": {**maker["model"], "dtype": join_precisions(there.about, maker)}} if old else maker
        return update(model, stock, out, there, staging_key(maker), told, options, work, embeddings)


def add_to_index(
    model: JointModel,
    samples: Samples,
    out: str | Path,
    *,
    options: Options = EVERYTHING,
    work: Work = USUAL,
    source: str = "this one",
) -> Report:
    """Add shards or a folder to an index. Unchanged shards and files are passed over.

    A shard or a file that has changed replaces its samples. Samples whose files are gone from a folder that was indexed
    before are removed. See ``build_index``.

    A model that is declared compatible with the index's adds its rows beside the earlier ones, by as many first
    coordinates as the index has. The index notes the models, and the one of each shard or file.

    source: the model's name, as for ``build_index``, where it is another than the index's.

    Raises FileNotFoundError where there is no index, ValueError where the model is not compatible with all of its rows.
    """
    out = real_path(out)
    check_index(out)
    maker = describe_maker(model, source)
    check_joining(read_there(out).about, maker, out, model)
    stock = open_stock(model, samples, options, work)
    with hold_index(out):
        remove_left(out)
        there = read_there(out)
        check_joining(there.about, maker, out, model)
        stock = _go_on(stock, there)
        told = join_makers(there.about, maker)
        return update(model, stock, out, there, staging_key(maker), told, options, work)


def check_index(out: Path) -> None:
    """Raise FileNotFoundError where there is no index, ValueError for one that cannot be changed."""
    kind = kind_of(out)
    if kind == "new":
        raise FileNotFoundError(
            f"no index in {out}; make one with: align index build MODEL SHARDS|FOLDER --out {shlex.quote(str(out))}"
        )
    if kind == "version 1":
        raise ValueError(f"{out} has version 1, which is only read; `align index build` makes it anew")


def open_stock(model: JointModel, samples: Samples, options: Options, work: Work) -> Stock:
    """Return the samples of shards or of a folder. Raises as ``Shards``, and where the model embeds nothing of them."""
    root = root_of(_names(samples))
    check_there(_names(samples))
    if "folder" in root:
        return of_folder(Path(root["folder"]), model, options)
    if not isinstance(samples, Shards):
        names = [samples] if isinstance(samples, str | Path) else list(samples)
        samples = Shards(names, shuffle=False, members=options.members, max_bad=1, allow_pipe=work.allow_pipe)
    if not len(samples):
        raise ValueError(f"{name_root(root)} has no samples")
    return of_shards(samples, model, options, root)


def check_there(samples: str | Path | Sequence[str | Path]) -> None:
    """Raise FileNotFoundError, with the nearest name, for one path that is neither a folder nor looks like a shard."""
    names = [samples] if isinstance(samples, str | Path) else list(samples)
    name = str(names[0]) if len(names) == 1 else ""
    if not name or os.path.exists(name) or ":" in name or set(name) & set("*?[{") or name.endswith(".tar"):
        return
    path = Path(os.path.abspath(name))
    beside = os.listdir(path.parent) if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, 1)
    hint = f"; did you mean {Path(name).with_name(near[0])}?" if near else ""
    raise FileNotFoundError(f"no folder and no shard {name}{hint}")


def _go_on(stock: Stock, there: There) -> Stock:
    places = [portion.note for portion in stock.portions]
    return replace(stock, root=adopt_id(stock.root, there.about.get("sources", ()), there.known, places))


def _names(samples: Samples) -> str | Path | Sequence[str | Path]:
    return list(map(str, samples.urls)) if isinstance(samples, Shards) else samples


def real_path(out: str | Path) -> Path:
    """Return the absolute path of an index, of the folder itself where ``out`` is a link to it."""
    path = Path(os.path.abspath(out))
    return path.resolve() if path.is_symlink() else path
