"""``align evaluate MODEL SHARDS`` prints scores, and writes them with their protocol and a report."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from align.commands.devices import Placing
from align.commands.evaluating.altering import Altering
from align.commands.evaluating.choosing import Choosing
from align.commands.evaluating.classing import Classing
from align.commands.evaluating.composing import Composing
from align.commands.evaluating.cutting import Cutting
from align.commands.evaluating.given import check_evaluators, check_range, list_given
from align.commands.evaluating.hubs import Hubs
from align.commands.evaluating.listing import Listing
from align.commands.evaluating.maps import Maps
from align.commands.evaluating.probing import Probing
from align.commands.evaluating.ranking import Ranking
from align.commands.evaluating.replacing import Replacing
from align.commands.evaluating.shape import Shape
from align.commands.evaluating.suites import Suites
from align.commands.groups import Protocol, Weights
from align.commands.process import command_line
from align.commands.ranks import in_ranks

if TYPE_CHECKING:
    from align.model import JointModel


@in_ranks
def evaluate(
    model: str,
    shards: list[str] = [],  # noqa: B006  it is only read
    /,
    *,
    out: str | None = None,
    with_: str = "zeroshot,retrieval",
    train: str | None = None,
    distractors: str | None = None,
    space: str | None = None,
    draws: int = 1000,
    members: str = "",
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    json: bool = False,
    no_report: bool = False,
    allow_pipe: bool = False,
    protocol: Protocol,
    classing: Classing,
    ranking: Ranking,
    probing: Probing,
    shape: Shape,
    hubs: Hubs,
    altering: Altering,
    replacing: Replacing,
    maps: Maps,
    cutting: Cutting,
    choosing: Choosing,
    listing: Listing,
    composing: Composing,
    suites: Suites,
    placing: Placing,
    weights: Weights,
) -> int:
    """Measure a model on shards, or on suites of public sets

    --with picks evaluators. zeroshot tells classes by their names, for every attribute of the labels and modality.
    retrieval asks from every modality for every other one, by sample or group, and by label. class-means tells classes
    by the means of another modality. probe fits linear models and asks neighbours. geometry measures the shape of the
    space, hubness the rows that come up for every query, votes samples by the votes of their rows, robustness the loss
    by noise, blur or typos, compatibility an earlier model beside this one, and composed the queries of a file that
    name a sample and a change. dense tells the classes of places in pictures and clouds, and points at phrases. gallery
    cuts the candidates down to hard negatives, choices picks among three rows, and drift measures how far rows moved
    since an earlier model. layers measures a model of layered encoders at each layer and each prefix of its embeddings.

    The command prints tables. It writes results.json with the protocol and an interval for each score,
    samples.safetensors with the values of single queries (see align compare), and report.html.

    torchrun --nproc-per-node N -m align evaluate …, or srun, shares the embedding among N processes. The numbers are
    those of one process.

    Lines below the tables say how to read them: samples that are not scored, classes that no sample has or that have
    the same prompts, answers that equal another, and numbers that are not measured.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        shards: shard files, patterns such as 'shards/test-*.tar', or a folder in CLIP_benchmark's layout, whose test
            split, class names and templates are read. None with --suite
        out: the folder for results.json and report.html. Default: MODEL, where it is a folder here
        with_: the evaluators, separated by commas: zeroshot, retrieval, class-means, codes, probe, geometry, hubness,
            votes, robustness, compatibility, composed, dense, regions, gallery, choices, drift, layers, or the import
            path of your own (my.module.MyEvaluator)
        train: training shards or patterns, separated by commas, for evaluators that learn from them
        distractors: shards or patterns, separated by commas, whose rows are candidates of retrieval and ask nothing
        space: the space to measure, of a model whose heads are Streams. Default: the whole embeddings
        draws: of the bootstrap over samples, by which each score gets its interval of 95 %. 0: no intervals
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt.
            text=txt:lines reads a .txt with a caption a line
        max_bad: the share of samples with something unreadable above which nothing is measured. 1: always measure
        batch: samples that are embedded at a time
        workers: processes that read and decode
        json: print results.json instead of tables
        no_report: write results.json only
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
    """
    from align.commands.errors import Refused

    groups = (classing, ranking, probing, shape, hubs, altering, replacing, maps, cutting, choosing, composing)
    names = ("zeroshot", "retrieval", "probe", "geometry", "hubness", "robustness", "compatibility", "dense")
    names += ("gallery", "choices", "composed")
    check_range("--draws", draws, 0)
    check_range("--batch", batch, 1)
    check_range("--workers", workers, 0, 1000)
    if out == "":
        raise Refused("--out is empty; name the folder for the results", 2)
    if suites.are_named(shards):
        stated = {
            "--with": with_ != "zeroshot,retrieval",
            "--train": train is not None,
            "--distractors": distractors is not None,
            "--space": space is not None,
            "--members": bool(members),
            **{
                f"--{name}": getattr(protocol, name) is not None
                for name in ("templates", "classes", "descriptions", "hit", "attribute")
            },
            **{option: True for group in (*groups, listing) for option in list_given(group)},
        }
        if given := [name for name, one in stated.items() if one]:
            raise Refused(f"{given[0]}: the sets of a suite state their protocol; name shards instead of --suite", 2)
        from align.commands.suite import run_suite

        settings = {"batch": batch, "workers": workers, "draws": draws, "max_bad": max_bad}
        return run_suite(
            model,
            suites,
            partial(placing.load, weights),
            settings,
            command_line(),
            out=out,
            json=json,
            page=not no_report,
        )
    from align.commands.classes import read_classes, read_descriptions, read_templates
    from align.commands.named import split
    from align.commands.over import budget, say_bad
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.results_page import media_of, read_training, write_page
    from align.data import Shards
    from align.distributed import rank, world
    from align.evaluation import evaluate as measure
    from align.evaluation import write_results
    from align.evaluation.pick import pick

    try:
        check_evaluators({**dict(zip(names, groups, strict=True)), "drift": replacing}, split(with_))
        other = partial(placing.load, replace(weights, checkpoint="best"))
        makers = {name: group.evaluator for name, group in zip(names, groups, strict=True)}
        makers |= {"geometry": partial(shape.evaluator, other), "compatibility": partial(replacing.evaluator, other)}
        makers |= {"drift": partial(replacing.drift, other), "gallery": partial(cutting.evaluator, other)}
        evaluators = pick(split(with_), makers) + listing.evaluators()
        if "probe" in split(with_):  # before hours of embedding
            probing.check(trains=train is not None)
    except ValueError as error:
        raise Refused(f"--with: {error}", code=2) from None
    classes = None if protocol.classes is None else read_classes(protocol.classes)
    templates = None if protocol.templates is None else read_templates(protocol.templates)
    descriptions = None if protocol.descriptions is None else read_descriptions(protocol.descriptions)
    read = partial(Shards, shuffle=False, members=mapping(members), max_bad=max_bad, allow_pipe=allow_pipe)
    opened = read([test_split(name) for name in shards])
    loaded = placing.load(weights, model)
    if space is not None:
        loaded = read_space(loaded, space)
    folder = Path(out) if out is not None else Path(model)
    if out is None and not folder.is_dir():
        raise ValueError(f"{model} is no folder here; say where the results go with --out FOLDER")
    with budget("--max-bad"), progress("evaluating", quiet=rank() > 0) as say:
        results = measure(
            loaded,
            opened,
            batch=batch,
            workers=workers,
            classes=classes,
            templates=templates,
            hit=protocol.hit,
            attribute=protocol.attribute,
            command=command_line(),
            progress=say,
            with_=evaluators,
            train=read(split(train)) if train else None,
            distractors=read(split(distractors)) if distractors else None,
            draws=draws,
            descriptions=descriptions,
            together=world() > 1,
        )
    if rank():
        return 0  # the first rank writes and prints
    results.protocol.update(read_training(Path(model)) | ({} if space is None else {"space": space}))
    path = write_results(results, folder)
    notes = results.protocol["notes"]
    if json:
        print(path.read_text(encoding="utf-8"), end="")
        print(*notes, sep="\n", end="\n" if notes else "", file=sys.stderr)
    else:
        from align.commands.tables import print_notes, print_tables

        print_tables(results.sections)
        print_notes(notes)
    written = [str(path)]
    if not no_report:
        written.append(
            str(write_page(results, opened, folder, Path(model), Path(model).resolve().name, media_of(loaded)))
        )
    say_bad(results.protocol["bad"])
    print("wrote", *written, file=sys.stderr)
    return 0


def test_split(name: str) -> str:
    """Return the folder of the test split where ``name`` is a folder in CLIP_benchmark's layout that has one."""
    from align.data.places.benchmark import list_splits

    return str(Path(name) / "test") if "test" in list_splits(Path(name)) else name


def read_space(model: JointModel, name: str) -> JointModel:
    """Return the model as it reads one of its spaces. Ends the command where it has no such space."""
    from align.commands.errors import Refused
    from align.model.spaces import in_space

    try:
        return in_space(model, name)
    except ValueError as error:
        raise Refused(f"--space: {error}", code=2) from None
