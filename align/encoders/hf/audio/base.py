"""The interface of a kind of audio model: its config, its weights, its processor and its features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.encoders.hf import model as hf_model
from align.encoders.weights import read_weights
from align.values import Features


class AudioKind(ABC):
    """Abstract: the facts of one kind of audio model of transformers."""

    preset: ClassVar[str]
    """Preset of Audio that is its processor."""
    front_end: ClassVar[str]
    """Front end of that preset."""
    sample_rate: ClassVar[int]
    """Of the preset, in Hz."""
    settings: ClassVar[Mapping[str, str]]
    """Setting of the library's processor -> Audio's argument of the same meaning."""
    of: ClassVar[str]
    """transformers' class of the audio part."""
    prefixes: ClassVar[tuple[str, ...]]
    """Names under which files of weights hold the audio part, the fullest first."""
    heads: ClassVar[tuple[str, ...]] = ()
    """First parts of names that belong to a task's head, which is left out."""

    def part(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plain config of the audio part of a model's config."""
        return dict(config)

    @abstractmethod
    def sizes(self, config: Any) -> dict[str, int]:
        """Return ``width`` of the features, and ``n_mels`` and ``frames`` of the input where they are fixed."""

    @abstractmethod
    def encode(self, model: Any, values: Tensor, lengths: Tensor) -> Features:
        """Return the features of n >= 1 values. lengths: (n,) samples of sound in each row of a window."""

    def create(self, config: Any) -> Any:
        """Return the model with random weights."""
        return hf_model.create(self.of, config)

    def load(self, config: Any, path: Path) -> Any:
        """Return the model with the weights of a file. Raises ValueError that lists names that do not fit."""
        return hf_model.load(self.of, config, self.read(path), str(path), skip=self.heads)

    def read(self, path: Path) -> dict[str, Tensor]:
        """Return the tensors of the audio part under the names of the part alone."""
        for prefix in self.prefixes:
            if tensors := read_weights(path, prefix):
                return tensors
        raise ValueError(f"{path} holds no {self.of}: no name begins with {' or '.join(self.prefixes)}")

    def checkpoint(self, model: Any) -> None:
        """Compute activations again in the backward pass. Raises ValueError where the model cannot."""
        hf_model.checkpoint_gradients(model)

    def preset_for(self, config: Any) -> tuple[str, str]:
        """Return the preset and the front end of a model."""
        return self.preset, self.front_end

    def arguments(self, processor: Mapping[str, Any]) -> dict[str, Any]:
        """Return Audio's arguments for the settings in a processor's file."""
        return {ours: processor[theirs] for theirs, ours in self.settings.items() if processor.get(theirs) is not None}


def mean_of_real(tokens: Tensor, real: Tensor) -> Tensor:
    """Return (n, W), the mean of (n, L, W) tokens over the real ones. real: (n, L) bool, at least one a row."""
    weight = real.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1)


def first(count: Tensor, length: int) -> Tensor:
    """Return (n, length) bool, true for the first ``count`` of each row, and for the first one always."""
    return torch.arange(length, device=count.device) < count.clamp(min=1)[:, None]
