"""``align compare RUN RUN`` says which of two evaluations is better, and whether their samples can tell."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.commands.named import split

if TYPE_CHECKING:
    from align.evaluation.compare import Comparison
    from align.page.section import Section

LEVEL = 0.05


def compare(
    runs: list[str],
    /,
    *,
    scores: str = "",
    out: str | None = None,
    draws: int = 1000,
    flips: int = 10_000,
    by_seed: bool = False,
    json: bool = False,
) -> None:
    """Compare two or more runs: results sample by sample, curves, or configs over several seeds

    The first folder is compared with each of the others, on the samples that both have, by key. A difference has an
    interval of 95 % (bootstrap over samples) and a p-value (sign flips of the samples' differences). Holm's method
    corrects the p-values for their number. The last column names the better one where the corrected p is below 0.05.

    Choose few scores before you look: the correction grows with their number.

    The page has the curves of the folders that are runs. Where none of them was evaluated, the last values of training
    and validation are printed, without a test.

    With --by-seed the runs are grouped by config and paired by their seed. A difference is then a mean over seeds, with
    Student's interval and the p-value of a paired t-test. Its scores are those of results.json, or of the validation of
    the best checkpoint.

    Args:
        runs: folders with the results.json and samples.safetensors of align evaluate, or run folders
        scores: the scores to compare, patterns separated by commas, such as '*/recall@1,zeroshot/*'. Default: all that
            are means over samples
        out: a folder for compare.json and compare.html
        draws: of the bootstrap
        by_seed: pair runs of several configs by their seed
        flips: of signs. Scores of samples that are right or wrong are tested exactly, without flips
        json: print the comparison as JSON instead of tables
    """
    from align.commands.errors import Refused
    from align.evaluation.compare import compare as compare_runs
    from align.evaluation.compare import read_evaluated

    if len(runs) < 2:
        raise Refused(f"align compare takes two folders or more; got {len(runs)}", code=2)
    if draws < 1 or flips < 1:
        raise Refused(f"--draws and --flips are at least 1; got {draws} and {flips}", code=2)
    if by_seed:
        from align.commands.compare_runs import compare_by_seed

        compare_by_seed(runs, split(scores), out, json)
        return
    if not any((Path(run) / "results.json").is_file() for run in runs):
        from align.commands.compare_runs import compare_curves

        compare_curves(runs, out, json)
        return
    found = compare_runs([read_evaluated(run) for run in runs], scores=split(scores), draws=draws, flips=flips)
    plain = [_plain(one) for one in found]
    sections = [_section(one) for one in found]
    if json:
        print(json_.dumps(plain, indent=1, ensure_ascii=False))
    else:
        from align.commands.tables import print_notes, print_tables

        print_tables(sections)
        print_notes(list(dict.fromkeys(note for one in found for note in one.notes)))
    if out is not None:
        _write(Path(out), plain, sections, found)


def _plain(one: Comparison) -> dict[str, Any]:
    rows = [row._asdict() | {"difference": row.difference} for row in one.differences]
    return {"first": one.names[0], "second": one.names[1], "differences": rows, "notes": one.notes}


def _section(one: Comparison) -> Section:
    from align.commands.figures import write_probability
    from align.page.section import Measured, Section, Table

    rows = []
    for row in one.differences:
        better = one.names[row.difference > 0] if row.corrected < LEVEL and row.difference else "–"
        change = Measured(row.difference, row.interval)
        rows.append(
            [
                row.score,
                row.first,
                row.second,
                change,
                write_probability(row.p),
                write_probability(row.corrected),
                better,
            ]
        )
    first, second = one.names
    head = ["score", first, second, "difference", "p", "p, Holm", "better"]
    note = f"{second} minus {first}, on the samples of both; better: corrected p below {LEVEL}."
    return Section(f"{second} against {first}", note, [Table(head, rows)])


def _write(folder: Path, plain: list[dict[str, Any]], sections: list[Section], found: list[Comparison]) -> None:
    from align.commands.compare_runs import write_comparison
    from align.report.side_by_side import read_curves, state_curves

    notes = list(dict.fromkeys(note for one in found for note in one.notes))
    names = list(dict.fromkeys(name for one in found for name in one.names))
    write_comparison(folder, plain, [*sections, *state_curves(read_curves(names))], notes)
