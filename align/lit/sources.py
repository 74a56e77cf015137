"""Named sources as a config writes them, and the shards or the mixture that they open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from align.data import Columns, Concat, Mixture, Pipeline, Resampled, Shards
from align.data.mixing.deal import by_size
from align.data.mixing.sources import Part
from align.preprocess import Preprocess
from align.seeds import derive

Urls = str | list[str] | Pipeline
"""Origins of one source's samples."""


@dataclass
class Source:
    """One source: its shards and cached columns, its weight, and its names and preprocessing where they differ.

    Args:
        urls: a path, glob or brace pattern of shards, a list of them, or a ``align.data.Pipeline`` by class path.
        weight: its share of the samples is weight / the sum of the weights. Give all sources one, or none.
        members: modality -> member names of this source. None: ``data.members``.
        preprocess: modality -> the preprocess that decodes and augments this source's members. None: the model's. Its
            rows must have the shape and dtype of the model's.
        resampled: draw shards with replacement, without counting them. Needs samples.
        samples: number of samples in an epoch of a resampled source.
        columns: modality -> ``CACHE/SET:MODALITY``, rows that ``align embed`` has written. They replace the shards' own
            rows of that modality. Without urls no shard is read.
        shards: names of the cache's shards to read, globs such as ``train-*.tar``. Only without urls. None: all.
        order: an order file (``align shards order``), so that near samples share a batch. It is of exactly these
            shards.
    """

    urls: Urls | None = None
    weight: float | None = None
    members: dict[str, list[str]] | None = None
    preprocess: dict[str, Preprocess] | None = None
    resampled: bool = False
    samples: int | None = None
    columns: dict[str, str] | None = None
    shards: str | list[str] | None = None
    order: str | None = None


@dataclass(frozen=True)
class Mix:
    """Rules by which named sources are mixed, see ``align.data.Mixture``.

    Args:
        weights: first step -> source -> weight, a curriculum, in place of the sources' own weights.
        alpha: without weights, the share of a source is proportional to n^alpha of its n samples. None: 1.
        unit: "sample" mixes inside each batch, "batch" takes each batch from one source.
        until: an epoch ends when the "first" or the "last" source is exhausted. The others go on with their next epoch
            meanwhile.
        losses_every: mixed batches have their losses logged by source every so many steps, each for one more forward
            pass of the losses a source (see ``align.lit.by_source``). Batches of one source have them at every step.
            With 0 none has.
    """

    weights: dict[int, dict[str, float]] = field(default_factory=dict)
    alpha: float | None = None
    unit: Literal["sample", "batch"] = "sample"
    until: Literal["first", "last"] = "first"
    losses_every: int = 50


AS_ONE = Mix()

Named = str | list[str] | dict[str, Source] | Source | Pipeline
"""Values of ``data.train`` and ``data.val``: shards, source -> Source, one Source, or a pipeline, which only trains."""


