"""Loading against open_clip's training transform in a plain webdataset + DataLoader: samples per second and per CPU
second, with 0, 1 and 2 workers, both sides in one run on the same shards.

    python tests/benchmarks/loading.py                   # images, sounds, clouds, and the loader without decoding
    python tests/benchmarks/loading.py --only images --workers 0

Images are photo-like 500x375 JPEGs of about 60 kB, cropped to 224 and delivered as normalised float32 batches; sounds
5 s windows of 30 s FLAC at 16 kHz, as waves; clouds 10,000 points brought to 1,024. The peers of the sounds and clouds
are what a first webdataset pipeline does, without a check of what was read. CPU seconds include the workers'. Sides
alternate; the best of the rounds counts, and of the memory the most. Memory is the peak, over the batches, of what the
process that reads (a worker, the larger one) wrote itself: its private dirty pages, above those that it had once the
libraries were imported, before the data was opened. What a worker shares with its parent, its imports, is not in it.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.data import Loader, Shards, ShardWriter
from align.preprocess import Array, Audio, Image, Points

BATCH = 64
ROW = torch.zeros(4)
Side = Callable[[str, int], Iterable[Tensor]]


class Measured(NamedTuple):
    wall: float  # samples a second
    cpu: float  # samples a CPU second
    memory: float  # MiB


def photo(draw: np.random.Generator) -> bytes:
    """A 500x375 JPEG of smooth structure and grain, about 60 kB."""
    from PIL import Image as Pictures

    y, x = np.mgrid[0:375, 0:500].astype(np.float32)
    waves = np.zeros((375, 500, 3), np.float32)
    for _ in range(8):
        slope = draw.uniform(0, 0.1, 2)
        waves += np.sin(x * slope[0] + y * slope[1] + draw.uniform(0, 6))[..., None] * draw.uniform(0, 1, 3)
    pixels = waves / np.abs(waves).max() * 100 + 128 + draw.normal(0, 9, waves.shape)
    out = io.BytesIO()
    Pictures.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def clip(draw: np.random.Generator) -> bytes:
    """30 s of FLAC at 16 kHz."""
    import soundfile

    t = np.arange(30 * 16000) / 16000
    wave = sum(np.sin(2 * np.pi * f * t) for f in draw.uniform(80, 2000, 4)) / 8 + draw.normal(0, 0.02, len(t))
    out = io.BytesIO()
    soundfile.write(out, wave, 16000, format="FLAC")
    return out.getvalue()


def cloud(draw: np.random.Generator) -> bytes:
    """10,000 points with colour, float32."""
    out = io.BytesIO()
    np.save(out, np.concatenate([draw.normal(size=(10_000, 3)), draw.random((10_000, 3))], 1).astype(np.float32))
    return out.getvalue()


def small(draw: np.random.Generator) -> bytes:
    """8 kB that nobody decodes."""
    return draw.bytes(8192)


def shards(folder: Path, suffix: str, make: Callable[[np.random.Generator], bytes], count: int) -> str:
    """Shards of ``count`` samples, whose members repeat a pool of 100."""
    draw = np.random.default_rng(0)
    pool = [make(draw) for _ in range(min(count, 100))]
    with ShardWriter(folder, "train", per_shard=500) as writer:
        for i in range(count):
            writer.write(f"{i:06d}", {suffix: pool[i % len(pool)]})
    return str(folder / "train-*.tar")


def ours(preprocess: Any, modality: str, urls: str, workers: int) -> Iterable[Tensor]:
    data = Loader(Shards(urls), {modality: preprocess}, batch=BATCH, workers=workers, train=True, steps=STEPS)
    try:
        for batch in data:
            values = batch[modality].values
            yield preprocess.device(values, None) if modality == "image" else values
    finally:
        data.close()


def peer(suffix: str, decode: Callable[[bytes], Tensor], urls: str, workers: int) -> Iterable[Tensor]:
    import webdataset

    names = sorted(str(path) for path in Path(urls).parent.glob(Path(urls).name))
    pipeline = (
        webdataset.WebDataset(names, shardshuffle=len(names), nodesplitter=webdataset.split_by_node)
        .shuffle(1000)
        .to_tuple(suffix)
        .map_tuple(decode)
    )
    loader = torch.utils.data.DataLoader(pipeline, batch_size=BATCH, num_workers=workers, drop_last=True)
    done = 0
    while done < STEPS:
        for (batch,) in loader:
            yield batch
            done += 1
            if done == STEPS:
                return


def clip_image(transform: Any, data: bytes) -> Tensor:
    from PIL import Image as Pictures

    return transform(Pictures.open(io.BytesIO(data)).convert("RGB"))


def whole_clip(data: bytes) -> Tensor:
    import soundfile

    wave, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    start = int(torch.randint(len(wave) - 80_000 + 1, ()))
    return torch.from_numpy(wave[start : start + 80_000])


def whole_cloud(data: bytes) -> Tensor:
    points = np.load(io.BytesIO(data))
    points = points[np.random.permutation(len(points))[:1024]]
    points[:, :3] -= points[:, :3].mean(0)
    points[:, :3] /= np.linalg.norm(points[:, :3], axis=1).max()
    return torch.from_numpy(points)


def as_bytes(data: bytes) -> Tensor:
    return torch.tensor(len(data))


class Undecoded(Array):
    """Whatever the bytes are, the same row: what remains is the loader's own work."""

    def decode(self, source: Any) -> Tensor:
        return ROW


