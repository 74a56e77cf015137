"""Tasks and a labelling interface for Label Studio, written without Label Studio.

The formats: https://labelstud.io/guide/tasks, https://labelstud.io/guide/predictions and https://labelstud.io/tags.
Files are reached as local files: https://labelstud.io/guide/storage#Local-storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from align.convert.labelling.media import Kind
from align.convert.labelling.names import name_field, name_fields
from align.convert.labelling.records import Facts, Reading, Record, read_records, write_records
from align.convert.labelling.writing import Written, say_facts
from align.files import json_text
from align.files.fresh import fresh_folder

TAGS: dict[Kind, str] = {"picture": "Image", "video": "Video", "sound": "Audio"}
"""Kind -> the tag that shows it, in the order of the page."""
TEXT = "text"
URL = "/data/local-files/?d="
MANY = 12  # classes above which a list opens instead of a row of buttons


def write_label_studio(reading: Reading, out: str | Path, name: str) -> Written:
    """Write shards as tasks of Label Studio, with zero-shot labels as predictions. The folder appears whole or not.

    ``tasks.json`` has data, annotations (the samples' labels) and predictions (one for each modality, with its
    probabilities). ``config.xml`` is the labelling interface, and ``media/`` has the files. URLs of files are below the
    folder `out`, which is LOCAL_FILES_DOCUMENT_ROOT.

    name: of the model, in the predictions' ``model_version``. Raises ValueError where nothing can be shown, and where
    `out` is there already.
    """
    order = [*TAGS]
    kinds: dict[str, Kind] = {m: kind for m, kind in reading.kinds.items() if kind != "cloud"}
    shown = {m: TAGS[kind] for m, kind in sorted(kinds.items(), key=lambda one: (order.index(one[1]), one[0]))}
    if TEXT in reading.shards.modalities:
        shown[TEXT] = "Text"
    if not shown:
        have = ", ".join(reading.shards.modalities) or "none"
        raise ValueError(f"Label Studio shows pictures, videos, sounds and texts; the shards have {have}")
    with fresh_folder(out) as work:
        folders = dict.fromkeys(kinds, work / "media")
        facts = write_records(
            reading, work, folders, lambda record: bool(record["files"] or record["captions"]), vectors=False
        )
        controls = name_fields([*facts.classes])
        with (work / "tasks.json").open("w", encoding="utf-8") as file:
            file.write("[")
            for i, record in enumerate(read_records(work)):
                task = {"id": i + 1, **make_task(record, [*shown], controls, name)}
                file.write(("," if i else "") + "\n" + json_text(task))
            file.write("\n]\n")
        (work / "config.xml").write_text(make_config(shown, controls, facts), encoding="utf-8")
    notes = say_facts(facts, f"without {' and '.join(shown)}")
    notes += [f"{m}: Label Studio shows no clouds; they are left out" for m, k in reading.kinds.items() if k == "cloud"]
    if not facts.classes:
        notes.append("the shards have no labels and no classes, so config.xml asks for a text")
    return Written(facts, notes)


def make_config(shown: Mapping[str, str], controls: Mapping[str, str], facts: Facts) -> str:
    """Return the labelling interface as XML: the objects, then choices for each attribute, of the first object.

    shown: modality -> its tag. controls: attribute -> the name of its choices.
    """
    view = ElementTree.Element("View")
    names = {m: name_field(m) for m in shown}
    for m, tag in shown.items():
        ElementTree.SubElement(view, tag, {"name": names[m], "value": f"${names[m]}"})
    target = next(iter(names.values()))
    for attribute, control in controls.items():
        ElementTree.SubElement(view, "Header", {"value": attribute})
        several = attribute in facts.several
        about = {"name": control, "toName": target, "choice": "multiple" if several else "single"}
        classes = facts.classes[attribute]
        about["layout"] = "select" if len(classes) > MANY else "inline"
        choices = ElementTree.SubElement(view, "Choices", about)
        for label in classes:
            ElementTree.SubElement(choices, "Choice", {"value": label})
    if not controls:
        ElementTree.SubElement(view, "TextArea", {"name": "note", "toName": target})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def make_task(record: Record, shown: Sequence[str], controls: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return a record as a task. What the sample has not is an empty text, since Label Studio asks for it."""
    data = {"key": record["key"], "shard": record["shard"]}
    for m in shown:
        path = record["files"].get(m)
        data[name_field(m)] = "" if path is None else URL + quote(path)
    if TEXT in shown:
        data[TEXT] = "\n".join(record["captions"])
    target = name_field(shown[0])
    task: dict[str, Any] = {"data": data}
    labels = {a: values for a, values in record["labels"].items() if values}
    if labels:
        result = [make_choice(controls[a], target, values) for a, values in labels.items()]
        task["annotations"] = [{"result": result, "ground_truth": True}]
    task["predictions"] = make_predictions(record, target, controls, name)
    return task


def make_predictions(record: Record, target: str, controls: Mapping[str, str], name: str) -> list[dict[str, Any]]:
    """Return a prediction for each modality. Its score is the least probability of its labels, where there are any."""
    found = []
    for m in dict.fromkeys(m for _, m, _, _ in record["answers"]):
        labels = [(a, label, p) for a, modality, label, p in record["answers"] if modality == m]
        result = [make_choice(controls[a], target, [label], p) for a, label, p in labels]
        shares = [p for _, _, p in labels if p is not None]
        score = {"score": min(1.0, min(shares))} if shares else {}
        found.append({"model_version": f"{name} {m}", "result": result, **score})
    return found


def make_choice(control: str, target: str, values: Sequence[str], score: float | None = None) -> dict[str, Any]:
    """Return a region of chosen classes."""
    about = {"from_name": control, "to_name": target, "type": "choices", "value": {"choices": [*values]}}
    return about if score is None else {**about, "score": score}
