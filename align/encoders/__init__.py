"""Encoders: tensors -> features. One source a file."""

from align.encoders.base import Encoder
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
from align.encoders.transformer_text import TransformerText
from align.encoders.vector import Vector

__all__ = [
    "Encoder",
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
    "TransformerText",
    "Vector",
]
