"""Frames at stated times equal those of a plain decode from the start, in any container, clock and order of frames."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from videos import number_of, picture, shift, tone, write_video

from align.media.videos import frames as moving
from align.media.videos.reading import open_video
from align.values import BadSample

H265 = {"x265-params": "log-level=none:bframes=3"}
FILES = {
    "mp4 h264": ("mp4", "libx264", {}),
    "mp4 h264 open groups": ("mp4", "libx264", {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0"}}),
    "mp4 h264 in fragments": ("mp4", "libx264", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
    "mp4 h264 with a sound": ("mp4", "libx264", {"sound": "aac"}),
    "mp4 h265": ("mp4", "libx265", {"options": H265}),
    "mp4 mpeg4": ("mp4", "mpeg4", {}),
    "mov h264": ("mov", "libx264", {}),
    "mkv h264": ("matroska", "libx264", {}),
    "mkv live": ("matroska", "libx264", {"container": {"live": "1"}}),
    "webm vp9": ("webm", "libvpx-vp9", {}),
    "webm vp8": ("webm", "libvpx", {"sound": "libopus"}),
    "avi mpeg4": ("avi", "mpeg4", {}),
    "avi h264": ("avi", "libx264", {}),
    "late start": ("mp4", "libx264", {"ticks": range(7, 37)}),
    "variable rate": ("matroska", "libx264", {"ticks": [0, 1, 2, 5, 9, *range(20, 44), 99], "clock": 10}),
    "fine clock": ("mp4", "libx264", {"ticks": [3003 * i for i in range(30)], "clock": 90000}),
}


def plain(data: bytes) -> tuple[list[float], np.ndarray]:
    """Return the seconds and the RGB pixels of all frames, decoded by a plain loop."""
    method = Interpolation.BICUBIC | Interpolation.BITEXACT
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        found = list(file.decode(stream))
        times = [float((frame.pts - found[0].pts) * stream.time_base) for frame in found]
        if file.format.name == "avi":
            times = [i / float(stream.average_rate) for i in range(len(found))]
        return times, np.stack([frame.to_ndarray(format="rgb24", interpolation=method) for frame in found])


@pytest.fixture(scope="module", params=FILES, ids=list(FILES))
def written(request) -> tuple[bytes, list[float], np.ndarray]:
    format, codec, more = FILES[request.param]
    data = write_video(format, codec, **more)
    return data, *plain(data)


def test_each_time_gets_the_frame_that_is_shown(written):
    data, times, pixels = written
    assert [number_of(frame) for frame in pixels] == list(range(30))
    asked = np.random.default_rng(0).uniform(-0.3, times[-1] + 0.3, 40).tolist() + times
    expected = [max((i for i, t in enumerate(times) if t <= s + 1e-9), default=0) for s in asked]
    with open_video(data) as video:
        close = [min(abs(t - s) for t in times) < video.frames.tick for s in asked[:40]]
        found = video.at(asked)
        for i, (frame, number) in enumerate(zip(found, expected, strict=True)):
            if i >= 40 or not close[i]:  # a time within a tick of a frame's begin is either's
                assert np.array_equal(frame, pixels[number]), (i, asked[i], number, number_of(frame))
        assert np.array_equal(video.at(asked), found)  # a second call, from where the first ended


def test_one_time_of_a_fresh_file_equals_the_plain_decode(written, monkeypatch):
    """Each seek arrives at the same frame as no seek."""
    monkeypatch.setattr(moving, "SAVED", 0.0)
    data, times, pixels = written
    for number in (29, 23, 11, 8, 7):
        with open_video(data) as video:
            assert np.array_equal(video.at([times[number]])[0], pixels[number])
    with open_video(data) as video:
        for number in (29, 3, 17, 16, 28, 0, 12):
            assert np.array_equal(video.at([times[number]])[0], pixels[number])


def test_facts_and_times_of_all_frames(written):
    data, times, _ = written
    with open_video(data) as video:
        assert (video.width, video.height) == (64, 48)
        assert video.frame_times() == pytest.approx(times, abs=1.5 * video.frames.tick)
        assert video.measure_seconds() == pytest.approx(times[-1] + 0.1, abs=0.11)
        assert video.codec in ("h264", "hevc", "mpeg4", "vp9", "vp8")


def test_stated_lengths_and_rates():
    for format, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx")):
        with open_video(write_video(format, codec)) as video:
            assert (video.seconds, video.fps, video.is_open_ended) == (pytest.approx(3.0, abs=0.01), 10.0, False)
    with open_video(write_video("matroska", "mpeg4", container={"live": "1"})) as video:
        assert (video.seconds, video.is_open_ended) == (pytest.approx(3.0, abs=0.11), True)


def test_a_seek_saves_frames_and_none_is_made_for_a_near_time(monkeypatch):
    data = write_video("mp4", "libx264", frames=120, gop=10, options={"x264-params": "scenecut=0"})
    decoded = []
    shown = moving.Frames._next
    monkeypatch.setattr(moving.Frames, "_next", lambda self: decoded.append(1) or shown(self))
    with open_video(data) as video:
        assert number_of(video.at([11.9])[0]) == 119 % 32
        assert len(decoded) < 20
        decoded.clear()
        video.at([i / 10 for i in range(120)])
        assert 119 <= len(decoded) <= 125


class Container:
    """A container whose seek is another function of (container, place)."""

    def __init__(self, inner, seek):
        self.inner, self._seek = inner, seek

    def seek(self, place, stream):
        self._seek(self.inner, place, stream)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def fails(inner, place, stream):
    raise av.error.InvalidDataError(1, "index")


def too_far(inner, place, stream):
    """Arrive two seconds behind the place, as by an index of another clock."""
    inner.seek(place + round(2 / stream.time_base), stream=stream)


def not_at_a_key_frame(inner, place, stream):
    """Arrive at the first frame behind the place, as by an index that marks every frame."""
    inner.seek(place, stream=stream, any_frame=True)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("seek", [fails, too_far, not_at_a_key_frame])
def test_a_broken_index_falls_back_to_the_start(seek, codec):
    data = write_video("mp4", codec, frames=60, gop=60)
    _, pixels = plain(data)
    with open_video(data) as video:
        video.opened.container = Container(video.opened.container, seek)
        assert np.array_equal(video.at([4.5, 0.2])[[1, 0]], pixels[[2, 45]])


@pytest.mark.parametrize("turn", [0, 90, 180, -90])
def test_a_turned_video_is_upright(turn):
    """A player turns it to the left: so the red quarter wanders."""
    with open_video(write_video("mp4", "libx264", frames=2, turn=turn)) as video:
        frame = video.at([0])[0]
    expected = np.rot90(picture(0), turn // 90 % 4)
    assert (video.width, video.height) == expected.shape[1::-1]
    assert np.abs(frame.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("flip", ["hflip", "vflip"])
@pytest.mark.parametrize("turn", [0, 90])
def test_a_mirrored_video_is_upright(turn, flip):
    """The display matrix (a, b, c, d) sends (x, y) to (a·x + c·y, b·x + d·y): a plain loop over pixels."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(turn, **{flip: True})
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), "rgb24")))
        file.mux(stream.encode(None))
    with open_video(out.getvalue()) as video:
        frame = video.at([0])[0]
        matrix = next(d for d in video.frames.first.frame.side_data if d.type.name == "DISPLAYMATRIX")
    a, b, c, d = np.sign(np.frombuffer(bytes(matrix), np.int32)[[0, 1, 3, 4]])
    stored = plain(out.getvalue())[1][0]
    xs, ys = a * np.arange(64)[None] + c * np.arange(48)[:, None], b * np.arange(64)[None] + d * np.arange(48)[:, None]
    expected = np.zeros_like(frame)
    for y in range(48):
        for x in range(64):
            expected[ys[y, x] - ys.min(), xs[y, x] - xs.min()] = stored[y, x]
    assert np.array_equal(frame, expected)


