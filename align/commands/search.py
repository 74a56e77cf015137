"""``align search MODEL "a blue cone" --of image`` asks an index in any modality, or in several at once."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, Literal

from align.commands.errors import Refused
from align.commands.groups import Query, Weights
from align.commands.tables import print_notes


def search(
    model: str,
    query: str | None = None,
    /,
    *,
    of: str,
    in_: str | None = None,
    k: int = 10,
    how: Literal["cosine", "mip", "objective"] | None = None,
    json: bool = False,
    save: str | None = None,
    parts: Query,
    weights: Weights,
) -> None:
    """Search an index by text, image, sound, points, or several at once

    The search is exact: every candidate is scored. The trained objective gives the score where one of its terms joins
    the query with the candidates. Elsewhere the score is the sum of the cosines with each part of the query.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        query: a text query
        of: the modality to search among
        in_: the index folder. Default: MODEL/index, where MODEL is a folder here
        k: how many samples to find
        how: the rule of the score: the trained objective, the sum of the cosines, or mip, the product of all parts and
            the candidate. Default: objective where a trained term joins the query with the candidates, else cosine
        json: print JSON instead of a table
        save: a folder to write the files of the found samples to
    """
    from align.embedding import fingerprint
    from align.scoring import choose, list_unread
    from align.search import Index, compose, save_hits

    if query is not None and parts.text is not None:
        raise Refused("give the text query once: as QUERY or as --text", code=2)
    if query is not None and Path(query).suffix and os.path.isfile(query):
        raise Refused(
            f"QUERY is a text, and {query} is a file: search by it with --image, --audio, --points or --with "
            f"NAME={query}, or by these words with --text",
            code=2,
        )
    asked = ({} if query is None else {"text": query}) | parts.list_parts()
    if not asked:
        raise Refused('nothing to search by; give a text ("a red cone") or a file (--image x.png)', code=2)
    if k < 1:
        raise Refused(f"--k must be at least 1, got {k}", code=2)
    weights.locate(model)  # an error of MODEL comes before one of its index
    folder = Path(in_) if in_ is not None else Path(model) / "index"
    if not (folder / "index.json").is_file():
        command = f"align embed {shlex.quote(model)} SHARDS"
        if in_ is None and not Path(model).is_dir():
            raise FileNotFoundError(
                f"{model} is no folder here, so it has no index; make one with: {command} --out FOLDER, and name it "
                "with --in FOLDER"
            )
        wanted = "" if in_ is None else f" --out {shlex.quote(in_)}"
        raise FileNotFoundError(f"no index in {folder}; make one with: {command}{wanted}")
    loaded = weights.load(model)
    index = Index.open(folder, model=fingerprint(loaded))
    index.rows(of)
    lists: dict[str, Any] = {m: [x] for m, x in asked.items()}
    embedded = {m: x.cpu() for m, x in loaded.embed(**lists).items()}
    if parts.minus_text is not None:
        embedded = compose(embedded, {"text": loaded.embed(text=[parts.minus_text])["text"].cpu()})
    how = how or choose(loaded.terms, embedded, of)
    hits = index.query(embedded, of, k, how, terms=loaded.terms)[0]
    files = [str(path) for path in save_hits(hits, save)] if save is not None else []
    left = list_unread(loaded.terms, embedded, of) if how == "objective" else []
    notes = [f"{m} does not count: no trained term joins it with {of} here; --how cosine counts it" for m in left]
    if json:
        _print_json(hits, asked, of, how, files, notes)
    else:
        _print_table(hits, of, how, files, save)
        print_notes(notes)


def _print_json(hits: list[Any], asked: dict[str, str], of: str, how: str, files: list[str], notes: list[str]) -> None:
    from align.files import json_text

    found = [{"rank": hit.rank, "score": hit.score, "cosines": hit.cosines, **hit.item} for hit in hits]
    print(json_text({"query": asked, "of": of, "how": how, "notes": notes, "hits": found, "files": files}, 2))


def _print_table(hits: list[Any], of: str, how: str, files: list[str], save: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console

    table = Table(box=None, pad_edge=False, title=f"{of}, by {how}", title_justify="left")
    parts = [] if how == "cosine" and len(hits[0].cosines) == 1 else list(hits[0].cosines)
    for name in ("rank", "score", *(f"cosine {m}" for m in parts)):
        table.add_column(name, justify="right")
    for name in ("key", "caption"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        table.add_row(
            str(hit.rank),
            f"{hit.score:.3f}",
            *(f"{hit.cosines[m]:.3f}" for m in parts),
            Text(hit.item["key"]),
            Text(describe(hit.item)),
        )
    console().print(table)
    if files:
        print(f"{len(files)} files in {save}")


def describe(item: dict[str, Any]) -> str:
    """Return the first caption of a sample, or its label in words where it has none."""
    from align.data.labels import in_words

    return item["caption"][0] if item["caption"] else in_words(item["label"])
