"""Odd but sound data, as files have it: what each preprocess promises for it, beside what its own tests say."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image as Pictures

from align.preprocess import Array, Audio, Bytes, Image, Points, Tokens
from align.values import BadSample

RATE = 16_000


def wav(wave: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def stored(image: Pictures.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(colour: tuple[int, int, int]) -> Pictures.Image:
    return Pictures.new("RGB", (8, 6), colour)


@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("samples", [1, 3, 159, 399])
def test_a_clip_shorter_than_a_frame_has_a_finite_spectrogram(samples, pad):
    audio = Audio(seconds=0.1, pad=pad)  # n_fft is 400 samples
    row = audio.eval(audio.decode(wav(np.full(samples, 0.5, np.float32))))
    mel = audio.device(audio.collate([row]))
    assert mel.shape == (1, 1, 64, audio.frames)
    assert mel.isfinite().all()
    assert mel.max() > audio.device(torch.zeros(1, 1600, dtype=torch.int16)).max()  # it is heard


@pytest.mark.parametrize("window", ["head", "center"])
def test_evaluation_hears_the_same_second_of_a_long_clip_each_time(window):
    ramp = np.linspace(-1, 1, 5 * RATE, dtype=np.float32)
    audio = Audio(seconds=1.0, window=window, dtype="float32")
    rows = [audio.eval(audio.decode(wav(ramp))) for _ in range(3)]
    start = {"head": 0, "center": 2 * RATE}[window]
    assert all(torch.equal(row, torch.from_numpy(ramp[start : start + RATE])) for row in rows)


def test_stereo_at_another_rate_is_the_mean_at_ours():
    seconds = np.arange(48_000) / 48_000
    tones = [0.4 * np.sin(2 * np.pi * hertz * seconds) for hertz in (440, 1000)]
    x = Audio().decode(wav(np.stack(tones, 1).astype(np.float32), 48_000))
    assert x.shape == (RATE,)
    heard = torch.fft.rfft(x).abs().topk(2).indices.tolist()
    assert sorted(heard) == [440, 1000]


def test_a_silent_file_is_a_sample():
    audio = Audio(seconds=0.1)
    row = audio.eval(audio.decode(wav(np.zeros(RATE, np.float32))))
    assert (row == 0).all()
    assert audio.device(audio.collate([row])).unique().numel() == 1


@pytest.mark.parametrize(
    ("preprocess", "source", "reason"),
    [
        (Audio(), wav(np.array([0.1, np.nan], np.float32)), "audio/non-finite"),
        (Audio(), wav(np.array([0.1, 1e30], np.float32)), "audio/range"),
        (Points(), np.array([[0, 0, np.nan], [1, 1, 1]]), "points/non-finite"),
        (Points(), np.array([[0, 0, 1e30], [1, 1, 1]]), "points/range"),
        (Array((2,)), np.array([0.1, np.nan], np.float32), "array/non-finite"),
        (Bytes(), b"", "text/empty"),
        (Tokens(), b"\n", "text/empty"),
    ],
)
def test_what_no_number_or_word_is_in_has_a_name(preprocess, source, reason):
    with pytest.raises(BadSample) as caught:
        preprocess.decode(source)
    assert caught.value.reason == reason


def test_an_array_of_features_may_be_large():
    """Features have no unit that would say what is too much: 1e30 is let through, as it stands."""
    array = Array((2,))
    assert array.eval(array.decode(np.array([0.1, 1e30], np.float32))).tolist() == pytest.approx([0.1, 1e30])


def test_twelve_points_fill_a_cloud():
    points = Points(64, preset="absolute", jitter=0)
    twelve = np.random.default_rng(0).random((12, 6)).astype(np.float32)
    for row in (points.eval(points.decode(twelve)), points.train(points.decode(twelve), torch.Generator())):
        times = [int((row == torch.from_numpy(one)).all(1).sum()) for one in twelve]
        assert sum(times) == 64
        assert set(times) == {5, 6}


def test_z_up_and_y_up_turn_about_their_own_axis():
    xyz = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    lying = xyz[:, [0, 2, 1]] * np.array([1, 1, -1], np.float32)  # the same object with y up: (x, z, -y)
    given = {"preset": "absolute", "rotate": "up", "jitter": 0, "color": False}
    for cloud, axis, points in ((xyz, 2, Points(64, up="z", **given)), (lying, 1, Points(64, up="y", **given))):
        turned = points.train(points.decode(cloud), torch.Generator().manual_seed(1))
        assert torch.allclose(turned[:, axis].sort().values, torch.from_numpy(np.sort(cloud[:, axis])), atol=1e-5)
        assert not torch.allclose(turned[:, 0].sort().values, torch.from_numpy(np.sort(cloud[:, 0])), atol=1e-2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (stored(plain((9, 200, 30)).convert("L"), "JPEG"), None),
        (stored(plain((9, 200, 30)).convert("L"), "PNG"), None),
        (stored(plain((9, 200, 30)).convert("P", palette=Pictures.Palette.ADAPTIVE), "PNG"), (9, 200, 30)),
        (stored(plain((9, 200, 30)).convert("CMYK"), "JPEG", quality=100), (9, 200, 30)),
        (stored(Pictures.fromarray(np.full((6, 8), 200 << 8, np.uint16)), "PNG"), (200, 200, 200)),
    ],
    ids=["grey jpeg", "grey png", "palette png", "cmyk jpeg", "16-bit png"],
)
def test_any_kind_of_pixel_becomes_rgb(data, expected):
    x = Image().decode(data).int()
    grey = round(0.299 * 9 + 0.587 * 200 + 0.114 * 30)
    colour = torch.tensor(expected or (grey, grey, grey))
    assert x.shape == (3, 6, 8)
    assert (x - colour[:, None, None]).abs().max() <= 3


def test_a_rotated_jpeg_stands_upright():
    upright = Pictures.new("RGB", (32, 16), (255, 0, 0))
    upright.paste((0, 0, 255), (16, 0, 32, 16))  # red on the left, blue on the right
    exif = Pictures.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    x = Image().decode(stored(upright.transpose(Pictures.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif))
    assert x.shape == (3, 16, 32)
    assert x[0, :, :12].min() > 200
    assert x[2, :, 20:].min() > 200


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [plain((250, 0, 0)), plain((0, 250, 0)), plain((0, 0, 250))]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = stored(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **lossless)
    assert getattr(Pictures.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert Image().decode(data)[:, 0, 0].tolist() == [250, 0, 0]


@pytest.mark.parametrize("text", [Tokens(16), Bytes(16)], ids=repr)
def test_a_caption_beyond_the_context_is_cut_and_keeps_its_end(text):
    end = text.eval("a")[2]  # start, one token, end
    row = text.eval(text.decode("a blue cone " * 50))
    assert row.shape == (16,)
    assert row[-1] == end
    assert torch.equal(row[:5], text.eval("a blue cone " * 3)[:5])