def test_frames_are_scaled_while_they_are_decoded():
    data = write_video("mp4", "libx264", size=(160, 96))
    with open_video(data) as video:
        small = video.at([0.5, 2.0], side=24)
        assert small.shape == (2, 24, 40, 3)
        assert [number_of(frame) for frame in small] == [5, 20]
        assert video.at([0.5], side=1000).shape == (1, 96, 160, 3)
        assert video.at([], side=24).shape == (0, 24, 40, 3)
        with pytest.raises(ValueError, match="side=0"):
            video.at([0], side=0)
        with pytest.raises(ValueError, match="finite numbers"):
            video.at([float("nan")])


def test_a_change_of_size_inside_keeps_the_first_size():
    """Two H.264 streams of different sizes, one after the other, as a live stream has them."""
    parts = [write_video("h264", "libx264", frames=5, size=size) for size in ((64, 48), (128, 96))]
    with (
        av.open(io.BytesIO(b"".join(parts)), format="h264") as raw,
        av.open(out := io.BytesIO(), "w", "matroska") as file,
    ):
        stream = file.add_stream_from_template(raw.streams.video[0])
        for i, packet in enumerate(packet for packet in raw.demux(video=0) if packet.size):
            packet.pts = packet.dts = 40 * i
            packet.stream, packet.time_base = stream, stream.time_base or packet.time_base
            file.mux(packet)
    with open_video(out.getvalue()) as video:
        times = video.frame_times()
        assert video.at(times.tolist()).shape == (10, 48, 64, 3)


