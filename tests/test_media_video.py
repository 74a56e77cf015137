"""The medium of videos, and the commands that meet it: build, check, show, stats, filter, split and a page's face."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import number_of, write_sound, write_video

from align.commands import main
from align.data import Shards
from align.media import MEDIA, VIDEO
from align.media.choice import advise, medium_of, modality_of
from align.media.samples import list_trials
from align.media.videos import face
from align.media.videos.reading import open_video
from align.media.videos.survey import mosaic
from align.page.faces import face as face_of
from align.serve.kinds import media_type, shown_type
from align.values import BadSample


def scene(seed: int) -> list[np.ndarray]:
    """Return 20 frames (96, 128, 3) of coarse noise that moves to the left."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 32, 3), dtype=np.uint8)
    wide = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return [wide[:, 3 * i : 3 * i + 128] for i in range(20)]


def film(seed: int, format: str = "mp4", codec: str = "libx264", **more) -> bytes:
    return write_video(format, codec, frames=20, size=(128, 96), pictures=scene(seed), **more)


def test_facts():
    data = film(0, sound="aac")
    about = VIDEO.describe(data)
    assert about == {"seconds": 2.0, "fps": 10.0, "width": 128, "height": 96, "codec": "h264", "sound": "sound"}
    assert VIDEO.say(about, 99) == "2 s, 128×96 h264 at 10 frames/s, sound, 99 bytes"
    measures = VIDEO.measure(about)
    assert measures.quantities == {"seconds": 2.0}
    assert measures.kinds == {"pixels": "128×96", "codec": "h264", "sound": "sound", "frames/s": "10"}


def test_read_returns_frames_spread_over_the_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(write_video("mp4", "libx264", frames=32))
    frames = VIDEO.read(tmp_path / "a.mp4")
    assert frames.shape == (8, 48, 64, 3)
    assert [number_of(frame) for frame in frames] == [2, 6, 10, 14, 18, 22, 26, 30]


def test_near_duplicates_are_found_and_others_are_not():
    def print_of(data: bytes) -> tuple[np.ndarray, np.ndarray]:
        found = VIDEO.examine(data, "mp4", "video")
        assert found.content is not None
        return VIDEO.fingerprint(found.content)

    first = print_of(film(0))
    small = write_video("mp4", "libx264", frames=20, pictures=[frame[::2, ::2] for frame in scene(0)])
    for other in (film(0, "webm", "libvpx"), film(0, "avi", "mpeg4"), small):
        bits, levels = print_of(other)
        assert np.unpackbits((bits ^ first[0]).view(np.uint8)).sum() <= 10
        assert np.abs(levels.astype(int) - first[1]).max() <= 24
    for seed in (1, 2, 3):
        bits, _ = print_of(film(seed))
        assert np.unpackbits((bits ^ first[0]).view(np.uint8)).sum() > 30
    assert mosaic(np.stack(scene(0))).shape == (64, 64, 3)


def test_oddities():
    def reasons(data: bytes, suffix: str) -> set[str]:
        return {note.reason for note in VIDEO.examine(data, suffix, "video").faults}

    assert reasons(film(0), "mp4") == set()
    assert reasons(film(0), "avi") == {"video/suffix"}
    assert reasons(film(0, "matroska", "mpeg4", container={"live": "1"}), "mkv") == {"video/open-ended"}
    assert reasons(write_video(size=(32, 16)), "mp4") == {"video/tiny"}
    assert VIDEO.examine(film(0, sound="aac"), "mp4", "video").properties == {"fps": "10", "sound": "sound"}


def test_a_face_is_a_moving_picture_of_bounded_size(monkeypatch):
    shown = VIDEO.face(film(0), "mp4")
    assert (shown.element, shown.more) == ("picture", {"type": "image/webp"})
    assert len(shown.data) <= 48_000
    with Image.open(io.BytesIO(shown.data)) as picture:
        assert (picture.n_frames, picture.size) == (12, (128, 96))  # pyright: ignore[reportAttributeAccessIssue]
    assert face_of("video", {"__key__": "a", "video.mp4": film(0)}) == shown
    monkeypatch.setattr(face, "LARGEST", 6000)
    with open_video(film(0)) as video:
        assert len(face.moving_webp(video)) <= 6000
    cells = VIDEO.sketch(film(0), colours=True)
    assert cells is not None
    assert len(cells[0]) == 16
    assert VIDEO.sketch(film(0), colours=False) is None


