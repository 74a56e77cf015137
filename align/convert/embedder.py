"""Embedder: one tower of a model as a transformer of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.checkpoint import load
from align.model import JointModel

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError:
    raise ImportError("align.convert.Embedder needs scikit-learn: pip install scikit-learn") from None


class Embedder(TransformerMixin, BaseEstimator):
    """Raw inputs of one modality -> embeddings (n, D), for pipelines and grid searches of scikit-learn.

    ``make_pipeline(Embedder("runs/photos", "image"), LogisticRegression()).fit(paths, labels)``. Nothing is fitted: the
    model is as it was trained. A clone shares the model's weights.

    model: a model folder, a run folder, owner/name on the hub, or a JointModel. modality: of the inputs.
    batch_size: inputs at a time.
    """

    def __init__(self, model: str | Path | JointModel, modality: str = "image", batch_size: int = 64):
        self.model = model
        self.modality = modality
        self.batch_size = batch_size

    def fit(self, X: Sequence[Any], y: Any = None) -> Embedder:
        """Load the model where it is a folder. Raises ValueError for a modality that it has no tower for."""
        self.loaded_ = self.model if isinstance(self.model, JointModel) else load(self.model)
        if self.modality not in self.loaded_.modalities:
            known = ", ".join(self.loaded_.modalities)
            raise ValueError(f"modality={self.modality!r}: the model has no such tower; it has {known}")
        self.n_features_out_ = self.loaded_.dim
        return self

    def transform(self, X: Sequence[Any]) -> np.ndarray:
        """Return (n, D) float32, row i for input i. Raises as ``JointModel.embed`` does, and TypeError for one text."""
        if isinstance(X, (str, bytes, Path)):
            raise TypeError(f"X={X!r} is one input; transform takes a list of them")
        self._load()
        rows = self.loaded_.embed(batch_size=self.batch_size, **{self.modality: list(X)})
        return rows[self.modality].cpu().numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, embedding0 and so on."""
        self._load()
        return np.asarray([f"embedding{i}" for i in range(self.n_features_out_)], dtype=object)

    def _load(self) -> None:
        """Load the model where ``fit`` has not: none of the methods needs it to be called."""
        if not hasattr(self, "loaded_"):
            self.fit([])

    def __sklearn_clone__(self) -> Embedder:
        """Return an unfitted copy with the same model, not with a copy of its weights."""
        return type(self)(**self.get_params(deep=False))

    def __sklearn_is_fitted__(self) -> bool:
        return True  # a trained model transforms without a fit

    def __sklearn_tags__(self) -> Any:
        """Say that inputs are no numbers, and that no fit is needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.no_validation = False, True, True
        tags.requires_fit = False
        return tags
