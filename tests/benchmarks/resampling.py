"""Sounds of 1 s, 44.1 kHz, two channels, to 16 kHz mono: clips a CPU second, the old way beside ours.

    python tests/benchmarks/resampling.py

The old way takes `numpy.mean` over the channels and torchaudio's `resample`, which makes its filter for every clip. The
first row has the decoded samples in memory, the others decode bytes. Both sides read the same, in turns, in one thread,
and give the same values to the bit. The best of the rounds counts.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio import functional

from align.media.sounds.read import read_sound, resample
from align.media.sounds.recording import mean_of_channels

RATE, TO, CLIPS, ROUNDS = 44_100, 16_000, 200, 5


def encode(kind: str, samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format=kind, subtype="PCM_16")
    return out.getvalue()


def decode(source: Any) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return source
    return soundfile.read(io.BytesIO(source), dtype="float32", always_2d=True)[0]


def old(source: Any) -> Tensor:
    return functional.resample(torch.from_numpy(decode(source).mean(1)), RATE, TO).clamp(-1, 1)


def new(source: Any) -> Tensor:
    if isinstance(source, np.ndarray):
        return resample(torch.from_numpy(mean_of_channels(source)), RATE, TO)
    return read_sound(source, TO, 60.0)


def rate_of(side: Callable[[Any], Tensor], clips: list[Any]) -> float:
    start = time.process_time()
    for clip in clips:
        side(clip)
    return len(clips) / (time.process_time() - start)


def main() -> None:
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    waves = [draw.normal(0, 0.2, (RATE, 2)).clip(-1, 1).astype(np.float32) for _ in range(CLIPS)]
    print("| clips a CPU second | old | new | new / old |\n|---|---|---|---|")
    for kind in ("samples", "WAV", "FLAC"):
        clips = [wave if kind == "samples" else encode(kind, wave) for wave in waves]
        assert all(torch.equal(old(clip), new(clip)) for clip in clips)
        best = dict.fromkeys((old, new), 0.0)
        for _ in range(ROUNDS):
            for side in best:
                best[side] = max(best[side], rate_of(side, clips))
        was, now = best.values()
        print(f"| {kind} | {was:.0f} | {now:.0f} | {now / was:.2f} |")


if __name__ == "__main__":
    main()
