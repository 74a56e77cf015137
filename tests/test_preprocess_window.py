"""A window that is decoded alone is the window of the whole recording."""

from __future__ import annotations

import io
import pickle
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import torch

from align.media.sounds.read import ratio_of, read_sound, resample
from align.media.sounds.window import length_at, read_window, start_of
from align.preprocess import Audio
from align.values import BadSample

RATE = 8000
FORMATS = [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24")]
OTHERS = [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "IMA_ADPCM")]


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.2, (samples, channels)).clip(-1, 1).astype(np.float32)


def encoded(wave: np.ndarray, rate: int = RATE, kind: str = "FLAC", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def readinto(self, buffer):
        n = super().readinto(buffer)
        self.count += n
        return n

    def read(self, size: int | None = -1):
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize(("kind", "subtype"), FORMATS + OTHERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_without_resampling_it_is_equal_to_the_bit(kind, subtype, channels):
    data = encoded(noise(3 * RATE, channels), RATE, kind, subtype)
    whole = read_sound(data, RATE, 60.0)
    for samples in (1, 777, RATE, len(whole) - 1, len(whole), len(whole) + 5):
        for place in (0.0, 1e-4, 0.37, 0.5, 0.9999, 1 - 2**-24):
            start = start_of(place, len(whole), samples) if len(whole) > samples else 0
            assert torch.equal(read_window(data, RATE, 60.0, samples, place), whole[start : start + samples])


@pytest.mark.parametrize("rate", [1000, 4000, 7999, 8000, 11025, 16000, 22050, 24414, 44100, 44101, 48000])
@pytest.mark.parametrize(("kind", "channels"), [("FLAC", 1), ("WAV", 2)])
def test_with_resampling_it_is_the_whole_resampled_and_cut(rate, kind, channels):
    data = encoded(noise(2 * rate + 123, channels), rate, kind)
    whole = read_sound(data, RATE, 60.0)
    assert length_at(2 * rate + 123, ratio_of(rate, RATE)) == len(whole)
    for samples in (1, 100, RATE, len(whole) - 1, len(whole), len(whole) + 5):
        for place in (0.0, 0.003, 0.5, 0.81, 1 - 2**-24):
            start = start_of(place, len(whole), samples) if len(whole) > samples else 0
            expected = whole[start : start + samples]
            found = read_window(data, RATE, 60.0, samples, place)
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("rate", [1000, 7999, 16000, 44100, 44101])
def test_lengths_are_those_of_the_resampler(rate):
    for frames in (1, 2, 3, 10, 999, 12_345, 300_001):
        assert length_at(frames, ratio_of(rate, RATE)) == len(resample(torch.zeros(frames), rate, RATE))


@pytest.mark.parametrize(("kind", "subtype"), FORMATS[:4] + OTHERS[:1])
@pytest.mark.parametrize("seconds", [0.01, 0.7, 1.0, 1.1, 4.0])
@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("window", ["head", "center"])
def test_a_row_is_decode_then_eval_or_train(kind, subtype, seconds, pad, window):
    audio = Audio(RATE, seconds=1.0, n_fft=512, pad=pad, window=window, gain=6.0)
    data = encoded(noise(round(seconds * RATE)), RATE, kind, subtype)
    x = audio.decode(data)
    assert torch.equal(audio.row(data), audio.eval(x))
    assert torch.equal(pickle.loads(pickle.dumps(audio)).row(data), audio.eval(x))
    for seed in range(4):
        one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
        assert torch.equal(audio.row(data, one), audio.train(x, other))
        assert torch.equal(one.get_state(), other.get_state())


def test_rows_of_what_is_no_file(tmp_path):
    audio = Audio(RATE, seconds=1.0, n_fft=512)
    wave = noise(3 * RATE)[:, 0]
    (tmp_path / "a.flac").write_bytes(encoded(wave))
    for source in (tmp_path / "a.flac", str(tmp_path / "a.flac"), (wave, 11025), wave, torch.from_numpy(wave)):
        assert torch.equal(audio.row(source), audio.eval(audio.decode(source)))
    with pytest.raises(FileNotFoundError, match=r"no such file: .*b\.flac"):
        audio.row(tmp_path / "b.flac")
    with pytest.raises(TypeError, match="not from dict"):
        audio.row({})


def test_a_subclass_keeps_what_it_changes():
    class Louder(Audio):
        def decode(self, source):
            return 2 * super().decode(source)

    data = encoded(0.2 * noise(3 * RATE))
    audio = Louder(RATE, seconds=1.0, n_fft=512)
    assert torch.equal(audio.row(data), audio.eval(audio.decode(data)))


@pytest.mark.parametrize("kind", ["FLAC", "WAV"])
def test_only_the_window_is_read(kind, monkeypatch):
    data, opened = encoded(noise(60 * RATE), RATE, kind), []

    def open_it(source):
        opened.append(Counting(source))
        return opened[-1]

    monkeypatch.setattr("align.media.sounds.recording.open_source", open_it)
    Audio(RATE, seconds=1.0, n_fft=512).row(data)
    assert len(opened) == 1
    assert opened[0].count < len(data) / 3  # a sixtieth is needed; the rest finds the place


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_a_cut_file_is_bad_wherever_the_window_lies(kind, subtype):
    data = encoded(noise(4 * RATE), RATE, kind, subtype)
    for window in ("head", "center"):
        audio = Audio(RATE, seconds=0.5, n_fft=512, window=window)
        for cut in (40, len(data) // 10, len(data) // 2, len(data) - 30):
            with pytest.raises(BadSample) as whole:
                audio.decode(data[:-cut])
            with pytest.raises(BadSample) as caught:
                audio.row(data[:-cut])
            assert str(caught.value) == str(whole.value)


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "audio/non-finite"), (np.inf, "audio/non-finite"), (99.0, "audio/range")]
)
def test_floats_are_checked_wherever_the_window_lies(value, reason):
    wave = noise(4 * RATE)[:, 0]
    wave[10] = value
    data = encoded(wave, RATE, "WAV", "FLOAT")
    for window in ("head", "center"):
        with pytest.raises(BadSample) as caught:
            Audio(RATE, seconds=0.5, n_fft=512, window=window).row(data)
        assert caught.value.reason == reason
    with pytest.raises(BadSample, match=reason):
        Audio().decode(data)


def test_damaged_bytes_give_a_row_or_a_reason():
    audio = Audio(RATE, seconds=0.5, n_fft=512)
    draw = np.random.default_rng(0)
    for kind in ("FLAC", "WAV"):
        sound = np.frombuffer(encoded(noise(2 * RATE), RATE, kind), np.uint8)
        for i in range(100):
            data = sound.copy()
            data[draw.integers(0, 200 if i % 2 else len(data), 5)] = draw.integers(0, 256, 5)
            with suppress(BadSample):
                assert audio.row(data.tobytes()).shape == (4000,)
