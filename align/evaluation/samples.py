"""Values of single queries, the intervals that follow from them, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.metrics.intervals import Statistic, bootstrap, draw_counts, percentiles, weighted_mean, wilson
from align.seeds import generator

Samples = Mapping[str, tuple[Tensor, Tensor]]
"""Score -> (value (q, ...), sample (q,)) of each query that counts. Without a stated statistic the score is the mean of
the values (q,)."""
Statistics = Mapping[str, Statistic]
Intervals = dict[str, tuple[float, float]]
"""Score -> the lowest and the highest value of its interval."""

LEVEL = 0.95
FILE = "samples.safetensors"


def proportion(values: Tensor, weights: Tensor) -> Tensor:
    """Return the share of queries that are right: the statistic of an accuracy, whose interval is Wilson's.

    values: (q,) of 0 and 1. Where a sample asks several times, the interval is the bootstrap's.
    """
    return weighted_mean(values, weights)


def intervals(samples: Samples, statistics: Statistics, *, draws: int, seed: int) -> Intervals:
    """Return the interval of each score in ``samples``. draws: of the bootstrap. 0: no interval at all.

    All scores whose queries are those of the same samples are computed from the same draws. An interval that is not
    finite is left out.
    """
    found: Intervals = {}
    means: dict[bytes, list[str]] = {}
    for score, (value, sample) in samples.items() if draws else ():
        statistic = statistics.get(score, weighted_mean)
        alone = len(sample.unique()) == len(sample)
        if statistic is proportion and alone:
            found[score] = wilson(float(value.double().sum()), len(value), LEVEL)
        elif statistic in (weighted_mean, proportion):
            means.setdefault(sample.numpy().tobytes(), []).append(score)
        else:
            draw = generator("bootstrap", seed)
            found[score] = bootstrap(value, sample, statistic, draws=draws, level=LEVEL, generator=draw)
    for scores in means.values():
        found |= _of_means(scores, samples, draws, seed)
    return {score: found[score] for score in samples if score in found and all(map(isfinite, found[score]))}


def _of_means(scores: Sequence[str], samples: Samples, draws: int, seed: int) -> Intervals:
    """Return the intervals of scores that are means over the same queries."""
    sample = samples[scores[0]][1]
    _, unit = sample.unique(return_inverse=True)
    units = int(unit.max()) + 1 if len(unit) else 0
    values = torch.stack([samples[score][0].double() for score in scores], dim=1)  # (q, scores)
    sums = torch.zeros(units, len(scores), dtype=torch.float64).index_add_(0, unit, values)
    asked = torch.bincount(unit, minlength=units).double()
    drawn = draw_counts(units, draws, generator("bootstrap", seed))
    found = torch.cat([(counts @ sums) / (counts @ asked)[:, None] for counts in drawn] or [sums[:0]])
    return {score: percentiles(found[:, i], LEVEL) for i, score in enumerate(scores)}


class Stored(NamedTuple):
    """A file of samples. ids: keys of the samples. values: score -> (value (q, ...), sample (q,), a place in ids).

    means: scores that are the mean of their values.
    """

    ids: list[str]
    values: dict[str, tuple[Tensor, Tensor]]
    means: frozenset[str]


def write_samples(folder: Path, samples: Samples, ids: Sequence[str], statistics: Statistics | None = None) -> Path:
    """Write FOLDER/samples.safetensors: the values of all queries, and the keys of their samples. Return its path.

    Scores of the same queries share one tensor of samples. Tensors have numbers for names. The metadata says which
    scores they are, and which scores are the mean of their values.
    """
    from safetensors.torch import save

    from align.files import atomic_write

    tensors: dict[str, Tensor] = {
        "keys": torch.frombuffer(bytearray(json.dumps(list(ids)).encode()), dtype=torch.uint8)
    }
    rows: dict[bytes, str] = {}
    about: dict[str, list[Any]] = {}
    for i, (score, (value, sample)) in enumerate(samples.items()):
        name = rows.setdefault(sample.numpy().tobytes(), f"sample.{len(rows)}")
        tensors.setdefault(name, sample.long().clone().contiguous())
        tensors[f"value.{i}"] = value.clone().contiguous()  # safetensors refuses tensors that share memory
        mean = (statistics or {}).get(score, weighted_mean) in (weighted_mean, proportion)
        about[score] = [f"value.{i}", name, mean]
    path = folder / FILE
    with atomic_write(path) as file:
        file.write(save(tensors, {"scores": json.dumps(about)}))
    return path


def read_samples(path: Path) -> Stored:
    """Read a file of ``write_samples``. Raises ValueError where it is another file, or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportPrivateImportUsage]
            about: Any = json.loads((file.metadata() or {}).get("scores", ""))
            ids = json.loads(bytes(file.get_tensor("keys").tolist()))
            values = {score: (file.get_tensor(a), file.get_tensor(b)) for score, (a, b, _) in about.items()}
        means = frozenset(score for score, (_, _, mean) in about.items() if mean)
        _check_stored(ids, values, means)
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no file of samples that align evaluate wrote: {error}") from None
    return Stored(ids, values, means)


def _check_stored(ids: Any, values: Mapping[str, tuple[Tensor, Tensor]], means: frozenset[str]) -> None:
    """Raise ValueError where keys, values and places do not fit each other."""
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise ValueError("its keys are no list of words")
    for score, (value, sample) in values.items():
        if sample.dim() != 1 or value.shape[:1] != sample.shape or (score in means and value.dim() != 1):
            shapes = f"{tuple(value.shape)} and {tuple(sample.shape)}"
            raise ValueError(f"values and samples of {score!r} have the shapes {shapes}, not one number a query")
        if sample.dtype != torch.long or bool(((sample < 0) | (sample >= len(ids))).any()):
            raise ValueError(f"{score!r} is of samples that are not among its {len(ids):,} keys")
        if score in means and (value.is_complex() or not bool(value.isfinite().all())):
            raise ValueError(f"{score!r} has values that are no numbers")
