"""``align bind`` fits heads in closed form on cached features, ``align bind average`` joins several trained models."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, Literal

from align.commands.errors import Refused
from align.commands.out_folder import check_out

BESIDE = ("bind.json", "bind.html")  # files that a binding has beside its model


def bind(
    columns: list[str],
    /,
    *,
    out: str,
    how: str = "ridge",
    via: str | None = None,
    dim: int | None = None,
    keep_anchor: bool = False,
    pairs: int | None = None,
    val: str = "0.2",
    rows: Literal["mean", "each"] = "mean",
    sweep: str | None = None,
    seed: int = 0,
    allow: str | None = None,
    json: bool = False,
    no_report: bool = False,
) -> None:
    """Fit heads between cached features, in closed form, in seconds

    The anchor is one modality, such as text. Every other column gets a head into the anchor's space, fitted on the
    samples that have a row of both. The heads of several columns make one model. They share the anchor's space, though
    no two of them were ever paired. Only the heads are fitted, and only the split is random.

    The command prints the matching accuracy on held-out samples: the share of rows whose nearest row of the other
    column is of the same sample or group. Chance stands beside it. The command writes OUT, a model folder, with
    bind.json and bind.html.

    Args:
        columns: CACHE/SET:MODALITY of each column, as align embed --features writes them. The last one is the anchor,
            or those of --via
        out: the model folder to write
        how: ridge (regression), procrustes (a rotation), cca (canonical correlations and an affine map), or shift
            (means alone). docs/bind.md says when to take which
        via: the modality of the anchor. It may have a column in each cache, all of one tower
        dim: directions of the anchor's space to keep. Default: all, and 128 for cca
        keep_anchor: leave the anchor's embeddings as they are, so that a tower which is in that space already stays
            valid. Otherwise their mean is subtracted
        pairs: samples of each column to fit on. Default: all
        val: the share of samples to hold out, or a pattern of names of shards ('test-*.tar')
        rows: use the mean of a sample's rows, such as captions, or each of them
        sweep: more values to measure, as in dim=8,16,32 or 'dim=8,16 pairs=100,1000'
        seed: the seed of the split and of the choice of --pairs
        allow: packages beside align, separated by commas, whose classes the models of the caches may name
        json: print bind.json instead of tables
        no_report: write no bind.html
    """
    from align.bind import Plan, bind_columns, make_model, open_pairs, protocol_of, scores_of, sections_of
    from align.bind.fitting import check_method
    from align.commands.named import split

    try:
        method = check_method(how)
    except ValueError as error:
        raise Refused(f"--how: {error}", code=2) from None
    check_out(Path(out), BESIDE)
    plan = Plan(method, dim, keep_anchor, pairs, val, rows, seed, read_sweep(sweep))
    opened = open_pairs(columns, via)
    bound = bind_columns(opened, plan)
    made = make_model(opened, bound.fitted, keep_anchor=keep_anchor, allow=split(allow))
    scores, protocol = scores_of(bound.matches), protocol_of(opened, plan, bound, shlex.join(["align", *sys.argv[1:]]))
    protocol["notes"] += made.notes
    sections = sections_of(opened, bound)
    written = _write(Path(out), made.model, scores, protocol, [] if no_report else sections)
    if json:
        print((Path(out) / "bind.json").read_text(encoding="utf-8"), end="")
        return
    from align.commands.tables import print_notes, print_tables

    print_tables(sections)
    print_notes(protocol["notes"])
    fitted = ", ".join(f"{n} pairs of {m}" for m, n in bound.train.items())
    print(f"{plan.how} of {bound.fitted.dim} numbers on {fitted}, in {bound.seconds:.1f} s")
    print("wrote", *written)


def read_sweep(text: str | None) -> dict[str, list[int]]:
    """Return ``dim=8,16 pairs=100`` as a mapping. Raises Refused (code 2) for another form or name."""
    from align.bind.sections import SWEPT
    from align.commands.errors import nearest

    found: dict[str, list[int]] = {}
    for part in (text or "").split():
        name, equals, values = part.partition("=")
        if name not in SWEPT:
            raise Refused(f"--sweep: there is no {name!r} to sweep; {nearest(name, SWEPT)}", code=2)
        try:
            found[name] = sorted({int(value) for value in values.split(",")})
        except ValueError:
            equals = ""
        if not equals:
            raise Refused(f"--sweep takes {name}=8,16,32, not {part!r}", code=2)
    if text is not None and not found:
        raise Refused("--sweep is empty; leave it out, or write dim=8,16,32", code=2)
    return found


def average(models: list[str], /, *, out: str, weight: float = 1.0, allow: str | None = None) -> None:
    """Average the heads of several models that were trained on subsets

    The models have the same encoders and preprocesses, but different heads: for example, runs over frozen towers with
    several seeds or sources. Each head of the new model gives the mean direction of theirs. A weight below 1 mixes in
    the features themselves, if these are embeddings of the joint space already.

    Args:
        models: model folders, run folders, owner/name on the hub, or LAYOUT:SOURCE
        out: the model folder to write
        weight: the share of the heads beside the features (FreeBind takes 0.1 to 0.5)
        allow: packages beside align, separated by commas, whose classes the models may name
    """
    from align.bind import average_models
    from align.checkpoint import load, save
    from align.commands.named import split

    check_out(Path(out), BESIDE)
    if twice := sorted({name for name in models if models.count(name) > 1}):
        raise Refused(f"{twice[0]} is named twice; name each model a single time", code=2)
    if not 0 <= weight <= 1:
        raise Refused(f"--weight is 0 to 1, the share of the heads; got {weight}", code=2)
    made = average_models({name: load(name, allow=split(allow)) for name in models}, weight)
    save(made, out)
    heads = [m for m in made.modalities if type(made.towers[m].head).__name__ == "Average"]
    print(f"averaged the heads of {', '.join(heads)} of {len(models)} models")
    print(f"wrote {out}")


def _write(out: Path, model: Any, scores: Any, protocol: Any, sections: Any) -> list[str]:
    """Write the model folder with its results, and the page if there are sections, whole or not at all."""
    from align.checkpoint.write import write_model
    from align.files import atomic_folder, write_json
    from align.report import write_report

    with atomic_folder(out) as work:
        write_model(model, work)
        write_json(work / "bind.json", {**scores, "protocol": protocol})
        if sections:
            facts = {"method": protocol["how"], "time to fit": f"{protocol['seconds to fit']} s"}
            title = f"{', '.join(protocol['columns'])} → {protocol['anchor'].rpartition(':')[2]}"
            shown = {key: value for key, value in protocol.items() if key != "sweeps"}
            write_report(
                work / "bind.html",
                title=title,
                scores=scores,
                protocol=shown,
                sections=sections,
                summary=facts,
                results="bind.json",
            )
    return [str(out), *([str(out / "bind.html")] if sections else [])]
