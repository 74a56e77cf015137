"""Published weights -> JointModel, one file a layout: the key map of the layout, and the towers that it becomes.

Each file has ``load(source) -> JointModel``, in evaluation mode, with the origin of each encoder and the trained terms,
and ``fits(keys) -> bool``, which tells whether names of tensors look like this layout.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from align.encoders.hf.model import library
from align.encoders.weight_values import check_finite
from align.encoders.weights import find_weights, read_keys
from align.files.hub import LOCAL, expand_home
from align.model import JointModel
from align.published.joined import join, keep_towers, terms_between

LAYOUTS: dict[str, str] = {  # layout -> its module here
    "open_clip": "open_clip",
    "clip-hf": "clip_hf",
    "siglip-hf": "siglip_hf",
    "clap-hf": "clap_hf",
    "pe-av": "pe_av",
    "timm": "timm",
    "efficientnet-lite": "efficientnet_lite",
    "hf-text": "hf_text",
    "whisper": "whisper",
    "ast": "ast",
    "imagebind": "imagebind",
    "laion-clap": "laion_clap",
    "openshape": "openshape",
    "ulip2": "ulip2",
    "uni3d": "uni3d",
    "ebind": "ebind",
}
TRANSFORMERS = frozenset({"clip-hf", "siglip-hf", "clap-hf", "pe-av", "hf-text", "whisper", "ast"})
"""Layouts that need the extra `hf`. laion-clap needs it for its texts alone."""

TAKES_OTHERS = frozenset({"ebind"})
"""Layouts that are parts of other published models: their ``load`` takes these, as LAYOUT:SOURCE -> JointModel."""
TAKES_TOWERS = frozenset({"imagebind", "laion-clap"})
"""Layouts whose ``load`` is told the modalities to keep. It reads nothing that only the others need."""


def load_published(layout: str, source: str, *, beside: Sequence[str] = (), towers: Sequence[str] = ()) -> JointModel:
    """Return a published model, with its own preprocessing, in evaluation mode.

    beside: other published models, each as LAYOUT:SOURCE, whose towers join this one's: those of the space that it was
    aligned to. towers: the modalities to keep, all where there is none.

    Raises ValueError for a layout that is not known, for weights of another layout and for weights that are NaN or
    infinite, OSError for a source that does not exist or cannot be reached, and ImportError for a layout of
    transformers where that is absent.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"no layout {layout!r}; {nearest_layout(layout)}")
    if not source:
        raise ValueError(f"{layout}: needs a source after it: a name, hf-hub:owner/name, a file or a folder")
    if layout in TRANSFORMERS:
        library()  # its absence is said before weights are downloaded
    source = expand_home(source)
    parts: Mapping[str, Sequence[str]] = _module(layout).PARTS if layout in TAKES_OTHERS else {}
    others = {name: _load_beside(name, parts) for name in beside}
    try:
        more = [others] if layout in TAKES_OTHERS else [towers] if layout in TAKES_TOWERS else []
        model: JointModel = _module(layout).load(source, *more).eval()
    except (ValueError, OSError):
        _check_local(layout, source)
        raise
    check_finite(model, source)
    if others and layout not in TAKES_OTHERS:
        model = join(model, others)
    model.terms = terms_between(model, model.modalities)
    return keep_towers(model, towers) if towers else model


def _load_beside(name: str, parts: Mapping[str, Sequence[str]]) -> JointModel:
    """Return the model of LAYOUT:SOURCE. parts: layout -> the modalities of it that are read, where not all are."""
    layout, colon, source = name.partition(":")
    if not colon:
        raise ValueError(f"beside {name!r}: a published model is LAYOUT:SOURCE")
    return load_published(layout, source, towers=parts.get(layout, ()))


def nearest_layout(layout: str) -> str:
    """Return ``did you mean NAME?``, or the list of the layouts."""
    close = get_close_matches(layout, LAYOUTS, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"the layouts are {', '.join(LAYOUTS)}"


def likely_layouts(keys: Collection[str]) -> list[str]:
    """Return the layouts that names of tensors look like."""
    return [layout for layout in LAYOUTS if _module(layout).fits(keys)]


def check_layout(layout: str, keys: Collection[str], where: str) -> None:
    """Raise ValueError where names of tensors do not look like a layout. It says which one they look like."""
    if not _module(layout).fits(keys):
        likely = likely_layouts(keys)
        like = f"like {' or '.join(likely)}" if likely else "like none that is known"
        first = ", ".join(sorted(keys)[:3])
        raise ValueError(f"{where} holds no weights of the layout {layout}; its names look {like} ({first}, …)")


def _check_local(layout: str, source: str) -> None:
    """Raise ValueError, a better reason than a config that is not there, where a source here is of another layout."""
    here = next((p for p in (source.removeprefix(LOCAL), source.partition("@")[2]) if p and Path(p).exists()), None)
    if here is None:
        return
    try:
        path = find_weights(Path(here)) if Path(here).is_dir() else Path(here)
        keys = read_keys(path)
    except (ValueError, OSError):
        return
    if likely_layouts(keys):
        check_layout(layout, keys, str(path))


def _module(layout: str) -> Any:
    return import_module(f"align.published.{LAYOUTS[layout]}")
