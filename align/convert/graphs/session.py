"""Graphs run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def open_graph(path: Path) -> Any:
    """Return onnxruntime's session of a graph, on the CPU. It prints errors alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_graph(session: Any, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the embeddings (n, D) of n rows, input -> array. An input that the graph does not read is left out."""
    inputs = {x.name for x in session.get_inputs()}
    return session.run(None, {name: x for name, x in rows.items() if name in inputs})[0]
