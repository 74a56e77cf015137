"""Video: frames at stated times, each the row that Image makes of it, and draws that no worker changes."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from videos import number_of, picture, write_video

from align.checkpoint.describe import build, describe
from align.data import Loader, Shards, ShardWriter
from align.media.videos.reading import open_video
from align.preprocess import Bytes, Image, Video
from align.preprocess.video_source import MEMORY, _side
from align.preprocess.video_times import choose_times
from align.values import BadSample

SMALL = {"size": 24, "mean": "half"}


@pytest.fixture(scope="module")
def clip():
    return write_video(frames=30, fps=10)  # 3 s, its frames tell their number


def numbers(row):
    return [number_of(frame.permute(1, 2, 0).numpy()) for frame in row]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_evaluation_reads_the_middles_of_equal_parts(clip):
    for frames in (1, 2, 3, 8):
        wanted = [int(10 * 3 * (i + 0.5) / frames + 1e-9) for i in range(frames)]
        assert numbers(Video(frames, **SMALL).row(clip)) == wanted


def test_fps_reads_whole_parts_and_a_mask_says_how_many(clip):
    short = write_video(frames=12, fps=10)  # 1.2 s
    video = Video(8, fps=2, **SMALL)
    rows = [video.row(clip), video.row(short), video.row(write_video(frames=3, fps=10))]
    assert [numbers(row) for row in rows] == [[2, 7, 12, 17, 22, 27], [2, 7], [1]]
    assert numbers(Video(4, fps=2, **SMALL).row(clip)) == [3, 11, 18, 26]  # too long for it: equal parts
    values = video.collate(rows)
    assert values["values"].shape == (3, 8, 3, 24, 24)
    assert values["mask"].sum(1).tolist() == [6, 2, 1]
    for i, row in enumerate(rows):
        assert torch.equal(values["values"][i, : len(row)], row)
        assert not values["values"][i, len(row) :].any()


def test_training_reads_a_random_time_of_each_part(clip):
    video, seen = Video(3, crop_scale=(1, 1), **SMALL), set()
    for seed in range(30):
        found = numbers(video.row(clip, rng(seed)))
        assert all(10 * i <= n < 10 * (i + 1) for i, n in enumerate(found))
        assert found == numbers(video.row(clip, rng(seed)))
        seen.update(found)
    assert len(seen) > 20  # of 30
    times = choose_times(3.0, 3, None, rng(7))
    assert times == [(i + u) * 1.0 for i, u in enumerate(torch.rand(3, generator=rng(7)).tolist())]


@pytest.mark.parametrize("preset", [None, "openai-clip", "siglip", "imagenet", "clip-hf", "pe-core"])
def test_a_frame_is_the_row_that_image_makes_of_it(clip, preset):
    video, image = Video(3, size=20, preset=preset, flip=True), Image(20, preset=preset, flip=True)
    with open_video(clip) as opened:
        stills = opened.at([0.5, 1.5, 2.5])
    pictures = [png(still) for still in stills]
    row = video.row(clip)
    for frame, data in zip(row, pictures, strict=True):
        assert torch.equal(frame, image.row(data))
    given = torch.stack([image.row(data) for data in pictures])
    device = video.device(video.collate([row, row[:2]]))
    assert torch.equal(device["values"][0], image.device(image.collate(list(given))))
    assert device["mask"].tolist() == [[True] * 3, [True, True, False]]


def png(pixels, mode="RGB"):
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(out, "PNG")
    return out.getvalue()


def test_all_frames_of_a_video_have_one_crop(clip):
    video, image = Video(4, flip=True, crop_scale=(0.3, 0.6), **SMALL), Image(flip=True, crop_scale=(0.3, 0.6), **SMALL)
    mirrored = set()
    for seed in range(6):
        draws = rng(seed)
        row = video.row(clip, rng(seed))
        times = choose_times(3.0, 4, None, draws)
        state = draws.get_state()
        with open_video(clip) as opened:
            for frame, still in zip(row, opened.at(times), strict=True):
                draws.set_state(state)
                assert torch.equal(frame, image.train(image.decode(still), draws))
        mirrored.add(bool(row[0, 0, :, 0].float().mean() < row[0, 0, :, -1].float().mean()))
    assert mirrored == {True, False}


@pytest.mark.parametrize("preset", [None, "openai-clip", "imagenet"])
def test_a_picture_is_a_video_of_one_frame(tmp_path, preset):
    pixels, video, image = picture(3), Video(5, size=20, preset=preset), Image(20, preset=preset)
    (tmp_path / "a.png").write_bytes(png(pixels, "RGBA"))
    for source in (png(pixels), png(pixels, "RGBA"), tmp_path / "a.png", str(tmp_path / "a.png"), pixels):
        assert torch.equal(video.row(source), image.row(source)[None])
    assert torch.equal(video.row(PIL.Image.fromarray(pixels)), image.row(pixels)[None])
    assert torch.equal(video.row(pixels, rng(3))[0], image.row(pixels, rng(3)))
    assert video.collate([video.row(pixels)])["mask"].tolist() == [[True] + [False] * 4]


def test_arrays_of_frames_are_videos():
    frames = np.stack([picture(i) for i in range(9)])
    video = Video(3, **SMALL)
    assert numbers(video.row(frames)) == [1, 4, 7]
    assert torch.equal(video.row(torch.from_numpy(frames).permute(0, 3, 1, 2)), video.row(frames))
    for array, reason in (
        (frames[:0], "video/empty"),
        (frames.astype(np.float32), "video/dtype"),
        (frames[..., :2], "video/shape"),
    ):
        with pytest.raises(BadSample, match=reason):
            video.row(array)


def test_few_frames_repeat_and_one_is_enough():
    assert numbers(Video(6, **SMALL).row(write_video(frames=2, fps=10))) == [0, 0, 0, 1, 1, 1]
    assert numbers(Video(3, **SMALL).row(write_video(frames=1, fps=10))) == [0, 0, 0]
    assert numbers(Video(3, fps=1, **SMALL).row(write_video(frames=1, fps=10), rng())) == [0]


def test_bad_sources_say_so(tmp_path, clip):
    video = Video(2, **SMALL)
    for source in (b"", b"no video at all", clip[: len(clip) // 3]):
        with pytest.raises(BadSample, match=r"^video/"):
            video.row(source)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.mp4"):
        video.row(tmp_path / "gone.mp4")
    with pytest.raises(TypeError):
        video.row(3)
    for arguments, says in (({"frames": 0}, "frames=0"), ({"fps": 0}, "fps=0"), ({"crop": 2}, "crop=2")):
        with pytest.raises(ValueError, match=says):
            Video(**arguments)


def test_the_contract(clip):
    """Of test_preprocess_base, for values that are a dict."""
    video = Video(3, fps=4, flip=True, **SMALL)
    x = video.decode(clip)
    assert x.shape == (3, 3, 48, 64)
    assert torch.equal(video.eval(x), video.row(clip))
    assert video.train(x, rng()).shape == (3, 3, 24, 24)
    assert video.keep(clip) is None  # its draws choose the frames
    before = torch.get_rng_state()
    rows = [video.row(clip, rng(i)) for i in range(3)]
    assert torch.equal(before, torch.get_rng_state())
    empty, all_three = video.collate([]), video.collate(rows)
    assert empty["values"].shape == (0, 3, 3, 24, 24)
    assert empty["mask"].shape == (0, 3)
    assert video.device(empty)["values"].shape == (0, 3, 3, 24, 24)
    for name, joined in all_three.items():
        parts = [video.collate(rows[:1])[name], empty[name], video.collate(rows[1:])[name]]
        assert torch.equal(torch.cat(parts), joined)
    with pytest.raises(ValueError, match=r"row 0 has shape \(4, 3, 24, 24\)"):
        video.collate([torch.zeros(4, 3, 24, 24, dtype=torch.uint8)])
    said = json.loads(json.dumps(describe(video)))
    for other in (build(said), pickle.loads(pickle.dumps(video))):
        assert repr(other).replace("[", "(").replace("]", ")") == repr(video)
        assert torch.equal(other.row(clip), video.row(clip))


def test_no_worker_and_no_epoch_but_its_own_changes_a_row(tmp_path, clip):
    with ShardWriter(tmp_path, "train") as writer:
        for i in range(10):
            bad = {"video.mp4": b"broken"} if i == 4 else {"video.mp4": write_video(frames=6 + i, fps=10)}
            writer.write(f"{i:03d}", {**bad, "text.txt": b"a video"})
    readers = {"video": Video(3, size=8, flip=True), "text": Bytes(context=8)}

    def load(workers):
        shards = Shards(str(tmp_path / "train-*.tar"), max_bad=1)
        loader = Loader(shards, readers, batch=5, train=True, seed=3, steps=4, workers=workers)
        found = list(loader)
        loader.close()
        return found

    one = load(0)
    for a, b in zip(one, load(2), strict=True):
        for name in ("values", "mask"):
            assert torch.equal(a["video"].values[name], b["video"].values[name])
        assert torch.equal(a["video"].sample, b["video"].sample)
    assert sum(len(batch["video"].sample) for batch in one[:2]) == 9  # the broken one cost its row alone
    assert sum(len(batch["text"].sample) for batch in one[:2]) == 10
    first, again = ({batch.ids[int(s)]: row for batch in pair for row, s in rows(batch)} for pair in (one[:2], one[2:]))
    assert any(not torch.equal(first[key], again[key]) for key in first)


def rows(batch):
    return zip(batch["video"].values["values"], batch["video"].sample, strict=True)


def test_large_frames_are_scaled_while_they_are_decoded():
    assert _side(1080, 1920, 8, 224) is None
    assert _side(4320, 7680, 1, 224) is None
    side = _side(4320, 7680, 8, 224)
    assert side is not None
    assert 8 * 3 * side * (side * 7680 / 4320) <= MEMORY
    assert _side(4320, 7680, 4000, 224) == 224  # never below the size of the row
    assert _side(200, 10_000_000, 8, 224) is None


LONG = """
import sys, resource
from align.preprocess import Video
source = open(sys.argv[1], "rb").read()
video = Video(8, size=32, mean="half")
video.row(source)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
row = Video(int(sys.argv[2]), size=32, mean="half").row(source)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(row))
"""


@pytest.mark.slow
def test_memory_is_that_of_the_frames_that_are_read(tmp_path):
    """A video of 1,500 frames, whose pixels would take 86 MB."""
    path = tmp_path / "long.mp4"
    pixels = [picture(i, 160, 120) for i in range(32)]
    films = [pixels[i % 32] for i in range(1500)]
    path.write_bytes(write_video(frames=1500, fps=10, gop=50, size=(160, 120), pictures=films))
    run = subprocess.run([sys.executable, "-c", LONG, str(path), "64"], capture_output=True, text=True, check=True)
    kib, frames = map(int, run.stdout.split())
    assert frames == 64
    assert kib < 16 * 1024, f"{kib} KiB for 64 frames of 56 KiB"
