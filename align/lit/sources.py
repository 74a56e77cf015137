"""Named sources as a config writes them, and the shards or the mixture that they open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal

from align.data import Mixture, Resampled, Shards
from align.preprocess import Preprocess
from align.seeds import derive


@dataclass
class Source:
    """One source of a mixture: its shards, its weight, and what it has of its own.

    Args:
        urls: a path, glob or brace pattern of shards, or a list of them.
        weight: its share of the samples is weight / the sum of the weights; give all sources one, or none.
        members: modality -> member names of this source; none: ``data.members``.
        preprocess: modality -> what decodes and augments this source's members; none: the model's own. Its rows must
            have the shape and dtype of the model's.
        resampled: draw shards with replacement, without counting them; needs samples.
        samples: how many samples an epoch of a resampled source has.
    """

    urls: str | list[str]
    weight: float | None = None
    members: dict[str, list[str]] | None = None
    preprocess: dict[str, Preprocess] | None = None
    resampled: bool = False
    samples: int | None = None


@dataclass(frozen=True)
class Mix:
    """How named sources are mixed; see ``align.data.Mixture``.

    Args:
        weights: first step -> source -> weight, a curriculum; instead of the sources' own weights.
        alpha: without weights, p proportional to n^alpha of the n samples of a source; none: 1.
        unit: "sample" mixes inside each batch, "batch" takes each batch from one source.
        until: an epoch ends when the "first" or the "last" source is exhausted; the others go on
            with their next epoch meanwhile.
    """

    weights: dict[int, dict[str, float]] = field(default_factory=dict)
    alpha: float | None = None
    unit: Literal["sample", "batch"] = "sample"
    until: Literal["first", "last"] = "first"


AS_ONE = Mix()

Train = str | list[str] | dict[str, Source]
"""What ``data.train`` may be: shards, or source -> Source."""


def open_shards(
    source: Source,
    *,
    seed: int,
    streams: int,
    block: int | None,
    max_bad: float,
    members: dict[str, list[str]] | None,
    shuffle: bool = True,
) -> Shards | Resampled:
    """The shards of one source. Raises ValueError where resampled and samples do not go together."""
    members = members if source.members is None else source.members
    if source.resampled != (source.samples is not None):
        raise ValueError(
            f"resampled={source.resampled} and samples={source.samples}: shards drawn with replacement have no end, so "
            "resampled: true needs samples, the samples of an epoch; others are counted"
        )
    if source.samples is not None:
        return Resampled(
            source.urls,
            samples=source.samples,
            seed=seed,
            streams=streams,
            block=block,
            max_bad=max_bad,
            members=members,
        )
    return Shards(
        source.urls, seed=seed, shuffle=shuffle, streams=streams, block=block, max_bad=max_bad, members=members
    )


def open_mixture(
    sources: Mapping[str, Source],
    mix: Mix,
    *,
    batch: int,
    seed: int,
    streams: int,
    block: int | None,
    max_bad: float,
    members: dict[str, list[str]] | None,
) -> Mixture:
    """The mixture of named sources; each is shuffled by a seed of its own, made of ``seed`` and its name.

    Raises ValueError where only some sources have a weight, or where weights are given twice.
    """
    own = {name: source.weight for name, source in sources.items() if source.weight is not None}
    if own and len(own) < len(sources):
        raise ValueError(
            f"sources {', '.join(n for n in sources if n not in own)} have no weight and {', '.join(own)} have one: "
            "give every source a weight, or none"
        )
    if own and mix.weights:
        raise ValueError("the sources have weights and data.mix.weights too: give one of them")
    shards = {}
    for name, source in sources.items():
        try:
            shards[name] = open_shards(
                source,
                seed=derive(seed, "source", name),
                streams=streams,
                block=block,
                max_bad=max_bad,
                members=members,
            )
        except (ValueError, FileNotFoundError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"source {name!r}: {error}") from error
    return Mixture(
        shards,
        mix.weights or own or None,
        batch=batch,
        alpha=mix.alpha,
        unit=mix.unit,
        until=mix.until,
        overrides={name: source.preprocess for name, source in sources.items() if source.preprocess},
    )


def unknown_source_key(train: Any) -> str | None:
    """A line naming the first mistyped key of a source in ``data.train``, with the nearest right one."""
    for name, source in train.items() if isinstance(train, Mapping) else ():
        if not isinstance(source, Mapping):
            return f"source {name!r} in data.train is {source!r}; write {{urls: {source}}}"
        for key in source:
            wrong = unknown_source_option(f"data.train.{name}.{key}")
            if wrong:
                return wrong
        if "urls" not in source:
            return f"source {name!r} in data.train has no urls, the shards that it reads"
    return None


def unknown_source_option(option: str) -> str | None:
    """The same for one dotted name: ``data.train.NAME.KEY``, or a deeper one; None for what is no key of a source."""
    known, parts = [f.name for f in fields(Source)], option.split(".")
    if parts[:2] != ["data", "train"] or len(parts) < 4 or parts[3] in known:
        return None
    close = get_close_matches(parts[3], known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    return f"no key {option!r}; {hint}"
