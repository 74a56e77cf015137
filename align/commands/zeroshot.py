"""``align zeroshot MODEL --modality image --classes "a,b,c" FILES…`` labels files with given class names."""

from __future__ import annotations

from typing import Any

from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.tables import print_notes


def zeroshot(
    model: str,
    files: list[str],
    /,
    *,
    modality: str,
    classes: str,
    template: str | None = None,
    json: bool = False,
    top: int = 3,
    weights: Weights,
) -> None:
    """Label files with given class names

    The trained objective gives the probabilities: a softmax over the classes at its learned scale. Where no term of it
    joins the modality with text, the classes are ranked by cosine, and no probability is printed.

    Args:
        model: a model folder, a run folder, or owner/name on the hub
        files: the files to label
        modality: the modality of the files: image, audio, points, ...
        classes: class names with commas between them, a file with one a line, a list '["a", "b"]', or
            '{"label": "name in prompts", ...}'
        template: the prompt, with {} for the class name, a list of prompts, or a file with one a line. Default: "{}"
            and "a {}"
        json: print JSON instead of a table
        top: how many classes the table shows for each file
    """
    from align.commands.classes import read_classes, read_templates

    names = read_classes(classes)
    words = names if isinstance(names, dict) else {name: name for name in names}
    if not all(isinstance(word, str) for word in words.values()):
        raise Refused('--classes: files have no attributes; give a list, or {"label": "name in prompts", ...}', code=2)
    templates = None if template is None else read_templates(template, "--template")
    if isinstance(templates, dict):
        raise Refused("--template: files have no attributes; give one template, or a list", code=2)
    loaded = weights.load(model)
    rows, how, notes = label(loaded, files, modality, {name: str(word) for name, word in words.items()}, templates)
    if json:
        _print_json(rows, how, notes)
    else:
        _print_table(rows, how, top)
        print_notes(notes)


def label(
    model: Any, files: list[str], modality: str, names: dict[str, str], templates: list[str] | None = None
) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Label files. Return a row for each (file, class, scores {class: cosine}, probabilities {class: p} or None), the
    rule, and the notes.

    names: label -> its name in prompts. Labels with the same prompts are one class, by the first, and a note says so.
    """
    import torch

    from align.evaluation.prompts import class_prompts, default_templates, equal_prompts
    from align.scoring import choose, score

    if "text" not in model.modalities:
        raise ValueError(f"zero-shot needs a text tower; the model has {', '.join(model.modalities)}")
    if modality == "text":
        raise ValueError("zero-shot labels other modalities than text")
    templates = templates or list(default_templates)
    first = equal_prompts(model, list(names.values()), templates)
    labels = list(names)
    classes = [labels[i] for i in dict.fromkeys(first)]
    pairs = [(labels[i], label) for i, label in zip(first, labels, strict=True) if labels[i] != label]
    notes = [f"{one!r} and {other!r} have the same prompts, so they are one class, {one!r}" for one, other in pairs]
    embedded = model.embed(**{modality: list(files)})[modality].cpu()
    prompts = class_prompts(model, [names[name] for name in classes], templates)
    how = choose(model.terms, [modality], "text")
    cosine = score({modality: embedded}, prompts, "cosine", of="text")
    ranked, shares = cosine, None
    if how == "objective":
        ranked = score({modality: embedded}, prompts, how, of="text", terms=model.terms)
        shares = torch.softmax(ranked, dim=1)
    rows = []
    for i, file in enumerate(files):
        rows.append(
            {
                "file": file,
                "class": classes[int(ranked[i].argmax())],
                "scores": dict(zip(classes, cosine[i].tolist(), strict=True)),
                "probabilities": None if shares is None else dict(zip(classes, shares[i].tolist(), strict=True)),
            }
        )
    return rows, how, notes


def _print_json(rows: list[dict[str, Any]], how: str, notes: list[str]) -> None:
    from align.files import json_text

    print(json_text({"how": how, "notes": notes, "files": rows}, 2))


def _print_table(rows: list[dict[str, Any]], how: str, top: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console

    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    shown = max(1, min(top, len(rows[0]["scores"])))
    for place in range(shown):
        table.add_column(f"{place + 1}.")
        table.add_column("p" if how == "objective" else "cosine", justify="right")
    for row in rows:
        values = row["probabilities"] or row["scores"]
        best = sorted(values, key=lambda name: -values[name])[:shown]
        cells = [part for name in best for part in (Text(name), f"{values[name]:.3f}")]
        table.add_row(Text(row["file"]), *cells)
    console().print(table)
    if how != "objective":
        print("no trained term joins this modality with text: ranked by cosine, which is not a probability")
