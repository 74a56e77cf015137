"""The layout ``open_clip``: a model of open_clip -> its image and text towers, and its scale as a trained term.

SOURCE is ``NAME/TAG``, ``NAME@FILE``, ``NAME/TAG@FILE``, ``hf-hub:owner/name[@revision]`` or a folder that open_clip
saved.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from align.encoders import OpenClipImage, OpenClipText
from align.encoders.open_clip.source import Source, find_model, known_config
from align.encoders.open_clip.weights import APPLE, is_part, read_scale, unknown_names
from align.encoders.weights import listing, read_keys
from align.files.hub import LOCAL, PREFIX
from align.heads import Identity
from align.model import JointModel, Tower
from align.published.layouts import check_layout
from align.values import TermInfo

LAYOUT = "open_clip"


def load(source: str) -> JointModel:
    """Return the two towers of a model. Raises ValueError and OSError in one line, as ``find_model`` and the towers."""
    name, pretrained = split_source(source)
    found = find_model(name, pretrained)
    if found.weights is None:
        raise ValueError(_needs_weights(name))
    _check_names(found, found.weights)
    dim = found.config["embed_dim"]
    towers = {
        "image": Tower(encoder=OpenClipImage(name, pretrained), head=Identity),
        "text": Tower(encoder=OpenClipText(name, pretrained), head=Identity),
    }
    model = JointModel(towers, dim)
    model.terms = [TermInfo(("image", "text"), "pairwise", *read_scale(found.weights))]
    return model.eval()


def fits(keys: Collection[str]) -> bool:
    """Return True for names as open_clip, OpenAI's CLIP or Apple's MobileCLIP have them."""
    if any(name in keys for name in APPLE):
        return True
    return all(any(is_part(part, name, keys) for name in keys) for part in ("visual", "text"))


def split_source(source: str) -> tuple[str, str | None]:
    """Return ``name`` and ``pretrained`` of the encoders for a source.

    >>> split_source("ViT-B-32/laion2b_s34b_b79k"), split_source("ViT-B-32/openai@clip.pt")
    (('ViT-B-32', 'laion2b_s34b_b79k'), ('ViT-B-32', 'openai@clip.pt'))
    """
    if source.startswith((PREFIX, LOCAL)) or Path(source).is_dir():
        return source, None
    model, at, file = source.partition("@")
    if known_config(model) is not None:
        return model, file or None
    name, _, tag = model.rpartition("/")
    if name and known_config(name) is not None:
        return name, f"{tag}@{file}" if at else tag
    return model, file or None


def _needs_weights(name: str) -> str:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    return f"{LAYOUT}:{name} names no weights; give {name}/TAG or {name}@FILE; its tags: {', '.join(tags) or 'none'}"


def _check_names(found: Source, path: Path) -> None:
    """Raise ValueError where the names in the file are of another layout, or where one belongs to no tower."""
    if path.suffix == ".npz":  # big_vision's; its converter asks for each name
        return
    keys = read_keys(path)
    check_layout(LAYOUT, keys, str(path))
    if unknown := unknown_names(keys):
        raise ValueError(f"{path} does not fit {found.name}: {len(unknown)} unknown: {listing(unknown)}")
