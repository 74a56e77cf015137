"""Videos that cannot be read say so in one line: cut, empty, lying, hostile, or no videos at all."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import sys
import time
import zlib
from contextlib import suppress

import av
import numpy as np
import pytest
from videos import number_of, shift, write_sound, write_video

from align.media import PICTURE, SOUND, VIDEO
from align.media.containers import opening
from align.media.containers.entries import count_entries
from align.media.videos.reading import open_video
from align.values import BadSample

MP4 = write_video("mp4", "mpeg4")
WEBM = write_video("webm", "libvpx")
AVI = write_video("avi", "mpeg4")
SONG = write_sound("ipod", "aac", seconds=0.2)
PIECES = write_video("mp4", "mpeg4", container={"movflags": "frag_keyframe+empty_moov"})


def memory() -> float:
    """Return the most megabytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def box(data: bytes, name: bytes) -> int:
    """Return the place of a box's length."""
    return data.index(name) - 4


def patched(data: bytes, at: int, number: bytes) -> bytes:
    return data[:at] + number + data[at + len(number) :]


def index_first(data: bytes) -> bytes:
    """Return an MP4 whose index stands before its frames, as on the web."""
    body, index = box(data, b"mdat"), box(data, b"moov")
    moved = data[index:]
    at = moved.index(b"stco") + 12  # behind the version and the count, one place for each chunk
    for i in range(int.from_bytes(moved[at - 4 : at], "big")):
        place = int.from_bytes(moved[at + 4 * i : at + 4 * i + 4], "big") + len(moved)
        moved = patched(moved, at + 4 * i, place.to_bytes(4, "big"))
    return data[:body] + moved + data[body:index]


def header_states(seconds: float) -> bytes:
    """Return a Matroska file of 3 s whose header states another length: the element Duration, of milliseconds."""
    data = write_video("matroska", "mpeg4")
    at = data.index(b"\x44\x89\x88") + 3
    return patched(data, at, struct.pack(">d", 1000 * seconds))


