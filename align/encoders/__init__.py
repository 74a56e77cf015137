"""Encoders: tensors -> features. One source a file."""

from align.encoders.base import Encoder
from align.encoders.hf_audio import HFAudio
from align.encoders.hf_caption import HFCaption
from align.encoders.hf_image import HFImage
from align.encoders.hf_text import HFText
from align.encoders.image_cnn import ImageCNN
from align.encoders.open_clip_image import OpenClipImage
from align.encoders.open_clip_text import OpenClipText
from align.encoders.pointnet import PointNet
from align.encoders.pointtransformer import PointTransformer
from align.encoders.precomputed import Precomputed
from align.encoders.series import Series
from align.encoders.spectrogram_cnn import SpectrogramCNN
from align.encoders.spectrogram_vit import SpectrogramViT
from align.encoders.timm_image import TimmImage
from align.encoders.torchaudio_waves import TorchaudioWaves
from align.encoders.transformer_text import TransformerText
from align.encoders.vector import Vector

__all__ = [
    "Encoder",
    "HFAudio",
    "HFCaption",
    "HFImage",
    "HFText",
    "ImageCNN",
    "OpenClipImage",
    "OpenClipText",
    "PointNet",
    "PointTransformer",
    "Precomputed",
    "Series",
    "SpectrogramCNN",
    "SpectrogramViT",
    "TimmImage",
    "TorchaudioWaves",
    "TransformerText",
    "Vector",
]

FLOORS = (
    ("torchscript",),
    ("base", "weight_values"),  # the promise of an encoder, and the values of weights
    ("weights",),  # files of weights
    ("conv", "latent_attention", "patches", "text_pooling", "transformer"),  # parts of models
    ("hf", "open_clip", "timm", "torchaudio_model"),  # models of other libraries: found, made, loaded
    (
        "hf_audio",
        "hf_caption",
        "hf_image",
        "hf_text",
        "image_cnn",
        "open_clip_image",
        "open_clip_text",
        "pointnet",
        "pointtransformer",
        "precomputed",
        "series",
        "spectrogram_cnn",
        "spectrogram_vit",
        "timm_image",
        "torchaudio_waves",
        "transformer_text",
        "vector",
    ),
)
"""Floors of this room, the lowest first."""
