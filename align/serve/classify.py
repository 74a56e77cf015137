"""``POST /v1/classify``: the class of a file, among names that the client gives."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from align.serve.data_uri import read_data_uri
from align.serve.fields import parse_json
from align.serve.forms import read_request
from align.serve.limits import Limits
from align.serve.refusal import Refusal
from align.serve.respond import Json
from align.serve.service import Service

EXAMPLE = 'classes is a list of names ["cat", "dog"], or {"label": "name in prompts", ...}'


async def classify(request: Request) -> Response:
    """Answer with the classes, the most likely first."""
    service: Service = request.app.state.service
    started = time.perf_counter()
    fields, files = await read_request(request, service.limits)
    classes = read_classes(fields.take("classes"), service.limits)
    templates = read_templates(fields.take("templates"), service.limits)
    if (prompts := len(classes) * len(templates or [""])) > service.limits.prompts:
        most = service.limits.prompts
        raise Refusal(413, f"{prompts} prompts of classes and templates; at most {most} are read", param="templates")
    modality = fields.text("modality", service.limits.name)
    name = fields.text("name", service.limits.name, "") or ""
    uri = fields.take("data")
    fields.finish()
    if len(files) + (uri is not None) != 1:
        raise Refusal(422, "give one file: as data, a data URI, or as a form's file", param="data")
    if uri is not None:
        data, found = await asyncio.to_thread(read_data_uri, uri, "data")
        name = name or found
    else:
        field, file = next(iter(files.items()))
        data, name = file.data, name or file.name
        modality = modality or (field if field in service.loaded.model.modalities else None)
    if modality is None:
        known = ", ".join(service.loaded.model.modalities)
        raise Refusal(422, f"modality is missing: that of the file, one of {known}", param="modality")
    labelled, how, notes = await service.classify(classes, modality, data, name=name, templates=templates)
    return Json(classes_json(labelled, how, notes, time.perf_counter() - started))


def classes_json(labelled: Any, how: str, notes: list[str], seconds: float) -> dict[str, Any]:
    """Return the answer as JSON, the classes in the order of their probability, else of their cosine."""
    order = labelled.probabilities or labelled.scores
    rows = [
        {
            "label": label,
            "cosine": labelled.scores[label],
            "probability": None if labelled.probabilities is None else labelled.probabilities[label],
        }
        for label in sorted(order, key=lambda label: -order[label])
    ]
    return {
        "object": "classification",
        "label": labelled.label,
        "how": how,
        "classes": rows,
        "notes": notes,
        "seconds": round(seconds, 6),
    }


def read_classes(given: Any, limits: Limits) -> list[str] | dict[str, str]:
    """Return class names, or label -> its name in prompts. A text has them by lines or commas, or is JSON of these.

    Raises Refusal (422).
    """
    if isinstance(given, str):
        text = given.strip()
        if text.startswith(("[", "{")):
            given = parse_json(text.encode())
        else:
            given = [name.strip() for name in (text.splitlines() if "\n" in text else text.split(","))]
            given = list(dict.fromkeys(name for name in given if name))
    words = (
        list(given.items()) if isinstance(given, dict) else [(x, x) for x in given] if isinstance(given, list) else []
    )
    if len(words) > limits.classes:
        raise Refusal(413, f"{len(words)} classes; at most {limits.classes} are read", param="classes")
    if len(words) < 2 or not all(isinstance(x, str) and x.strip() for pair in words for x in pair):
        raise Refusal(422, f"{EXAMPLE}, two or more", param="classes")
    if any(len(x) > limits.name for pair in words for x in pair):
        raise Refusal(413, f"a class has at most {limits.name} characters", param="classes")
    if len({label for label, _ in words}) < len(words):
        raise Refusal(422, "a class is named twice", param="classes")
    return dict(words) if isinstance(given, dict) else [label for label, _ in words]


def read_templates(given: Any, limits: Limits) -> list[str] | None:
    """Return templates of prompts: one, or a list, each with one {}. Raises Refusal (422)."""
    if given is None or given == "":
        return None
    if isinstance(given, str):
        given = parse_json(given.encode()) if given.startswith("[") else [given]
    if not isinstance(given, list) or not given or not all(isinstance(x, str) and x.count("{}") == 1 for x in given):
        raise Refusal(422, 'templates is a list, each with one {}: ["{}", "a photo of a {}"]', param="templates")
    if len(given) > limits.templates or any(len(x) > limits.name for x in given):
        raise Refusal(413, f"at most {limits.templates} templates of {limits.name} characters", param="templates")
    return given
