"""Encoders: tensors -> features. One source a file."""

from align.encoders.base import Encoder
from align.encoders.blocks import Blocks
from align.encoders.hf_audio import HFAudio
from align.encoders.hf_caption import HFCaption
from align.encoders.hf_image import HFImage
from align.encoders.hf_text import HFText
from align.encoders.hf_vision_language import HFVisionLanguage
from align.encoders.htsat.encoder import HTSAT
from align.encoders.image_cnn import ImageCNN
from align.encoders.imagebind.encoder import ImageBind
from align.encoders.layered import Layered
from align.encoders.masked import Masked
from align.encoders.mosaic import Mosaic
from align.encoders.open_clip_image import OpenClipImage
from align.encoders.open_clip_text import OpenClipText
from align.encoders.point_bert import PointBERT
from align.encoders.pointnet import PointNet
from align.encoders.pointnet2 import PointNet2
from align.encoders.pointtransformer import PointTransformer
from align.encoders.precomputed import Precomputed
from align.encoders.prompted import Prompted, PromptTokens
from align.encoders.regions import Regions
from align.encoders.series import Series
from align.encoders.spectrogram_cnn import SpectrogramCNN
from align.encoders.spectrogram_image import SpectrogramImage
from align.encoders.spectrogram_vit import SpectrogramViT
from align.encoders.timm_image import TimmImage
from align.encoders.torchaudio_waves import TorchaudioWaves
from align.encoders.transformer_text import TransformerText
from align.encoders.uni3d import Uni3D
from align.encoders.vector import Vector
from align.encoders.video_frames import VideoFrames

__all__ = [
    "HTSAT",
    "Blocks",
    "Encoder",
    "HFAudio",
    "HFCaption",
    "HFImage",
    "HFText",
    "HFVisionLanguage",
    "ImageBind",
    "ImageCNN",
    "Layered",
    "Masked",
    "Mosaic",
    "OpenClipImage",
    "OpenClipText",
    "PointBERT",
    "PointNet",
    "PointNet2",
    "PointTransformer",
    "Precomputed",
    "PromptTokens",
    "Prompted",
    "Regions",
    "Series",
    "SpectrogramCNN",
    "SpectrogramImage",
    "SpectrogramViT",
    "TimmImage",
    "TorchaudioWaves",
    "TransformerText",
    "Uni3D",
    "Vector",
    "VideoFrames",
]

FLOORS = (
    ("pickles", "torchscript"),
    ("base", "follower", "weight_values"),  # the promise of an encoder, and the values of weights
    ("inside", "weights"),  # an encoder around another, files of weights
    ("clouds", "conv", "latent_attention", "positions", "text_pooling", "transformer"),  # parts of models
    ("last_attention",),  # a change of models
    ("point_patches",),  # parts made of parts
    ("frame_pools", "hf", "htsat", "imagebind", "open_clip", "timm", "torchaudio_model"),  # models: found, made, loaded
    (
        "blocks",
        "hf_audio",
        "hf_caption",
        "hf_image",
        "hf_text",
        "hf_vision_language",
        "image_cnn",
        "layered",
        "masked",
        "open_clip_image",
        "open_clip_text",
        "point_bert",
        "pointnet",
        "pointnet2",
        "pointtransformer",
        "precomputed",
        "regions",
        "series",
        "spectrogram_cnn",
        "spectrogram_image",
        "spectrogram_vit",
        "timm_image",
        "torchaudio_waves",
        "transformer_text",
        "uni3d",
        "vector",
        "video_frames",
    ),
    ("mosaic", "prompted"),
)
"""Floors of this room, the lowest first."""
