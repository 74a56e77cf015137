"""``align embed MODEL SHARDS --out CACHE`` writes a cache of features or embeddings."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.devices import Computing
from align.commands.errors import Refused
from align.commands.groups import Sharing, Weights
from align.commands.stopping import ending

if TYPE_CHECKING:
    from align.embedding.features import Written


def embed(
    model: str,
    shards: list[str],
    /,
    *,
    out: str,
    to: Literal["cache", "fiftyone", "label-studio"] = "cache",
    name: str | None = None,
    features: bool = False,
    tokens: bool = False,
    stored: Literal["float16", "float32"] | None = None,
    towers: str | None = None,
    members: str = "",
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    sharing: Sharing,
    placing: Computing,
    weights: Weights,
) -> int:
    """Write a cache: the features or the embeddings of shards, from which heads are trained in minutes

    A cache holds sets of the same shards, one for each model. A set has one part for each shard. An interrupted command
    resumes when it is given again, and keeps the parts that are done. Several of these commands divide the parts among
    them, on any machines that share the cache's folder. torchrun and SLURM arrays start such commands.

    The command prints the names of the columns, CACHE/SET:MODALITY. A config takes them under data.train.columns, and
    align bind as its arguments.

    --to fiftyone and --to label-studio write the shards as a folder of that tool.

    align index build makes an index for search.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        shards: shard files, or patterns such as 'shards/train-*.tar'
        out: the cache's folder, or the tool's
        to: cache, or a tool. fiftyone: a dataset with media, labels, embeddings and zero-shot labels. label-studio:
            tasks with labels as annotations and zero-shot labels as predictions
        name: the name of the set, of FiftyOne's dataset, or of the model in predictions. Default: the model's
        features: write the features of the encoders, on which heads are trained. Default: write embeddings
        tokens: write the tokens of each row too
        stored: precision of the rows in the cache. Default: float32 with --dtype float32, else float16
        towers: the towers to embed, separated by commas. Default: all that the model and the shards have
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        max_bad: the largest share of unreadable samples with which the set is finished. 1: any share
        batch: samples to embed at a time, a divisor of 1024
        workers: processes that read and decode
    """
    from align.commands.index_build import name_model
    from align.commands.named import split
    from align.commands.over import budget, say_bad
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.embedding.features.run import count_parts

    if workers < 0 or not 0 <= max_bad <= 1:
        raise Refused(f"--workers {workers} --max-bad {max_bad:g}: workers are at least 0, a share is 0 to 1", code=2)
    chosen = None if towers is None else split(towers)
    if chosen == []:
        raise Refused("--towers names none; write --towers image,text", code=2)
    cache, called = Path(out), name if name is not None else name_set(model)
    if to != "cache":
        from align.commands.embed_labelling import check_options, embed_for

        given = {"--features": features, "--tokens": tokens, "--stored": stored is not None}
        check_options(to, {**given, "--executor": sharing.executor == "ray"})
        sharing.check()
        how = {"towers": chosen, "members": mapping(members), "max_bad": max_bad, "batch": batch, "workers": workers}
        return embed_for(to, model, shards, cache, called, placing, weights, **how)
    sharing.check()
    found = weights.locate(model)
    settings: dict[str, Any] = {
        "name": called,
        "source": name_model(model, found),
        "features": features,
        "tokens": tokens,
        "dtype": stored or ("float32" if placing.dtype == "float32" else "float16"),
        "towers": chosen,
        "members": mapping(members),
        "max_bad": max_bad,
        "batch": batch,
        "workers": workers,
    }

    def describe() -> str:
        n = count_parts(cache, called)
        kept = f"{n} parts of the set {called!r} are kept, and the same command goes on from them"
        if n == 1:
            kept = f"1 part of the set {called!r} is kept, and the same command goes on from it"
        return kept if n else f"no part of the set {called!r} is done yet; the same command begins anew"

    with ending(describe), budget("--max-bad"), progress("embedding") as say:
        if sharing.executor == "ray":
            from align.embedding.features.cluster import write_on_ray

            given = {"allow": weights.list_allowed(), "address": sharing.ray, "dashboard": sharing.dashboard}
            given |= {"device": placing.device, "precision": placing.dtype}
            written = write_on_ray(found, shards, cache, settings, progress=say, **given)
        else:
            from align.embedding import write_cache

            loaded = placing.load(weights, model)
            written = write_cache(loaded, shards, cache, begin=find_beginning(os.environ), progress=say, **settings)
    say_bad(written.counts)
    say_written(written, cache, called)
    return 0


def say_written(written: Written, cache: Path, name: str) -> None:
    """Print the outcome on stderr, and the names of the set's columns on stdout."""
    from align.data.columns.format import read_cache

    parts = f"{written.parts} part{'s' * (written.parts != 1)}, {written.samples} samples"
    if not written.made:
        print(f"{cache / name} is there already ({parts}); nothing to do", file=sys.stderr)
    else:
        print(f"wrote {written.made} of {parts} to {cache / name}", file=sys.stderr)
    for modality in read_cache(cache).sets[name].columns:
        print(f"{cache / name}:{modality}")


def name_set(model: str) -> str:
    """Return the name of a model's set: that of its folder or run, or of its source.

    >>> name_set("open_clip:ViT-B-32/laion2b"), name_set("runs/photos/checkpoints/step-00000100"), name_set("who/it")
    ('ViT-B-32-laion2b', 'photos', 'it')
    """
    from align.files.hub import LOCAL

    path = Path(model)
    layout, colon, source = model.partition(":")
    if colon and not path.exists():
        words = source.removeprefix(LOCAL)
        words = Path(words).name if words != source or Path(words).exists() else words
    else:
        parts = [p for p in path.resolve().parts if p not in ("model", "checkpoints") and not p.startswith("step-")]
        words = parts[-1]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", words).strip("-.") or layout


def find_beginning(environment: Any) -> float:
    """Return the place in the list of parts where a process of torchrun or of a SLURM array begins, from 0 to 1.

    >>> find_beginning({"RANK": "1", "WORLD_SIZE": "4"}), find_beginning({})
    (0.25, 0.0)
    """
    slurm = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
    try:
        if "RANK" in environment:
            return int(environment["RANK"]) / int(environment["WORLD_SIZE"]) % 1
        if slurm[0] in environment:
            number, least, count = (int(environment[name]) for name in slurm)
            return (number - least) / count % 1
    except (KeyError, ValueError, ZeroDivisionError):
        pass
    return 0.0
