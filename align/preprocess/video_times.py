"""The times at which frames of a video are read: one in each of equal parts, its middle or a random one."""

from __future__ import annotations

from math import floor

import torch


def count_frames(seconds: float, most: int, fps: float | None) -> int:
    """Return the number of frames of a row: ``most``, or with ``fps`` as many whole parts of 1 / fps as a video has.

    It is at least 1 and at most ``most``. Rounding of a duration by a thousandth of a part counts as whole.

    >>> count_frames(2.5, 8, None), count_frames(2.5, 8, 2.0), count_frames(0.1, 8, 2.0), count_frames(60, 8, 2.0)
    (8, 5, 1, 8)
    """
    return most if fps is None else min(most, max(1, floor(seconds * fps + 1e-3)))


def choose_times(seconds: float, most: int, fps: float | None, generator: torch.Generator | None = None) -> list[float]:
    """Return a time for each frame, in seconds, ascending: the middle of each part, with a generator a random one.

    With ``fps`` the parts are 1 / fps long while ``most`` of them reach to the end. Else they are equal parts of the
    whole (Wang et al. 2016, TSN, arXiv:1608.00859, section 3.1).

    >>> choose_times(4, 2, None), choose_times(4, 8, 1.0), choose_times(4, 2, 1.0)
    ([1.0, 3.0], [0.5, 1.5, 2.5, 3.5], [1.0, 3.0])
    """
    count = count_frames(seconds, most, fps)
    part = seconds / count
    if fps is not None and floor(seconds * fps + 1e-3) <= most:
        part = min(part, 1 / fps)
    places = [0.5] * count if generator is None else torch.rand(count, generator=generator).tolist()
    return [min((i + place) * part, seconds) for i, place in enumerate(places)]
