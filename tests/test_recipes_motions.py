"""The recipe of generated motions: each combination, the same bytes again, and directions that mirror each other."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from made_sets import read, recipe

from align.media.videos.reading import open_video

motions = recipe("motions")


def test_the_videos_are_those_that_the_captions_say(tmp_path):
    for out in ("a", "b"):
        assert motions.main([str(tmp_path / out), "--train", "12", "--test", "6"]) == 0
    bytes_of = [hashlib.sha256((tmp_path / out / "train-000000.tar").read_bytes()).hexdigest() for out in ("a", "b")]
    assert bytes_of[0] == bytes_of[1]
    train = read(tmp_path / "a", "train")
    assert len(train) == 12
    assert len(read(tmp_path / "a", "test")) == 6
    for sample in train.values():
        about = json.loads(sample["json"])["label"]
        assert sample["text.txt"].decode() == f"a {about['color']} {about['shape']} {about['motion']}"
        with open_video(sample["video.mp4"]) as video:
            assert (video.width, video.height, video.fps, video.seconds) == (64, 64, 8, 2)
            first, last = (place(frame, about["color"]) for frame in video.at([0, 1.9]))
        change = {"moves left": (-1, 0, 0), "moves right": (1, 0, 0), "moves up": (0, -1, 0), "moves down": (0, 1, 0)}
        wanted = change.get(about["motion"], (0, 0, 1 if about["motion"] == "grows" else -1))
        moved = last - first
        assert np.array_equal(np.sign(moved) * (abs(moved) > (8, 8, 60)), wanted), about["motion"]


def place(frame, color):
    """(x, y, pixels) of a shape."""
    inside = abs(frame.astype(int) - motions.COLORS[color]).sum(-1) < 120
    y, x = np.nonzero(inside)
    return np.array([x.mean(), y.mean(), inside.sum()])


def test_a_video_played_backwards_is_the_opposite_motion():
    for forward, back in motions.MOTIONS.items():
        one, other = (motions.film(motion, "disc", "red", np.random.default_rng(3)) for motion in (forward, back))
        assert all(np.array_equal(a, b) for a, b in zip(one, other[::-1], strict=True))
