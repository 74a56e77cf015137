"""Frames of a video a CPU-second: `open_video` against PyAV alone, in turn, in one process and on one thread.

    python tests/benchmarks/video.py [FOLDER]

It writes two videos of noise that moves (H.264, 1280 x 720, a key frame every 250 frames) into FOLDER once, a dense one
of 30 s at 30 frames/s and a long one of 10 minutes at 5 frames/s, and then prints for each task the frames or times a
CPU-second of either side, their ratio and the largest memory. About 4 minutes on one core.

Library alone: a plain loop over `container.decode`, with 16 wanted frames to an array. For sparse times it is one seek
and a plain loop for each.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from align.media.videos.reading import open_video

SIZE = (1280, 720)
ROUNDS = 3


def write(path: Path, seconds: int, fps: int) -> Path:
    """Write a video of smooth noise that moves, unless it is there."""
    import av

    if path.exists():
        return path
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 4, 3), dtype=np.uint8)
    wide = np.kron(coarse, np.ones((8, 8, 1), np.uint8))  # twice as wide as a frame
    with av.open(str(path.with_suffix(".part")), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *SIZE, "yuv420p", 250
        for i in range(seconds * fps):
            at = 3 * i % SIZE[0]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, at : at + SIZE[0]]), "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    path.with_suffix(".part").rename(path)
    return path


def alone_every(path: Path) -> int:
    """Decode every frame to RGB with PyAV alone, 16 to an array."""
    import av

    count, found = 0, []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count, stream.thread_type = 1, "NONE"
        for frame in file.decode(stream):
            found.append(frame.to_ndarray(format="rgb24", threads=1))
            if len(found) == 16:
                count, found = count + len(np.stack(found)), []
    return count + len(found)


def ours_every(path: Path) -> int:
    """Decode every frame through `at`, 16 to an array."""
    with open_video(path) as video:
        times = video.frame_times()
        return sum(len(video.at(times[i : i + 16])) for i in range(0, len(times), 16))


def sparse() -> list[float]:
    """Return 16 times spread over the long video."""
    return np.linspace(0.5, 599.0, 16).tolist()


def alone_sparse(path: Path) -> int:
    """Seek to each time and decode up to it with PyAV alone."""
    import av

    found = 0
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count, stream.thread_type = 1, "NONE"
        for seconds in sparse():
            target = round(seconds / float(stream.time_base))
            file.seek(target, stream=stream)
            held = None
            for frame in file.decode(stream):
                if frame.pts > target:
                    break
                held = frame
            found += len(held.to_ndarray(format="rgb24", threads=1)) > 0
    return found


def ours_sparse(path: Path) -> int:
    """Ask for all times together."""
    with open_video(path) as video:
        return len(video.at(sparse()))


def measure(name: str, alone: Callable[[Path], int], ours: Callable[[Path], int], path: Path) -> None:
    """Print the frames a CPU-second of both sides, in turn."""
    rates: dict[str, list[float]] = {"alone": [], "ours": []}
    for _ in range(ROUNDS):
        for side, task in (("alone", alone), ("ours", ours)):
            start = time.process_time()
            count = task(path)
            rates[side].append(count / (time.process_time() - start))
    best = {side: max(found) for side, found in rates.items()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}: PyAV alone {best['alone']:.1f}/CPU-s, ours {best['ours']:.1f}/CPU-s, "
        f"ratio {best['ours'] / best['alone']:.2f}; {memory:.0f} MB at most so far",
        flush=True,
    )


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    dense, long = write(folder / "dense.mp4", 30, 30), write(folder / "long.mp4", 600, 5)
    measure("every frame of 30 s of 720p", alone_every, ours_every, dense)
    measure("16 frames of 10 minutes of 720p", alone_sparse, ours_sparse, long)


if __name__ == "__main__":
    main()
