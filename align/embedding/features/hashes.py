"""Hashes of a tower, by which a cache and a head that is trained on it recognise the tower."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from align.checkpoint.describe import describe
from align.checkpoint.tower_weights import Kind as Kind
from align.checkpoint.tower_weights import tower_weights as tower_weights
from align.files import json_text


def preprocess_hash(preprocess: Any) -> str:
    """Return the SHA-256 of a preprocess's description as canonical JSON.

    A file that it needs counts by its content, wherever the file lies.
    """
    described = describe(preprocess)
    for argument, text in preprocess.assets().items():
        described["init_args"][argument] = {"sha256": hashlib.sha256(_canonical(text).encode()).hexdigest()}
    return hashlib.sha256(json.dumps(described, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _canonical(text: str) -> str:
    """Return JSON in canonical form, and any other text as it is."""
    try:
        return json_text(json.loads(text))
    except ValueError:
        return text
