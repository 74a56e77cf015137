"""Sound in MP4, AAC, WebM and Matroska: its samples, its length, what is cut, and the commands that meet it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from videos import write_sound, write_video

from align.media import SOUND
from align.media.recode import Recode
from align.media.sounds.read import from_file, read_sound
from align.media.sounds.recording import heading
from align.media.sounds.window import read_whole, read_window, start_of
from align.preprocess import Audio
from align.values import BadSample


def chirp(seconds: float, rate: int) -> np.ndarray:
    """Return (T,) float32 that rises from 200 to 1400 Hz, so that no shift of it equals it."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * t + 600 * t * t / seconds))).astype(np.float32)


LOSSLESS = [
    ("mov", "pcm_s16le", 22050),
    ("matroska", "flac", 44100),
    ("mp4", "alac", 44100),
    ("matroska", "pcm_s16le", 16000),
]
LOSSY = [
    ("mp4", "aac", 48000),
    ("ipod", "aac", 16000),
    ("webm", "libopus", 48000),
    ("matroska", "aac", 44100),
    ("mp4", "libmp3lame", 44100),
]


@pytest.mark.parametrize(("format", "codec", "rate"), LOSSLESS)
def test_lossless_samples_are_exact(format, codec, rate):
    wave = chirp(1.3, rate)
    levels = np.round(wave * 32768).clip(-32768, 32767)
    found, found_rate = from_file(write_sound(format, codec, rate=rate, wave=(levels / 32768).astype(np.float32)), 600)
    assert found_rate == rate
    assert np.abs(found * 32768 - levels).max() <= 1  # the writer rounds
    assert len(found) == len(wave)


@pytest.mark.parametrize(("format", "codec", "rate"), LOSSY)
def test_lossy_sound_is_where_it_was(format, codec, rate):
    """The encoder's delay is cut: the best shift of the decoded sound against the original is none."""
    wave = chirp(1.3, rate)
    data = write_sound(format, codec, rate=rate, wave=wave)
    found, _ = from_file(data, 600)
    assert abs(len(found) - len(wave)) <= (0 if format in ("mp4", "ipod") else 1024)
    middle = slice(len(wave) // 3, len(wave) // 3 + 4000)
    best = max(range(-60, 61), key=lambda s: float(wave[middle] @ found[middle.start + s : middle.stop + s]))
    assert best == 0
    assert heading(data).frames == pytest.approx(len(found), abs=1100)
    assert heading(data).rate == rate


def test_aac_without_a_container_keeps_its_delay_and_says_that_it_is_open():
    data = write_sound("adts", "aac", rate=44100, seconds=1.0)
    assert "audio/open-ended" in [note.reason for note in SOUND.examine(data, "aac", "audio").faults]
    assert len(from_file(data, 600)[0]) == pytest.approx(44100 + 1024, abs=1024)


def test_windows_are_cut_from_the_whole():
    data = write_sound("ipod", "aac", rate=44100, wave=chirp(3.0, 44100))
    whole = read_sound(data, 16000, 600)
    for place in (0.0, 0.5, 0.93):
        start = start_of(place, len(whole), 8000)
        assert torch.equal(read_window(data, 16000, 600, 8000, place), whole[start : start + 8000])
    kept = read_whole(data, 16000, 600, 8000)
    assert kept is not None
    assert torch.equal(kept, whole)


def test_a_wav_that_is_an_mp4_inside_is_read():
    data = write_sound("ipod", "aac", rate=16000, seconds=1.0)
    assert SOUND.recode(data, "wav", "audio", Recode()).data == data
    found = SOUND.examine(data, "wav", "audio")
    assert [(note.reason, note.detail) for note in found.faults] == [
        ("audio/suffix", "a MP4 or QuickTime that is named .wav")
    ]
    assert SOUND.examine(data, "m4a", "audio").faults == []
    assert Audio().decode(data).shape[-1] > 0


def test_the_sound_of_a_video():
    data = write_video("mp4", "libx264", sound="aac")
    wave, rate = SOUND.read(data)
    assert (len(wave), rate) == (3 * 48000, 48000)
    assert SOUND.describe(data) == {"seconds": 3.0, "rate": 48000, "channels": 2}
    assert len(Audio().decode(data).shape) >= 1
    with pytest.raises(BadSample, match="audio/no-sound: MP4 or QuickTime without sound"):
        SOUND.read(write_video("mp4", "libx264"))


def test_what_is_cut_is_seen():
    song = write_sound("ipod", "aac", rate=16000, seconds=2.0)
    index = song.index(b"moov") - 4
    for data, said in (
        (song[:index], r"audio/truncated: its index \(the box moov\) is missing"),
        (song[:-20], r"audio/truncated: \d+ of \d+ bytes are there"),
        (write_sound("webm", "libopus")[:-300], r"audio/truncated: \d+ of \d+ bytes are there"),
        (write_sound("adts", "aac")[:-30], r"audio/truncated: \d+ of \d+ bytes are there"),
        (b"\0\0\0\x20ftypM4A " + bytes(200), r"audio/truncated: its index"),
    ):
        with pytest.raises(BadSample, match=said):
            SOUND.read(data)


def test_a_long_sound_is_refused_by_its_header_and_shown_by_its_head():
    data = write_sound("ipod", "aac", rate=16000, seconds=20.0)
    with pytest.raises(BadSample, match=r"audio/too-large: 20\.0 s of sound, at most 10 s"):
        from_file(data, 10.0)
    face = SOUND.face(data, "m4a")
    assert face.more["type"] == "audio/mpeg"
    assert face.more["seconds"] == pytest.approx(6.0, abs=0.1)


def test_it_is_written_anew_as_flac():
    stored = SOUND.recode(write_sound("ipod", "aac", rate=44100), "m4a", "audio", Recode(audio_format="flac"))
    assert stored.suffix == "flac"
    assert heading(stored.data).frames == 44100
