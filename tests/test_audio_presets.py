"""Presets of Audio give what the libraries' own processors give, on the same samples, and keep what the user says."""

from __future__ import annotations

import io
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import ArgumentParser

from align import Tower
from align.checkpoint import build, describe
from align.encoders import SpectrogramCNN
from align.preprocess import Audio
from align.preprocess.audio_fit import reflect_end, split_length, with_length
from align.preprocess.audio_groups import Spectrogram, Window
from align.preprocess.audio_presets import PRESETS
from align.preprocess.front_ends import FRONT_ENDS
from align.preprocess.front_ends.clap_fusion import part_starts
from align.preprocess.spectrogram import kaldi_bands, slaney_bands

TOLERANCE = 1e-4


def extractor(name):
    import transformers as tf

    tf.logging.set_verbosity_error()
    return {
        "clap": lambda: tf.ClapFeatureExtractor(truncation="rand_trunc"),
        "clap-fusion": lambda: tf.ClapFeatureExtractor(truncation="fusion"),
        "whisper": tf.WhisperFeatureExtractor,
        "whisper-128": lambda: tf.WhisperFeatureExtractor(feature_size=128),
        "ast": tf.ASTFeatureExtractor,
        "pe-av": tf.PeAudioFeatureExtractor,
    }[name]()


def preset(name):
    return Audio(preset="whisper", n_mels=128) if name == "whisper-128" else Audio(preset=name)


def ours(audio, *waves):
    return audio.device(audio.collate([audio.eval(audio.decode(x)) for x in waves]))


