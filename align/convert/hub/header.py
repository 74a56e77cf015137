"""The header of a card: YAML that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.convert.hub.licences import Licence
from align.convert.hub.measured import Measured
from align.convert.hub.origin import Training
from align.files.hub import PREFIX, is_repository

DATASET = re.compile(r"(?:hf://|https://huggingface\.co/)datasets/([^/@]+/[^/@]+)")
TASKS = {"zeroshot": "zero-shot-classification", "probe": "classification", "geometry": "feature-extraction"}


def write_header(
    name: str,
    modalities: Sequence[str],
    licence: Licence,
    parts: Mapping[str, Mapping[str, Any]],
    training: Training | None,
    measured: Measured | None,
) -> str:
    """Return the header's YAML, without the lines of dashes around it."""
    from huggingface_hub import ModelCardData

    pictures = {"image", "text"} <= {*modalities}
    about: dict[str, Any] = {
        **licence.header(),
        "library_name": "align",
        "pipeline_tag": "zero-shot-image-classification" if pictures else "feature-extraction",
        "tags": ["align", "multimodal", *modalities],
        "base_model": list_bases(parts) or None,
        "datasets": list_datasets(training) or None,
    }
    if measured is not None:
        about |= {"model_name": name, "eval_results": list_results(measured)}
    return ModelCardData(**about).to_yaml()


def list_bases(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the models on the hub that the parts come from."""
    sources = [about["source"].removeprefix(PREFIX) for about in parts.values()]
    return list(dict.fromkeys(s for s in sources if is_repository(s) and "." not in s[:1] and not Path(s).exists()))


def list_datasets(training: Training | None) -> list[str]:
    """Return the data sets on the hub that a model was trained on. A header can name no others."""
    found = [DATASET.search(source.pattern) for source in training.sources] if training is not None else []
    return list(dict.fromkeys(match[1] for match in found if match))


def list_results(measured: Measured) -> list[Any]:
    """Return the card's scores as the hub's index of models takes them, each with its interval as arguments."""
    from huggingface_hub import EvalResult

    data = measured.data()
    return [
        EvalResult(
            task_type="retrieval" if "_to_" in name else TASKS.get(name.partition("/")[0], "other"),
            dataset_type="webdataset",
            dataset_name=data or "shards",
            metric_type=name.rpartition("/")[2],
            metric_name=name,
            metric_value=measured.scores[name],
            metric_args={"interval": [*measured.intervals[name]]} if name in measured.intervals else None,
        )
        for name in measured.chief()
    ]
