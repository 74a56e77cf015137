"""``align search INDEX "a blue cone" --of image`` asks an index in any modality, or in several at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.open_searcher import open_searcher
from align.commands.search_groups import Backing, Calibration, Correcting, Query

if TYPE_CHECKING:
    from align.search import Found, Searcher


def search(
    index: str,
    query: str | None = None,
    /,
    *,
    of: str,
    in_: str | None = None,
    model: str | None = None,
    k: int = 10,
    where: str | None = None,
    how: Literal["cosine", "mip", "objective"] | None = None,
    space: str | None = None,
    fold: bool = False,
    near: float = 0.99,
    json: bool = False,
    save: str | None = None,
    parts: Query,
    calibration: Calibration,
    hubs: Correcting,
    backing: Backing,
    placing: Placing,
    weights: Weights,
) -> None:
    """Search an index by text, image, video, sound, points, or several at once

    The search is exact: every candidate is scored. Where the index has an approximate search (see align index backend),
    that one proposes candidates, and the best of them are scored exactly. The trained objective gives the score where
    one of its terms joins the query with the candidates. Elsewhere the score is the sum of the cosines with each part
    of the query. Weights are factors of the parts.

    --where takes the conditions of align shards filter that compare a name with a value, as in 'year >= 2000 and label
    == "cat"', or JSON. Names are keys of the samples' json, and label, key, shard, folder, caption.

    Args:
        index: an index folder, or a run or a model folder with an index in its folder index
        query: a text query
        of: the modality to search among
        in_: the index folder, where INDEX is a model: a folder, owner/name on the hub, or LAYOUT:SOURCE
        model: the model of the index, where it is not found at the place that the index names
        k: how many samples to find
        where: a condition that samples have to meet
        how: the rule of the score: the trained objective, the sum of the cosines, or mip, the product of all parts and
            the candidate. Default: objective where a trained term joins the query with the candidates, else cosine
        space: the space to search in, of a model whose heads are Streams: its cosines order the hits
        fold: show near duplicates as one sample
        near: the cosine from which two samples are near duplicates, for --fold
        json: print JSON instead of a table
        save: a folder to write the files of the found samples to
    """
    from align.commands.hits import print_json, print_table

    asked = _list_asked(query, parts, calibration, hubs)
    if k < 1:
        raise Refused(f"--k must be at least 1, got {k}", code=2)
    if not 0 <= near <= 1:
        raise Refused(f"--near is a cosine between 0 and 1, got {near}", code=2)
    least = calibration.least()
    measures = calibration.calibrate is not None or hubs.correct is not None
    exact = measures or backing.backend is not None
    searcher = open_searcher(index, in_, model, weights, placing, "exact" if exact else None)
    if space is not None:
        if measures:
            raise Refused("--calibrate and --correct measure whole embeddings; leave --space out", code=2)
        try:
            searcher = searcher.in_space(space)
        except ValueError as error:
            raise Refused(f"--space: {error}", code=2) from None
    if calibration.calibrate is not None:
        from align.commands.calibrate import calibrate

        calibrate(searcher, of, calibration, how, json=json)
        return
    if hubs.correct is not None:
        from align.commands.correct import correct

        correct(searcher, of, hubs, calibration.by, how, json=json)
        return
    options: dict[str, Any] = {"how": how, "threshold": least, "fold": fold, "near": near}
    options["correct"] = not hubs.no_correction
    options["where"] = None if where is None else _filter(where)
    options["text"] = (parts.words or parts.text or query) if parts.hybrid else parts.words
    if backing.explain is not None and backing.explain < 1:
        raise Refused(f"--explain must be at least 1, got {backing.explain}", code=2)
    if backing.explain is not None and (parts.like is not None or not asked):
        raise Refused("--explain says a match with the parts of a query; give a text or a file", code=2)
    if parts.to is not None and how is None:
        options["how"] = "cosine"  # a direction is a sum in one space
    found = _find(backing.engine(searcher), asked, parts, calibration, of, k, options)
    because = backing.list_shares(searcher, asked, of, found, options["how"])
    files: list[str] = []
    if save is not None:
        from align.search.save import save_hits

        files = [str(path) for path in save_hits(found.hits, save)]
    if json:
        print_json(found, asked, files, because)
    else:
        print_table(found, files, save, because)


def _list_asked(
    query: str | None, parts: Query, calibration: Calibration, hubs: Correcting
) -> list[tuple[str, str, float]]:
    """Return (modality, text or file, weight) of each part. Ends the command where options do not fit together."""
    if query is not None and parts.text is not None:
        raise Refused("give the text query once: as QUERY or as --text", code=2)
    if query is not None and Path(query).suffix and os.path.isfile(query):
        raise Refused(
            f"QUERY is a text, and {query} is a file: search by it with --image, --video, --audio, --points or --with "
            f"NAME={query}, or by these words with --text",
            code=2,
        )
    from dataclasses import replace

    asked = (parts if query is None else replace(parts, text=query)).list_parts()
    if calibration.calibrate is not None:
        if asked or parts.like is not None or parts.words is not None:
            raise Refused("--calibrate asks with the samples of its shards; leave the query out", code=2)
        if calibration.precision is None:
            raise Refused("--calibrate needs --precision, as in --precision 0.9", code=2)
    elif calibration.precision is not None:
        raise Refused("--precision is of --calibrate SHARDS", code=2)
    elif hubs.correct is not None:
        if asked or parts.like is not None or parts.words is not None:
            raise Refused("--correct asks with the samples of its shards; leave the query out", code=2)
        if hubs.no_correction:
            raise Refused("--correct stores a correction, --no-correction leaves it out; name one of them", code=2)
    elif not asked and parts.like is None and parts.words is None:
        raise Refused('nothing to search by; give a text ("a red cone") or a file (--image x.png)', code=2)
    if hubs.correct is None and hubs.correction != "nnn":
        raise Refused(f"--correction {hubs.correction} is of --correct SHARDS; searches use the stored one", code=2)
    if parts.like is not None and asked:
        raise Refused("--like asks with the rows of a sample; leave the other parts out", code=2)
    if parts.hybrid and not any(m == "text" and weight > 0 for m, _, weight in asked) and parts.words is None:
        raise Refused("--hybrid looks for the text of the query in the captions; give a text or --words", code=2)
    return asked


def _filter(text: str) -> Any:
    from align.search.conditions import read_filter

    try:
        return read_filter(text)
    except ValueError as error:
        raise Refused(f"--where: {error}", code=2) from None


def _find(
    searcher: Searcher,
    asked: list[tuple[str, str, float]],
    parts: Query,
    calibration: Calibration,
    of: str,
    k: int,
    options: dict[str, Any],
) -> Found:
    from align.commands.named import split
    from align.search import Part

    if parts.like is None:
        return searcher.search([Part(m, x, weight) for m, x, weight in asked], of, k, **options)
    return searcher.like(_number(searcher, parts.like), of, k, by=split(calibration.by) or None, **options)


def _number(searcher: Searcher, key: str) -> int:
    from align.search.where import Compare

    found = searcher.index.numbers(None, Compare("key", "eq", key)).tolist()
    if not found:
        raise ValueError(f"the index has no sample {key!r}; a hit's key is in its row of the table")
    if len(found) > 1:
        raise ValueError(f"the index has {len(found)} samples {key!r}, of several shards or folders")
    return found[0]