def test_sound_begins_with_the_first_frame():
    for format, codec, sound in (("mp4", "libx264", "aac"), ("webm", "libvpx", "libopus")):
        with open_video(write_video(format, codec, sound=sound)) as video:
            assert video.has_sound
            wave, rate = video.sound()
        assert rate == 48000
        assert len(wave) == pytest.approx(3 * 48000, abs=500)
        assert np.corrcoef(wave[4800:9600], tone(3.0)[4800:9600])[0, 1] > 0.99
    with open_video(write_video("mp4", "libx264")) as silent:
        assert not silent.has_sound
        with pytest.raises(BadSample, match=r"video/no-sound"):
            silent.sound()


def test_threads_do_not_change_a_frame():
    data = write_video("mp4", "libx264", size=(320, 240))
    with open_video(data) as video:
        assert video.frames.stream.codec_context.thread_count == 1
        first = video.at([0.0, 1.0, 2.0])
    with open_video(data) as video:
        assert np.array_equal(video.at([2.0, 1.0, 0.0])[::-1], first)


@pytest.mark.parametrize(("codec", "sound"), [("libx264", None), ("libx264", "aac"), ("mpeg4", None)])
def test_an_edit_list_hides_frames_and_their_sound(codec, sound):
    """The first eight frames lie before zero, as in a clip that was cut without encoding it anew."""
    whole = write_video("mp4", codec, gop=30, sound=sound)
    _, pixels = plain(whole)
    with open_video(shift(whole, -0.8)) as video:
        assert video.seconds == pytest.approx(2.2)
        assert np.array_equal(video.at([0.0, 1.0, 2.1, 0.3]), pixels[[8, 18, 29, 11]])
        assert len(video.frame_times()) == 22
        if sound:
            wave, rate = video.sound()
            assert len(wave) == round(2.2 * rate)
            assert np.corrcoef(wave[:4800], tone(3.0)[round(0.8 * rate) :][:4800])[0, 1] > 0.99
    with open_video(shift(whole, 0.7)) as late:
        assert np.array_equal(late.at([0.0, 1.0, 2.9]), pixels[[0, 10, 29]])
        assert late.seconds == pytest.approx(3.0)
