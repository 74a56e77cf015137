"""Pace of a run: its speed over the last minutes, the time that is left, and the share of waiting for data."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, final

WINDOW = 120.0  # seconds that the speed is a mean of
APART = 1.0  # seconds between two marks


class Mark(NamedTuple):
    """A moment of a run. waited: seconds so far in which training waited for data."""

    time: float
    step: int
    waited: float


@final
class Pace:
    """Means over the last two minutes. So they follow a run that becomes slower, and the start does not count for ever.

    begin: the moment before the first step.
    """

    def __init__(self, begin: Mark):
        self.marks = deque([begin])
        self.now = begin

    def mark(self, now: Mark) -> None:
        """Note a moment."""
        if len(self.marks) == 1 or self.now.time - self.marks[-1].time >= APART:
            self.marks.append(self.now)
        self.now = now
        while len(self.marks) > 1 and now.time - self.marks[1].time >= WINDOW:
            self.marks.popleft()

    @property
    def speed(self) -> float:
        """Steps a second, 0 before the first."""
        return (self.now.step - self.marks[0].step) / self._seconds

    @property
    def waiting(self) -> float:
        """Share of the time in which training waited for data."""
        return min(1.0, (self.now.waited - self.marks[0].waited) / self._seconds)

    def count_left(self, steps: int) -> float | None:
        """Return the seconds until a step, None before the first one."""
        return (steps - self.now.step) / self.speed if self.speed > 0 else None

    @property
    def _seconds(self) -> float:
        return max(1e-9, self.now.time - self.marks[0].time)


def write_time(seconds: float) -> str:
    """Return a time for people.

    >>> write_time(42), write_time(754), write_time(7260), write_time(190000)
    ('42 s', '12:34', '2:01 h', '2 d 4 h')
    """
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02}"
    if seconds < 86400:
        return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def choose_pause(running: float) -> float:
    """Return the seconds between two plain lines, of a run of so many seconds: 15 s at first, then 2 % of its time,
    and 10 minutes at most."""
    return min(600.0, max(15.0, 0.02 * running))
