"""Files of a transformers model: its config, its folder and its weights, here or on the hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from align.encoders.weights import checksum, find_weights, read_weights
from align.files.hub import PREFIX, hub_folder, is_repository, licence_of, source_folder
from align.values import Origin

CONFIG = "config.json"
LEGACY = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin")


class Found(NamedTuple):
    """A model's files: its source as it was named, its config as plain data, and its folder."""

    source: str
    config: dict[str, Any]
    folder: Path

    def weights(self) -> Path:
        """Return the file of weights. Raises FileNotFoundError where there is none."""
        if Path(self.source).is_file():
            return Path(self.source)
        try:
            return find_weights(self.folder)
        except FileNotFoundError:
            if not self._on_hub():
                raise
        return find_weights(hub_folder(self.source, LEGACY))  # old models have pickles alone, of which tensors are read

    def origin(self) -> Origin:
        """Return source, checksum and licence of the weights."""
        name = self.source.removeprefix(PREFIX) if self._on_hub() else str(self.weights())
        return Origin(name, checksum(self.weights()), licence_of(self.folder))

    def tokenizer(self) -> str:
        """Return the source of its tokenizer: its name on the hub, or its folder."""
        return self.source if self._on_hub() else str(self.folder)

    def _on_hub(self) -> bool:
        named = self.source.startswith(PREFIX) or is_repository(self.source)
        return named and not Path(self.source).exists()


def find(source: str) -> Found:
    """Return the files of a model.

    source: a folder as transformers saves it, ``local-dir:FOLDER``, a file of weights with config.json beside it,
        ``owner/name`` or ``hf-hub:owner/name[@revision]``.

    Raises FileNotFoundError where there is none, ValueError for a config that cannot be read.
    """
    folder = source_folder(source)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}: it is no model as transformers saves it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ValueError(f"{path} names no model_type; it is no config of transformers")
    return Found(source, config, folder)


def find_weights_of(name: str, pretrained: bool | str, found: Found | None) -> Found | None:
    """Return the files of an encoder's weights, None for random ones.

    pretrained: True for those of ``name``, whose files are ``found`` where they are known, or a source of their own.
    """
    if isinstance(pretrained, str):
        path = Path(pretrained)
        return Found(pretrained, {}, path.parent) if path.is_file() else find(pretrained)
    return (found or find(name)) if pretrained else None


def read_part(path: Path, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of a file whose names begin with one of the prefixes, under their whole names."""
    return {p + name: x for p in prefixes for name, x in read_weights(path, p).items()}
