"""Published processors of sound, by name. Each is the arguments of Audio that its library's processor amounts to."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

CLAP: dict[str, Any] = {
    "sample_rate": 48000,
    "seconds": 10.0,
    "dtype": "float32",
    "spectrogram": {
        "n_mels": 64,
        "n_fft": 1024,
        "hop": 480,
        "f_min": 0.0,
        "f_max": 14000.0,
        "floor": 1e-10,
        "mean": 0.0,
        "std": 1.0,
    },
    "window": {"place": "center", "pad": "repeat-pad"},
}
LAION_CLAP = {**CLAP, "spectrogram": {**CLAP["spectrogram"], "f_min": 50.0}}

PRESETS: dict[str, dict[str, Any]] = {
    "clap": {"front_end": "clap", **CLAP},  # ClapFeatureExtractor, truncation "rand_trunc"
    "clap-fusion": {"front_end": "clap-fusion", **CLAP},  # ClapFeatureExtractor, truncation "fusion"
    "whisper": {  # WhisperFeatureExtractor; n_mels=128 for large-v3
        "front_end": "whisper",
        "sample_rate": 16000,
        "seconds": 30.0,
        "dtype": "float32",
        "spectrogram": {
            "n_mels": 80,
            "n_fft": 400,
            "hop": 160,
            "f_min": 0.0,
            "f_max": 8000.0,
            "floor": 1e-10,
            "mean": -4.0,
            "std": 4.0,
        },
        "window": {"place": "head", "pad": "zero"},
    },
    "ast": {  # ASTFeatureExtractor; 10.255 s are its 1024 frames
        "front_end": "kaldi",
        "sample_rate": 16000,
        "seconds": 10.255,
        "dtype": "float32",
        "spectrogram": {
            "n_mels": 128,
            "n_fft": 512,
            "hop": 160,
            "f_min": 20.0,
            "f_max": 8000.0,
            "floor": 2.0**-23,  # float32's epsilon
            "mean": -4.2677393,
            "std": 2 * 4.5689974,
        },
        "window": {"place": "head", "pad": "zero"},
    },
    "pe-av": {  # PeAudioFeatureExtractor
        "front_end": "wave",
        "sample_rate": 48000,
        "seconds": 30.0,
        "dtype": "float32",
        "spectrogram": {"hop": 1920},
        "window": {"place": "head", "pad": "reflect"},
    },
    "imagebind-audio": {  # ImageBind's load_and_transform_audio_data
        "front_end": "imagebind",
        "sample_rate": 16000,
        "seconds": 2.0,  # of each of three clips
        "dtype": "float32",
        "spectrogram": {
            "n_mels": 128,
            "n_fft": 512,
            "hop": 160,
            "f_min": 20.0,
            "f_max": 8000.0,
            "floor": 2.0**-23,
            "mean": -4.268,
            "std": 9.138,
        },
        "window": {"place": "head", "pad": "zero"},
    },
    "wave": {  # torchaudio's bundles; rows are cut to tenths of a second
        "front_end": "wave",
        "sample_rate": 16000,
        "seconds": 10.0,
        "dtype": "float32",
        "spectrogram": {"hop": 1600},
        "window": {"place": "head", "pad": "zero"},
    },
    "laion-clap": {"front_end": "laion-clap", **LAION_CLAP},  # get_audio_features, data_truncating "rand_trunc"
    "laion-clap-fusion": {"front_end": "laion-clap-fusion", **LAION_CLAP},  # the same, "fusion"
}
DEFAULTS = {"front_end": "log-mel", "sample_rate": 16000, "seconds": 5.0, "dtype": "int16"}


def preset_arguments(preset: str | None) -> dict[str, Any]:
    """Return the arguments of a preset, with Audio's defaults for those that it leaves open.

    Raises ValueError for a name that is not known, with the nearest one.
    """
    if preset is None:
        return dict(DEFAULTS)
    if preset not in PRESETS:
        near = get_close_matches(preset, PRESETS, 1)
        known = f"did you mean {near[0]!r}?" if near else f"the presets are {', '.join(PRESETS)}"
        raise ValueError(f"Audio has no preset {preset!r}; {known}")
    return DEFAULTS | PRESETS[preset]
