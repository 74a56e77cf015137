"""Preprocessing: raw bytes become tensors. One file a modality, with named presets."""

from align.preprocess.array import Array
from align.preprocess.audio import Audio
from align.preprocess.base import Preprocess
from align.preprocess.concepts import Concepts
from align.preprocess.depth import Depth
from align.preprocess.feature_tokens import FeatureTokens
from align.preprocess.hf_tokens import HFTokens
from align.preprocess.image import Image
from align.preprocess.points import Points
from align.preprocess.signals import Signal
from align.preprocess.text import Bytes, Tokens
from align.preprocess.video import Video
from align.preprocess.video_clips import VideoClips

__all__ = [
    "Array",
    "Audio",
    "Bytes",
    "Concepts",
    "Depth",
    "FeatureTokens",
    "HFTokens",
    "Image",
    "Points",
    "Preprocess",
    "Signal",
    "Tokens",
    "Video",
    "VideoClips",
]

FLOORS = (
    ("audio_presets", "base", "byte_pairs", "hf_tokenizer", "image_resize", "spectrogram", "standard", "video_times"),
    ("audio_groups", "image_presets", "points_presets", "text", "wanted"),
    ("audio_fit", "front_ends", "hf_tokens"),
    ("array", "audio", "concepts", "feature_tokens", "image", "points", "signals", "video_source"),
    ("depth", "video", "video_clips"),
)
"""Floors of this room, the lowest first."""
