"""Models of transformers for our encoders: found, made from a plain config, and loaded with every name checked."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.encoders.weights import checksum, find_weights, listing, read_weights
from align.extras import pip_install
from align.files.hub import PREFIX, hub_folder, is_repository, licence_of, source_folder
from align.values import Origin

CONFIG = "config.json"
LEGACY = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin")
FORGOTTEN = frozenset(
    {
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "torch_dtype",
        "transformers_version",
    }
)
"""Keys of a config that say nothing about the model's output."""


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


def library() -> Any:
    """Return the package transformers. Raises ImportError with the command that installs it."""
    try:
        import transformers
    except ImportError:
        raise ImportError(f"this encoder needs transformers; {pip_install('hf')}") from None
    return transformers


def make_config(config: Mapping[str, Any]) -> Any:
    """Return transformers' config of a plain one, whose "model_type" names its class.

    Raises ValueError for a type that transformers has not, with the nearest one, and for quantised weights. Code that a
    model brings is never run.
    """
    kinds = library().CONFIG_MAPPING
    kind = str(config.get("model_type"))
    if kind not in kinds:
        near = difflib.get_close_matches(kind, list(kinds.keys()), 1)
        hint = f"did you mean {near[0]!r}?" if near else "models that bring their own code are not run"
        raise ValueError(f"transformers has no model_type {kind!r}; {hint}")
    if config.get("quantization_config"):
        raise ValueError("the config states quantised weights; give a model of full precision")
    plain = {key: value for key, value in config.items() if key not in FORGOTTEN}
    try:
        with _quiet():
            return kinds[kind].from_dict(plain)
    except Exception as error:  # transformers checks values by several kinds of errors
        raise ValueError(
            f"transformers takes no such config of {kind}: {' '.join(str(error).split())[:200]}"
        ) from error


def plain_config(config: Any) -> dict[str, Any]:
    """Return what a config of transformers states beside its defaults, as data that ``make_config`` reads."""
    stated = json.loads(config.to_json_string(use_diff=True))
    return {"model_type": config.model_type} | {k: v for k, v in stated.items() if k not in FORGOTTEN}


def create(kind: str, config: Any, options: Mapping[str, Any] | None = None) -> Any:
    """Return a model of a class (``BertModel``, ``models.x.Y``) with random float32 weights. options: of the class."""
    of = attrgetter(kind)(library())
    return of._from_config(config, dtype=torch.float32, attn_implementation=_attention(of), **(options or {}))


def load(
    kind: str,
    config: Any,
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    skip: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return a model of transformers' class ``kind`` in float32 with these weights. transformers maps old names.

    where: the file, for messages. skip: first parts of names that the model does not need, such as a task's head.

    Raises ValueError that lists the names that are missing or unknown, or the tensors of another shape.
    """
    of = attrgetter(kind)(library())
    prefix = f"{of.base_model_prefix}."
    with _quiet():
        model, report = of.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            dtype=torch.float32,
            attn_implementation=_attention(of),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **(options or {}),
        )
    heads = tuple(f"{name}." for name in skip)
    unknown = [k for k in report["unexpected_keys"] if not k.removeprefix(prefix).startswith(heads or ("\0",))]
    odd = {"missing": sorted(report["missing_keys"]), "unknown": sorted(unknown)}
    said = [f"{len(names)} {word}: {listing(names)}" for word, names in odd.items() if names]
    if said:
        raise ValueError(f"{where} does not fit {kind}: {'; '.join(said)}")
    if report["mismatched_keys"]:
        shapes = [f"{name} {tuple(a)} instead of {tuple(b)}" for name, a, b in report["mismatched_keys"]]
        raise ValueError(f"{where} has {len(shapes)} tensors of another shape: {listing(sorted(shapes))}")
    return model.train()


def read_part(path: Path, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of a file whose names begin with one of the prefixes, under their whole names."""
    return {p + name: x for p in prefixes for name, x in read_weights(path, p).items()}


def checkpoint_gradients(model: Any) -> None:
    """Compute a model's activations again in the backward pass. Raises ValueError where the model cannot."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ValueError(f"{type(model).__name__} of transformers has no gradient checkpointing")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _attention(kind: Any) -> str:
    """Return the attention that runs everywhere, is deterministic and exports."""
    return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bar and its reports, which our errors give in one line."""
    log = library().utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
