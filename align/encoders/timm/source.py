"""Weights in timm's layout, found by a name, a tag, a file, a saved folder or a repository of the hub."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, NamedTuple

from align.encoders.weights import NAMES, checksum, find_weights
from align.files.confined import check_confined
from align.files.hub import LOCAL, PREFIX, hub_file, hub_folder, is_repository, licence_of, model_folder
from align.values import Origin

CONFIG = "config.json"
SAFE, LEGACY = "model.safetensors", "pytorch_model.bin"


class Found(NamedTuple):
    """Model of timm, and the file of its weights where there are some.

    name: architecture, with its tag where timm knows it. arguments: of the architecture, from a saved config.json.
    config: timm's pretrained configuration, {} where the name alone says it.
    """

    name: str
    arguments: dict[str, Any]
    config: dict[str, Any]
    file: Path | None = None
    source: str = ""
    licence: str = "unstated"

    @property
    def origin(self) -> Origin | None:
        """Return the origin of the weights, None without weights."""
        return None if self.file is None else Origin(self.source, checksum(self.file), self.licence)


def find(name: str, pretrained: bool | str | None) -> Found:
    """Return the model that a user means.

    name: of timm, "vit_tiny_patch16_224" or with a tag; or a saved folder, ``local-dir:FOLDER``, ``hf-hub:owner/name``,
        which have weights.
    pretrained: True for timm's default weights, a tag for others, or a file, a saved folder, or ``hf-hub:owner/name``.

    Raises ValueError for a name or a tag that timm does not have, FileNotFoundError for a folder or a file that is not
    there, OSError where weights cannot be fetched.
    """
    folder = _find_folder(name)
    if folder is not None:
        found = _in_folder(folder, name)
        return found if pretrained in (True, None) else _with_file(found, str(pretrained))
    arch, _, tag = name.partition(".")
    check_name(arch, name)
    if isinstance(pretrained, str) and not _is_tag(arch, pretrained):
        folder = _find_folder(pretrained)
        if folder is None:
            return _with_file(Found(name, {}, {}), pretrained)
        found = _in_folder(folder, pretrained)
        if found.name.partition(".")[0] != arch:
            raise ValueError(f"{pretrained} holds the weights of {found.name}, not of {arch}")
        return found
    if tag:
        check_tag(arch, tag)
    if isinstance(pretrained, str):
        name, tag = f"{arch}.{pretrained}", pretrained
    return _fetch_published(name, arch, tag) if pretrained else Found(name, {}, {})


def _find_folder(source: str) -> Path | None:
    """Return the folder that a source names, or None. Pickled weights are fetched where a repository has no others."""
    folder = model_folder(source, (CONFIG, SAFE))
    if folder is not None and source.startswith(PREFIX) and not any((folder / name).is_file() for name in NAMES):
        return hub_folder(source, (CONFIG, LEGACY))
    return folder


def check_name(arch: str, name: str) -> None:
    """Raise ValueError, with the nearest name, for an architecture that timm does not have."""
    import timm

    if not timm.is_model(arch):
        near = difflib.get_close_matches(arch, timm.list_models(), 1)
        hint = f"; a repository of the hub is {PREFIX}{name}" if is_repository(name) else ""
        raise ValueError(f"timm has no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else hint))


def check_tag(arch: str, tag: str) -> None:
    """Raise ValueError, with the nearest tag, for weights that timm does not know."""
    import timm

    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
    if tag not in tags:
        near = difflib.get_close_matches(tag, tags, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(t for t in tags if t) or "none"
        raise ValueError(f"pretrained={tag!r} is no file and no tag of {arch}{hint}; its tags: {listed}")


def _is_tag(arch: str, pretrained: str) -> bool:
    """Return True for a tag, False for a path or a repository. Raises ValueError for a text that is none of these."""
    if pretrained.startswith((PREFIX, LOCAL)) or Path(pretrained).exists():
        return False
    if Path(pretrained).suffix in (".safetensors", ".pth", ".pt", ".bin") or "/" in pretrained:
        raise FileNotFoundError(f"no file {pretrained}")
    check_tag(arch, pretrained)
    return True


def _with_file(found: Found, path: str) -> Found:
    check_confined(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    return found._replace(file=Path(path), source=path, licence="unstated")


def _fetch_published(name: str, arch: str, tag: str) -> Found:
    """Return the model with the weights that timm names, downloaded at their first use."""
    import timm

    config = timm.get_pretrained_cfg(name if tag else arch, allow_unregistered=False)
    if not (config and config.has_weights):
        raise ValueError(f"timm has no weights for {arch!r}; use pretrained=False, or the path of a file")
    name = f"{arch}.{config.tag}" if config.tag else arch
    try:
        file = _download(config)
    except (OSError, RuntimeError, ValueError) as error:  # the errors of downloads are of all three kinds
        raise OSError(
            f"the weights of {name} cannot be fetched ({type(error).__name__}): go online once, or give a file of "
            "them (`pretrained`, on the command line NAME@FILE)"
        ) from error
    return Found(name, {}, {}, file, config.hf_hub_id or str(config.url), config.license or licence_of(file.parent))


def _download(config: Any) -> Path:
    check_confined(str(config.hf_hub_id or config.url))
    from timm.models._hub import download_cached_file

    if not config.hf_hub_id:
        return Path(download_cached_file(config.url))
    if config.hf_hub_filename:
        return hub_file(config.hf_hub_id, config.hf_hub_filename)
    try:
        return hub_file(config.hf_hub_id, SAFE)
    except FileNotFoundError as error:
        if "has no file" not in str(error):
            raise
        return hub_file(config.hf_hub_id, LEGACY)


def _in_folder(folder: Path, source: str) -> Found:
    """Return the model of a folder as timm saves it: config.json and a file of weights."""
    import timm

    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"no {CONFIG} in {folder}; timm saves one beside the weights")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        config = said.get("pretrained_cfg", said)
        arch, arguments = said["architecture"], dict(said.get("model_args") or {})
        tag = config.get("tag")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no configuration of timm: it has no 'architecture'") from error
    check_name(arch, arch)
    name = f"{arch}.{tag}" if tag and f"{arch}.{tag}" in timm.list_pretrained(f"{arch}.*") else arch
    licence = config.get("license") or licence_of(folder)
    known = {key: value for key, value in config.items() if value is not None}
    return Found(name, arguments, known, find_weights(folder), source, licence)
