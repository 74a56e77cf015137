"""Audio models of transformers, one kind a file: its part of a checkpoint, its processor, and its features."""

from align.encoders.hf.audio.ast import AST
from align.encoders.hf.audio.base import AudioKind
from align.encoders.hf.audio.clap import Clap
from align.encoders.hf.audio.pe import PE
from align.encoders.hf.audio.whisper import Whisper

KINDS: dict[str, AudioKind] = {
    "clap": Clap(),
    "clap_audio_model": Clap(),
    "whisper": Whisper(),
    "audio-spectrogram-transformer": AST(),
    "pe_audio": PE(),
    "pe_audio_video": PE(),
    "pe_audio_encoder": PE(),
}
"""transformers' model_type -> its kind."""

__all__ = ["KINDS", "AudioKind"]
