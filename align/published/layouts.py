"""Layouts of published weights: their names, their modules, and the one that names of tensors look like."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from importlib import import_module
from typing import Any

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


def nearest_layout(layout: str) -> str:
    """Return ``did you mean NAME?``, or the list of the layouts."""
    close = get_close_matches(layout, LAYOUTS, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"the layouts are {', '.join(LAYOUTS)}"


def likely_layouts(keys: Collection[str]) -> list[str]:
    """Return the layouts that names of tensors look like."""
    return [layout for layout in LAYOUTS if find_module(layout).fits(keys)]


def check_layout(layout: str, keys: Collection[str], where: str) -> None:
    """Raise ValueError where names of tensors do not look like a layout. It says which one they look like."""
    if not find_module(layout).fits(keys):
        likely = likely_layouts(keys)
        like = f"like {' or '.join(likely)}" if likely else "like none that is known"
        first = ", ".join(name[:200] for name in sorted(keys)[:3])
        raise ValueError(f"{where} holds no weights of the layout {layout}; its names look {like} ({first}, …)")


def find_module(layout: str) -> Any:
    """Return the module of a layout, with its ``load`` and ``fits``."""
    return import_module(f"align.published.{LAYOUTS[layout]}")
