"""Motions: tiny generated videos of a shape that moves, grows or shrinks, with captions. Nothing is downloaded.

    python datasets/motions.py shards/motions

One sample a video: ``video.mp4`` (64 x 64, 16 frames, 8 a second, MPEG-4), ``text.txt`` with "a red square moves
left" or "a blue disc grows", and ``json`` with ``label: {motion, shape, color}`` and ``group``: one number for each of
the 108 combinations. Sizes, places and backgrounds are drawn by seed. A video played backwards shows the opposite
motion, so the direction is in the order of the frames alone: a model that averages frames cannot tell left from right.

  what      2,000 train and 360 test videos by default, about 3 kB each
  licence   CC0 1.0
  cite      nothing; the videos are drawn here
  from      this script
  layout    --source is not read
  checksum  none: equal versions of PyAV and numpy write equal bytes
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from recipe import Samples, about, parser, run, text, write

SIDE, FRAMES, FPS = 64, 16, 8
SHAPES = ["square", "disc", "triangle"]
COLORS = {
    "red": (220, 50, 40),
    "green": (60, 190, 70),
    "blue": (60, 90, 230),
    "yellow": (230, 210, 60),
    "white": (235, 235, 235),
    "purple": (170, 70, 200),
}
MOTIONS = {  # the first of each pair; played backwards, it is the second
    "moves right": "moves left",
    "moves down": "moves up",
    "grows": "shrinks",
}
WORDS = [word for pair in MOTIONS.items() for word in pair]


def draw(shape: str, color: str, x: float, y: float, radius: float, background: np.ndarray) -> np.ndarray:
    """Return (SIDE, SIDE, 3) uint8, a shape around (x, y), in pixels."""
    v, u = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    u, v = (u - x) / radius, (v - y) / radius
    inside = {
        "square": np.maximum(abs(u), abs(v)) < 0.85,
        "disc": u**2 + v**2 < 1,
        "triangle": (v < 0.8) & (v > 2 * abs(u) - 1),
    }[shape]
    return np.where(inside[..., None], np.array(COLORS[color], np.uint8), background)


def film(motion: str, shape: str, color: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the frames of a video."""
    background = rng.integers(20, 70, 3) + rng.integers(0, 12, (SIDE, SIDE, 1))
    radius, far = rng.uniform(8, 12), rng.uniform(12, 18)
    across = rng.uniform(20, SIDE - 20)
    way = np.linspace(-1, 1, FRAMES)
    forward = next(first for first in MOTIONS if motion in (first, MOTIONS[first]))
    frames = []
    for t in way if motion == forward else way[::-1]:
        x, y, size = across, across, radius
        if forward == "moves right":
            x = SIDE / 2 + far * t
        elif forward == "moves down":
            y = SIDE / 2 + far * t
        else:
            size = radius * 1.6**t
        frames.append(draw(shape, color, x, y, size, background.astype(np.uint8)))
    return frames


def encode(frames: list[np.ndarray]) -> bytes:
    """An MP4. Raises ImportError without PyAV."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        stream.codec_context.qmin, stream.codec_context.qmax = 3, 6
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def samples(split: str, n: int, seed: list[int]) -> Samples:
    """(key, members) of n videos. Each combination comes before any comes again."""
    rng = np.random.default_rng(seed)
    combinations = [(motion, shape, color) for motion in WORDS for shape in SHAPES for color in COLORS]
    turns = np.concatenate([rng.permutation(len(combinations)) for _ in range(n // len(combinations) + 1)])[:n]
    for i, group in enumerate(turns.tolist()):
        motion, shape, color = combinations[group]
        known = about({"label": {"motion": motion, "shape": shape, "color": color}, "group": group})
        said = text([f"a {color} {shape} {motion}"])
        yield f"{split}-{i:06d}", {"video.mp4": encode(film(motion, shape, color, rng))} | said | known


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "nothing; the videos are drawn")
    made.add_argument("--train", type=int, default=2000, help="training videos (default: 2000)")
    made.add_argument("--test", type=int, default=360, help="test videos (default: 360)")
    args = made.parse_args(arguments)

    def work() -> None:
        classes = {"motion": WORDS, "shape": SHAPES, "color": list(COLORS)}
        for split, n in [("train", args.train), ("test", args.test)]:
            found = samples(split, n, [args.seed, split == "test"])
            write(args.out, split, found, classes=classes, licence="CC0-1.0")

    return run("motions.py", work)


if __name__ == "__main__":
    sys.exit(main())
