"""Where an open_clip model comes from: its architecture, its preprocessing, and the file of its weights."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from align.encoders.open_clip.download import download_tag, download_weights
from align.encoders.torchscript import is_script
from align.files.confined import check_confined
from align.files.hub import LOCAL, PREFIX, hub_file, is_repository, licence_of, split_revision

CONFIG = "open_clip_config.json"
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)
"""Files of weights in a folder that open_clip saved, in its order. ``model.safetensors`` may be timm's of one tower."""
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.*")


class Source(NamedTuple):
    """An open_clip model before it is built.

    config: its architecture as ``open_clip_config.json`` has it under "model_cfg", and under "preprocess_cfg" how its
        pictures are prepared.
    weights: a file, None for random weights. origin: the file, or the hub's ``owner/name``, for messages and records.
    note: a sentence about its preprocessing for the user, where there is one.
    """

    name: str
    config: dict[str, Any]
    weights: Path | None = None
    origin: str = ""
    licence: str = "unstated"
    note: str = ""


def find_model(name: str, pretrained: str | None = None, config: Mapping[str, Any] | None = None) -> Source:
    """Return the source of a model.

    name, pretrained, config: as ``OpenClipImage`` takes them.

    Raises ValueError for a name or a tag that open_clip does not have, OSError for a file, a folder or a model on the
    hub that is not there or cannot be reached.
    """
    if config is not None:
        config = deepcopy(dict(config))
        if pretrained is None:
            return Source(name, config)
        return Source(name, config, _existing(pretrained), pretrained, licence_of(Path(pretrained).parent))
    known = known_config(name)
    if known is not None:
        return _find_weights(name.replace("/", "-"), known, pretrained)
    if name.startswith((PREFIX, LOCAL)) or (name and Path(name).is_dir()):
        if pretrained:
            raise ValueError(f"{name} brings its own weights; leave out pretrained={pretrained!r}")
        return _find_on_hub(name) if name.startswith(PREFIX) else _find_in_folder(name)
    raise ValueError(f"open_clip has no model {name!r}{_did_you_mean(name)}")


def known_config(name: str) -> dict[str, Any] | None:
    """Return the configuration that open_clip has under a name ("ViT-B-32" or "ViT-B/32"), None where it has none."""
    import open_clip

    plain = name.replace("/", "-")
    if plain not in open_clip.list_models():
        return None
    return {**(open_clip.get_model_config(plain) or {}), "preprocess_cfg": default_preprocess()}


def default_preprocess() -> dict[str, Any]:
    """Return open_clip's preprocessing where a model states none: that of OpenAI's CLIP."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    return {
        "mean": list(OPENAI_DATASET_MEAN),
        "std": list(OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }


def _did_you_mean(name: str) -> str:
    import open_clip

    known = {model.lower(): model for model in open_clip.list_models()}
    if near := difflib.get_close_matches(name.partition("/")[0].lower(), known, 1):
        return f"; did you mean {known[near[0]]!r}?"
    return f"; a model on the hub is named {PREFIX}{name}" if is_repository(name) else ""


def _find_weights(name: str, config: dict[str, Any], pretrained: str | None) -> Source:
    """Return the source of a named model. pretrained: None, TAG, FILE, or TAG@FILE."""
    import open_clip

    if not pretrained:
        return Source(name, config)
    check_confined(pretrained)
    if Path(pretrained).is_file():
        if is_script(Path(pretrained)):  # OpenAI's own archives, all of which have the fast GELU
            config["quick_gelu"] = True
        licence = licence_of(Path(pretrained).parent)
        return Source(name, config, Path(pretrained), pretrained, licence, _note(name, config))
    tag, _, file = pretrained.partition("@")
    about = open_clip.get_pretrained_cfg(name, tag)
    if not about:
        raise _unknown_tag(name, pretrained)
    config["preprocess_cfg"] = _plain(about)
    if "quick_gelu" in about:  # open_clip warns alone; the weights decide
        config["quick_gelu"] = about["quick_gelu"]
    if file:
        return Source(name, config, _existing(file), file, licence_of(Path(file).parent))
    path, origin = download_tag(name, tag, about)
    return Source(name, config, path, origin, licence_of(path.parent))


def _note(name: str, config: Mapping[str, Any]) -> str:
    """Return a sentence where all tags of a model want other preprocessing than open_clip takes for a file."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    usual = _plain(config["preprocess_cfg"])
    if not tags or any(_plain(open_clip.get_pretrained_cfg(name, tag)) == usual for tag in tags):
        return ""
    return (
        f"{name}: for a file, open_clip prepares pictures as OpenAI's CLIP does; its weights {', '.join(tags)} want "
        f"them otherwise: give {tags[0]}@FILE to take theirs"
    )


def _unknown_tag(name: str, pretrained: str) -> Exception:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if "/" in pretrained or Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors", ".npz"):
        return FileNotFoundError(f"no file {pretrained}")
    near = difflib.get_close_matches(pretrained.lower().replace("-", "_"), tags, 1, 0.5)
    close = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(
        f"pretrained={pretrained!r} is no file and no tag of {name}; {close}its tags: {', '.join(tags) or 'none'}"
    )


def _existing(file: str) -> Path:
    check_confined(file)
    if not Path(file).is_file():
        raise FileNotFoundError(f"no file {file}")
    return Path(file)


def _find_in_folder(name: str) -> Source:
    check_confined(name)
    folder = Path(name.removeprefix(LOCAL))
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}: open_clip did not save it")
    config = _read_config(folder / CONFIG)
    if config["text_cfg"].get("hf_tokenizer_name") and any(any(folder.glob(file)) for file in TOKENIZERS):
        config["text_cfg"]["hf_tokenizer_name"] = str(folder)
    for file in FILES:
        if (folder / file).is_file():
            return Source(name, config, folder / file, str(folder / file), licence_of(folder))
    raise FileNotFoundError(f"no weights in {folder}; looked for {', '.join(FILES)}")


def _find_on_hub(name: str) -> Source:
    config = _read_config(hub_file(name, CONFIG))
    path = download_weights(name)
    repository, revision = split_revision(name)
    origin = f"{repository}@{revision}" if revision else repository
    return Source(name, config, path, origin, licence_of(path.parent))


def _read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a saved model. Raises ValueError where the file is none."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        config = dict(whole.get("model_cfg", whole))
        stated = whole.get("preprocess_cfg") or {}
        if not (isinstance(config["embed_dim"], int) and config["vision_cfg"] and config["text_cfg"]):
            raise ValueError("embed_dim, vision_cfg or text_cfg is empty")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no configuration of open_clip: {type(error).__name__}: {error}") from error
    config["preprocess_cfg"] = _plain(stated)
    return config


def _plain(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of preprocessing with open_clip's own values where it states none."""
    found = {key: usual if stated.get(key) is None else stated[key] for key, usual in default_preprocess().items()}
    return {key: list(x) if isinstance(x, tuple) else x for key, x in found.items()}
