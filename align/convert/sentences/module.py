"""AlignTowers: the module through which Sentence Transformers reads a model folder of align.

``modules.json`` of an exported folder names this class, so Sentence Transformers imports it, and align has to be
installed. From its version 6 on it does so with ``trust_remote_code=True`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from sentence_transformers.base.modality import infer_modality
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from align.checkpoint import load
from align.checkpoint.write import write_model
from align.convert.sentences.inputs import find_kinds, list_prefixes, pick
from align.model import JointModel
from align.values import BadSample, Batch, Rows


@final
class AlignTowers(InputModule):
    """All towers of a model, as the only module of a SentenceTransformer. Its output is ``model.embed``'s.

    An input is a text, a PIL picture, an array, a file's path, ``{"array": wave, "sampling_rate": 16000}``, or
    ``{MODALITY: input}`` with any modality of the model, which takes whatever ``model.embed`` takes. Inputs of several
    modalities may stand in one list where each is such a dict.
    """

    save_in_root = True

    def __init__(self, model: JointModel):
        super().__init__()
        self.model = model
        self.kinds = find_kinds(model)

    @property
    def modalities(self) -> list[Any]:
        """Return the kinds of input that Sentence Transformers knows and a tower reads."""
        return list(self.kinds)

    @property
    def max_seq_length(self) -> int | None:
        """Return the tokens of a row of text. None where its preprocess states none."""
        return getattr(self.model.towers[self.kinds["text"]].preprocess, "context", None)

    def get_embedding_dimension(self) -> int:
        return self.model.dim

    def on_model_ready(self, model: Any) -> None:
        """Raise ValueError for a ``truncate_dim`` that the model was not trained for."""
        check_prefix(self.model, model.truncate_dim)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return the rows of each modality, and the places of the inputs that they belong to.

        prompt: goes before every text. Raises ValueError in one line for an input that no tower reads.
        """
        rows: dict[str, list[Tensor]] = {}
        places: dict[str, list[int]] = {}
        for i, given in enumerate(inputs):
            name, source = self._read(given)
            if isinstance(source, str) and prompt and name == self.kinds["text"]:
                source = prompt + source
            try:
                row = self.model.towers[name].preprocess.row(source)
            except (BadSample, TypeError, AttributeError) as error:  # Sentence Transformers reads the last two its way
                raise ValueError(f"{name}: {error}") from error
            rows.setdefault(name, []).append(row)
            places.setdefault(name, []).append(i)
        values = {name: self.model.towers[name].preprocess.collate(some) for name, some in rows.items()}
        return {"align_rows": values, "align_places": places}

    def _read(self, given: Any) -> tuple[str, Any]:
        """Return the modality of an input, and the input as the modality's preprocess takes it."""
        if isinstance(given, Mapping) and "array" not in given:
            name = pick(given, self.model.modalities, self.kinds)
            return name, _plain(given[name] if name in given else next(iter(given.values())))
        kind = infer_modality(given, supported_modalities=self.modalities)
        if kind not in self.kinds:
            raise ValueError(f"an input is of the kind {kind}, and the model reads {', '.join(self.modalities)}")
        return self.kinds[kind], _plain(given)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add "sentence_embedding" (n, D), row i for input i. Gradients flow where they are on."""
        values, places = features["align_rows"], features["align_places"]
        parts = [self._embed(name, x) for name, x in values.items()]
        order = torch.tensor([i for name in values for i in places[name]]).argsort()
        features["sentence_embedding"] = torch.cat(parts)[order.to(parts[0].device)]
        return features

    def _embed(self, name: str, values: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return self.model.embed_values(name, values)
        n = len(next(iter(values.values())) if isinstance(values, dict) else values)
        batch = Batch({name: Rows(values, torch.arange(n))}, ids=[""] * n, position=torch.arange(n))
        return self.model(batch.to(self.model.device))[name].values

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the model folder into a folder that Sentence Transformers has made."""
        write_model(self.model, Path(output_path))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> AlignTowers:
        """Return the module of a folder or of a model on the hub.

        model_kwargs may hold ``dtype``, and ``allow``, the packages beside align whose classes the config may name.
        """
        hub = {key: kwargs.get(key) for key in ("token", "cache_folder", "revision")}
        hub["local_files_only"] = kwargs.get("local_files_only", False)
        folder = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)
        if folder is None:
            raise FileNotFoundError(f"{model_name_or_path} has no folder {subfolder!r}")
        options = kwargs.get("model_kwargs") or {}
        dtype = options.get("dtype", options.get("torch_dtype"))
        return cls(load(folder, allow=options.get("allow", ()), dtype=None if dtype == "auto" else dtype))


def check_prefix(model: JointModel, size: int | None) -> None:
    """Raise ValueError where a model's first ``size`` coordinates are no embeddings. None is the whole."""
    known = list_prefixes(model)
    if size is None or size in (*known, model.dim):
        return
    trained = f"trained as a Matryoshka of {', '.join(map(str, known))}" if known else "no Matryoshka model"
    raise ValueError(f"truncate_dim={size}: the model has {model.dim} dimensions and is {trained}")


def _plain(given: Any) -> Any:
    """Return a sound that Sentence Transformers describes by a dict as (array, rate)."""
    if isinstance(given, Mapping) and {"array", "sampling_rate"} <= set(given):
        return given["array"], given["sampling_rate"]
    return given
