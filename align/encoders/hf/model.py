"""Models of transformers for our encoders: made from a plain config, and loaded with every name checked."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from align.encoders.hf.files import Found, find, find_weights_of, read_part
from align.encoders.weights import listing
from align.extras import pip_install

__all__ = [
    "Found",
    "checkpoint_gradients",
    "create",
    "find",
    "find_weights_of",
    "library",
    "load",
    "make_config",
    "plain_config",
    "quiet",
    "read_part",
]

FORGOTTEN = frozenset(
    {
        "_attn_implementation",
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "torch_dtype",
        "transformers_version",
    }
)
"""Keys of a config that say nothing about the model's output, or that name code."""


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
    if _states_quantised(config):
        raise ValueError("the config states quantised weights; give a model of full precision")
    try:
        with quiet():
            return kinds[kind].from_dict(_drop_forgotten(config))
    except Exception as error:  # transformers checks values by several kinds of errors
        raise ValueError(
            f"transformers takes no such config of {kind}: {' '.join(str(error).split())[:200]}"
        ) from error


def plain_config(config: Any) -> dict[str, Any]:
    """Return what a config of transformers states beside its defaults, as data that ``make_config`` reads."""
    stated = json.loads(config.to_json_string(use_diff=True))
    return {"model_type": config.model_type} | _drop_forgotten(stated)


def _states_quantised(config: Mapping[str, Any]) -> bool:
    parts = (part for part in config.values() if isinstance(part, Mapping))
    return bool(config.get("quantization_config")) or any(_states_quantised(part) for part in parts)


def _drop_forgotten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the forgotten keys, its parts' included."""
    return {k: _drop_forgotten(v) if isinstance(v, Mapping) else v for k, v in config.items() if k not in FORGOTTEN}


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
    with quiet():
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


def checkpoint_gradients(model: Any) -> None:
    """Compute a model's activations again in the backward pass. Raises ValueError where the model cannot."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ValueError(f"{type(model).__name__} of transformers has no gradient checkpointing")
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the second is its name in early releases of transformers 5


def _attention(kind: Any) -> str:
    """Return the attention that runs everywhere, is deterministic and exports."""
    return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"


@contextmanager
def quiet() -> Iterator[None]:
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
