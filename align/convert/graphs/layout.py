"""Files beside the graphs of an export: what each graph reads, and export.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import align
from align.checkpoint.describe import describe
from align.checkpoint.fingerprint import fingerprint
from align.convert.graphs.graph import OUTPUT, Traced
from align.convert.graphs.steps import list_steps
from align.convert.graphs.tokenizer import write_tokenizer
from align.files import write_json
from align.model import JointModel
from align.preprocess.text import Text

SCHEMA = 1
LARGEST = 1e-4
"""Largest difference of a graph's embeddings from the tower's that is written."""


def check_difference(modality: str, difference: float) -> None:
    """Raise ValueError for a graph whose embeddings differ from the tower's by more than ``LARGEST``, or are NaN."""
    if not difference <= LARGEST:
        raise ValueError(
            f"tower {modality!r}: its graph's embeddings differ from the tower's by {difference:.1e}, more than "
            f"{LARGEST:g}; leave it out with --towers"
        )


def write_preprocess(folder: Path, traced: Traced, model: JointModel, chosen: Sequence[str]) -> None:
    """Write MODALITY.json, the way from a file to the graph's input, and the tokenizer of a text tower."""
    preprocess: Any = model.towers[traced.modality].preprocess
    tokenizer = None
    if isinstance(preprocess, Text):
        texts = [m for m in chosen if isinstance(model.towers[m].preprocess, Text)]
        name = "tokenizer.json" if len(texts) == 1 else f"{traced.modality}.tokenizer.json"
        tokenizer = name if write_tokenizer(preprocess, folder / name) else None
    inputs = [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in traced.shapes.items()]
    output = {"name": OUTPUT, "dtype": "float32", "shape": ["batch", traced.checks[0][1].shape[1]]}
    content = {
        "schema": SCHEMA,
        "modality": traced.modality,
        "inputs": inputs,
        "output": output | {"unit_length": model.normalize},
        "steps": list_steps(preprocess, tokenizer),
        "made_by": describe(preprocess),
    }
    write_json(folder / f"{traced.modality}.json", content)


def describe_export(
    model: JointModel, format: str, towers: Mapping[str, Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """Return export.json: the format, the model's SHA-256, its dim, its trained terms, and facts of each tower."""
    return {
        "schema": SCHEMA,
        "format": format,
        "align": align.__version__,
        "model": fingerprint(model),
        "dim": model.dim,
        "unit_length": model.normalize,
        **more,
        "towers": dict(towers),
        "terms": [term.to_json() for term in model.terms],
    }
