"""``align zeroshot MODEL --classes "a,b,c" FILES…`` labels files with given class names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.tables import print_notes

if TYPE_CHECKING:
    from align.evaluation.prompts import Word
    from align.model import JointModel
    from align.preprocess import Preprocess


def zeroshot(
    model: str,
    files: list[str],
    /,
    *,
    modality: str | None = None,
    classes: str,
    template: str | None = None,
    descriptions: str | None = None,
    json: bool = False,
    top: int = 3,
    placing: Placing,
    weights: Weights,
) -> None:
    """Label files with given class names

    The trained objective gives the probabilities: a softmax over the classes at its learned scale. Where no term of it
    joins the modality with text, the classes are ranked by cosine, and no probability is printed.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        files: the files to label
        modality: the modality of the files: image, audio, points, ... Default: the tower that reads them, by suffix
        classes: class names with commas between them, a file with one a line, a list '["a", "b"]', or
            '{"label": "name in prompts", ...}'. A list of names of a label are synonyms, and each of them is asked with
        template: the prompt, with {} for the class name, a list of prompts, or a file with one a line. Default: "{}"
            and "a {}"
        descriptions: whole prompts instead of the template, for the classes that they name: '{"label": ["text", ...]}',
            or a file with this JSON. A {} in a text is the class name
        json: print JSON instead of a table
        top: how many classes the table shows for each file
    """
    from align.commands.classes import read_classes, read_descriptions, read_templates

    names = read_classes(classes)
    words = names if isinstance(names, dict) else {name: name for name in names}
    if any(isinstance(word, dict) for word in words.values()) or len(words) < 2:
        raise Refused('--classes: files have no attributes; give a list, or {"label": "name in prompts", ...}', code=2)
    templates = None if template is None else read_templates(template, "--template")
    if isinstance(templates, dict):
        raise Refused("--template: files have no attributes; give one template, or a list", code=2)
    texts = None if descriptions is None else read_descriptions(descriptions)
    if texts and any(isinstance(value, dict) for value in texts.values()):
        raise Refused('--descriptions: files have no attributes; give {"label": ["text", ...]}', code=2)
    loaded = placing.load(weights, model)
    rows, notes = label(loaded, files, modality, cast("dict[str, Word]", words), templates, texts)
    if json:
        _print_json(rows, notes)
    else:
        _print_table(rows, top)
        print_notes(notes)


def label(
    model: JointModel,
    files: list[str],
    modality: str | None,
    words: Mapping[str, Word],
    templates: list[str] | None = None,
    descriptions: Mapping[str, list[str]] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Label files. Return a row for each (file, modality, class, how, scores, probabilities) and the notes.

    modality: None takes the one whose tower reads the file, by its suffix.
    """
    from align.evaluation.classify import check_modalities, label_inputs

    check_modalities(model, {modality or "image": files})
    named = {file: modality or find_modality(model, file) for file in files}
    found: dict[str, Any] = {}
    notes: dict[str, None] = {}
    for one in dict.fromkeys(named.values()):
        group = [file for file in named if named[file] == one]
        rows, how, said = label_inputs(model, words, templates, {one: group}, descriptions)
        notes |= dict.fromkeys(said)
        found |= {file: (row, how) for file, row in zip(group, rows, strict=True)}
    return [
        {
            "file": file,
            "modality": named[file],
            "class": found[file][0].label,
            "how": found[file][1],
            "scores": found[file][0].scores,
            "probabilities": found[file][0].probabilities,
        }
        for file in files
    ], list(notes)


def find_modality(model: JointModel, file: str) -> str:
    """Return the modality whose tower reads a file, by its suffix.

    Raises ValueError where no tower reads it, where several do, and for a model of texts alone.
    """
    from align.media.video import VIDEO

    reads = {m: list_suffixes(p) for m, p in model.preprocess.items() if m != "text"}
    if not reads:
        raise ValueError(f"{file}: zero-shot labels no texts, and the model has no tower beside text")
    suffix = Path(file).suffix.lower().lstrip(".")
    if suffix in VIDEO.suffixes and not any(suffix in suffixes for suffixes in reads.values()):
        hint = "`align import LAYOUT SOURCE OUT --video unit-mean` lets a published image tower read them"
        raise ValueError(f"{file}: no tower reads videos; {hint}")
    if len(reads) == 1:
        return next(iter(reads))
    fitting = [modality for modality, suffixes in reads.items() if suffix in suffixes]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(f"{file}: the towers {' and '.join(fitting)} read .{suffix}; name one with --modality")
    known = "; ".join(f"{modality} reads {', '.join(suffixes)}" for modality, suffixes in reads.items())
    raise ValueError(f"{file}: no tower reads {f'.{suffix}' if suffix else 'a file without a suffix'}; {known}")


def list_suffixes(preprocess: Preprocess) -> list[str]:
    """Return the suffixes of files that a preprocess reads."""
    medium = preprocess.medium
    return list(dict.fromkeys([*preprocess.suffixes, *(() if medium is None else (*medium.suffixes, *medium.files))]))


def _print_json(rows: list[dict[str, Any]], notes: list[str]) -> None:
    from align.files import json_text

    rules = {row["how"] for row in rows}
    how = rules.pop() if len(rules) == 1 else None  # files of several modalities may have several
    print(json_text({"how": how, "notes": notes, "files": rows}, 2))


def _print_table(rows: list[dict[str, Any]], top: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console

    for how in dict.fromkeys(row["how"] for row in rows):
        table = Table(box=None, pad_edge=False)
        table.add_column("file", overflow="fold")
        shown = max(1, min(top, len(rows[0]["scores"])))
        for place in range(shown):
            table.add_column(f"{place + 1}.")
            table.add_column("p" if how == "objective" else "cosine", justify="right")
        for row in rows:
            if row["how"] == how:
                values = row["probabilities"] or row["scores"]
                best = sorted(values, key=lambda name: -values[name])[:shown]
                cells = [part for name in best for part in (Text(name), f"{values[name]:.3f}")]
                table.add_row(Text(row["file"]), *cells)
        console().print(table)
        if how != "objective":
            print("no trained term joins this modality with text: ranked by cosine, which is not a probability")
