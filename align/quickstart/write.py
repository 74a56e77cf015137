"""From parameters to shards: the four faces of every object, made in a few processes, written in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from align.quickstart.cloud import cloud
from align.quickstart.pieces import map_pieces
from align.quickstart.render import picture
from align.quickstart.sound import sound
from align.quickstart.world import ATTRIBUTES, Solid, captions, draw


def members(solid: Solid, *, train: bool) -> dict[str, bytes]:
    """Return one sample: member name -> content."""
    about = {"label": solid.label, "group": solid.group}
    return {
        "image.png": picture(solid),
        "points.npy": cloud(solid),
        "audio.flac": sound(solid),
        "text.txt": "\n".join(captions(solid, train=train)).encode(),
        "json": json.dumps(about).encode(),
    }


def _make(solids: list[Solid], train: bool) -> list[dict[str, bytes]]:
    return [members(solid, train=train) for solid in solids]


def make(solids: list[Solid], *, train: bool, workers: int = 1, piece: int = 25) -> Iterator[dict[str, bytes]]:
    """Yield the samples of the solids in their order, made in ``workers`` processes (0 and 1: in this one)."""
    yield from map_pieces(_make, solids, train, workers=workers, piece=piece)


def write_world(
    folder: str | Path,
    *,
    train: int = 4000,
    test: int = 500,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``train-*.tar``, ``test-*.tar`` and ``manifest.json``: objects that are seen, touched, heard and described.

    Train and test share no combination of shape, material, color and size. One in six occurs in the test only, whatever
    the seed, though each of its four words is met in train. So the test asks for composition, not memory. Test captions
    say all four. Samples of one ``group`` (equal parameters) are hits for each other.

    train, test: how many objects. workers: processes. The bytes are the same for any number.
    progress: called with (objects written, objects in all).

    A script that calls it with workers > 1 needs the usual ``if __name__ == "__main__":``.
    """
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    from align.data import ShardWriter  # here, not above: the worker processes import this file and need no torch

    done = 0
    for split, n in (("train", train), ("test", test)):
        solids = draw(split, n, seed)
        with ShardWriter(folder, split, classes=ATTRIBUTES, licence="CC0-1.0") as shards:
            for i, sample in enumerate(make(solids, train=split == "train", workers=workers)):
                shards.write(f"{split}-{i:06d}", sample)
                done += 1
                if progress is not None:
                    progress(done, train + test)