def measure(side: Side, urls: str, workers: int) -> Measured:
    """In a process of its own, so that memory and the workers' CPU time are this side's alone."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            before, peak = private(os.getpid()), 0.0
            batches = iter(side(urls, workers))
            next(batches)  # workers start
            wall, cpu, n, looked = time.perf_counter(), cpu_seconds(), 0, 0.0
            for i, batch in enumerate(batches):
                n += len(batch)
                if i % 5 == 0:
                    began = time.process_time()
                    found = [private(pid) for pid in children()] if workers else [private(os.getpid()) - before]
                    peak = max(peak, *found)
                    looked += time.process_time() - began
            wall = time.perf_counter() - wall
            del batches
            used = cpu_seconds() - cpu - looked
            os.write(send, f"{n / wall} {n / used} {peak}".encode())
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    said = os.read(receive, 1000).split()
    os.close(receive)
    if not said:
        raise RuntimeError("a side failed")
    return Measured(*map(float, said))


def cpu_seconds() -> float:
    """This process's and its children's, ended or running, to the 10 ms that Linux counts for these."""
    total = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for pid in children():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user, system
    return total


def children() -> list[int]:
    """The pids of this process's children, from Linux's list."""
    return [int(pid) for each in Path("/proc/self/task").glob("*/children") for pid in each.read_text().split()]


def private(pid: int) -> float:
    """MiB that a process wrote and shares with none; 0 of one that has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(rollup.split("Private_Dirty:")[1].split()[0]) / 1024


def main() -> None:
    global STEPS
    import open_clip

    for library in ("soundfile", "webdataset"):  # here, so that they count as imports on both sides
        import_module(library)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="images, sounds, clouds or bytes")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    STEPS = given.steps
    transform = open_clip.image_transform(224, is_train=True)
    image, audio, points = Image(224), Audio(seconds=5.0, freq_mask=0, time_mask=0), Points(points=1024, jitter=0.0)
    images: Side = partial(peer, "image.jpg", partial(clip_image, transform))
    kinds: list[tuple[str, str, Callable[[np.random.Generator], bytes], Side, Side, float | None]] = [
        ("images", "image.jpg", photo, partial(ours, image, "image"), images, 2.0),
        ("sounds", "audio.flac", clip, partial(ours, audio, "audio"), partial(peer, "audio.flac", whole_clip), None),
        (
            "clouds",
            "points.npy",
            cloud,
            partial(ours, points, "points"),
            partial(peer, "points.npy", whole_cloud),
            None,
        ),
    ]
    print("| what | workers | ours: /s (/CPU s) | peer: /s (/CPU s) | wall | CPU | ours MiB | peer MiB | bar |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix, make, mine, theirs, bar in kinds:
            if given.only not in name:
                continue
            urls = shards(Path(folder) / name, suffix, make, 1000)
            for workers in given.workers:
                sides = [[measure(side, urls, workers) for side in (mine, theirs)] for _ in range(given.rounds)]
                a, b = (max(found, key=lambda x: x.cpu) for found in zip(*sides, strict=True))
                wall, cpu = max(s[0].wall for s in sides) / max(s[1].wall for s in sides), a.cpu / b.cpu
                mine_most, theirs_most = (max(s[i].memory for s in sides) for i in (0, 1))
                said = "" if bar is None else f"{bar}: {'met' if min(wall, cpu) >= bar else 'MISSED'}"
                print(
                    f"| {name} | {workers} | {a.wall:.0f} ({a.cpu:.0f}) | {b.wall:.0f} ({b.cpu:.0f}) | {wall:.2f}x "
                    f"| {cpu:.2f}x | {mine_most:.0f} | {theirs_most:.0f} | {said} |",
                    flush=True,
                )
        if given.only in "bytes":
            urls = shards(Path(folder) / "bytes", "blob.npy", small, 5000)
            data, began = Shards(urls), time.process_time()
            n = sum(1 for _ in data.samples(0))
            rate = n / (time.process_time() - began)
            print(f"reading alone, 8 kB members: {rate:.0f} samples per CPU second")
            loader, began = (
                Loader(data, {"blob": Undecoded((4,))}, batch=BATCH, train=True, steps=70),
                time.process_time(),
            )
            n = sum(batch.size for batch in loader)
            rate = n / (time.process_time() - began)
            print(f"whole batches of them, not decoded: {rate:.0f} samples per CPU second (bar 20,000)")


STEPS = 30

if __name__ == "__main__":
    main()