FAST = index_first(MP4)
CASES = {
    "no bytes": (b"", "video/empty: no bytes"),
    "a text": (
        b"Not a video, but a text that is named like one.\n" * 99,
        "video/format: it starts with b'Not a video,",
    ),
    "a playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "video/format: it starts with b'#EXTM3U"),
    "a script of files": (b"ffconcat version 1.0\nfile /etc/passwd\n", "video/format: it starts with b'ffconcat"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "video/format"),
    "an MP4 without its index": (MP4[: box(MP4, b"moov")], r"video/truncated: its index \(the box moov\) is missing"),
    "an MP4 cut in its index": (MP4[:-100], r"video/truncated: \d+ of \d+ bytes are there"),
    "an MP4 cut in its frames": (FAST[:-500], r"video/truncated: \d+ of \d+ bytes are there"),
    "an MP4 in pieces, cut": (PIECES[:-300], r"video/truncated: \d+ of \d+ bytes are there"),
    "a WebM cut": (WEBM[:-200], r"video/truncated: \d+ of \d+ bytes are there"),
    "an AVI cut": (AVI[:-4000], r"video/truncated: \d+ of \d+ bytes are there"),
    "an index past the end": (
        FAST[: box(FAST, b"mdat")] + (400).to_bytes(4, "big") + FAST[box(FAST, b"mdat") + 4 :][:396],
        r"video/truncated: its index points to byte \d+, and it has \d+",
    ),
    "a sound alone": (write_sound("mp4", "aac"), "video/no-frames: MP4 or QuickTime with audio: no moving pictures"),
    "a film without streams": (
        MP4[: box(MP4, b"moov")] + (8).to_bytes(4, "big") + b"moov",
        r"video/(no-frames|unreadable)",
    ),
    "an MP4 of a few bytes": (b"\0\0\0\x18ftypisom\0\0\0\1isomiso2", "video/truncated"),
    "a Matroska head alone": (WEBM[:40], "video/(unreadable|no-frames|truncated)"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_gets_one_line(name):
    data, said = CASES[name]
    for ask in (VIDEO.read, VIDEO.describe, lambda d: VIDEO.examine(d, "mp4", "video"), lambda d: VIDEO.face(d, "mp4")):
        with pytest.raises(BadSample, match=f"^{said}") as error:
            ask(data)
        assert "\n" not in str(error.value)


def test_a_file_is_named_in_its_message(tmp_path):
    (tmp_path / "a.mp4").write_bytes(MP4[:-100])
    with pytest.raises(BadSample, match=r"video/truncated: .*a\.mp4: "):
        VIDEO.read(tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError, match="no such file"):
        VIDEO.read(tmp_path / "b.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    for medium in (VIDEO, SOUND, PICTURE):
        with pytest.raises(OSError, match=r"a\.mp4 is a pipe or a device, not a file"):
            medium.read(tmp_path / "a.mp4")


def test_a_header_that_lies_about_the_length():
    """A check names it. Frames that the header states and the file lacks are not replaced by the last one."""
    long = header_states(1000)
    with open_video(long) as video:
        assert video.seconds > 900
        assert len(video.at([0.5, 1.0])) == 2
        with pytest.raises(BadSample, match=r"video/truncated: its header states 1000\.00 s; 3\.00 s are there"):
            video.at([500.0])
    notes = {note.reason: note.detail for note in VIDEO.examine(long, "mp4", "video").faults}
    assert "1000.00 s, its frames end at 3.00 s" in notes["video/length"]
    assert "video/length" not in {note.reason for note in VIDEO.examine(MP4, "mp4", "video").faults}


def test_a_length_beyond_a_day_is_refused():
    with pytest.raises(BadSample, match="video/too-long: 90000 s, at most 86400 s"):
        VIDEO.read(header_states(90_000))


def test_frames_of_zero_length():
    """One frame, with a length of 0 in every header: a video of one picture."""
    data = write_video("mp4", "mpeg4", frames=1)
    for name, place in ((b"mvhd", 24), (b"tkhd", 28), (b"mdhd", 24)):
        data = patched(data, box(data, name) + place, bytes(4))
    with open_video(data) as video:
        assert video.seconds == pytest.approx(0.1, abs=0.1)
        assert len(video.at([0.0, 5.0])) == 2
    assert "video/still" in {note.reason for note in VIDEO.examine(data, "mp4", "video").faults}


def test_a_header_of_huge_frames_is_refused_without_memory():
    data = write_video("matroska", "mpeg4")
    at = data.index(b"\xb0\x81\x40\xba\x81\x30")  # PixelWidth 64, PixelHeight 48
    before = memory()
    huge = data[:at] + b"\xb0\x81\xff\xba\x81\xff" + data[at + 6 :]
    assert VIDEO.read(huge).shape[0] == 8  # the codec's header says 64 x 48, and counts
    vp8 = bytearray(WEBM)
    place = vp8.index(b"\x9d\x01\x2a") + 3  # start code of a key frame, before its width and height
    while place > 3:
        vp8[place : place + 4] = b"\xff\x3f\xff\x3f"  # 16383 x 16383
        place = vp8.find(b"\x9d\x01\x2a", place) + 3
    with pytest.raises(BadSample, match=r"video/(corrupt|too-large|no-frames|unreadable)"):
        VIDEO.read(bytes(vp8))
    assert memory() - before < 400


def test_a_damaged_frame_is_bad_and_not_shown():
    data = bytearray(write_video("matroska", "mpeg4", frames=12, gop=12))
    with av.open(io.BytesIO(bytes(data))) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    wanted = bytes(packets[5])
    at = bytes(data).index(wanted)
    data[at : at + len(wanted)] = b"\xff" * len(wanted)
    with open_video(bytes(data)) as video:
        assert len(video.at([0.0, 0.3])) == 2
        with pytest.raises(BadSample, match=r"video/corrupt: a packet at 0\.50 s cannot be decoded"):
            video.at([0.9])


def test_without_the_package_one_line_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert not opening.has_package()
    with pytest.raises(BadSample, match=r"video/no-package: MP4 or QuickTime needs PyAV; pip install .*\[video\]"):
        VIDEO.read(MP4)
    with pytest.raises(BadSample, match=r"audio/format: its content is MP4.*ffmpeg -i FILE out\.flac.*\[video\]"):
        SOUND.read(SONG)
    with pytest.raises(BadSample, match=r"audio/format"):
        SOUND.recode(SONG, "m4a", "audio", None)  # type: ignore[arg-type]
    assert VIDEO.recode(MP4, "mp4", "video", None).data == MP4  # type: ignore[arg-type]


def test_no_other_file_is_opened(tmp_path, monkeypatch):
    """An index that refers to frames in another file (``dref``) does not open it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.mp4").write_bytes(MP4)
    at = box(FAST, b"url ")
    outside = patched(FAST, at + 8, bytes(4))  # the flag that says "in this file" is cleared
    opened = []

    def refuse(*args: object) -> None:
        opened.append(args)
        raise PermissionError

    monkeypatch.setattr(opening, "_refuse_other_file", refuse)
    with suppress(BadSample):
        VIDEO.read(outside)
    assert not opened


def test_far_key_frames_are_bounded(monkeypatch):
    from align.media.videos import frames

    monkeypatch.setattr(frames, "FAR", 20)
    data = write_video("mp4", "libx264", frames=60, gop=600, options={"x264-params": "scenecut=0"})
    with (
        open_video(data) as video,
        pytest.raises(BadSample, match=r"video/too-long: more than 20 frames lie before 5\.00 s"),
    ):
        video.at([5.0])


def test_ten_hours_are_read_in_memory_and_time_of_minutes():
    """A frame a minute for ten hours, each a key frame, as a slow camera writes them."""
    data = write_video("mp4", "mpeg4", frames=600, gop=1, ticks=[60 * i for i in range(600)], clock=1)
    with open_video(data) as video:
        assert video.seconds == pytest.approx(36_000, abs=61)
        start = time.process_time()
        video.at([35_000.0, 100.0, 17_000.0])
        assert time.process_time() - start < 0.5


def mutations(count: int, first: int = 0):
    """Yield damaged files: bytes, numbers, insertions, gaps and cuts, in the body and in the headers."""
    made = [
        MP4, WEBM, AVI, FAST, PIECES, write_video("mp4", "libx264", sound="aac"),
        write_video("webm", "libvpx-vp9", sound="libopus"), write_sound("ipod", "aac"), write_sound("adts", "aac"),
    ]  # fmt: skip
    numbers = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\x80\0\0\0")
    for seed in range(first, first + count):
        draw = random.Random(seed)
        data = bytearray(draw.choice(made))
        how = draw.randrange(6)
        for _ in range(draw.choice([1, 3, 10, 40])):
            ends = min(len(data), 1500)
            at = draw.randrange(len(data)) if how < 4 else draw.choice([0, len(data) - ends]) + draw.randrange(ends)
            match how:
                case 0 | 4:
                    data[at] = draw.randrange(256)
                case 1 | 5:
                    data[at : at + 4] = draw.choice([*numbers, draw.randbytes(4)])
                case 2:
                    data[at:at] = draw.randbytes(draw.randrange(1, 9))
                case _:
                    del data[at : at + draw.randrange(1, 9)]
        yield bytes(data[: draw.randrange(len(data))] if draw.random() < 0.1 else data)


def attack(count: int, first: int = 0) -> dict[str, int]:
    found: dict[str, int] = {}
    for data in mutations(count, first):
        for medium, suffix in ((VIDEO, "mp4"), (SOUND, "m4a")):
            for ask in (lambda d, m=medium, s=suffix: m.examine(d, s, m.modality), medium.describe):
                start, reason = time.process_time(), "read"
                try:
                    ask(data)
                except BadSample as error:
                    reason = error.reason if "\n" not in str(error) else "two lines"
                assert time.process_time() - start < 20
                found[reason] = found.get(reason, 0) + 1
    return found


def test_a_few_damaged_files():
    assert len(attack(12)) > 2


@pytest.mark.sweep
def test_200_damaged_files_end_in_time_and_memory():
    before = memory()
    found = attack(200)
    assert found["read"] > 50
    known = {"truncated", "corrupt", "unreadable", "empty", "too-large", "rate", "non-finite", "range"}
    assert set(found) <= {*VIDEO.reasons, *SOUND.reasons, "read", *(f"audio/{reason}" for reason in known)}
    assert memory() - before < 1500


@pytest.mark.sweep
def test_a_frame_of_8k_is_scaled_in_bounded_memory():
    data = write_video("mp4", "libx264", frames=6, size=(7680, 4320), options={"preset": "ultrafast"})
    before = memory()
    with open_video(data) as video:
        assert video.at([0.0, 0.3], side=256).shape == (2, 256, 455, 3)
    assert memory() - before < 1000


def test_frames_are_still_or_black():
    black = [np.zeros((48, 64, 3), np.uint8)] * 5
    assert [n.reason for n in VIDEO.examine(write_video(frames=5, pictures=black), "mp4", "video").faults] == [
        "video/black"
    ]


def stated(data: bytes, **tables: bytes) -> bytes:
    """Return an MP4 with other content in boxes of its index. The lengths of their parents follow."""
    for name, content in tables.items():
        at = box(data, name.encode())
        old = int.from_bytes(data[at : at + 4], "big")
        data = data[:at] + (8 + len(content)).to_bytes(4, "big") + data[at + 4 : at + 8] + content + data[at + old :]
        for parent in (b"moov", b"trak", b"edts" if name == "elst" else b"mdia", b"minf", b"stbl"):
            place = box(data, parent)
            if name == "elst" and parent in (b"minf", b"stbl"):
                continue
            length = int.from_bytes(data[place : place + 4], "big") + 8 + len(content) - old
            data = patched(data, place, length.to_bytes(4, "big"))
    return data


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def compressed(data: bytes) -> bytes:
    """Return an MP4 with its index compressed, as QuickTime wrote it."""
    at = box(data, b"moov")
    packed = zlib.compress(data[at:])
    cmvd = numbers(12 + len(packed)) + b"cmvd" + numbers(len(data) - at) + packed
    dcom = numbers(12) + b"dcom" + b"zlib"
    return data[:at] + numbers(16 + len(dcom + cmvd)) + b"moov" + numbers(8 + len(dcom + cmvd)) + b"cmov" + dcom + cmvd


def test_an_index_that_states_millions_of_samples_is_refused_before_it_is_read():
    """A table of one size, a run of a piece and an edit list state their numbers in a few bytes."""
    many = 100_000_000
    one_size = stated(MP4, stsz=numbers(0, 1, many), stsc=numbers(0, 1, 1, many, 1))
    edits = stated(
        MP4,
        stsz=numbers(0, 1, 40_000),
        stsc=numbers(0, 1, 1, 40_000, 1),
        elst=numbers(0, 3000) + numbers(1000, 0, 1 << 16) * 3000,
    )
    run = patched(PIECES, box(PIECES, b"trun") + 12, numbers(many))
    plain = write_sound("mov", "pcm_s16le", seconds=0.1)
    sound = stated(plain, stsc=numbers(0, 1, 1, 2**31, 1), stco=numbers(0, 99, *[100] * 99))
    before, start = memory(), time.process_time()
    for data in (one_size, edits, run, compressed(one_size), sound):
        for ask, modality in ((VIDEO.read, "video"), (SOUND.describe, "audio")):
            with pytest.raises(BadSample, match=rf"{modality}/too-large: its index states more than \d+,\d+ samples$"):
                ask(data)
    assert memory() - before < 100
    assert time.process_time() - start < 2


def test_an_index_of_usual_numbers_is_counted_as_ffmpeg_does():
    for data in (MP4, FAST, PIECES, compressed(MP4), write_video("mov", sound="pcm_s16le")):
        counted = count_entries(io.BytesIO(data), len(data))
        with av.open(io.BytesIO(data)) as file:
            entries = sum(len(stream.index_entries) for stream in file.streams)
        assert entries <= counted <= entries + 300


def test_frames_above_the_limit_are_refused_where_no_header_states_their_size(monkeypatch):
    """The probing gives up such a frame, and leaves the size open. The decoder needs the limit too."""
    from align.media.videos import frames

    data = write_video("avi", "png", frames=2, pix_fmt="rgb24")
    assert VIDEO.read(data).shape[0] == 8
    monkeypatch.setattr(frames, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(BadSample, match=r"video/corrupt: a packet at 0\.00 s cannot be decoded"):
        VIDEO.read(data)


def test_an_avi_that_was_written_to_a_pipe_is_measured():
    """Its header then states a length that is made up."""
    data = bytearray(AVI)
    data[4:8] = b"\xff" * 4
    at = bytes(data).index(b"vids") + 32  # the number of frames in the header of the stream
    data[at : at + 4] = (20_000).to_bytes(4, "little")
    with open_video(bytes(data)) as video:
        assert video.is_open_ended
        assert video.seconds == pytest.approx(3.0)
        assert len(video.at([2.9])) == 1


def test_a_matroska_file_that_begins_late_is_whole():
    """Its length may count the time before the first frame."""
    data = shift(write_video("matroska", "mpeg4", sound="libopus"), 20, "matroska")
    with open_video(data) as video:
        assert video.seconds == pytest.approx(3.0, abs=0.1)
        assert len(video.at([0.0, 2.9])) == 2
    assert "video/length" not in {note.reason for note in VIDEO.examine(data, "mkv", "video").faults}
    song = shift(write_sound("matroska", "libopus", seconds=2.0), 20, "matroska")
    assert len(SOUND.read(song)[0]) == pytest.approx(2 * 48000, abs=400)
    assert SOUND.describe(song)["seconds"] == pytest.approx(2.0, abs=0.1)


def before_zero(data: bytes, count: int) -> bytes:
    """Return a Matroska file whose first ``count`` frames have times below zero, as FFmpeg 5 wrote them."""
    with av.open(io.BytesIO(data)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    head = bytearray(data[: data.index(b"\x1f\x43\xb6\x75")])
    at = head.index(b"\x18\x53\x80\x67") + 4
    head[at : at + 8] = b"\x01" + b"\xff" * 7  # the segment has no size
    body = b"\xe7\x81\x00"  # the cluster begins at zero, and its blocks state times from there
    for packet in packets:
        block = b"\x81" + struct.pack(">h", packet.pts - packets[count].pts) + b"\x80" + bytes(packet)
        body += b"\xa3" + (len(block) | 1 << 56).to_bytes(8, "big") + block
    return bytes(head) + b"\x1f\x43\xb6\x75" + (len(body) | 1 << 56).to_bytes(8, "big") + body


def test_frames_before_the_zero_of_a_matroska_file_are_not_shown():
    """They have no time in FFmpeg. Counted from the first, they would hide those behind zero."""
    data = before_zero(write_video("matroska", "libx264", gop=5), 10)
    with open_video(data) as video:
        assert [number_of(frame) for frame in video.at([0.0, 0.5, 1.9])] == [10, 15, 29]
        assert len(video.frame_times()) == 20


def test_memory_that_runs_out_is_no_fault_of_the_file(monkeypatch):
    """An 8K frame of ten bits may not fit into what a server gives its decoder: "too large", not "corrupt"."""
    from align.media.videos.pixels import Upright

    refusal = av.error.MemoryError(12, "Cannot allocate memory")

    def refuse(*args: object, **settings: object) -> None:
        raise refusal

    monkeypatch.setattr(Upright, "convert", refuse)
    with pytest.raises(BadSample, match=r"^video/too-large: it needs more memory than there is$"):
        VIDEO.read(MP4)
    with open_video(MP4) as video:
        assert video.opened.undecodable(refusal, "a packet").reason == "video/too-large"
        assert video.opened.undecodable(av.error.InvalidDataError(1, "x"), "a packet").reason == "video/corrupt"
