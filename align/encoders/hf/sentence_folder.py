"""The settings beside a text model that Sentence Transformers publishes: pooling, dense layers, lengths and prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from align.encoders.hf.files import Found, find
from align.encoders.weights import find_weights, read_weights
from align.files.hub import source_folder

POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
OLD = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken"}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")


class Stated(NamedTuple):
    """Settings that a folder states. None, or nothing, where it states none.

    path: folder of the transformer in it. dense: layers after the pooling, each {inputs, outputs, bias, activation}.
    weights: of the dense layers, under ``INDEX.linear.weight``. length: most tokens of a text.
    """

    path: str = ""
    pooling: str | None = None
    normalize: bool = False
    dense: tuple[dict[str, Any], ...] = ()
    weights: dict[str, Tensor] | None = None
    prefix: str = ""
    lower: bool = False
    length: int | None = None


def find_text(source: str) -> tuple[Stated, Found]:
    """Return the settings and the files of a text model. Raises as ``find`` and ``read_stated`` do."""
    folder = source_folder(source)
    stated = read_stated(folder)
    return stated, find(str(folder / stated.path) if stated.path else source)


def read_stated(folder: Path) -> Stated:
    """Return the settings of a folder, all empty where Sentence Transformers has not written it.

    Raises ValueError for a part that is not known, such as a pooling by maxima, and for a damaged file.
    """
    found = Stated(length=_length(folder))
    if not (folder / "modules.json").is_file():
        return found
    dense: list[dict[str, Any]] = []
    weights: dict[str, Tensor] = {}
    for part in _modules(folder / "modules.json"):
        kind, inside = str(part["type"]).rpartition(".")[2], folder / str(part["path"])
        if kind == "Transformer":
            options = _json(inside / "sentence_bert_config.json")
            length = options.get("max_seq_length") or _length(inside)
            found = found._replace(path=part["path"], lower=bool(options.get("do_lower_case")), length=length)
        elif kind == "Pooling":
            found = found._replace(pooling=_pooling(inside))
        elif kind == "Dense" and not found.normalize:
            weights |= {f"{len(dense)}.{name}": x for name, x in read_weights(find_weights(inside)).items()}
            dense.append(_dense(inside))
        elif kind == "Normalize":
            found = found._replace(normalize=True)
        else:
            known = "Transformer, Pooling, Dense, Normalize, in this order"
            raise ValueError(f"{folder} has a part {kind}, which is not read; known: {known}")
    prompts = _json(folder / "config_sentence_transformers.json")
    prefix = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name") or "", "")
    return found._replace(dense=tuple(dense), weights=weights, prefix=prefix)


def _pooling(folder: Path) -> str:
    options = _json(folder / "config.json")
    modes = options.get("pooling_mode")
    if modes is None:  # before version 6 each mode had a flag of its own
        flags = [k.removeprefix("pooling_mode_") for k, on in options.items() if k.startswith("pooling_mode_") and on]
        modes = [OLD.get(flag, str(flag)) for flag in flags]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(f"{folder} pools by {' and '.join(modes)}, which is not read; known: {', '.join(POOLINGS)}")
    if options.get("include_prompt") is False:
        raise ValueError(f"{folder} leaves the prompt out of the pooling, which is not read")
    return POOLINGS[modes[0]]


def _dense(folder: Path) -> dict[str, Any]:
    options = _json(folder / "config.json")
    activation = str(options.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    plain = {"sentence_embedding", None}
    if options.get("use_residual") or {options.get(f"module_{side}_name") for side in ("input", "output")} - plain:
        raise ValueError(f"{folder} is a dense layer with a residual or of tokens, which is not read")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{folder} has the activation {activation}; known: {', '.join(ACTIVATIONS)}")
    return {
        "inputs": options["in_features"],
        "outputs": options["out_features"],
        "bias": bool(options.get("bias", True)),
        "activation": activation,
    }


def _length(folder: Path) -> int | None:
    """Return the most tokens that a folder's tokenizer states. Very large numbers stand for no limit."""
    stated = _json(folder / "tokenizer_config.json").get("model_max_length")
    return int(stated) if stated is not None and stated < 1e9 else None


def _modules(path: Path) -> list[dict[str, Any]]:
    """Return the parts that modules.json lists, each inside its folder. Raises ValueError where they are none."""
    parts = _read(path)
    if not isinstance(parts, list) or not all(isinstance(p, dict) and {"type", "path"} <= set(p) for p in parts):
        raise ValueError(f"{path} is damaged: it is no list of parts with a type and a path")
    for part in parts:
        steps = Path(str(part["path"]))
        if steps.is_absolute() or ".." in steps.parts:
            raise ValueError(f"{path} names the part {part['path']}, which is not beside it")
    return parts


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, {} where there is no file. Raises ValueError where it holds none."""
    found = _read(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
