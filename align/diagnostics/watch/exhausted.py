"""Exhausted source: one source of a mixture is repeated many times, while another is in its first epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.glance import Glance

EPOCHS = 10
"""Epochs that a source has ended when another is still in its first."""


@final
class Exhausted:
    """Watcher of the epochs of named sources. For a resampled source an epoch is the number of samples it states."""

    def look(self, glance: Glance) -> Iterator[Alarm]:
        first = [name for name, epoch in glance.epochs.items() if epoch == 0]
        for name, epoch in glance.epochs.items():
            if first and epoch >= EPOCHS:
                yield Alarm(
                    glance.step,
                    "exhausted-source",
                    name,
                    f"the source {name} is exhausted: it is in its {epoch + 1}th epoch, while {', '.join(first)} "
                    f"{'is' if len(first) == 1 else 'are'} in the first",
                    f"lower the weight of {name} (data.train.{name}.weight, or data.mix.weights from this step on), "
                    "or leave weights out: then sources are mixed by their size",
                )
