"""``finish(keep(source), draws)`` is ``row(source, draws)`` to the bit, and draws as often, for every preprocess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_preprocess_window import FORMATS, OTHERS, RATE, encoded, noise
from tiny_data import npy, png, wav

from align.preprocess import Array, Audio, Bytes, Image, Points, Tokens
from align.values import BadSample


def draws(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_same(reader: Any, source: bytes) -> None:
    kept = reader.keep(source)
    assert kept is not None
    before = kept.clone() if isinstance(kept, torch.Tensor) else kept
    for seed in range(4):
        one, two = draws(seed), draws(seed)
        assert torch.equal(reader.finish(kept, one), reader.row(source, two))
        assert torch.equal(one.get_state(), two.get_state())
    assert torch.equal(reader.finish(kept), reader.row(source))
    assert before is kept or torch.equal(before, kept)


others: dict[str, tuple[Any, bytes]] = {
    "image": (Image(size=8, crop_scale=(0.3, 1.0), flip=True), png(1)),
    "points": (Points(points=16, rotate="any", jitter=0.1, scale_jitter=0.2, drop=0.5), npy(1)),
    "points, more": (Points(points=50, preset="absolute", color=False), npy(1)),
    "array": (Array((20, 6)), npy(1)),
    "bytes": (Bytes(context=16), b"a small red cone"),
    "tokens": (Tokens(context=16), b"a small red cone of wood"),
    "tokens, random": (Tokens(context=5, reduction="random"), b"a small red cone of wood"),
}


@pytest.mark.parametrize("name", others)
def test_every_preprocess(name):
    check_same(*others[name])


def test_a_text_without_draws_is_kept_as_its_row():
    assert others["tokens"][0].keep(b"a cone").shape == (16,)
    assert others["tokens, random"][0].keep(b"a cone") == "a cone"

    class Louder(Bytes):
        def train(self, x, generator):
            return self.eval(x + "!" * int(torch.randint(3, (), generator=generator)))

    assert Louder(context=16).keep(b"a cone") == "a cone"
    check_same(Louder(context=16), b"a cone")


@pytest.mark.parametrize(("kind", "subtype"), FORMATS + OTHERS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.7])
def test_recordings_shorter_and_longer_than_the_window(kind, subtype, channels, seconds):
    data = encoded(noise(RATE, channels), RATE, kind, subtype)
    for more in ({}, {"gain": 6.0}, {"pad": "repeat"}, {"windows": 2}, {"dtype": "float32"}, {"window": "head"}):
        check_same(Audio(sample_rate=RATE, seconds=seconds, n_mels=8, n_fft=256, hop=80, **more), data)


@pytest.mark.parametrize("preset", ["clap", "whisper", "ast"])
def test_front_ends_of_others(preset):
    check_same(Audio(preset=preset), wav(1, 8000))


def test_a_wave_of_16_bits_takes_half_the_memory_and_a_fixed_row_is_one():
    reader: Any = Audio(sample_rate=8000, seconds=0.1, n_mels=8)
    assert reader.keep(wav(1, 800)).shape == (1, 800)
    assert reader.keep(wav(1, 700)).dtype == reader.keep(wav(1, 900)).dtype == torch.int16
    louder: Any = Audio(sample_rate=8000, seconds=0.1, n_mels=8, gain=6.0)
    assert louder.keep(wav(1, 800)).shape == (800,)
    assert reader.keep(encoded(noise(900, 2), 8000, "WAV", "FLOAT")).dtype == torch.float32


def test_long_recordings_that_are_resampled_are_not_kept():
    reader = Audio(sample_rate=8000, seconds=0.1, n_mels=8)
    assert reader.keep(wav(1, 4000, rate=16000)) is None
    check_same(reader, wav(1, 1500, rate=16000))
    for rate in (11025, 16000, 44100):  # a seek in an Ogg is not exact, so the whole is decoded in any case
        check_same(reader, encoded(noise(rate), rate, "OGG", "VORBIS"))


def test_damage_outside_of_the_window_is_left_to_the_row():
    data = bytearray(encoded(noise(4 * RATE), RATE, "FLAC", "PCM_16"))
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    reader = Audio(sample_rate=RATE, seconds=0.2, n_mels=8, n_fft=256, hop=80, window="head")
    with pytest.raises(BadSample):
        reader.decode(bytes(data))
    assert reader.keep(bytes(data)) is None
    short = encoded(np.zeros(0, np.float32), RATE, "WAV", "PCM_16")
    with pytest.raises(BadSample, match="audio/empty"):
        reader.keep(short)


def test_a_subclass_of_audio_with_a_decode_of_its_own():
    class Louder(Audio):
        def decode(self, source):
            return super().decode(source) * 2

    class Silent(Audio):
        def row(self, source, generator=None):
            return torch.zeros(800, dtype=torch.int16)

    check_same(Louder(sample_rate=8000, seconds=0.1, n_mels=8, gain=6.0), wav(1, 900))
    assert Silent(sample_rate=8000, seconds=0.1, n_mels=8).keep(wav(1, 900)) is None
