"""Presets of ImageBind and of the point models give the rows of the originals' code, whose goldens are committed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image as Pictures
from preset_inputs import (
    SECONDS,
    VIDEOS,
    make_cloud,
    make_depth,
    make_picture,
    make_video,
    make_wave,
    pick,
    real_sounds,
)
from safetensors.torch import load_file
from videos import number_of, picture, write_sound, write_video

from align.checkpoint import build, describe
from align.preprocess import Audio, Depth, Image, Points, Signal, VideoClips
from align.preprocess.points import spread, unit_sphere
from align.preprocess.video_clips import choose_frames
from align.preprocess.wanted import differences
from align.values import BadSample

TOLERANCE = 1e-4
GOLDEN = load_file(str(Path(__file__).parent / "golden" / "presets.safetensors"))


def check(name, row):
    expected = GOLDEN[name.replace(" ", ".")]
    assert (pick(row) - expected).abs().max() <= TOLERANCE
    assert expected.std() > 100 * TOLERANCE


def values(preprocess, *sources):
    return preprocess.device(preprocess.collate([preprocess.row(source) for source in sources]))


def wav(name):
    file = io.BytesIO()
    soundfile.write(file, *make_wave(name), format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize("name", SECONDS)
def test_imagebind_audio_is_the_originals(name):
    out = values(Audio(preset="imagebind-audio"), wav(name))
    assert out.shape == (1, 3, 1, 128, 204)
    check(f"audio {name}", out[0])


def test_imagebind_audio_of_recordings_is_the_originals(real_data):
    for i, path in enumerate(real_sounds(real_data("esc10"))):
        check(f"audio real {i}", values(Audio(preset="imagebind-audio"), path)[0])


def test_clips_of_sound_share_steps_of_their_means():
    """A plain loop: of a flat wave of 1 the first clip takes all off, and the second only what the first left."""
    from torchaudio.compliance import kaldi

    audio, x = Audio(preset="imagebind-audio", mean=0.0, std=1.0), torch.from_numpy(make_wave("overlapping")[0])
    wave = x.clone()
    for i, start in enumerate((0, 4000, 8000)):
        wave[start : start + 32000] -= wave[start : start + 32000].mean()
        part = wave[start : start + 32000][None]
        bands = kaldi.fbank(part, window_type="hanning", num_mel_bins=128, htk_compat=True, dither=0.0)
        found = audio.eval(x)[i, 0].T
        assert (found[: len(bands)] - bands).abs().max() <= TOLERANCE
        assert not found[len(bands) :].any()
    torch.testing.assert_close(x, torch.from_numpy(make_wave("overlapping")[0]), rtol=0, atol=0)  # stays as it was


def test_channels_of_a_container_are_those_of_a_plain_file():
    """The mean of all channels leaves each clip of the first, also in Matroska, and where a cache keeps the sound."""
    pytest.importorskip("av")
    audio, (wave, rate) = Audio(preset="imagebind-audio"), make_wave("uneven")
    found = audio.row(write_sound("matroska", "pcm_s16le", rate=rate, wave=wave))
    assert (found - audio.row(wav("uneven"))).abs().max() < 0.02  # the writer rounds by a level
    assert (audio.row((wave[:, 0], rate)) - found).abs().max() > 0.2
    assert torch.equal(audio.finish(audio.keep(wav("uneven"))), audio.row(wav("uneven")))


def test_padding_is_louder_than_silence():
    out = values(Audio(preset="imagebind-audio"), np.zeros(16000, np.float32), np.zeros(100, np.float32))
    torch.testing.assert_close(out[:, :, 0, 0, -1], torch.full((2, 3), 4.268 / 9.138))
    assert float(out[0, 0, 0, 0, 0]) == pytest.approx((np.log(2.0**-23) + 4.268) / 9.138, abs=1e-4)
    torch.testing.assert_close(out[1], torch.full((3, 1, 128, 204), 4.268 / 9.138))  # less than a frame


@pytest.mark.parametrize("name", VIDEOS)
def test_imagebind_video_is_the_originals(name):
    out = values(VideoClips(), make_video(name))
    assert out.shape == (1, 15, 3, 2, 224, 224)
    check(f"video {name}", out[0])


def test_frames_of_clips_by_a_plain_loop():
    for count, fps in ((1, 25.0), (30, 29.97), (250, 25.0), (899, 29.97), (61, 30.0)):
        found = choose_frames(count, fps, 2.0, 5, 2)
        for i in range(5):
            start = max(count / fps - 2, 0) * i / 4
            inside = [k for k in range(count) if start - 1e-9 <= k / fps < start + 2 - 1e-9]
            assert found[2 * i : 2 * i + 2] == [inside[0], inside[-1]], (count, fps, i)


@pytest.mark.parametrize(("format", "frames", "fps"), [("mp4", 57, 10), ("matroska", 64, 25), ("mp4", 1, 10)])
def test_clips_of_a_file_are_those_frames(format, frames, fps):
    pytest.importorskip("av")
    data = write_video(format, frames=min(frames, 32), fps=fps) if frames < 32 else None
    pictures = [picture(i // 2) for i in range(frames)]  # two frames of a shade: 32 shades can be told apart
    data = data or write_video(format, frames=frames, fps=fps, pictures=pictures)
    found = [number_of(frame.permute(1, 2, 0).numpy()) for frame in VideoClips(size=32).decode(data)]
    assert found == [i // 2 for i in choose_frames(frames, float(fps), 2.0, 5, 2)]


def test_clips_in_training_begin_elsewhere():
    video, x = VideoClips(size=8, flip=True), make_video("wide")
    rows = [video.row(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert rows[0].shape == video.row(x).shape == (15, 3, 2, 8, 8)
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    strip = torch.zeros(2, 3, 4, 4000, dtype=torch.uint8)
    assert video.row(strip).shape == (15, 3, 2, 8, 8)
    assert VideoClips(size=8, crops=1, clips=1).row(Pictures.new("RGB", (9, 20))).shape == (1, 3, 2, 8, 8)
    assert values(video).shape == (0, 15, 3, 2, 8, 8)
    assert describe(build(describe(video))) == describe(video)


@pytest.mark.parametrize("channels", [3, 4])
def test_imagebind_pictures_are_the_originals(channels):
    file = io.BytesIO()
    Pictures.fromarray(make_picture(channels)).save(file, "PNG")
    check(f"picture {channels}", values(Image(preset="imagebind"), file.getvalue())[0])


def test_thermal_is_a_grey_in_unit_range():
    grey = make_picture(1)[:64, :64, 0]
    deep = io.BytesIO()
    Pictures.fromarray(grey.astype(np.uint16) * 257).save(deep, "PNG")
    thermal = Image(64, preset="imagebind-thermal")
    out = values(thermal, Pictures.fromarray(grey), deep.getvalue(), grey)
    torch.testing.assert_close(out, torch.from_numpy(grey / 255).float().expand(3, 1, 64, 64))
    assert (thermal.channels, thermal.bits) == (1, 8)
    assert (
        differences(Image(64, mean="plain", channels=1, bits=8, backend="pil", alpha="drop"), describe(thermal)) == []
    )


def test_depth_is_omnivores_disparity():
    depth = Depth(unit=0.000125)
    check("depth", values(depth, make_depth())[0])
    file = io.BytesIO()
    Pictures.fromarray(make_depth()).save(file, "PNG")
    torch.testing.assert_close(depth.row(file.getvalue()), depth.row(make_depth()))
    metres = (make_depth() / 8000).astype(np.float32)
    torch.testing.assert_close(Depth(unit=1).row(metres), depth.row(make_depth()))


def test_depth_by_a_plain_loop():
    stored = np.array([[0, 40, 500], [1000, 2500, 60000]], np.uint16)  # millimetres
    found = Depth((2, 3)).row(stored)[0]
    for got, millimetres in zip(found.flatten().tolist(), stored.flatten().tolist(), strict=True):
        far = min(8 * millimetres / 1000, 50)  # as SUN RGB-D is read
        expected = min(0.075 * 518.857901 / far, 75) / 75 if millimetres else 0.0418
        assert got == pytest.approx(expected, rel=1e-4)
    out = values(Depth((2, 3)), stored)
    assert float(out[0, 0, 0, 0]) == pytest.approx(0, abs=1e-6)
    assert values(Depth(4)).shape == (0, 1, 4, 4)
    row = Depth(8, flip=True).row(stored, torch.Generator().manual_seed(0))
    assert (row.shape, row.dtype) == ((1, 8, 8), torch.float32)
    assert describe(build(describe(Depth(8, unit=1)))) == describe(Depth(8, unit=1))
    assert differences(Depth(unit=1), describe(Depth())) == []
    with pytest.raises(BadSample, match="image/non-finite"):
        Depth(unit=1).row(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="unit=0 is metres a stored step"):
        Depth(unit=0)


def test_imu_is_six_channels_of_2000_steps():
    signal = Signal(preset="imagebind-imu")
    x = np.arange(12 * 2100, dtype=np.float32).reshape(6, 4200)
    assert torch.equal(signal.row(x), torch.from_numpy(x[:, 1100:3100]))
    assert differences(Signal(6, 2000), describe(signal)) == []
    with pytest.raises(ValueError, match="channels=None, length=5: give both, or a preset"):
        Signal(length=5)


POINTS = {
    "openshape": Points(preset="openshape"),
    "openshape demo": Points(preset="openshape", swap=False),
    "ulip2": Points(preset="ulip2"),
    "uni3d": Points(preset="uni3d"),
}


@pytest.mark.parametrize("name", POINTS)
def test_clouds_are_the_originals(name):
    cloud = make_cloud(10_000)
    sizes = {"even": cloud, "more": make_cloud(13_001)} if "openshape" in name else {"": cloud}
    for size, x in sizes.items():
        check(" ".join(filter(None, (name, size, "0"))), POINTS[name].row(x))


def test_clouds_without_colour_are_grey():
    row = POINTS["openshape"].row(make_cloud(20_000, 3))
    check("openshape grey 0", row)
    assert (row[:, 3:] == 0.4).all()


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("P", [1, 3, 9, 10, 11, 25])
def test_rows_of_clouds_by_a_plain_loop(name, P):
    """Points are drawn first, then scaled; a smaller file gives all of its points in their order, then again."""
    x = make_cloud(P, seed=P).astype(np.float64)
    points = Points(10, preset=POINTS[name].preset, swap=POINTS[name].swap)
    order = list(range(P)) * (10 // P) if P <= 10 else []
    order += spread(P, 10 - len(order)).tolist()
    chosen = x[order, :3]
    chosen = chosen[:, [0, 2, 1]] if name == "openshape" else chosen
    chosen = chosen - chosen.mean(0)
    chosen /= max(np.linalg.norm(point) for point in chosen) or 1
    expected = np.concatenate([chosen, x[order, 3:]], 1)
    assert np.abs(points.row(x).numpy() - expected).max() < 1e-6
    again = Points(10, preset=points.preset, swap=points.swap, jitter=0)
    drawn = again.row(x, torch.Generator().manual_seed(P))
    assert drawn.shape == (10, 6)
    assert float(drawn[:, :3].norm(dim=1).max()) == pytest.approx(1 if P > 1 else 0)
    assert float(drawn[:, :3].mean(0).abs().max()) < 1e-6


def test_a_file_of_as_many_points_keeps_its_order():
    x = make_cloud(10_000)
    assert torch.equal(POINTS["uni3d"].row(x)[:, 3:], torch.from_numpy(x[:, 3:]))
    assert not torch.equal(Points(10_000).row(x)[:, 3:], torch.from_numpy(x[:, 3:]))
    np.testing.assert_allclose(POINTS["uni3d"].row(x)[:, :3].T, unit_sphere(x[:, :3].T), atol=1e-6)


def test_the_swap_turns_the_upright_axis():
    x = make_cloud(16)
    x[:, 1] *= 10  # tall along y
    given = {"points": 16, "jitter": 0.0, "rotate": "up"}
    for name, axis in (("openshape", 2), ("ulip2", 1), ("uni3d", 1)):
        turned = Points(preset=name, **given).row(x, torch.Generator().manual_seed(0))
        still = Points(preset=name, points=16, jitter=0.0).row(x, torch.Generator().manual_seed(0))
        torch.testing.assert_close(turned[:, axis], still[:, axis])
        assert (turned[:, 0] - still[:, 0]).abs().max() > 0.01


def test_arguments_of_point_presets_are_filled_and_kept():
    made = POINTS["openshape"]
    assert (made.points, made.up, made.swap) == (10_000, "y", True)
    assert (POINTS["uni3d"].up, POINTS["uni3d"].swap, Points().points, Points().up) == ("y", False, 1024, "z")
    assert Points(64, preset="openshape", up="z", swap=False).up == "z"
    for points in POINTS.values():
        assert describe(build(describe(points))) == describe(points)
        assert differences(points, describe(points)) == []
    assert differences(made, describe(POINTS["openshape demo"])) == ["swap True instead of False"]
    with pytest.raises(ValueError, match="may be 'unit_sphere', 'absolute', 'openshape', 'ulip2', 'uni3d'"):
        Points(preset="openshpe")  # type: ignore[arg-type]
