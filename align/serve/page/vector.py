"""The field of a file that the server has read: its embedding stands for it from then on."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import numpy as np

from align.serve.page.trouble import Trouble


def write_vector(modality: str, vector: np.ndarray, name: str) -> str:
    """Return the field of an embedding (D,): its modality, float16 in base64, and its file's name."""
    return f"{modality}:{urlsafe_b64encode(np.asarray(vector, '<f2').tobytes()).decode()}:{name}"


def read_vector(field: str) -> tuple[str, str, np.ndarray]:
    """Return the modality, the file's name and the embedding (D,). Raises Trouble."""
    modality, _, rest = field.partition(":")
    numbers, _, name = rest.partition(":")
    try:
        vector = np.frombuffer(urlsafe_b64decode(numbers), "<f2").astype(np.float32)
    except ValueError:
        vector = np.empty(0, np.float32)
    if not vector.size or not np.isfinite(vector).all():
        raise Trouble("A file of this query was lost; add it again.", "parts")
    return modality, name, vector