def test_names_of_files():
    assert modality_of(MEDIA, "mp4") == modality_of(MEDIA, "webm") == "video"
    assert modality_of(MEDIA, "m4a") == "audio"
    assert medium_of(MEDIA, "mp4") is VIDEO
    for modality, name in (("video", "video"), ("audio", "sound"), ("", "video")):
        medium = medium_of(MEDIA, "mp4", modality)
        assert medium is not None
        assert medium.name == name
    assert advise(MEDIA, Path("a b.wmv")) == "convert it: `ffmpeg -i 'a b.wmv' 'a b.mp4'`"
    assert (media_type("mp4"), media_type("m4a"), media_type("mkv")) == (
        "video/mp4",
        "audio/mp4",
        "application/octet-stream",
    )
    assert shown_type(film(0)[:256], "mp4") == "video/mp4"


def test_trials_of_doctor():
    for trial in list_trials():
        if trial.package == "av":
            trial.run()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    (folder / "source").mkdir()
    files = {f"{i}.mp4": film(i, sound="aac" if i % 2 else None) for i in range(5)}
    files |= {
        "5.webm": film(0, "webm", "libvpx"),
        "6.mp4": film(1, sound="aac")[:-300],
        "7.mov": b"no video",
        "8.mp4": b"",
    }
    files |= {"9.mp4": files["1.mp4"], "10.avi": film(7, "avi", "mpeg4")}
    for name, data in files.items():
        (folder / "source" / name).write_bytes(data)
        (folder / "source" / name).with_suffix(".txt").write_text(f"film {name}")
    assert main(["shards", "build", str(folder / "source"), str(folder / "shards"), "--max-bad", "1"]) == 0
    return folder / "shards"


def test_a_build_names_what_is_no_video(built):
    lines = [json.loads(line) for line in (built / "train-bad.jsonl").read_text().splitlines()]
    assert {line["key"]: line["reason"] for line in lines} == {"7": "video/format", "8": "video/empty"}
    shards = Shards(str(built / "*.tar"), shuffle=False, max_bad=1)
    assert {"text", "video"} <= set(shards.modalities)


def test_a_check_finds_faults_and_copies(built, capsys):
    assert main(["shards", "check", str(built), "--max-bad", "1"]) == 0
    said = capsys.readouterr().out
    for reason in ("video/truncated", "video/duplicate", "video/near-duplicate", "video/sound"):
        assert reason in said
    assert "5.video.webm: as 0.video.mp4" in said


def test_show_stats_filter_and_split(built, tmp_path, capsys):
    main(["shards", "show", str(built)])
    assert "2 s, 128×96 h264 at 10 frames/s" in capsys.readouterr().out
    main(["shards", "stats", str(built)])
    assert "video codec: h264" in capsys.readouterr().out
    assert main(["shards", "filter", str(built), str(tmp_path / "kept"), "--where", "width >= 128 and fps < 11"]) == 0
    assert len(Shards(str(tmp_path / "kept" / "*.tar"), shuffle=False)) == 8
    assert main(["shards", "split", str(built), str(tmp_path / "parts"), "--parts", "train=0.5,val=0.5"]) == 0


def test_names_of_other_programs(built, tmp_path):
    """A member ``mp4`` without a modality is a video, as img2dataset's and webdataset's ``jpg`` is a picture."""
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("x.mp4", film(0)), ("x.txt", b"a film"), ("y.m4a", write_sound("ipod", "aac"))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert set(Shards(str(tmp_path / "a.tar"), shuffle=False).modalities) == {"video", "text", "audio"}


def test_a_video_of_no_bytes_is_refused_by_a_build():
    with pytest.raises(BadSample, match="video/empty"):
        VIDEO.recode(b"", "mp4", "video", None)  # type: ignore[arg-type]
