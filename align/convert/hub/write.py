"""A folder for the hub: the model folder with its card, its picture and its results, written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from align.checkpoint.fingerprint import fingerprint
from align.checkpoint.write import read_parts, write_model
from align.convert.hub.card import PICTURE, strip_path, write_card
from align.convert.hub.header import write_header
from align.convert.hub.licences import choose_licence
from align.convert.hub.measured import FILE, Measured, keep_results, read_results
from align.convert.hub.origin import read_training
from align.convert.hub.picture import draw_scores
from align.convert.hub.upload import check_push, push
from align.files import read_json, write_json
from align.files.fresh import fresh_folder
from align.files.hub import CARD
from align.model import JointModel
from align.model.inside import model_inside
from align.published.joined import keep_towers


def write_hub(
    model: JointModel,
    folder: str | Path,
    *,
    towers: Sequence[str] | None = None,
    licence: str | None = None,
    results: str | Path | None = None,
    run: str | Path | None = None,
    checkpoint: str = "best",
    to: str | None = None,
    private: bool = False,
) -> list[str]:
    """Write a model folder with a card, upload it where ``to`` is given, and return the lines that say what was done.

    The folder appears when all is done. After a failed upload it is not there, and the repository has all
    of the commit or nothing.

    Args:
        towers: the modalities to write. None: all.
        licence: of the model. None: it follows from the licences of its parts, where all are known.
        results: a folder of ``align evaluate``, for the scores. None: that of ``run``, where it has results of these
            weights.
        run: the model's run folder, which tells the data and the training.
        checkpoint: that of the run: "best", "last" or a step.
        to: ``owner/name`` on the hub. None: nothing is uploaded.
        private: the repository is made private.

    Raises ValueError for a licence that is not known or allows too much (see ``choose_licence``) and for results of
    another model, FileNotFoundError without results in ``results``, PermissionError and ConnectionError as ``push``.
    """
    folder, inside = Path(folder), model_inside(model)
    if to is not None:
        check_push(to)
    checksum = fingerprint(inside)
    kept = inside if towers is None else keep_towers(inside, towers)
    dropped = [m for m in inside.modalities if m not in kept.modalities]
    parts = read_parts(kept)
    chosen = choose_licence(parts, licence)
    lines = list(chosen.lines)
    training = None if run is None else read_training(Path(run), checkpoint)
    measured = _find_results(results, run, checksum, dropped, lines)
    name = folder.resolve().name if to is None else to.rpartition("/")[2]
    where = folder.name if to is None else to
    with fresh_folder(folder) as work:
        write_model(kept, work)
        _strip_sources(work)
        header = write_header(name, kept.modalities, chosen, parts, training, measured)
        text = write_card(name, where, kept, chosen, parts, training, measured)
        (work / CARD).write_text(f"---\n{header}\n---\n\n{text}", encoding="utf-8")
        if measured is not None:
            write_json(work / FILE, keep_results(measured))
            (work / PICTURE).write_bytes(draw_scores(measured.chief(), measured.scores, measured.intervals))
        lines += find_paths(work)
        address = None if to is None else push(work, to, private=private, stale=(FILE, PICTURE))
    lines.append(f"wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if address is not None:
        lines.append(f'uploaded to {address}; load it with align.load("{to}")')
    return lines


def _find_results(
    results: str | Path | None, run: str | Path | None, checksum: str, dropped: Sequence[str], lines: list[str]
) -> Measured | None:
    """Return the scores that were named, or those in the run. A line says why there are none."""
    if results is not None:
        return _check_any(read_results(Path(results), checksum, dropped), results, lines)
    if run is None or not (Path(run) / FILE).is_file():
        lines.append("no scores: align evaluate writes them, and --results names their folder")
        return None
    try:
        return _check_any(read_results(Path(run), checksum, dropped), run, lines)
    except ValueError as error:
        lines.append(f"no scores: {error}")
        return None


def _check_any(measured: Measured, folder: str | Path, lines: list[str]) -> Measured | None:
    """Return the scores, or None where they are all of towers that are left out. A line says so."""
    if measured.scores:
        return measured
    lines.append(f"no scores: {Path(folder) / FILE} has none of these towers alone")
    return None


def _strip_sources(folder: Path) -> None:
    """Leave the paths of this machine out of the origins in model.json."""
    about = read_json(folder / "model.json")
    for origin in about.get("parts", {}).values():
        origin["source"] = strip_path(origin["source"])
    write_json(folder / "model.json", about)


def _is_here(path: Path) -> bool:
    """Return True for a path of this machine, also for one that was cut at a space in its last name."""
    try:
        return path.exists() or (len(path.parts) > 3 and path.parent.exists())
    except OSError:  # a tokenizer holds long words of base64, which no system has as a name
        return False


def find_paths(folder: Path) -> list[str]:
    """Return a line for each text file that names a file or folder of this machine: a reader of the hub would see it.

    >>> find_paths(Path("no folder"))
    []
    """
    out = []
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.yaml"), *folder.glob("*.md")]):
        words = dict.fromkeys(re.findall(r"/[\w.@+-]+(?:/[\w.@+-]+)+", path.read_text(encoding="utf-8")))
        here = [word for word in words if _is_here(Path(word))]
        if here:
            out.append(f"{path.name} names a path of this machine: {here[0]}")
    return out
