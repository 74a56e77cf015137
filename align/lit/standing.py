"""Where the sources of a run stand at a step: for its checkpoints, for metrics.csv, and for the losses by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from align.data import Mixture, Resampled
from align.data.mixing.sources import Part


@final
class Standing:
    """The training shards as a function of the step.

    Args:
        shards: what the run trains on.
        batch: positions in a step, over all ranks.
        losses_every: see ``align.lit.sources.Mix``.
    """

    def __init__(self, shards: Part | Mixture, batch: int, losses_every: int):
        self.shards, self.batch, self.losses_every = shards, batch, losses_every
        self.logged = [*shards.sources] if isinstance(shards, Mixture) and losses_every else []
        """The sources whose losses are logged."""

    def state(self, step: int) -> dict[str, list[tuple[int, int]]]:
        """What resampled sources need to go on at a step without finding their places again; {} where none is."""
        return {
            name: shards.state(position, epoch)
            for name, (shards, epoch, position) in self._places(step).items()
            if isinstance(shards, Resampled)
        }

    def resume(self, step: int, state: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Take up what ``state`` said for this step. Without it the order is the same, and found more slowly."""
        for name, (shards, epoch, position) in self._places(step).items():
            if isinstance(shards, Resampled) and name in state:
                shards.resume(position, epoch, state[name])

    def given(self, step: int) -> dict[str, int]:
        """For metrics.csv, of named sources after a step: samples and epoch of each."""
        out: dict[str, int] = {}
        if isinstance(self.shards, Mixture):
            places = self.shards.places(step)
            for name, samples in self.shards.count_given(step).items():
                out |= {f"source/{name}/samples": samples, f"source/{name}/epoch": places[name][0]}
        return out

    def due(self, step: int) -> list[str]:
        """The logged sources in the batch of a step, where their losses are due; of a single one they cost nothing."""
        if not isinstance(self.shards, Mixture) or not self.logged:
            return []
        before, after = self.shards.count_given(step), self.shards.count_given(step + 1)
        found = [name for name in self.logged if after[name] > before[name]]
        return found if len(found) == 1 or step % self.losses_every == 0 else []

    def _places(self, step: int) -> dict[str, tuple[Part, int, int]]:
        """Source -> where it stands at a step: its epoch and position."""
        if isinstance(self.shards, Mixture):
            return {name: (self.shards.sources[name], *place) for name, place in self.shards.places(step).items()}
        epoch, within = divmod(step, len(self.shards) // self.batch)
        return {"": (self.shards, epoch, within * self.batch)}
