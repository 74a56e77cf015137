"""Audio: every odd recording becomes one window or a named reason; silence and extremes stay finite."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import ArgumentParser

from align.checkpoint import build, describe
from align.commands.shortened import shorten
from align.media.sounds.read import ratio_of, read_sound, resample, resampler
from align.media.sounds.window import read_window
from align.preprocess import Audio, Preprocess
from align.preprocess.audio_groups import Augment, Limits, Spectrogram, Window
from align.preprocess.spectrogram import mel_bands, spec_augment
from align.values import BadSample

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(wave: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


KINDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)]


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_formats(kind, subtype):
    x = Audio().decode(encoded(tone(), kind=kind, subtype=subtype))
    assert x.shape == (RATE,)
    assert x.dtype == torch.float32
    assert (x - torch.from_numpy(tone())).abs().mean() < (0.02 if kind in ("OGG", "MP3") else 1e-4)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_a_cut_file_is_bad(kind, subtype):
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    data = encoded(noise, kind=kind, subtype=subtype)
    for length in (len(data) - 2, *(int(share * len(data)) for share in (0.99, 0.9, 0.5, 0.1))):
        with pytest.raises(BadSample, match=r"audio/truncated"):
            Audio().decode(data[:length])
    for length in (1, 4, 13, 40):
        with pytest.raises(BadSample, match=r"audio/(truncated|unreadable|empty)"):
            Audio().decode(data[:length])


def test_a_cut_wav_whose_notes_come_before_its_sound():
    data = encoded(tone())
    notes = b"bext" + (9000).to_bytes(4, "little") + bytes(9000)  # as recorders in the field write
    whole = data[:12] + notes + data[12:]
    assert len(Audio().decode(whole)) == RATE
    with pytest.raises(BadSample, match="audio/truncated"):
        Audio().decode(whole[: len(whole) // 2])


def test_headers_that_lie():
    data = bytearray(encoded(tone()))
    data[40:44] = (1 << 30).to_bytes(4, "little")  # a gigabyte is announced
    with pytest.raises(BadSample, match="audio/truncated"):
        Audio().decode(bytes(data))
    data[40:44] = (0xFFFFFFFF).to_bytes(4, "little")  # what a program writes that does not know yet
    assert Audio().decode(bytes(data)).shape == (RATE,)
    for rate in (1, 2_000_000_000):
        data[24:28] = rate.to_bytes(4, "little")
        with pytest.raises(BadSample, match=r"audio/(rate|unreadable)"):
            Audio().decode(bytes(data))


def test_bombs_are_refused_by_the_header():
    hour = encoded(np.zeros(3600 * 8000, np.int16), 8000, "FLAC")
    assert len(hour) < 200_000
    with pytest.raises(BadSample, match=r"audio/too-large: 3600\.0 s, at most 600 s"):
        Audio().decode(hour)
    wide = encoded(np.zeros((8000, 100), np.int16), 8000, "WAV")
    with pytest.raises(BadSample, match="in 100 channels"):
        Audio(max_seconds=1).decode(wide)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "audio/empty"),
        (b"<html></html>", "audio/unreadable"),
        (b"\0\0\0\x20ftypM4A " + bytes(200), "audio/truncated"),  # many a real .wav is MP4 inside
        (b"#!AMR\n" + bytes(200), "audio/format"),
        (encoded(tone(0)), "audio/empty"),
        (np.zeros(0), "audio/empty"),
        (np.zeros((0, 2)), "audio/empty"),
        (encoded(np.array([0, np.nan], np.float32), subtype="FLOAT"), "audio/non-finite"),
        (encoded(np.array([0, np.inf], np.float32), subtype="FLOAT"), "audio/non-finite"),
        (encoded(np.array([0, 1e30], np.float32), subtype="FLOAT"), "audio/range"),
        (np.array([0.0, 32000.0]), "audio/range"),
        (np.array([0.0, 1e300]), "audio/non-finite"),
        (np.zeros((2, 3, 4)), "audio/shape"),
        (np.zeros(3, complex), "audio/dtype"),
        ((tone(), 10), "audio/rate"),
        ((np.zeros(16_000 * 11), 16_000), "audio/too-large"),
    ],
)
def test_reasons(source, reason):
    with pytest.raises(BadSample) as caught:
        Audio(max_seconds=10).decode(source)
    assert caught.value.reason == reason
    assert "0x" not in str(caught.value)  # no address of an object


def test_paths(tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(tone()))
    (tmp_path / "b.wav").write_bytes(b"nothing")
    assert Audio().decode(str(tmp_path / "a.wav")).shape == (RATE,)
    with pytest.raises(BadSample, match=r"audio/unreadable: .*b\.wav: Format not recognised"):
        Audio().decode(tmp_path / "b.wav")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*c\.wav"):
        Audio().decode(tmp_path / "c.wav")
    with pytest.raises(TypeError, match="not from dict"):
        Audio().decode({})


def test_channels_become_their_mean():
    left, right = tone(), tone(hertz=880)
    expected = torch.from_numpy((left + right) / 2)
    both = np.stack([left, right], 1)
    assert torch.allclose(Audio().decode(encoded(both, subtype="FLOAT")), expected, atol=1e-6)
    for source in (both, both.T, torch.from_numpy(both), (both, RATE)):
        assert torch.allclose(Audio().decode(source), expected, atol=1e-6)


def test_integers_are_of_full_scale():
    for dtype, low in ((np.int16, -(2**15)), (np.int32, -(2**31))):
        assert Audio().decode(np.array([low, 0, -low // 2], dtype)).tolist() == [-1.0, 0.0, 0.5]
    assert Audio().decode(np.array([0, 128, 192], np.uint8)).tolist() == [-1.0, 0.0, 0.5]
    assert Audio().decode(np.array([-1.5, 3.0])).tolist() == [-1.0, 1.0]  # clipped, as a converter does


def test_int16_rows_are_the_file_to_the_bit():
    stored = np.random.default_rng(0).integers(-32768, 32768, RATE).astype(np.int16)
    stored[:2] = -32768, 32767
    audio = Audio(seconds=1.0)
    assert torch.equal(audio.eval(audio.decode(encoded(stored))), torch.from_numpy(stored))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 44101, 24414, 15999])
def test_resampling_keeps_pitch_and_length(rate):
    x = Audio().decode((tone(1.0, rate), rate))
    assert abs(len(x) - RATE) <= 0.001 * RATE
    spectrum = torch.fft.rfft(x[:RATE], RATE).abs()
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert x.abs().max() <= 1


@pytest.mark.parametrize("rate", [1001, 1999, 7993, 15_999, 16_001, 44_101, 767_999])
def test_odd_ratios_stay_within_a_cent(rate):
    seconds = len(resample(torch.zeros(10 * rate), rate, RATE)) / RATE
    assert abs(seconds / 10 - 1) < 2 ** (1 / 1200) - 1


@pytest.fixture
def old_way(monkeypatch):
    """Call a function as it was while torchaudio made its filter for every clip and numpy averaged any channels."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            for module in ("read", "window"):
                patch.setattr(f"align.media.sounds.{module}.resample", _resample_anew)
            for module in ("read", "recording"):
                patch.setattr(f"align.media.sounds.{module}.mean_of_channels", lambda samples: samples.mean(1))
            return function(*args)

    return call


