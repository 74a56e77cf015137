"""``align evaluate MODEL --suite``: a model on public sets, one after another, and a table of all models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.commands.errors import Refused, explain

if TYPE_CHECKING:
    from align.commands.evaluating.suites import Suites
    from align.evaluation.suites import EvalSet, Found, Row
    from align.model import JointModel


def run_suite(
    model: str,
    suites: Suites,
    load: Callable[[str], JointModel],
    settings: Mapping[str, Any],
    command: str,
    *,
    out: str | None,
    json: bool,
    page: bool,
) -> int:
    """Measure the sets that are there, write a row after each, print the tables, and return the exit code.

    load: loads the model. settings: batch, workers, draws and max_bad. Of several ranks all measure, and the first one
    writes and prints. Ends the command with one line where no set is there, or none fits the model.
    """
    from align import __version__
    from align.distributed import rank
    from align.embedding import fingerprint
    from align.evaluation.suites.rows import open_row, read_rows, write_rows

    sets, data = suites.choose(), suites.folder()
    found = {one.name: _find(one, data) for one in sets}
    absent = {one.name: why for one in sets if isinstance(why := found[one.name], str)}
    if len(absent) == len(sets):
        some = f"{sets[0].title}: {sets[0].command(data)}"
        more = f" (docs/recipes.md lists all {len(sets)})" if len(sets) > 1 else ""
        raise Refused(f"nothing of {suites.suite} is in {data}: {'; '.join(list(absent.values())[:3])}. {some}{more}")
    loaded = load(model)
    folder = Path(out) if out is not None else Path(model)
    if out is None and not folder.is_dir():
        raise ValueError(f"{model} is no folder here; say where the results go with --out FOLDER")
    unfit = {one.name: lack for one in sets if (lack := _lack(one, loaded))}
    if all(one.name in unfit or one.name in absent for one in sets):
        name = next(name for name in unfit if name not in absent)
        raise Refused(f"no set of {suites.suite} that is in {data} fits {model}: {unfit[name]}")
    rows = read_rows(folder)
    row = open_row(rows, model.rstrip("/") or model, fingerprint(loaded))
    row.version, row.command = __version__, command
    codes: list[int] = []
    for one in sets:
        place = found[one.name]
        if one.name in unfit:
            row.leave(one.name, unfit[one.name])
        elif isinstance(place, str):
            row.leave(one.name, place, one.command(data))
        else:
            codes += _measure(loaded, place, row, folder, settings, command)
        if not rank():
            write_rows(folder, rows)
            _say(one, row)
    if not rank():
        _show(sets, rows, folder, json=json, page=page)
    failed = [code for code in codes if code]
    return (3 if set(failed) == {3} else 1) if failed else 0


def _find(one: EvalSet, data: Path) -> Found | str:
    from align.evaluation.suites import find_set

    try:
        return find_set(one, data)
    except (OSError, ValueError) as error:
        return explain(error)[0] or str(error)


def _lack(one: EvalSet, model: JointModel) -> str:
    """Return the reason why a set is not for this model, "" where it is."""
    gone = [m for m in one.modalities if m not in model.modalities]
    return f"it needs a tower of {' and '.join(gone)}; this model has {', '.join(model.modalities)}" if gone else ""


def _measure(
    model: JointModel, found: Found, row: Row, folder: Path, settings: Mapping[str, Any], command: str
) -> list[int]:
    """Measure a set and add it to the row, or note why that failed. Return its exit code, in a list."""
    from align.commands.progress import progress
    from align.distributed import FailedElsewhere, agree, give_up, rank, world
    from align.evaluation import write_results
    from align.evaluation.suites import measure
    from align.evaluation.suites.rows import FOLDER

    name, together = found.of.name, world() > 1
    try:
        with progress(name) as say:
            got = measure(model, found, command=command, progress=say, together=together, **settings)
        if together:
            agree(b"")
    except FailedElsewhere as error:
        row.leave(name, f"failed: {error.line}")
        return [error.code]
    except Exception as error:  # one set that fails takes no other with it
        message, code = explain(error)
        if together:
            give_up((message or repr(error)).splitlines()[0], code)
        if message is None:
            import traceback

            traceback.print_exc()
        row.leave(name, f"failed: {(message or repr(error)).splitlines()[0]}")
        return [code]
    place = folder / FOLDER / row.folder / name
    if not rank():
        write_results(got.results, place)
    about = {**got.about, "results": (place / "results.json").relative_to(folder).as_posix()}
    row.add(name, got.attribute, got.results.scores, got.results.intervals, about)
    return [0]


def _say(one: EvalSet, row: Row) -> None:
    """Print a line about a set on stderr: its headline, or why it has none."""
    if one.name in row.left:
        print(f"{one.name}: left out, {row.left[one.name]['why']}", file=sys.stderr)
        return
    score = one.score.replace("{attribute}", row.sets[one.name]["attribute"])
    samples = row.sets[one.name]["samples"]
    print(f"{one.name}: {score} {row.scores[f'{one.name}/{score}']:.3f} of {samples:,} samples", file=sys.stderr)


def _show(sets: Sequence[EvalSet], rows: Mapping[str, Row], folder: Path, *, json: bool, page: bool) -> None:
    """Print the tables of the chosen sets, and write the page with those of all sets that any model has."""
    from align.commands.tables import print_notes, print_tables
    from align.evaluation.suites import build_sections, read_sets
    from align.evaluation.suites.rows import FILE
    from align.page.section import Section

    path = folder / FILE
    if json:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print_tables([Section(one.title, one.note, one.blocks[:2]) for one in build_sections(sets, rows)])
        print_notes(_notes(sets, rows))
    written = [str(path)]
    if page:
        written.append(str(_write_page(build_sections(list(read_sets().values()), rows), rows, folder)))
    print("wrote", *written, file=sys.stderr)


def _notes(sets: Sequence[EvalSet], rows: Mapping[str, Row]) -> list[str]:
    """Return the notes of the measured sets, and the ways in which they differ from the sets' protocols."""
    lines = []
    for one in sets:
        for name, row in rows.items():
            about = row.sets.get(one.name, {})
            lines += [f"{one.title}, {name}: {line}" for line in (*about.get("differs", ()), *about.get("notes", ()))]
    return lines


def _write_page(sections: Sequence[Any], rows: Mapping[str, Row], folder: Path) -> Path:
    from align.evaluation.suites import read_sets
    from align.evaluation.suites.rows import FILE
    from align.report import write_report

    protocol = {
        "version": list(rows.values())[-1].version,
        "models": {name: row.model for name, row in rows.items()},
        "commands": {name: row.command for name, row in rows.items()},
        "sets": {name: row.sets for name, row in rows.items()},
        "notes": _notes(list(read_sets().values()), rows),
    }
    scores = {f"{name}: {score}": value for name, row in rows.items() for score, value in row.scores.items()}
    path = folder / "suite.html"
    return write_report(path, title="Suites", scores=scores, protocol=protocol, sections=sections, results=FILE)
