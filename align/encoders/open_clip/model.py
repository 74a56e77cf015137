"""One tower of an open_clip model: built alone, and filled from the part of a file that is its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

from align.encoders.open_clip.source import Source, known_config
from align.encoders.open_clip.weights import read_part
from align.encoders.weights import checksum, put_weights
from align.extras import pip_install
from align.files.confined import check_confined
from align.files.hub import hub_file
from align.values import Origin

Part = Literal["visual", "text"]
PARTS = {"visual": ("vision_cfg", "preprocess_cfg"), "text": ("text_cfg",)}
"""Keys of a configuration that a tower is built from, beside those of both."""
POSITIONS = "transformer.embeddings.position_ids"  # a constant that older versions of transformers saved


def make_tower(part: Part, source: Source) -> tuple[nn.Module, Origin | None]:
    """Return one tower of a model, and the origin of its weights where the source has some.

    Raises ValueError for a configuration that open_clip cannot build and for weights that do not fit it, OSError for
    what cannot be fetched.
    """
    build = build_image if part == "visual" else build_text
    module = build(source)
    if source.weights is None:
        return module, None
    tensors = read_part(part, module, source.weights, lambda: _shapes(source))
    if tensors is not None:
        put_weights(module, tensors, f"{source.weights} for {source.name}", skip=(POSITIONS,))
    stat = source.weights.stat()
    return module, Origin(source.origin, _sum(source.weights, stat.st_size, stat.st_mtime_ns), source.licence)


def build_image(source: Source) -> nn.Module:
    """Return the image tower of a model with random weights."""
    from open_clip.model import _build_vision_tower

    if ":" in (inner := str(source.config["vision_cfg"].get("timm_model_name", ""))):  # timm would fetch it
        check_confined(inner)
    vision: Any = {**source.config["vision_cfg"], "timm_model_pretrained": False}
    return _build(source, lambda width, quick: _build_vision_tower(width, vision, quick))


def build_text(source: Source) -> nn.Module:
    """Return the text tower of a model with random weights.

    The architecture of one from the hub's transformers is read there, and kept under "hf_config" in the source's
    "text_cfg", so that a saved model needs no hub.
    """
    from open_clip.model import _build_text_tower

    text: Any = dict(source.config["text_cfg"])
    if not text.get("hf_model_name"):
        return _build(source, lambda width, quick: _build_text_tower(width, text, quick))
    _need_transformers(source.name)
    if "hf_config" not in text:
        source.config["text_cfg"]["hf_config"] = text["hf_config"] = _read_architecture(text["hf_model_name"])
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(text.pop("hf_config")), encoding="utf-8")
        text |= {"hf_model_name": folder, "hf_model_pretrained": False}
        return _build(source, lambda width, quick: _build_text_tower(width, text, quick))


def kept_config(part: Part, source: Source) -> dict[str, Any] | None:
    """Return the configuration that a checkpoint keeps of a tower, None where the model's name says all of it."""
    keys = ("embed_dim", "quick_gelu", *PARTS[part])
    known = known_config(source.name) or {}
    if all(source.config.get(key, False) == known.get(key, False) for key in keys):
        return None
    return {key: source.config[key] for key in keys if key in source.config}


def _shapes(source: Source) -> dict[str, nn.Module]:
    """Return both towers without memory."""
    with torch.device("meta"):
        return {"visual": build_image(source), "text": build_text(source)}


def _build(source: Source, build: Callable[[int, bool], nn.Module]) -> nn.Module:
    try:
        return build(source.config["embed_dim"], bool(source.config.get("quick_gelu", False)))
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"open_clip cannot build {source.name}: {type(error).__name__}: {reason}") from error


def _need_transformers(name: str) -> None:
    from importlib.util import find_spec

    if find_spec("transformers") is None:
        raise ImportError(f"the text part of {name} needs transformers; {pip_install('hf')}")


def _read_architecture(name: str) -> dict[str, Any]:
    """Return the configuration of a transformers model: a folder, or a name on the hub."""
    check_confined(name)
    path = Path(name) / "config.json" if Path(name).is_dir() else hub_file(name, "config.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no configuration of transformers: {error}") from error


@cache
def _sum(path: Path, size: int, changed: int) -> str:
    """Return the SHA-256 of a file of weights, taken once for both towers while the file stays as it is."""
    return checksum(path)