@dataclass(frozen=True)
class Opener:
    """Opener of all sources of a run in the same way. ``AlignData`` explains the fields."""

    streams: int
    block: int | None
    max_bad: float
    members: dict[str, list[str]] | None
    allow_pipe: bool

    def one(self, source: Source, seed: int, *, shuffle: bool = True) -> Part:
        """Return the samples of one source. Raises ValueError where resampled and samples do not go together."""
        members = self.members if source.members is None else source.members
        if source.order is not None and (
            not shuffle or source.samples is not None or isinstance(source.urls, Pipeline)
        ):
            raise ValueError(
                f"order {source.order} is of shards to train on, by position: leave it out of data.val, of resampled "
                "shards and of a pipeline"
            )
        if source.columns or source.urls is None:
            return self._columns(source, members, seed, shuffle)
        if source.shards is not None:
            raise ValueError("shards chooses among the shards of a cache, but urls names the shards: leave shards out")
        if isinstance(source.urls, Pipeline):
            if source.resampled or source.samples is not None:
                raise ValueError(
                    "resampled and samples belong to shards; a pipeline states its samples: leave them out"
                )
            return source.urls.with_defaults(members, self.max_bad)
        if source.resampled != (source.samples is not None):
            raise ValueError(
                f"resampled={source.resampled} and samples={source.samples}: shards drawn with replacement have no "
                "end, so resampled: true needs samples, the samples of an epoch; others are counted"
            )
        alike = {
            "seed": seed,
            "streams": self.streams,
            "block": self.block,
            "max_bad": self.max_bad,
            "members": members,
            "allow_pipe": self.allow_pipe,
        }
        if source.samples is not None:
            return Resampled(source.urls, samples=source.samples, **alike)
        return Shards(source.urls, shuffle=shuffle, order=source.order, **alike)

    def _columns(self, source: Source, members: dict[str, list[str]] | None, seed: int, shuffle: bool) -> Columns:
        """Return cached columns, beside the source's shards where it has some."""
        if not source.columns:
            raise ValueError("has no urls, the shards that it reads, and no columns of a cache")
        if isinstance(source.urls, Pipeline) or source.resampled or source.samples is not None:
            raise ValueError("columns join shards by position, and a pipeline or resampled shards have no positions")
        raw = None if source.urls is None else self.one(replace(source, columns=None), seed, shuffle=shuffle)
        if raw is not None and not isinstance(raw, Shards):
            raise TypeError(f"columns join Shards, not {raw!r}")
        alike = {"seed": seed, "shuffle": shuffle, "streams": self.streams, "block": self.block}
        if raw is None:
            alike["order"] = source.order
        return Columns(source.columns, raw=raw, shards=source.shards, max_bad=self.max_bad, **alike)

    def mixture(
        self,
        sources: Mapping[str, Source],
        mix: Mix,
        *,
        batch: int,
        seed: int,
        by_step: Mapping[int, Mapping[str, float] | None] | None = None,
    ) -> Mixture:
        """Return the mixture of named sources. Each is shuffled by a seed made of ``seed`` and its name.

        by_step: first step -> weights from there on, of a run in stages. None there: those that the sources have.

        Raises ValueError where only some sources have a weight, or where weights are given twice.
        """
        weights = {name: source.weight for name, source in sources.items() if source.weight is not None}
        if weights and len(weights) < len(sources):
            raise ValueError(
                f"sources {', '.join(n for n in sources if n not in weights)} have no weight and "
                f"{', '.join(weights)} have one: give every source a weight, or none"
            )
        if weights and mix.weights:
            raise ValueError("the sources have weights and data.mix.weights too: give one of them")
        shards = {}
        for name, source in sources.items():
            with _name_source(name):
                shards[name] = self.one(source, derive(seed, "source", name))
        given = mix.weights or weights or None
        if by_step is not None:
            theirs = weights or by_size(
                {name: len(one) for name, one in shards.items()}, 1.0 if mix.alpha is None else mix.alpha
            )
            given = {step: theirs if row is None else row for step, row in by_step.items()}
        return Mixture(
            shards,
            given,
            batch=batch,
            alpha=None if by_step else mix.alpha,
            unit=mix.unit,
            until=mix.until,
            overrides=_overrides(sources),
        )

    def concat(self, sources: Mapping[str, Source]) -> Concat:
        """Return the named sources of a validation, one after another, unshuffled.

        Raises ValueError for a weight or for resampling, which belong to training.
        """
        shards = {}
        for name, source in sources.items():
            if source.weight is not None or source.resampled:
                raise ValueError(
                    f"source {name!r} of data.val: weight and resampled belong to data.train; leave them out"
                )
            with _name_source(name):
                shards[name] = self.one(source, 0, shuffle=False)
        return Concat(shards, _overrides(sources))


@contextmanager
def _name_source(name: str) -> Iterator[None]:
    """Put the name of a source in front of the message of an error in this block."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"source {name!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"source {name!r}: {error}") from error


def _overrides(sources: Mapping[str, Source]) -> dict[str, dict[str, Preprocess]]:
    return {name: source.preprocess for name, source in sources.items() if source.preprocess}
