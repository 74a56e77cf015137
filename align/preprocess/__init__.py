"""Preprocessing: raw bytes become tensors. One file a modality, with named presets."""

from align.preprocess.array import Array
from align.preprocess.audio import Audio
from align.preprocess.base import Preprocess
from align.preprocess.hf_tokens import HFTokens
from align.preprocess.image import Image
from align.preprocess.points import Points
from align.preprocess.text import Bytes, Tokens

FLOORS = (
    ("base", "hf_tokenizer", "image_resize", "spectrogram"),
    ("array", "audio_groups", "audio_presets", "image_presets", "points", "text", "wanted"),
    ("audio_fit", "front_ends", "hf_tokens", "image"),
    ("audio",),
)
"""Floors of this room, the lowest first."""

__all__ = ["Array", "Audio", "Bytes", "HFTokens", "Image", "Points", "Preprocess", "Tokens"]
