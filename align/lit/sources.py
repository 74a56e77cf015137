"""Named sources as a config writes them, and the shards or the mixture that they open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal

from align.data import Concat, Mixture, Resampled, Shards
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

Named = str | list[str] | dict[str, Source]
"""What ``data.train`` and ``data.val`` may be: shards, or source -> Source."""


def open_shards(
    source: Source,
    *,
    seed: int,
    streams: int,
    block: int | None,
    max_bad: float,
    members: dict[str, list[str]] | None,
    allow_pipe: bool = False,
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
            allow_pipe=allow_pipe,
        )
    return Shards(
        source.urls,
        seed=seed,
        shuffle=shuffle,
        streams=streams,
        block=block,
        max_bad=max_bad,
        members=members,
        allow_pipe=allow_pipe,
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
    allow_pipe: bool = False,
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
        with _saying(name):
            own_seed = derive(seed, "source", name)
            shards[name] = open_shards(
                source,
                seed=own_seed,
                streams=streams,
                block=block,
                max_bad=max_bad,
                members=members,
                allow_pipe=allow_pipe,
            )
    return Mixture(
        shards,
        mix.weights or own or None,
        batch=batch,
        alpha=mix.alpha,
        unit=mix.unit,
        until=mix.until,
        overrides=_overrides(sources),
    )


def open_concat(
    sources: Mapping[str, Source],
    *,
    seed: int,
    streams: int,
    block: int | None,
    max_bad: float,
    members: dict[str, list[str]] | None,
    allow_pipe: bool = False,
) -> Concat:
    """The named sources of a validation, one after another, as they stand.

    Raises ValueError for a weight or for resampling, which belong to training.
    """
    shards = {}
    for name, source in sources.items():
        if source.weight is not None or source.resampled:
            raise ValueError(f"source {name!r} of data.val: weight and resampled belong to data.train; leave them out")
        with _saying(name):
            shards[name] = open_shards(
                source,
                seed=seed,
                streams=streams,
                block=block,
                max_bad=max_bad,
                members=members,
                allow_pipe=allow_pipe,
                shuffle=False,
            )
    return Concat(shards, _overrides(sources))


@contextmanager
def _saying(name: str) -> Iterator[None]:
    """Errors name the source."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"source {name!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"source {name!r}: {error}") from error


def _overrides(sources: Mapping[str, Source]) -> dict[str, dict[str, Preprocess]]:
    return {name: source.preprocess for name, source in sources.items() if source.preprocess}


def unknown_source_key(data: Any) -> str | None:
    """A line naming the first mistyped key of a source in a config's ``data``, with the nearest right one."""
    content = data if isinstance(data, Mapping) else {}
    named = [(key, content[key]) for key in ("train", "val") if isinstance(content.get(key), Mapping)]
    for where, name, source in ((key, name, source) for key, sources in named for name, source in sources.items()):
        if not isinstance(source, Mapping):
            return f"source {name!r} in data.{where} is {source!r}; write {{urls: {source}}}"
        wrong = [unknown_source_option(f"data.{where}.{name}.{key}") for key in source]
        if any(wrong):
            return next(filter(None, wrong))
        if "urls" not in source:
            return f"source {name!r} in data.{where} has no urls, the shards that it reads"
    return None


def unknown_source_option(option: str) -> str | None:
    """The same for one dotted name: ``data.train.NAME.KEY``, or a deeper one; None for what is no key of a source."""
    known, parts = [f.name for f in fields(Source)], option.split(".")
    if parts[:2] not in (["data", "train"], ["data", "val"]) or len(parts) < 4 or parts[3] in known:
        return None
    close = get_close_matches(parts[3], known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    return f"no key {option!r}; {hint}"
