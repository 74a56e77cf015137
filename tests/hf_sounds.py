"""Models of sounds of transformers with random weights, as their publishers save them: small, or of their size."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import hf_tokenizers
from fill import fill

HEADS = {"num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
HTSAT = {"depths": [1, 1], "num_attention_heads": [2, 2], "window_size": 4}
HTSAT |= {"patch_embeds_hidden_size": 8, "hidden_size": 16}
FUSED = {"enable_fusion": True, "fusion_type": "aff_2d"}
CODEC = {"model_type": "dac", "encoder_hidden_size": 2, "hidden_size": 8, "codebook_dim": 4}
CODEC |= {"downsampling_ratios": [2, 8, 10, 12]}


def clap(folder: Path, *, fused: bool = False, whole: bool = False, seed: int = 1) -> Path:
    """CLAP of one block in each of two stages. whole: in the shapes of laion/clap-htsat-(un)fused, its words few."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    words = _tokenizer(hf_tokenizers.roberta(folder / "tokenizer"), model_max_length=512 if whole else 38)
    fusion: dict[str, Any] = FUSED if fused else {}
    if whole:
        config = ClapConfig(audio_config=fusion, text_config={"vocab_size": len(words)})
    else:
        text = {**HEADS, "hidden_size": 16, "max_position_embeddings": 40, "vocab_size": len(words)}
        config = ClapConfig(audio_config={**HTSAT, **fusion, "aff_block_r": 2}, text_config=text, projection_dim=12)
    bands = config.audio_config.num_mel_bins
    sounds = ClapFeatureExtractor(feature_size=bands, truncation="fusion" if fused else "rand_trunc")
    return _save(folder, ClapModel(config), ClapProcessor(sounds, words), seed)


def whisper(folder: Path, *, whole: bool = False, seed: int = 1) -> Path:
    """Whisper of 8 bands. whole: in the shapes of openai/whisper-tiny."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    layers = {"encoder_layers": 4, "decoder_layers": 4} if whole else {"encoder_layers": 2, "decoder_layers": 1}
    heads = {f"{part}_attention_heads": 6 if whole else 2 for part in ("encoder", "decoder")}
    inner = {f"{part}_ffn_dim": 1536 if whole else 16 for part in ("encoder", "decoder")}
    tokens = {} if whole else {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    start = {} if whole else {"decoder_start_token_id": 1, "num_mel_bins": 8}
    config = WhisperConfig(d_model=384 if whole else 16, **layers, **heads, **inner, **tokens, **start)
    sounds = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return _save(folder, WhisperForConditionalGeneration(config), sounds, seed)


def ast(folder: Path, *, whole: bool = False, seed: int = 1) -> Path:
    """AST of 24 bands and 64 frames. whole: in the shapes of MIT/ast-finetuned-audioset-10-10-0.4593."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    small = {**HEADS, "hidden_size": 16, "num_mel_bins": 24, "max_length": 64}
    config = ASTConfig() if whole else ASTConfig(**small)
    sounds = ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    return _save(folder, ASTForAudioClassification(config), sounds, seed)


def pe_av(folder: Path, *, video: bool = False, whole: bool = False, seed: int = 1) -> Path:
    """PE-AV of audio and text, or of video too. whole: in the shapes of transformers' defaults, with one block."""
    from transformers import AutoModel, PeAudioConfig, PeAudioFeatureExtractor, PeAudioModel, PeAudioProcessor

    words = _tokenizer(hf_tokenizers.roberta(folder / "tokenizer"), model_max_length=64)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    text = {"model_type": "modernbert", "vocab_size": len(words), **ids}
    audio: dict[str, Any] = {}
    if whole:
        text |= {"num_hidden_layers": 2}
        audio = {"num_hidden_layers": 1}
    else:
        text |= {**HEADS, "hidden_size": 24}
        audio = {**HEADS, "hidden_size": 16, "head_dim": 8, "dac_config": CODEC}
    config = PeAudioConfig(text_config=text, audio_config=audio)
    sounds = PeAudioFeatureExtractor()
    processor = PeAudioProcessor(sounds, words)
    if not video:
        return _save(folder, PeAudioModel(config), processor, seed)
    from transformers import PeAudioVideoConfig

    seen = {"model_type": "timm_wrapper", "architecture": "test_vit", "num_classes": 8, "do_pooling": True}
    vision = {**HEADS, "hidden_size": 16, "head_dim": 8, "vision_config": seen}
    pair = {**HEADS, "hidden_size": 16, "head_dim": 8, "audio_config": audio, "video_config": vision}
    both = PeAudioVideoConfig(text_config=text, audio_video_config=pair)
    return _save(folder, AutoModel.from_config(both), processor, seed)


def _save(folder: Path, model: Any, processor: Any, seed: int) -> Path:
    with _quiet():
        fill(model, seed).save_pretrained(folder)
        processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def _tokenizer(folder: Path, **options: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), **options)


@contextlib.contextmanager
def _quiet():
    from align.encoders.hf import model as hf_model

    with hf_model.quiet():
        yield
