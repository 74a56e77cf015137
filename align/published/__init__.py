"""Published weights -> JointModel, one file a layout: the key map of the layout, and the towers that it becomes.

Each file has ``load(source) -> JointModel``, in evaluation mode, with the origin of each encoder and the trained terms,
and ``fits(keys) -> bool``, which tells whether names of tensors look like this layout.
"""

from align.published.encoder import load_encoder
from align.published.layouts import LAYOUTS, TRANSFORMERS, check_layout, likely_layouts, nearest_layout
from align.published.loading import load_published

__all__ = [
    "LAYOUTS",
    "TRANSFORMERS",
    "check_layout",
    "likely_layouts",
    "load_encoder",
    "load_published",
    "nearest_layout",
]

FLOORS = (
    ("joined", "layouts", "shapes"),  # models side by side; names; sizes
    ("audio_tower", "hf_pair", "laion_constants", "laion_sizes", "point_towers"),  # parts that layouts share
    (
        "ast",
        "clap_hf",
        "clip_hf",
        "ebind",
        "efficientnet_lite",
        "hf_text",
        "imagebind",
        "laion_clap",
        "open_clip",
        "openshape",
        "pe_av",
        "siglip_hf",
        "timm",
        "ulip2",
        "uni3d",
        "whisper",
    ),
    ("loading",),
    ("encoder",),
)
"""Floors of this room, the lowest first."""
