"""``align search MODEL "a blue cone" --of image``: ask an index in any modality, or in several at once."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, Literal

from align.commands.errors import Refused


def search(
    model: str,
    query: str | None = None,
    /,
    *,
    of: str,
    text: str | None = None,
    image: str | None = None,
    audio: str | None = None,
    points: str | None = None,
    with_: str | None = None,
    minus_text: str | None = None,
    in_: str | None = None,
    k: int = 10,
    how: Literal["cosine", "mip", "objective"] | None = None,
    json: bool = False,
    save: str | None = None,
    checkpoint: str = "best",
    allow: str | None = None,
) -> None:
    """Search an index by text, image, sound, points, or several at once

    Exact: every candidate is scored. The trained objective scores where one of its terms joins the query with the
    candidates, else the sum of the cosines with each part of the query.

    Args:
        model: a model folder, a run folder, or owner/name on the hub
        query: a text query
        of: the modality to search among
        text: a text query
        image: a file to search by
        audio: a file to search by
        points: a file to search by
        with_: files of other modalities to search by: NAME=FILE, separated by commas
        minus_text: a text to be less like; it is subtracted from the text query
        in_: the index folder; default: MODEL/index
        k: how many to find
        how: default: objective where a trained term joins the query with the candidates, else cosine; mip multiplies
        json: print JSON instead of a table
        save: write the files of what was found into this folder
        checkpoint: of a run: best, last, or a step
        allow: packages beside align, separated by commas, whose classes the model's config may name
    """
    from align import load
    from align.checkpoint import locate
    from align.commands.named import split
    from align.commands.pairs import pairs
    from align.embedding import fingerprint
    from align.scoring import choose
    from align.search import Index, compose, save_hits

    if query is not None and text is not None:
        raise Refused("give the text query once: as QUERY or as --text", code=2)
    if query is not None and Path(query).suffix and os.path.isfile(query):
        raise Refused(
            f"QUERY is a text, and {query} is a file: search by it with --image, --audio, --points or --with "
            f"NAME={query}, or by these words with --text",
            code=2,
        )
    text = query if query is not None else text
    parts = {"text": text, "image": image, "audio": audio, "points": points}
    asked = {m: x for m, x in parts.items() if x is not None} | pairs(with_ or "", "--with")
    if not asked:
        raise Refused('nothing to search by; give a text ("a red cone") or a file (--image x.png)', code=2)
    if k < 1:
        raise Refused(f"--k must be at least 1, got {k}", code=2)
    locate(model, checkpoint)  # what is wrong with MODEL comes before what is wrong with its index
    folder = Path(in_) if in_ is not None else Path(model) / "index"
    if not (folder / "index.json").is_file():
        wanted = "" if in_ is None else f" --out {shlex.quote(in_)}"
        raise FileNotFoundError(f"no index in {folder}; make one with: align embed {shlex.quote(model)} SHARDS{wanted}")
    loaded = load(model, allow=split(allow), checkpoint=checkpoint)
    index = Index.open(folder, model=fingerprint(loaded))
    index.rows(of)
    lists: dict[str, Any] = {m: [x] for m, x in asked.items()}
    embedded = {m: x.cpu() for m, x in loaded.embed(**lists).items()}
    if minus_text is not None:
        embedded = compose(embedded, {"text": loaded.embed(text=[minus_text])["text"].cpu()})
    how = how or choose(loaded.terms, embedded, of)
    hits = index.query(embedded, of, k, how, terms=loaded.terms)[0]
    files = [str(path) for path in save_hits(hits, save)] if save is not None else []
    _print_json(hits, asked, of, how, files) if json else _print_table(hits, of, how, files, save)


def _print_json(hits: list[Any], asked: dict[str, str], of: str, how: str, files: list[str]) -> None:
    from align.files import json_text

    found = [{"rank": hit.rank, "score": hit.score, **hit.item} for hit in hits]
    print(json_text({"query": asked, "of": of, "how": how, "hits": found, "files": files}, 2))


def _print_table(hits: list[Any], of: str, how: str, files: list[str], save: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console

    table = Table(box=None, pad_edge=False, title=f"{of}, by {how}", title_justify="left")
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in ("key", "caption"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        table.add_row(str(hit.rank), f"{hit.score:.3f}", Text(hit.item["key"]), Text(described(hit.item)))
    console().print(table)
    if files:
        print(f"{len(files)} files in {save}")


def described(item: dict[str, Any]) -> str:
    """The first caption of a sample, else its label in words."""
    from align.data.labels import in_words

    return item["caption"][0] if item["caption"] else in_words(item["label"])
