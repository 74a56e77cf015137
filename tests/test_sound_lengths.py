"""The length of a sound is that of its samples, whatever its header leaves out; a cut file says so; foreign formats
are named."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from align.commands import main
from align.curation.look import describe
from align.curation.stats import measure
from align.data import Shards
from align.media.sounds.formats import foreign
from align.media.sounds.length import find_length
from align.media.sounds.ogg import with_serial
from align.media.sounds.read import from_file, read_sound
from align.media.sounds.recording import heading
from align.media.sounds.window import read_window, start_of
from align.preprocess import Audio
from align.values import BadSample

RATE = 16_000
DATA = Path(os.environ.get("ALIGN_DATA", "../shared/data"))
XING = 288  # bytes of the frame with the count, as libsndfile writes it at 16 kHz, mono


def music(seconds: float = 2.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Loud and quiet by turns, so that frames of variable rate differ in size."""
    t = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * f * t * (1 + 0.01 * t)) for f in (220, 1401, 2950)) / 4 * (np.sin(6 * t) > 0)
    wave += np.random.default_rng(0).normal(0, 0.001, len(t))
    return np.stack([wave] * channels, 1).astype(np.float32)


def encoded(wave: np.ndarray, kind: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def mp3(rate: int = RATE, channels: int = 1, seconds: float = 2.0) -> tuple[bytes, bytes]:
    """(an MP3 of variable rate, the same without the frame that states how many there are)."""
    data = encoded(music(seconds, rate, channels), "MP3", rate=rate)
    at = data.find(b"Xing")
    assert 0 < at < 40
    end = data.index(data[:2], 40)  # where the next frame begins
    return data, data[end:]


def patched(data: bytes, at: int, number: bytes) -> bytes:
    return data[:at] + number + data[at + len(number) :]


def after(data: bytes, mark: bytes, skip: int = 0) -> int:
    return data.index(mark) + len(mark) + skip


# an MP3 without a count


@pytest.mark.parametrize(("rate", "samples"), [(44_100, 1152), (16_000, 576), (11_025, 576)])  # MPEG-1, 2 and 2.5
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_are_counted_where_no_header_does(rate, samples, channels):
    whole, bare = mp3(rate, channels, 1.0)
    frames = int.from_bytes(whole[after(whole, b"Xing", 4) :][:4], "big")
    found = heading(bare)
    assert (found.rate, found.channels, found.frames, found.stated) == (rate, channels, frames * samples, False)
    with soundfile.SoundFile(io.BytesIO(bare)) as file:
        assert file.frames != found.frames  # a guess
    wave, _ = from_file(bare, 60.0)
    assert len(wave) == found.frames
    stated, _ = from_file(whole, 60.0)  # here the encoder's delay is cut off
    delay = next(i for i in range(3000) if np.abs(wave[i : i + len(stated)] - stated).max() <= 1e-4)
    assert len(stated) == rate
    assert delay + len(stated) <= len(wave)


def test_the_mp3_of_a_stranger():
    path = DATA / "odd" / "vbr_without_header.mp3"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = heading(path)
    assert found.frames == 231 * 1152  # 6.03 s; the rest after 6.0 is the encoder's padding
    assert len(read_sound(path, found.rate, 60.0)) == found.frames


TAGS = {
    "ID3v2 before": (b"ID3\4\0\0\0\0\2\0" + bytes(256), b""),
    "ID3v1 behind": (b"", b"TAG" + b"a title".ljust(125, b"\0")),
    "APE behind": (b"", b"APETAGEX" + bytes([0xD0, 7, 0, 0]) + (132).to_bytes(4, "little") + bytes(116 + 16)),
    "free junk before": (b"\xff\x00junk\xff\xfb" * 40, b""),
    "free junk behind": (b"", b"\0\xff\xe0junk" * 400),
}


@pytest.mark.parametrize("name", TAGS)
def test_tags_are_no_sound(name):
    before, behind = TAGS[name]
    _, bare = mp3()
    expected, _ = from_file(bare, 60.0)
    wave, _ = from_file(before + bare + behind, 60.0)
    assert np.array_equal(wave, expected)


def test_a_count_in_other_words():
    whole, bare = mp3(44_100)
    frames = int.from_bytes(whole[after(whole, b"Xing", 4) :][:4], "big")
    first = whole[: len(whole) - len(bare)]
    vbri = first[:36] + b"VBRI\0\1\0\0\0\0" + len(whole).to_bytes(4, "big") + frames.to_bytes(4, "big")
    vbri = vbri.ljust(len(first), b"\0")
    assert heading(vbri + bare)[2:] == (frames * 1152, "MP3", True)
    with pytest.raises(BadSample, match=rf"audio/truncated: \d+ of {frames} frames are there"):
        heading(vbri + bare[: len(bare) // 2])
    without = patched(first, after(first, b"Xing"), bytes(4))  # a Xing frame that states nothing
    assert heading(without + bare)[2:] == (frames * 1152, "MP3", False)


def test_two_files_in_one_are_both_heard():
    whole, bare = mp3(44_100, 2, 6.0)
    frames = int.from_bytes(whole[after(whole, b"Xing", 4) :][:4], "big")
    ogg = encoded(music(0.5), "OGG", "VORBIS")
    assert heading(with_serial(ogg, 7)).seconds == 0.5
    with pytest.raises(BadSample, match="audio/format: its content is Ogg with several streams"):
        heading(with_serial(ogg, 7) + ogg)
    assert heading(whole + whole).frames == (2 * frames + 1) * 1152  # the second count is a frame of silence
    assert heading(bare + bare).frames == 2 * frames * 1152


def test_an_mp3_inside_a_wav():
    _, bare = mp3(44_100, 2)
    about = np.array([0x55, 2], "<u2").tobytes() + np.array([44_100, 16_000], "<u4").tobytes()
    about += np.array([1, 0, 12, 1], "<u2").tobytes() + np.array([2, 0], "<u4").tobytes()[:4] + bytes(6)
    body = b"WAVEfmt " + len(about).to_bytes(4, "little") + about + b"data" + len(bare).to_bytes(4, "little") + bare
    data = b"RIFF" + len(body).to_bytes(4, "little") + body
    assert np.array_equal(from_file(data, 60.0)[0], from_file(bare, 60.0)[0])
    with pytest.raises(BadSample, match="audio/truncated"):
        heading(data[:-500])


def test_what_cannot_be_counted_has_a_reason():
    _, bare = mp3(44_100)
    hole = patched(bare, 3 * len(bare) // 4, bytes(2000))
    with pytest.raises(BadSample, match=r"audio/no-length: .* at byte \d+ there is none"):
        Audio().decode(hole)
    free = b"".join(patched(bare[i : i + 400], 2, bytes([bare[2] & 0x0F])) for i in range(0, 8000, 400))
    with pytest.raises(BadSample, match=r"audio/(no-length|unreadable)"):
        Audio().decode(free)
    with pytest.raises(BadSample, match=r"audio/no-length: a FLAC whose header states no length, and no frame"):
        Audio().decode(streamed("FLAC")[:60])


# headers that say "until the end"


def streamed(name: str) -> bytes:
    """A whole file as a program leaves it that writes to a pipe and cannot go back to its header."""
    kind, _, how = name.partition(" ")
    data = encoded(music(), kind, "PCM_16")
    if kind == "FLAC":
        return patched(data, 21, bytes([data[21] & 0xF0]) + bytes(4))
    if kind in ("WAV", "WAVEX"):
        unknown = {"0": b"\0\0\0\0", "-1": b"\xff" * 4, "sox": b"\xe0\xff\xff\x7f"}[how]
        return patched(patched(data, 4, unknown), after(data, b"data"), unknown)
    if kind == "RF64":
        return patched(data, after(data, b"ds64", 4), bytes(8) + {"0": bytes(16), "-1": b"\xff" * 16}[how])
    if kind == "W64":
        at = after(data, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a")
        return patched(data, at, b"\xff" * 7 + b"\x7f")
    if kind == "AU":
        return patched(data, 8, b"\xff" * 4)
    if kind == "CAF":
        return patched(data, after(data, b"data"), b"\xff" * 8)
    return patched(patched(data, 4, bytes(4)), after(data, b"SSND"), bytes(4))


STREAMED = ["FLAC", "WAV 0", "WAV -1", "WAV sox", "WAVEX 0", "RF64 0", "RF64 -1", "W64", "AU", "CAF", "AIFF"]


@pytest.mark.parametrize("name", STREAMED)
def test_a_streamed_file_is_read_to_its_end(name, tmp_path):
    kind = name.partition(" ")[0]
    expected, _ = from_file(encoded(music(), kind, "PCM_16"), 60.0)
    data = streamed(name)
    (tmp_path / "sound").write_bytes(data)
    for source in (data, tmp_path / "sound"):
        found = heading(source)
        assert (found.frames, found.seconds, found.stated) == (2 * RATE, 2.0, False)
        assert np.array_equal(from_file(source, 60.0)[0], expected)
    whole = read_sound(data, 8000, 60.0)
    for place in (0.0, 0.37, 0.99):
        start = start_of(place, len(whole), 4000)
        assert (read_window(data, 8000, 60.0, 4000, place) - whole[start : start + 4000]).abs().max() <= 1e-5


@pytest.mark.parametrize("channels", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("samples", [100, 4096, 30_001])
def test_the_last_frame_of_a_flac_says_how_long_it_is(channels, samples):
    wave = np.random.default_rng(samples).normal(0, 0.2, (samples, channels)).astype(np.float32)
    whole = encoded(wave, "FLAC", "PCM_24", 44_101)
    bare = patched(whole, 21, bytes([whole[21] & 0xF0]) + bytes(4))
    assert heading(bare).frames == samples
    assert heading(bare + b"TAG" + bytes(125)).frames == samples
    cut = bare[:-20]  # in its last frame: what is there ends before it
    if samples > 4096:
        assert heading(cut).frames == samples // 4096 * 4096
        assert np.array_equal(from_file(cut, 60.0)[0], from_file(whole, 60.0)[0][: samples // 4096 * 4096])


def test_a_wav_without_sound_stays_empty():
    data = encoded(music(0), "WAV", "PCM_16")
    for more in (b"", b"LIST" + (4).to_bytes(4, "little") + b"INFO"):
        with pytest.raises(BadSample, match="audio/empty"):
            Audio().decode(data + more)


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1):
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_long_one_is_refused_before_it_is_decoded():
    _, bare = mp3(44_100)
    file = Counting(bare * 300)
    opened = find_length(file, 10.0, None)
    assert 10.0 < (opened.frames or 0) / 44_100 < 10.1  # counted no further
    assert file.count < len(bare) * 300 / 50
    with pytest.raises(BadSample, match=r"audio/too-large: more than 10 s, at most 10 s are read"):
        Audio(max_seconds=10).decode(bare * 300)
    for name in ("FLAC", "WAV 0"):
        with pytest.raises(BadSample, match=r"audio/too-large: 2\.0 s, at most 1 s are read"):
            Audio(max_seconds=1).decode(streamed(name))


def test_samples_that_are_infinite_are_refused_without_a_warning():
    wave = np.array([[np.inf, -np.inf], [1e38, 1e38], [0, 0]], np.float32).repeat(1000, 0)
    with pytest.raises(BadSample, match="audio/non-finite"):
        Audio().row(encoded(wave, "WAV", "FLOAT"))


def test_a_wav_whose_decoder_cannot_seek():
    data = encoded(music(2.0), "WAV", "GSM610")
    assert heading(data).frames - 2 * RATE in range(320)
    row = Audio(seconds=1, dtype="float32").row(data)
    assert torch.equal(row, Audio(seconds=1, dtype="float32").eval(Audio().decode(data)))


# cut files

CUT = [
    *((kind, "PCM_16") for kind in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "SVX", "NIST")),
    *((kind, "PCM_16") for kind in ("AVR", "MPC2K", "MAT4", "MAT5", "VOC")),
    *(("AIFF", subtype) for subtype in ("PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),  # AIFC, but for the first
    *(("AU", subtype) for subtype in ("FLOAT", "ALAW")),
    *(("WAV", subtype) for subtype in ("FLOAT", "IMA_ADPCM", "MS_ADPCM")),
    ("CAF", "ALAC_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize(("kind", "subtype"), CUT)
def test_a_cut_file_is_truncated_wherever_it_is_cut(kind, subtype):
    data = encoded(music(), kind, subtype)
    assert len(from_file(data, 60.0)[0]) >= 2 * RATE
    says = "an Ogg stream without its last page" if kind == "OGG" else r"\d+ of \d+ (bytes|samples|frames) are there"
    for share in (0.99, 0.9, 0.75, 0.5, 0.25, 0.1):
        with pytest.raises(BadSample, match=rf"audio/truncated: {says}") as caught:
            Audio().decode(data[: int(share * len(data))])
        with pytest.raises(BadSample) as row:
            Audio(seconds=0.5).row(data[: int(share * len(data))], torch.Generator())
        assert str(row.value) == str(caught.value)


@pytest.mark.parametrize("name", ["PVF", "PAF", "IRCAM", *STREAMED, "MP3"])
def test_a_cut_file_without_a_length_is_what_is_there(name):
    kind = name.partition(" ")[0]
    data = mp3()[1] if kind == "MP3" else streamed(name) if name in STREAMED else encoded(music(), kind, "PCM_16")
    whole, _ = from_file(data, 60.0)
    for share in (0.99, 0.9, 0.75, 0.5, 0.4, 0.3):
        cut = data[: int(share * len(data))]
        wave, _ = from_file(cut, 60.0)
        assert 0 < len(wave) < len(whole)
        assert np.array_equal(wave, whole[: len(wave)])
        assert not heading(cut).stated


def test_an_ogg_is_read_page_by_page():
    data = encoded(music(8.0), "OGG", "VORBIS")
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"OggS"]
    positions = [int.from_bytes(data[i + 6 : i + 14], "little") for i in starts]
    assert len(starts) > 4
    assert positions[2] > 0
    first, second = starts[2], starts[3]
    # libsndfile takes it for a stream that begins with the next page, or ends before the last
    for at, page in ((first + 100, first), (second - 1, first), (len(data) - 1, starts[-1])):
        broken = patched(data, at, bytes([data[at] ^ 1]))
        with soundfile.SoundFile(io.BytesIO(broken)) as file:
            assert file.frames < positions[-1]
        with pytest.raises(BadSample, match=f"audio/corrupt: the page at byte {page} is damaged"):
            heading(broken)
    at = second + 100
    for broken in (patched(data, at, bytes([data[at] ^ 1])), data[:at] + data[at + 10 :], data[:-1]):
        with pytest.raises(BadSample, match="audio/truncated"):
            from_file(broken, 60.0)
    with pytest.raises(BadSample, match="Ogg with several streams"):  # of one number, as of two written here
        heading(data + data)
    assert heading(data + b"junk").frames == positions[-1]


# formats that are not read

FOREIGN = {
    "ASF": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "AMR": b"#!AMR\n\x3c\x48",
    "WavPack": b"wvpk\x88\0\0\0\x10\4",
    "Speex": b"OggS\0\2" + bytes(20) + b"\1\x50Speex   1.2",
}
CONTAINED = {  # these are read where PyAV is installed
    "MP4": b"\0\0\0\x20ftypM4A \0\0\2\0isomiso2",
    "QuickTime": b"\0\0\0\x08wide\0\1\0\0mdat",
    "ADTS": b"\xff\xf1\x50\x80\x02\x1f\xfc\xde\x02\x00",
    "AAC": b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xf1\x50\x80\x02\x1f\xfc",
    "Matroska": b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01",
    "AVI": b"RIFF\x24\0\0\0AVI LIST",
}


def foreign_file(name: str) -> bytes:
    head = {**FOREIGN, **CONTAINED}[name]
    return head + np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_format_is_named_with_what_reads_it(name):
    data = foreign_file(name)
    if name == "Speex":
        data = data[:-40] + b"OggS\0\4" + bytes(20) + b"\0"
    with pytest.raises(BadSample, match=rf"audio/format: its content is .*{name}.*`ffmpeg -i FILE out\.flac`"):
        Audio().decode(data)
    assert name in describe("audio.wav", data)["error"]


@pytest.mark.parametrize("name", CONTAINED)
def test_without_pyav_a_container_is_foreign_and_with_it_one_line_says_what_is_wrong(name, monkeypatch):
    data = foreign_file(name)
    with pytest.raises(BadSample, match=r"^audio/(truncated|unreadable|no-sound|corrupt|empty|rate|format): .+$"):
        Audio().decode(data)
    monkeypatch.setitem(sys.modules, "av", None)
    kind = "MP4" if name == "QuickTime" else name.replace("ADTS", "AAC")
    with pytest.raises(
        BadSample, match=rf"audio/format: its content is .*{kind}.*`ffmpeg -i FILE out\.flac`.*\[video\]"
    ):
        Audio().decode(data)


def test_formats_that_are_read_are_not_foreign():
    for kind, subtype in CUT:
        assert foreign(encoded(music(0.1), kind, subtype)[:400]) is None
    for text in (b"the free world", b"<html></html>", b"big wide world", b""):
        assert foreign(text) is None


# where people meet them


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sounds")
    files = {
        "a/bare.mp3": mp3()[1],
        "a/pipe.flac": streamed("FLAC"),
        "a/recorder.wav": streamed("WAV 0"),
        "a/plain.wav": encoded(music(), "WAV", "PCM_16"),
        "b/phone.wav": foreign_file("AMR"),
        "b/radio.mp3": foreign_file("ASF"),
        "b/cut.wav": encoded(music(), "AIFF", "PCM_16")[:40_000],
    }
    for name, data in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(data)
    return out


def lengths(shards: Path) -> list[float]:
    about = measure(Shards(str(shards / "*.tar"), shuffle=False, max_bad=1))["modalities"]["audio"]["quantities"]
    return [about["seconds"]["min"], about["seconds"]["max"]]


def test_a_build_a_check_and_the_numbers_of_it(folder, tmp_path, capsys):
    expected = round(heading((folder / "a" / "bare.mp3").read_bytes()).seconds, 4)
    assert expected > 2.0
    for out, more in (("stored", []), ("written", ["--sample-rate", "8000"])):
        assert main(["shards", "build", str(folder), str(tmp_path / out), "--max-bad", "1", *more]) == 0
        lines = [json.loads(line) for line in (tmp_path / out / "train-bad.jsonl").read_text().splitlines()]
        reasons = {line["key"]: line["reason"] for line in lines}
        assert reasons["b_phone"] == reasons["b_radio"] == "audio/format"
        assert lengths(tmp_path / out) == pytest.approx([2.0, expected], abs=2e-4)
    assert reasons["b_cut"] == "audio/truncated"
    capsys.readouterr()
    main(["shards", "check", str(tmp_path / "stored"), "--max-bad", "1"])
    said = capsys.readouterr().out
    assert "audio/truncated" in said
    assert next(line for line in said.splitlines() if "audio/open-ended" in line).split()[2] == "3"
    assert main(["shards", "filter", str(tmp_path / "stored"), str(tmp_path / "long"), "--where", "seconds > 2"]) == 0
    assert lengths(tmp_path / "long") == [expected, expected]


def test_a_suffix_that_is_not_read_is_answered_with_the_command(tmp_path, capsys):
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "one.wma").write_bytes(foreign_file("ASF"))
    (tmp_path / "table.csv").write_text("audio,text\nsongs/one.wma,a song\n")
    (tmp_path / "classes" / "songs").mkdir(parents=True)
    (tmp_path / "classes" / "songs" / "one.wma").write_bytes(foreign_file("ASF"))
    for source in ("songs", "table.csv", "classes"):
        assert main(["shards", "build", str(tmp_path / source), str(tmp_path / "out")]) == 1
        assert "ffmpeg -i " in capsys.readouterr().err
