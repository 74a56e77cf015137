"""``align soup MODEL…`` averages the weights of models: uniformly, greedily, or along the line between two."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Protocol, Weights
from align.commands.out_folder import check_out
from align.commands.soup_measure import make_measure, name_sets
from align.commands.soup_shares import read_gaussian, read_numbers, read_shares

if TYPE_CHECKING:
    from align.page.section import Section
    from align.soup import Ingredient

BESIDE = ("soup.json", "soup.html")  # files that a soup has beside its model


def soup(
    models: list[str],
    /,
    *,
    out: str,
    weights: str | None = None,
    gaussian: str | None = None,
    alpha: str | None = None,
    greedy: bool = False,
    checkpoints: str = "",
    shards: list[str] = [],  # noqa: B006  it is only read
    with_: str = "zeroshot,retrieval",
    score: str = "",
    members: str = "",
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    json: bool = False,
    no_report: bool = False,
    protocol: Protocol,
    placing: Placing,
    reading: Weights,
) -> None:
    """Average the weights of several models of one architecture

    A uniform soup is the mean of the models' weights, or their sum by --weights or --gaussian. It costs at use what one
    model costs.

    --greedy tries the models from the best alone to the worst, and takes those with which the score on --shards does
    not fall. --alpha goes from the first of two models, such as a published one, to the second, its fine-tuned child
    (WiSE-FT). It measures each share of the second on each --shards, and writes the model of the best.

    The scale of a loss is averaged as its logarithm. The command writes OUT, a model folder, with soup.json and
    soup.html.

    Args:
        models: model folders, run folders, owner/name on the hub, or LAYOUT:SOURCE. RUN@1000 is the checkpoint of a run
            at step 1000
        out: the model folder to write
        weights: the share of each model, which sum to 1: 0.7,0.3. Default: equal shares
        gaussian: the mean and the spread, such as 15,2, of a bell curve whose height at 1, 2, … is the share of the
            first model, the second, … (PromptSRC averages the epochs of a run so)
        alpha: shares of the second model to measure: 0,0.25,0.5,0.75,1. One alone is written without measuring
        greedy: take the models that do not lower the score on --shards
        checkpoints: steps of the only MODEL, a run, whose checkpoints are averaged: 1000,2000, or all
        shards: held-out shards, patterns separated by commas, or NAME=PATTERNS. Given several times it names several
            sets, and the first one chooses
        with_: the evaluators, separated by commas, as for align evaluate
        score: the scores to show, patterns separated by commas, whose mean on the first set chooses. Default: all that
            end in /accuracy or /recall@1
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        max_bad: the share of samples with something unreadable above which nothing is measured. 1: always measure
        batch: samples that are embedded at a time
        workers: processes that read and decode
        json: print soup.json instead of tables
        no_report: write no soup.html
    """
    from align.commands.named import split
    from align.commands.pairs import mapping
    from align.commands.process import command_line
    from align.soup import average, check_alike, cook_greedily, find_ingredients, interpolate

    given = [
        name
        for name, one in (
            ("--weights", weights),
            ("--gaussian", gaussian),
            ("--alpha", alpha),
            ("--greedy", greedy or None),
        )
        if one is not None
    ]
    if len(given) > 1:
        raise Refused(f"{given[0]} and {given[1]} both say how the models are averaged; give one of them", code=2)
    alphas = None if alpha is None else read_numbers("--alpha", alpha)
    if alphas is not None and (not alphas or any(not 0 <= one <= 1 for one in alphas)):
        raise Refused(f"--alpha is a share of the second model, from 0 to 1; got {alpha or 'nothing'}", code=2)
    if score and not shards:
        raise Refused("--score is of the scores on held-out shards; name these with --shards", code=2)
    if not shards and (greedy or (alphas is not None and len(alphas) > 1)):
        raise Refused(f"{given[0]} chooses by a score; name held-out shards with --shards", code=2)
    check_out(Path(out), BESIDE)

    def locate(model: str, step: str | None) -> Path:
        from dataclasses import replace

        return (reading if step is None else replace(reading, checkpoint=step)).locate(model)

    found = find_ingredients(models, locate, split(checkpoints))
    if alphas is not None and len(found) != 2:
        raise Refused(f"--alpha goes from one model to another; {len(found)} are named", code=2)
    if gaussian is not None:
        shares = read_gaussian(gaussian, len(found))
    else:
        shares = read_shares(weights, len(found)) if not alphas else [1 - alphas[0], alphas[0]]
    check_alike(found)
    measure, names = None, [one.name for one in found]
    if shards:
        settings = {"with_": split(with_), "batch": batch, "workers": workers}
        opening = {"members": mapping(members), "max_bad": max_bad}
        load = partial(placing.load, reading)
        measure = make_measure(found, shards, settings, score, protocol, opening, load)
    if measure is not None and greedy:
        cooked = cook_greedily(names, measure)
    elif measure is not None and alphas is not None:
        cooked = interpolate(names, alphas, measure)
    else:
        stated = {"how": "alpha", "alpha": alphas[0]} if alphas else {}
        cooked = average(names, shares, measure, **stated)
    facts: dict[str, Any] = {"command": command_line(), **cooked.facts}
    if measure is not None:
        facts |= {"sets": name_sets(shards), "with": split(with_), "device": str(measure.model.device)}
        facts["dtype"] = placing.dtype
    notes, written = _write(Path(out), found, cooked.shares, facts, [] if no_report else [cooked.section])
    if json:
        print((Path(out) / "soup.json").read_text(encoding="utf-8"), end="")
    else:
        from align.commands.tables import print_notes, print_tables

        print_tables([cooked.section])
        print_notes(notes)
    print("wrote", *written, file=sys.stderr)


def _write(
    out: Path, found: Sequence[Ingredient], shares: list[float], about: dict[str, Any], sections: Sequence[Section]
) -> tuple[list[str], list[str]]:
    """Write the model with its results, and the page if there are sections, whole or not at all."""
    from align import __version__
    from align.files import atomic_folder, read_json, write_json
    from align.report import write_report
    from align.soup import write_soup

    with atomic_folder(out) as work:
        notes = write_soup(found, shares, work, about["how"])
        model = read_json(work / "model.json")
        plain = {"version": __version__, "model": model["sha256"], **about, "of": model["soup"]["of"], "notes": notes}
        write_json(work / "soup.json", plain)
        if sections:
            words = {"how": "way", "of": "models"}  # as the page calls them
            shown = {words.get(k, k): v for k, v in plain.items() if k not in ("curve", "trials", "alone")}
            title = f"{out.name}: {about['how']} soup of {len(found)} models"
            page = {"scores": {}, "protocol": shown, "sections": sections, "results": "soup.json"}
            write_report(work / "soup.html", title=title, **page)
    return notes, [str(out), *([str(out / "soup.html")] if sections else [])]
