"""HFAudio: the audio models of transformers: CLAP, Whisper, AST and PE-AV."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from align.encoders.base import Encoder
from align.encoders.hf import model as hf_model
from align.encoders.hf.audio import KINDS, AudioKind
from align.values import Features


@final
class HFAudio(Encoder):
    """An audio model of transformers (extra `hf`): the output of its front end -> features. Each kind says which.

    Values are a tensor, or a dict of it and of "lengths" (n,), the samples of sound at the start of each row, where the
    front end gives them. Without lengths the whole row is sound.

    Args:
        name: a folder as transformers saves it, a file of weights with config.json beside it, owner/name or
            hf-hub:owner/name. None where `config` is given.
        pretrained: True for the weights of `name`, or a source or a file of others in the same layout. None for random
            ones. It is None again once the weights are in.
        config: transformers' config, the audio part alone or the whole model's. It is read from `name` where it is left
            out, and kept, so that a saved model needs no hub.
        preprocess: arguments of Audio that differ from the kind's preset. They are read from the folder's
            preprocessor_config.json where they are left out.
        checkpointing: compute activations again in the backward pass, which saves memory.

    Raises ValueError for a model of another kind, and for weights that do not fit, FileNotFoundError for a source that
    does not exist or cannot be reached, and ImportError without transformers.
    """

    def __init__(
        self,
        name: str | None = None,
        pretrained: bool | str | None = None,
        config: dict[str, Any] | None = None,
        preprocess: dict[str, Any] | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        if name is None and config is None:
            raise ValueError("HFAudio needs the name of a model, or its config")
        found = None if name is None or (config is not None and not pretrained) else hf_model.find(name)
        given = config if config is not None else found.config  # pyright: ignore[reportOptionalMemberAccess]
        kind = find_kind(given)
        made = hf_model.make_config(kind.part(given))
        self._kind, self.name, self.pretrained = kind, name, None
        self._load(made, found, pretrained)
        stated = {} if found is None else kind.arguments(read_processor(found.folder))
        self.config = hf_model.plain_config(made)
        self.preset, self.front_end = kind.preset_for(made)
        sizes = kind.sizes(made)
        if "n_mels" in sizes:
            stated.setdefault("n_mels", sizes["n_mels"])
        self.preprocess = stated if preprocess is None else preprocess
        self._expect(sizes)
        self.checkpointing = checkpointing
        if checkpointing:
            kind.checkpoint(self.model)
        self.train(self.training)

    def _load(self, config: Any, found: hf_model.Found | None, pretrained: bool | str | None) -> None:
        if pretrained is True and found is None:
            raise ValueError("pretrained=True needs the name of a model; give `name`, or a file of weights")
        weights = hf_model.find_weights_of(self.name or "", pretrained or False, found)
        if weights is None:
            self.model: Any = self._kind.create(config)
            return
        self.model = self._kind.load(config, weights.weights())
        self.origin = weights.origin()

    def _expect(self, sizes: Mapping[str, int]) -> None:
        """Keep the sizes of the input, which a tower compares with those of its preprocess."""
        self.width, self.n_mels, self.frames = sizes["width"], sizes.get("n_mels"), sizes.get("frames")
        self.sample_rate = self.preprocess.get("sample_rate", self._kind.sample_rate)
        if self.n_mels != self.preprocess.get("n_mels", self.n_mels):
            raise ValueError(f"the model takes n_mels {self.n_mels}, its processor gives {self.preprocess['n_mels']}")

    def wants(self) -> dict[str, Any]:
        """Return the preset of Audio that is the model's processor, with the settings of its own that differ."""
        init_args = {"preset": self.preset, **self.preprocess}
        return {"class_path": "align.preprocess.Audio", "init_args": init_args}

    def encode(self, values: Tensor | dict[str, Tensor]) -> Features:
        if isinstance(values, dict):
            rows, lengths = values["values"], values["lengths"]
        else:
            rows, lengths = values, torch.full((values.shape[0],), 2**40, device=values.device)  # all of it is sound
        if self.frames is not None and rows.shape[-1] != self.frames:
            raise ValueError(
                f"the model takes windows of {self.frames} frames, not {rows.shape[-1]}; leave seconds and hop as its "
                "processor has them"
            )
        return self._kind.encode(self.model, rows, lengths)


def find_kind(config: Mapping[str, Any]) -> AudioKind:
    """Return the kind of a config's model_type. Raises ValueError with the nearest one, or with all of them."""
    kind = str(config.get("model_type"))
    if kind in KINDS:
        return KINDS[kind]
    near = get_close_matches(kind, KINDS, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it reads {', '.join(KINDS)}"
    raise ValueError(f"HFAudio has no model_type {kind!r}; {hint}")


def read_processor(folder: Path) -> dict[str, Any]:
    """Return the settings of a model's feature extractor, {} where its folder has none.

    Raises ValueError for a file that is damaged.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{path} is damaged: it holds no JSON object")
        inner = settings.get("feature_extractor", settings)
        if isinstance(inner, dict) and "feature_extractor_type" in inner:
            return inner
    return {}