def _resample_anew(wave, rate, to):
    from torchaudio import functional

    ratio = ratio_of(rate, to)
    return wave if rate == to else functional.resample(wave, ratio.denominator, ratio.numerator).clamp(-1, 1)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


OTHERS = (1000, 7999, 8000, 11_025, 16_000, 24_000, 32_000, 44_101, 48_000, 96_000)
RARE = [pytest.param(r, marks=pytest.mark.sweep) for r in OTHERS]


@pytest.mark.parametrize("rate", [22_050, 44_100, *RARE])
def test_a_kept_filter_changes_no_bit(rate, threads):
    generator = torch.Generator().manual_seed(rate)
    for to in (8000, 16_000, 22_050):
        for dtype in (torch.float32, torch.float64):
            for length, made, used in ((1, 1, 1), (2, 2, 1), (97, 1, 2), (4411, 1, 3), (rate, 2, 1)):
                wave = 2 * torch.rand(length, generator=generator, dtype=dtype) - 1
                resampler.cache_clear()
                threads(made)
                resample(wave[:1], rate, to)  # makes the filter
                threads(used)
                assert torch.equal(resample(wave, rate, to), _resample_anew(wave, rate, to))


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_mean_of_channels_changes_no_bit(channels, rate, old_way):
    wave = np.random.default_rng(channels).normal(0, 0.3, (rate // 2, channels)).clip(-1, 1).astype(np.float32)
    sources = [encoded(wave, rate), encoded(wave, rate, subtype="FLOAT"), (wave, rate), (wave.T.copy(), rate)]
    sources += [(wave.astype(np.float64), rate), ((wave * 32767).astype(np.int16).T, rate), (wave[:20], rate)]
    if channels <= 8:
        sources.append(encoded(wave, rate, kind="FLAC"))
    for source in sources:
        found = read_sound(source, RATE, 60.0)
        assert torch.equal(found, old_way(read_sound, source, RATE, 60.0))
        for samples, place in ((3000, 0.37), (7000, 0.9), (20_000, 0.5)):
            window = read_window(source, RATE, 60.0, samples, place)
            assert torch.equal(window, old_way(read_window, source, RATE, 60.0, samples, place))


def test_the_filter_of_two_rates_is_made_once():
    resampler.cache_clear()
    with torch.inference_mode():
        resample(torch.zeros(100), 44_100, RATE)
    wave = torch.zeros(100, requires_grad=True)
    resample(wave, 44_100, RATE).sum().backward()  # the filter is no tensor of inference mode
    assert (resampler.cache_info().misses, resampler.cache_info().hits) == (1, 1)


def test_windows():
    ramp = torch.linspace(-1, 1, 5000)
    head, center = (
        Audio(1000, seconds=1.0, window="head", dtype="float32", n_mels=8),
        Audio(1000, seconds=1.0, dtype="float32", n_mels=8),
    )
    assert torch.equal(head.eval(ramp), ramp[:1000])
    assert torch.equal(center.eval(ramp), ramp[2000:3000])
    short = torch.ones(100)
    assert head.eval(short).nonzero().flatten().tolist() == list(range(100))
    assert center.eval(short).nonzero().flatten().tolist() == list(range(450, 550))
    repeat = Audio(1000, seconds=1.0, pad="repeat", dtype="float32", n_mels=8)
    assert torch.equal(repeat.eval(ramp[:300]), ramp[:300].repeat(4)[:1000])
    starts = set()
    for seed in range(40):
        row = head.train(ramp, torch.Generator().manual_seed(seed))
        start = int((row[0] + 1) / 2 * 4999 + 0.5)
        assert torch.equal(row, ramp[start : start + 1000])
        starts.add(start)
        assert head.train(short, torch.Generator().manual_seed(seed)).sum() == 100
        assert repeat.train(ramp[:300], torch.Generator().manual_seed(seed)).unique().numel() == 300
    assert len(starts) > 30
    assert min(starts) < 800
    assert max(starts) > 3200


def test_windows_over_the_whole_of_a_clip():
    """Evaluation has three of them, from its start to its end; training one, three times: rows are of one length."""
    ramp = torch.linspace(-1, 1, 5000)
    audio = Audio(1000, seconds=1.0, windows=3, dtype="float32", n_mels=8, masks=0)
    assert torch.equal(audio.eval(ramp), torch.cat([ramp[:1000], ramp[2000:3000], ramp[4000:]]))
    assert torch.equal(audio.row(ramp), audio.eval(ramp))
    assert torch.equal(
        audio.eval(ramp[:700]), Audio(1000, seconds=1.0, dtype="float32", n_mels=8).eval(ramp[:700]).repeat(3)
    )
    whole, row = encoded(tone(5, 1000), 1000), {}
    for name, source in (("file", whole), ("samples", audio.decode(whole))):
        row[name] = audio.row(source, torch.Generator().manual_seed(0))
        assert torch.equal(row[name], row[name][:1000].repeat(3))
    torch.testing.assert_close(row["file"], row["samples"])
    values = audio.collate([audio.eval(ramp), audio.eval(ramp.flip(0))])
    assert values.shape == (2, 3000)
    assert audio.collate([]).shape == (0, 3000)
    mel = audio.device(values)
    assert mel.shape == (6, 1, 8, audio.frames)
    assert torch.equal(mel[1:2], audio.device(values[:1, 1000:2000]))
    assert torch.equal(audio.device(values, torch.Generator()), audio.device(values[:, :1000]))
    assert audio.device(audio.collate([])).shape == (0, 1, 8, audio.frames)


def test_gain_is_in_decibels():
    audio = Audio(1000, seconds=0.5, gain=6.0, dtype="float32", n_mels=8)
    x = torch.full((500,), 0.1)
    levels = [20 * np.log10(float(audio.train(x, torch.Generator().manual_seed(s))[0]) / 0.1) for s in range(50)]
    assert -6 <= min(levels) < -4
    assert 4 < max(levels) <= 6.0001


@pytest.mark.parametrize("samples", [1, 2, 100, 79_999, 80_000, 80_001, 200_000])
@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_any_length_gives_one_shape(samples, pad):
    audio = Audio(pad=pad)
    x = audio.decode(tone(samples / RATE))
    for row in (audio.eval(x), audio.train(x, torch.Generator().manual_seed(0))):
        assert row.shape == (80_000,)
        assert row.dtype == torch.int16


def test_training_follows_its_generator():
    audio = Audio(seconds=0.5, gain=3.0)
    x = audio.decode(tone(2.0))
    torch.manual_seed(1)
    first = audio.train(x, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    assert torch.equal(first, audio.train(x, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, audio.train(x, torch.Generator().manual_seed(6)))
    assert torch.equal(audio.eval(x), audio.eval(x))
    values = audio.collate([first, first])
    seen = [audio.device(values, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_collate_and_nothing():
    for dtype in ("int16", "float32"):
        audio = Audio(seconds=0.5, dtype=dtype)
        values = audio.collate([audio.eval(audio.decode(tone()))] * 3)
        assert values.shape == (3, 8000)
        assert audio.device(values).shape == (3, 1, 64, audio.frames)
        assert audio.device(values).dtype == torch.float32
        empty = audio.collate([])
        assert empty.shape == (0, 8000)
        assert empty.dtype == values.dtype
        for generator in (None, torch.Generator()):
            assert audio.device(empty, generator).shape == (0, 1, 64, audio.frames)


def test_extremes_stay_finite_and_silence_is_constant():
    audio = Audio(seconds=0.5)
    waves = torch.stack(
        [
            torch.zeros(8000, dtype=torch.int16),
            torch.full((8000,), -32768, dtype=torch.int16),
            torch.tensor([-32768, 32767], dtype=torch.int16).repeat(4000),
        ]
    )
    out = audio.device(waves)
    assert out.isfinite().all()
    assert torch.allclose(out[0], torch.tensor((np.log(1e-6) + 6) / 5, dtype=torch.float32))
    assert out.max() < 5


def test_log_mel_by_a_plain_loop():
    audio = Audio(8000, seconds=0.1, n_mels=6, n_fft=64, hop=40, f_min=100, f_max=3000)
    wave = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 800).astype(np.float32))
    out = audio.device(wave[None])[0, 0]
    assert out.shape == (6, audio.frames)
    bands = mel_bands(8000, 64, 6, 100, 3000)
    padded = torch.cat([torch.zeros(32), wave, torch.zeros(32)])
    for t in range(audio.frames):
        hann = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(64) / 64)
        power = torch.fft.rfft(padded[40 * t : 40 * t + 64] * hann).abs() ** 2
        for m in range(6):
            expected = (np.log(max(float((bands[m] * power).sum()), 1e-6)) + 6) / 5
            assert out[m, t].item() == pytest.approx(expected, abs=1e-4)


def test_bands_are_torchaudios():
    from torchaudio.functional import melscale_fbanks

    for rate, n_fft, n_mels, low, high in ((16000, 400, 64, 0.0, 8000.0), (8000, 256, 40, 60.0, 3800.0)):
        expected = melscale_fbanks(n_fft // 2 + 1, low, high, n_mels, rate)
        assert torch.allclose(mel_bands(rate, n_fft, n_mels, low, high), expected.T, atol=1e-4)


def test_a_row_alone_is_as_in_company():
    audio = Audio(seconds=0.5)
    waves = torch.randint(-3000, 3000, (5, 8000), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    together = audio.device(waves)
    for i in range(5):
        assert torch.allclose(audio.device(waves[i : i + 1])[0], together[i], atol=1e-5)


def test_half_precision_does_not_reach_the_spectrum():
    audio = Audio(seconds=0.5)
    waves = audio.collate([audio.eval(audio.decode(tone(0.5)))])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(audio.device(waves), audio.device(waves))
        half = audio.device(waves)
    assert torch.equal(half, audio.device(waves))
    assert audio.device(waves.double() / 32768).dtype == torch.float32


def test_spec_augment_masks_whole_bands_and_stretches():
    mel = torch.ones(300, 32, 50)
    out = spec_augment(mel, 6, 10, 1, torch.Generator().manual_seed(0))
    hidden = out == 0
    bands = hidden.all(2).sum(1)  # (n,)
    frames = hidden.all(1).sum(1)
    assert bands.max() == 6
    assert bands.min() == 0
    assert frames.max() == 10
    assert frames.min() == 0
    whole = hidden.all(2)[:, :, None] | hidden.all(1)[:, None, :]
    assert torch.equal(whole, hidden)
    assert len(torch.unique(hidden.flatten(1), dim=0)) > 250  # each row has its own
    assert spec_augment(mel, 0, 0, 2, torch.Generator()) is mel
    assert spec_augment(mel[:, :2, :2], 9, 9, 2, torch.Generator().manual_seed(0)).shape == (300, 2, 2)


def test_a_pickle_leaves_the_constants_behind():
    audio = Audio(seconds=0.5, pad="repeat")
    values = audio.collate([audio.eval(audio.decode(tone(0.1)))])
    out = audio.device(values)
    copy = pickle.loads(pickle.dumps(audio))
    assert "_constants" not in vars(copy)
    assert repr(copy) == repr(audio)
    assert torch.equal(copy.device(values), out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate": 10}, "sample_rate=10 is too small"),
        ({"seconds": 0.0}, "seconds=0.0 is too small"),
        ({"n_mels": 0}, "n_mels=0 is too small"),
        ({"n_mels": 128}, "of n_mels=128 bands are narrower than n_fft=400 resolves; raise n_fft"),
        ({"f_max": 9000.0}, r"f_max <= 8000\.0 Hz"),
        ({"window": "centre"}, "window='centre' is not known; it may be 'head', 'center'"),
        ({"pad": "none"}, "pad='none' is not known"),
        ({"dtype": "float16"}, "dtype='float16' is not known"),
        ({"time_mask": -1}, "time_mask=-1 is too small"),
        ({"floor": 0.0}, "floor=0.0 is too small"),
    ],
)
def test_arguments_are_refused_at_the_door(arguments, message):
    with pytest.raises(ValueError, match=message):
        Audio(**arguments)


def test_real_recordings(real_data):
    for folder, pattern in (("fsdd", "**/*.wav"), ("esc10", "**/*.ogg")):
        audio = Audio(seconds=1.0)
        paths = sorted(real_data(folder).glob(pattern))[::40][:8]
        values = audio.collate([audio.eval(audio.decode(path)) for path in paths])
        out = audio.device(values)
        assert out.shape == (len(paths), 1, 64, 101)
        assert out.isfinite().all()
        assert abs(out.mean()) < 1.5


FLAT = {"n_mels": 40, "n_fft": 512, "window": "head", "windows": 2, "pad": "repeat", "gain": 3.0, "max_seconds": 9.0}
GROUPS = {
    "spectrogram": {"n_mels": 40, "n_fft": 512},
    "window": {"place": "head", "count": 2, "pad": "repeat"},
    "augment": {"gain": 3.0},
    "limits": {"max_seconds": 9.0},
}


def parsed(*args: str) -> Audio:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--p", type=Preprocess)
    found = parser.parse_args(["--p", "align.preprocess.Audio", *args])
    return (getattr(parser, "instantiate", None) or parser.instantiate_classes)(found).p


def test_groups_and_flat_names_say_the_same():
    flat = Audio(8000, 1.0, **FLAT)
    as_groups = Audio(8000, 1.0, Spectrogram(40, 512), Window("head", 2, "repeat"), Augment(3.0), Limits(9.0))
    said = {"class_path": "align.preprocess.Audio", "init_args": {"sample_rate": 8000, "seconds": 1.0, **GROUPS}}
    first = ["--p.sample_rate=8000", "--p.seconds=1.0"]
    typed = parsed(*first, *(f"--p.{name}={value}" for name, value in FLAT.items()))
    nested = parsed(*first, *(f"--p.{g}.{name}={value}" for g, some in GROUPS.items() for name, value in some.items()))
    before = {**said, "init_args": {"sample_rate": 8000, "seconds": 1.0, **FLAT}}  # as older checkpoints have it
    for other in (as_groups, build(said), build(describe(flat)), build(before), typed, nested):
        assert repr(other) == repr(flat)
    wave = torch.from_numpy(tone(0.4, 8000))
    assert torch.equal(flat.device(flat.collate([flat.eval(wave)])), typed.device(typed.collate([typed.eval(wave)])))


def test_an_option_stated_twice_is_refused():
    assert Audio(n_mels=40, spectrogram=Spectrogram(n_fft=512)).spectrogram == Spectrogram(40, 512)
    with pytest.raises(ValueError, match=r"n_mels=40 and spectrogram\.n_mels=48 state one option twice"):
        Audio(n_mels=40, spectrogram=Spectrogram(n_mels=48))
    with pytest.raises(TypeError, match="Audio has no argument 'n_mel'"):
        Audio(n_mel=40)  # pyright: ignore[reportCallIssue]
    with pytest.raises(Exception, match="n_mel") as found:
        parsed("--p.n_mel=40")
    assert "Audio has no argument 'n_mel'; did you mean n_mels?" in shorten(found.value)