def theirs(name, x):
    """Return the library's values of one wave, its random draws fixed to the middle."""
    rate = preset(name).sample_rate
    with (
        patch("numpy.random.randint", lambda low, high: int(0.5 * (high - 1e-6))),
        patch("numpy.random.choice", lambda places: places[len(places) // 2]),
    ):
        out = extractor(name)(x, sampling_rate=rate, return_tensors="pt")
    return out["input_values" if name in ("ast", "pe-av") else "input_features"]


def in_their_layout(name, values):
    if name.startswith("clap"):
        return values.mT
    if name.startswith("whisper"):
        return values["values"][:, 0]
    return values[:, 0].mT if name == "ast" else values["values"][:, None]


def worst(name, x):
    found, expected = in_their_layout(name, ours(preset(name), x)), theirs(name, x)
    assert found.shape == expected.shape
    return (found.double() - expected.double()).abs().max().item()


def synthetic(rate, seconds, seed=0):
    """A sweep with harmonics and noise, louder and quieter."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(t))
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t) * (0.2 + np.cos(t) ** 2) + noise).clip(-1, 1).astype("f")


NAMES = ["clap", "clap-fusion", "whisper", "whisper-128", "ast", "pe-av"]
every = pytest.mark.parametrize("name", NAMES)


@every
@pytest.mark.parametrize("seconds", [0.1, 3.3, 12.3])
def test_values_are_the_librarys(name, seconds):
    assert worst(name, synthetic(preset(name).sample_rate, seconds)) <= TOLERANCE


@every
def test_odd_sounds_are_the_librarys_too(name):
    rate = preset(name).sample_rate
    silence = np.zeros(rate, np.float32)
    click = silence.copy()
    click[5] = 1.0
    for x in (silence, click, (0.5 + 1e-4 * synthetic(rate, 1.0)).astype("f")):
        assert worst(name, x) <= TOLERANCE


@pytest.mark.sweep
@every
def test_recordings_are_the_librarys(name, real_data):
    rate = preset(name).sample_rate
    files = sorted(real_data("esc10").rglob("*.ogg"))[::16] + sorted(real_data("fsdd").rglob("*.wav"))[::300]
    waves = [Audio(sample_rate=rate, n_fft=4096).decode(path).numpy() for path in files]
    long = np.concatenate(waves)
    lengths = (0.025, 0.1, 1.0, 9.999, 10.0, 10.005, 10.02, 10.24, 20.0, 29.99, 30.0)
    lengths += () if name == "pe-av" else (31.0, 40.0)  # its library cuts nothing
    waves += [long[: round(seconds * rate)] for seconds in lengths]
    found = max(worst(name, x) for x in waves)
    print(f"\n{name}: {len(waves)} sounds, worst difference {found:.2g}")
    assert found <= TOLERANCE


def test_kaldi_is_torchaudios():
    from torchaudio.compliance import kaldi

    audio, x = Audio(preset="ast", mean=0.0, std=1.0), synthetic(16000, 2.0)
    expected = kaldi.fbank(torch.from_numpy(x)[None], window_type="hanning", num_mel_bins=128)
    found = ours(audio, x)[0, 0].T
    assert (found[: len(expected)] - expected).abs().max() <= TOLERANCE
    assert not found[len(expected) :].any()
    assert not ours(audio, x[:399]).any()  # no whole frame


def test_bands_are_the_libraries():
    from torchaudio.compliance.kaldi import get_mel_banks
    from torchaudio.functional import melscale_fbanks

    for n_mels, n_fft, rate, low, high in ((80, 400, 16000, 0.0, 8000.0), (64, 1024, 48000, 0.0, 14000.0)):
        expected = melscale_fbanks(n_fft // 2 + 1, low, high, n_mels, rate, norm="slaney", mel_scale="slaney")
        assert (slaney_bands(rate, n_fft, n_mels, low, high) - expected.T).abs().max() < 1e-6
    expected, _ = get_mel_banks(128, 512, 16000, 20.0, 8000.0, 100.0, -500.0, 1.0)
    assert (kaldi_bands(16000, 512, 128, 20.0, 8000.0)[:, :-1] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_is_the_same_alone_and_in_company(name):
    audio = Audio(preset=name)
    waves = [synthetic(audio.sample_rate, s, seed) for seed, s in enumerate((0.7, 2.0, 0.01))]
    together = ours(audio, *waves)
    for i, x in enumerate(waves):
        alone = ours(audio, x)
        if isinstance(together, dict):
            assert alone["lengths"][0] == together["lengths"][i]
            T = alone["values"].shape[-1]  # a batch may be longer, with silence
            assert torch.equal(alone["values"][0], together["values"][i, ..., :T])
            assert not together["values"][i, ..., T:].any()
        else:
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)
    none = audio.device(audio.collate([]))
    some = together["values"] if isinstance(together, dict) else together
    none = none["values"] if isinstance(none, dict) else none
    assert none.shape[0] == 0
    assert none.shape[1:-1] == some.shape[1:-1]


@pytest.mark.parametrize("name", PRESETS)
def test_it_trains_and_is_saved(name):
    """Values that are resolved need no preset, and training gives rows of the same shape that other draws change."""
    audio = Audio(preset=name, gain=6.0)
    args = describe(audio)["init_args"]
    again = build(describe(audio))
    assert describe(again) == describe(audio)
    plain = Audio(**{**args, "preset": None})
    assert describe(plain)["init_args"] == {**args, "preset": None}
    x = synthetic(audio.sample_rate, 11.0)
    rows = [audio.row(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert rows[0].shape == rows[2].shape == audio.row(x).shape
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    out = audio.device(audio.collate(rows[:1]), torch.Generator().manual_seed(0))
    out = out["values"] if isinstance(out, dict) else out
    assert out.isfinite().all()
    assert out.shape[1:] == (ours(audio, x)["values"] if audio.lengths else ours(audio, x)).shape[1:]


def test_what_the_user_says_stands():
    assert Audio(preset="whisper", n_mels=128).n_mels == 128
    assert Audio(preset="whisper", spectrogram={"n_mels": 128}).spectrogram.n_fft == 400
    assert Audio(preset="whisper", spectrogram=Spectrogram(n_mels=128)).spectrogram.floor == 1e-10
    assert Audio(preset="ast", window="center").window == Window("center")
    assert Audio(preset="clap", pad="zero", seconds=5).samples == 240_000
    assert Audio(preset="clap", sample_rate=32000).sample_rate == 32000
    assert Audio(preset="clap", dtype="int16").dtype == "int16"
    default = Audio()
    assert (default.sample_rate, default.seconds, default.dtype, default.front_end) == (16000, 5.0, "int16", "log-mel")
    parser = ArgumentParser()
    parser.add_class_arguments(Audio, "audio")
    made = parser.instantiate(parser.parse_args(["--audio.preset=whisper", "--audio.n_mels=128"])).audio
    assert describe(made) == describe(Audio(preset="whisper", n_mels=128))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Audio(preset="whispr"), "Audio has no preset 'whispr'; did you mean 'whisper'\\?"),
        (lambda: Audio(preset="mel"), "the presets are clap, clap-fusion, whisper, ast, pe-av, imagebind-audio, wave"),
        (lambda: Audio(front_end="mfcc"), "front_end='mfcc' is not known; it may be 'log-mel', 'clap'"),
        (lambda: Audio(preset="clap-fusion", windows=2), "hears whole clips; windows=2 must be 1"),
        (lambda: Audio(preset="pe-av", seconds=1.01), "needs windows of a multiple of hop=1920 samples, not 48480"),
        (lambda: Audio(preset="ast", seconds=0.02), "a window of 320 samples is shorter than a frame of 400"),
        (lambda: Audio(preset="ast", n_fft=256), "n_fft=256 is shorter than a frame of 400"),
        (lambda: Audio(preset="whisper", seconds=0.01), "a window of 160 samples is too short for n_fft=400"),
        (lambda: Audio(preset="whisper", f_max=9000.0), "expected 0 <= f_min < f_max <= 8000"),
        (
            lambda: Tower(Audio(preset="whisper"), SpectrogramCNN(n_mels=80)),
            "Audio gives lengths True, SpectrogramCNN takes lengths False",
        ),
    ],
)
def test_bad_arguments_are_said_in_one_line(make, says):
    with pytest.raises(ValueError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_mel_preset_suits_our_own_encoders():
    tower = Tower(Audio(preset="ast"), SpectrogramCNN(width=8, n_mels=128, widths=(8,)))
    assert tower.features(tower.preprocess.collate([tower.preprocess.eval(torch.zeros(16000))])).pooled.shape == (1, 8)


def test_front_ends_of_the_presets_are_there():
    assert {PRESETS[name]["front_end"] for name in PRESETS} | {"log-mel"} == set(FRONT_ENDS)


def test_reflection_is_numpys():
    for length in (1, 2, 3, 7, 10, 11, 29):
        x = np.arange(1.0, length + 1)
        expected = np.pad(x, (0, -length % 10), "reflect")
        assert reflect_end(torch.from_numpy(x), 10).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_lengths_survive_a_row(dtype):
    for length in (0, 1, 32767, 32768, 1_440_000):
        waves, lengths = split_length(with_length(torch.ones(3, dtype=dtype), length)[None])
        assert (lengths.tolist(), waves.tolist()) == ([length], [[1, 1, 1]])


def test_parts_are_within_their_thirds():
    for places in (1, 2, 3, 4, 100, 101):
        thirds = np.array_split(np.arange(places), 3)
        for generator in (None, torch.Generator().manual_seed(places)):
            starts = part_starts(places, generator)
            for start, third in zip(starts, thirds, strict=True):
                assert start in third or (not len(third) and start == 0)
    assert part_starts(300, None) == [50, 150, 250]


def test_a_file_is_read_by_its_window():
    """The head of a long WAV is the row that the whole gives, at the rate of the preset."""
    file = io.BytesIO()
    soundfile.write(file, synthetic(16000, 40.0), 16000, format="WAV")
    audio = Audio(preset="whisper")
    row = audio.row(file.getvalue())
    assert torch.equal(row, audio.eval(audio.decode(file.getvalue())))
    assert split_length(row[None])[1].tolist() == [480_000]


def test_several_windows_keep_their_lengths():
    audio = Audio(preset="ast", windows=3, seconds=1.0)
    x = synthetic(16000, 4.0)
    out = ours(audio, x, x[:8000])
    assert out.shape[0] == 6
    single = Audio(preset="ast", seconds=1.0)
    torch.testing.assert_close(out[0], ours(single, x)[0])
    torch.testing.assert_close(out[3], ours(single, x[:8000])[0])
    torch.testing.assert_close(out[3], out[5])
