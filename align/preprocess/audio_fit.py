"""Waves of any length become windows of one length: cut, or filled with silence or with the sound itself."""

from __future__ import annotations

import torch
from torch import Tensor

from align.media.sounds.window import start_of
from align.preprocess.audio_groups import Pad


def fit(x: Tensor, samples: int, place: float, pad: Pad, hop: int) -> tuple[Tensor, int]:
    """Return (samples,) and how many samples of it are sound, where the sound stands at its start.

    place: in [0, 1], the cut of a longer wave, or the place of a shorter one in the silence.
    """
    if len(x) >= samples:
        start = start_of(place, len(x), samples)
        return x[start : start + samples], samples
    if pad == "repeat":
        turned = x.roll(-int(place * len(x)))
        return turned.repeat(-(-samples // len(x)))[:samples], samples
    if pad == "repeat-pad":
        x, place = x.repeat(samples // len(x)), 0.0
    elif pad == "reflect":
        x, place = reflect_end(x, hop), 0.0
    out = x.new_zeros(samples)
    start = start_of(place, len(x), samples)
    out[start : start + len(x)] = x
    return out, len(x)


def reflect_end(x: Tensor, hop: int) -> Tensor:
    """Return a wave made longer to a multiple of ``hop``, by the sound backwards without its last sample.

    A wave that is too short is reflected at both ends in turn, as numpy.pad does.
    """
    at = torch.arange(-(-len(x) // hop) * hop)
    period = max(2 * (len(x) - 1), 1)
    at = at % period
    return x[torch.minimum(at, period - at)] if len(x) > 1 else x.expand(len(at))


def with_length(x: Tensor, length: int) -> Tensor:
    """Return a row with two more numbers, its length in base 32768. Both are exact in int16 and in float32."""
    return torch.cat([x, x.new_tensor([length // 32768, length % 32768])])


def split_length(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, T) waves and their (n,) int64 lengths from rows (n, T + 2) of ``with_length``."""
    high, low = rows[:, -2:].long().unbind(1)
    return rows[:, :-2], 32768 * high + low
