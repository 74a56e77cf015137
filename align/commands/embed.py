"""``align embed MODEL SHARDS --out FOLDER`` writes an index for ``align search``."""

from __future__ import annotations

from pathlib import Path

from align.commands.groups import Weights


def embed(
    model: str,
    shards: list[str],
    /,
    *,
    out: str | None = None,
    members: str = "",
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    allow_pipe: bool = False,
    weights: Weights,
) -> None:
    """Embed shards into an index for `align search`

    Every row of every modality is embedded once. The index appears whole, or not at all.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        shards: shard files, or patterns such as 'shards/test-*.tar'
        out: the folder for the index. Default: MODEL/index, where MODEL is a folder here
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        max_bad: the share of samples with something unreadable above which no index is made. 1: always make it
        batch: samples that are embedded at a time
        workers: processes that read and decode
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
    """
    from align.checkpoint import read_parts
    from align.commands.named import device
    from align.commands.over import budget, say_bad
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.data import Shards
    from align.embedding import embed_shards, fingerprint
    from align.search import Index, write_index
    from align.search.write import check_place

    opened = Shards(shards, shuffle=False, members=mapping(members), max_bad=max_bad, allow_pipe=allow_pipe)
    loaded = weights.load(model)
    made_by = fingerprint(loaded)  # before the model moves: load's checksum is that of the weights in place
    parts = read_parts(loaded)
    loaded = loaded.to(device())
    if out is None and not Path(model).is_dir():
        raise ValueError(f"{model} is no folder here; say where the index goes with --out FOLDER")
    check_place(out or Path(model) / "index")  # before hours of embedding
    with budget("--max-bad"), progress("embedding") as say:
        embeddings = embed_shards(loaded, opened, batch, workers, progress=say)
    folder = write_index(embeddings, opened, out or Path(model) / "index", model=made_by, parts=parts)
    rows = ", ".join(f"{n} {m}" for m, n in Index.open(folder).modalities.items())
    print(f"{folder}: {embeddings.size} samples ({rows})")
    say_bad(opened.report())
