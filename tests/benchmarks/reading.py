"""Damaged shards, a stopped epoch and uneven ranks: what webdataset delivers and what `Shards` delivers, side by side.

    python tests/benchmarks/reading.py

Each row is made anew in a temporary folder: samples of two members, `jpg` and `txt`. "said": how the reader tells.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import webdataset

from align.data import Loader, Shards
from align.preprocess import Bytes, Image

READERS = {"image": Image(8), "text": Bytes(8)}
Members = list[tuple[str, bytes]]


def plain(samples: int, first: int = 0) -> Members:
    """(name, content) of the members of so many samples: 3,000 bytes and a caption each."""
    each = [(f"{i:05d}", bytes([i % 251]) * 3000) for i in range(first, first + samples)]
    return [pair for key, data in each for pair in ((f"{key}.jpg", data), (f"{key}.txt", b"caption"))]


def write(path: Path, members: Members) -> str:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def patched(path: str, at: int, data: bytes | None) -> None:
    """Write over a file at an offset, or cut it there."""
    with open(path, "r+b") as file:
        if data is None:
            file.truncate(at)
        else:
            file.seek(at)
            file.write(data)


def offset(path: str, name: str) -> int:
    """Where the header of a member lies."""
    with tarfile.open(path) as tar:
        return tar.getmember(name).offset


def theirs(urls: str | list[str], **options: Any) -> Iterable[dict[str, Any]]:
    return webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=webdataset.split_by_node, **options)


def told(samples: Iterable[dict[str, Any]]) -> str:
    """Whole and partial samples, and the error that ended them."""
    found: Counter[str] = Counter()
    error = ""
    try:
        for sample in samples:
            found["whole" if {"jpg", "txt"} <= set(sample) else "partial"] += 1
    except Exception as raised:
        error = type(raised).__name__
    partial_ = f", {found['partial']} partial" if found["partial"] else ""
    return f"{found['whole']} whole{partial_}; said: {error or 'nothing'}"


def ours(url: str) -> str:
    shards = Shards(url, shuffle=False)
    found = told(shards.samples(0)).partition(";")[0]
    return f"{found}; said: {', '.join(f'{n} {reason}' for reason, n in shards.report().items()) or 'nothing'}"


def rows(folder: Path) -> Iterator[tuple[str, str, str]]:
    keep = webdataset.ignore_and_continue

    url = write(folder / "header.tar", plain(20))
    patched(url, offset(url, "00005.jpg"), b"\xff" * 512)
    yield "20 samples, the header of member 11 of 40 overwritten", told(theirs(url)), ours(url)

    url = write(folder / "border.tar", plain(20))
    patched(url, offset(url, "00015.txt"), None)
    yield "20 samples, cut between the members of the 16th", told(theirs(url)), ours(url)

    url = write(folder / "data.tar", plain(20))
    patched(url, offset(url, "00015.jpg") + 1000, None)
    yield "20 samples, cut inside the 16th", told(theirs(url)), ours(url)
    yield "the same, handler=ignore_and_continue", told(theirs(url, handler=keep)), ours(url)

    members = plain(20)
    url = write(folder / "apart.tar", members[::2] + members[1::2])
    yield "20 samples, all jpg before all txt", told(theirs(url)), ours(url)

    url = write(folder / "flip.tar", plain(20))
    len(Shards(url))  # its index has the checksums
    stamp = os.stat(url)
    patched(url, offset(url, "00005.jpg") + 600, b"\x00")
    os.utime(url, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    yield "20 samples, one byte of a picture changed", told(theirs(url)), ours(url)

    ran = folder / "ran"
    trap = b"cos\nmkdir\n(S'%s'\ntR." % str(ran).encode()
    url = write(folder / "pickle.tar", [("00000.jpg.pyd", trap), ("00000.txt", b"caption")])
    said = []
    for read in (lambda: theirs(url).decode("pil"), lambda: Loader(Shards(url), READERS, batch=1, train=False)):
        list(read())  # pyright: ignore[reportArgumentType]
        said.append("code ran" if ran.is_dir() else "no code ran")
        ran.rmdir() if ran.is_dir() else None
    yield "a pickled member, .decode('pil')", said[0], said[1]

    yield "one bad sample, handler=warn_and_continue", f"{seconds_of_a_warning():.2f} s asleep", "no sleep, counted"

    urls = [write(folder / f"train-{s}.tar", plain(128, 128 * s)) for s in range(3)]
    yield "384 samples, stopped after 120, the same command again", after_a_stop(urls), ours_after_a_stop(urls)
    yield "3 shards of 128 over 2 ranks, batches of 8 a rank", uneven(urls), ours_uneven(urls)


def seconds_of_a_warning() -> float:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        webdataset.warn_and_continue(ValueError("a bad sample"))
    return time.perf_counter() - start


def twice_and_never(first: list[str], then: list[str]) -> str:
    seen = Counter(first[:120] + then[: 384 - 120])
    return f"{sum(n > 1 for n in seen.values())} seen twice, {384 - len(seen)} never"


def after_a_stop(urls: list[str]) -> str:
    def run(seed: int) -> list[str]:
        data: Any = theirs(urls)
        return [sample["__key__"] for sample in data.shuffle(1000, rng=random.Random(seed))]

    return twice_and_never(run(0), run(1))  # its shuffling is seeded by process and time where nobody seeds it


def ours_after_a_stop(urls: list[str]) -> str:
    load = partial(Loader, preprocess={}, batch=8, train=True)
    first, then = (
        [f"{int(p)}" for batch in load(Shards(urls), start_step=start, steps=48 - start) for p in batch.position]
        for start in (0, 15)
    )
    return twice_and_never(first, then)


def uneven(urls: list[str]) -> str:
    batches = []
    for rank in (0, 1):
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
        batches.append(sum(1 for _ in theirs(urls)) // 8)
    del os.environ["RANK"], os.environ["WORLD_SIZE"]
    return f"{batches[0]} and {batches[1]} batches"


def ours_uneven(urls: list[str]) -> str:
    loaders = [Loader(Shards(urls), {}, batch=16, train=True, rank=rank, world=2).steps_per_epoch for rank in (0, 1)]
    return f"{loaders[0]} and {loaders[1]} batches"


def main() -> None:
    warnings.simplefilter("ignore")  # webdataset does not close its files
    from importlib.metadata import version

    print(f"| case | webdataset {version('webdataset')} | Shards |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
