"""Preprocessing: raw bytes become tensors. One file a modality, with named presets."""

from align.preprocess.array import Array
from align.preprocess.audio import Audio
from align.preprocess.base import Preprocess
from align.preprocess.boxes import Boxes
from align.preprocess.concept_texts import ConceptTexts
from align.preprocess.depth import Depth
from align.preprocess.feature_tokens import FeatureTokens
from align.preprocess.hf_tokens import HFTokens
from align.preprocess.image import Image
from align.preprocess.interleaved import Interleaved
from align.preprocess.names import Names
from align.preprocess.points import Points
from align.preprocess.signals import Signal
from align.preprocess.text import Bytes, Tokens
from align.preprocess.video import Video
from align.preprocess.video_clips import VideoClips

__all__ = [
    "Array",
    "Audio",
    "Boxes",
    "Bytes",
    "ConceptTexts",
    "Depth",
    "FeatureTokens",
    "HFTokens",
    "Image",
    "Interleaved",
    "Names",
    "Points",
    "Preprocess",
    "Signal",
    "Tokens",
    "Video",
    "VideoClips",
]

FLOORS = (
    ("view",),
    ("audio_presets", "base", "byte_pairs", "hf_tokenizer", "image_resize", "spectrogram", "standard", "video_times"),
    ("audio_groups", "boxes", "image_presets", "image_view", "names", "points_presets", "text", "wanted"),
    ("audio_fit", "front_ends", "hf_tokens"),
    ("array", "audio", "concept_texts", "feature_tokens", "image", "points", "signals", "video_source"),
    ("depth", "interleaved", "video", "video_clips"),
)
"""Floors of this room, the lowest first."""
