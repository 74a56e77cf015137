"""All watchers of a run, and the alarms that have been raised: each cause has one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.clamped import Clamped
from align.diagnostics.watch.collapse import Collapse
from align.diagnostics.watch.exhausted import Exhausted
from align.diagnostics.watch.glance import Glance
from align.diagnostics.watch.memory import GrowingMemory
from align.diagnostics.watch.no_gradient import NoGradient
from align.diagnostics.watch.stuck_loss import StuckLoss


class Watcher(Protocol):
    """An object that looks at every tenth step."""

    def look(self, glance: Glance) -> Iterable[Alarm]:
        """Return the alarms of this glance."""
        ...


@final
class Alarms:
    """Watchers that raise one alarm for each cause.

    keep: bytes in which decoded samples are kept. said: alarms of this run that were raised before.
    """

    def __init__(self, keep: int = 0, said: Iterable[Alarm] = ()):
        self.watchers: list[Watcher] = [
            Collapse(),
            StuckLoss(),
            NoGradient(),
            Clamped(),
            Exhausted(),
            GrowingMemory(keep),
        ]
        self.said = {(alarm.name, alarm.cause) for alarm in said}

    def look(self, glance: Glance) -> list[Alarm]:
        """Return the alarms that are new."""
        found = []
        for watcher in self.watchers:
            for alarm in watcher.look(glance):
                if (alarm.name, alarm.cause) not in self.said:
                    self.said.add((alarm.name, alarm.cause))
                    found.append(alarm)
        return found
