"""Places of a run's sources at a step: for its checkpoints, for metrics.csv, and for the losses by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from align.data import Mixture, Resampled
from align.data.mixing.sources import Part


@final
class Standing:
    """The training shards as a function of the step.

    Args:
        shards: the training shards.
        batch: positions in a step, over all ranks.
        losses_every: see ``align.lit.sources.Mix``.
    """

    def __init__(self, shards: Part | Mixture, batch: int, losses_every: int):
        self.shards, self.batch, self.losses_every = shards, batch, losses_every
        self.logged = [*shards.sources] if isinstance(shards, Mixture) and losses_every else []
        """Sources whose losses are logged."""

    def state(self, step: int) -> dict[str, list[tuple[int, int]]]:
        """Return the places of resampled sources at a step, so that they need not be found again. {}: there is none."""
        return {
            name: shards.state(position, epoch)
            for name, (shards, epoch, position) in self._places(step).items()
            if isinstance(shards, Resampled)
        }

    def resume(self, step: int, state: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Go on from the ``state`` of this step. Without it the order is the same, and found more slowly."""
        for name, (shards, epoch, position) in self._places(step).items():
            if isinstance(shards, Resampled) and name in state:
                shards.resume(position, epoch, state[name])

    def columns(self, step: int) -> dict[str, int]:
        """Return the columns of named sources in metrics.csv after a step: samples and epoch of each."""
        out: dict[str, int] = {}
        if isinstance(self.shards, Mixture):
            places = self.shards.places(step)
            for name, samples in self.shards.count_given(step).items():
                out |= {f"source/{name}/samples": samples, f"source/{name}/epoch": places[name][0]}
        return out

    def due(self, step: int) -> list[str]:
        """Return the logged sources in a step's batch, where their losses are due. For a single one they are free."""
        if not isinstance(self.shards, Mixture) or not self.logged:
            return []
        before, after = self.shards.count_given(step), self.shards.count_given(step + 1)
        found = [name for name in self.logged if after[name] > before[name]]
        return found if len(found) == 1 or step % self.losses_every == 0 else []

    def _places(self, step: int) -> dict[str, tuple[Part, int, int]]:
        """Return source -> its shards, and its epoch and position at a step."""
        if isinstance(self.shards, Mixture):
            return {name: (self.shards.sources[name], *place) for name, place in self.shards.places(step).items()}
        epoch, within = divmod(step, len(self.shards) // self.batch)
        return {"": (self.shards, epoch, within * self.batch)}
