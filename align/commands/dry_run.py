"""``align train --dry-run``: a table of the parts that would train. Nothing trains, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.lit.parts import Part, Rate

HEADS = ("part", "parameters", "trained", "rate", "weights of", "licence")
WIDTH = 100


def print_parts(made: Any) -> None:
    """Print a block for each stage of a run, or one where it has none.

    made: the objects of a config. Raises ValueError and ImportError where its ``start``, ``tuning``, ``compute`` or
    ``trainer.logger`` do.
    """
    from align.lit.begin import scale_optim, take_start
    from align.lit.loggers import check_loggers
    from align.lit.parts import list_parts
    from align.lit.resume import Earlier
    from align.lit.stages import Span, Stage, check_stages
    from align.lit.trained import apply_stage
    from align.tuning import Tuning, apply

    model, objective, data, seed = made.model, made.objective, made.data, made.seed
    optim = scale_optim(made.optim, data.batch)
    stages: dict[str, Stage] = made.stages or {}
    sources = data.train if isinstance(data.train, dict) else ()
    made.compute.check(model)
    check_loggers(made.trainer.logger)
    check_stages(stages, objective, sources, data.mix.weights, made.negatives)
    taken = take_start(model, objective, made.start, None, Earlier(None, {"step": 0}))
    for i, (name, stage) in enumerate(stages.items() if stages else [("", Stage())]):
        if name:
            print("\n" * (i > 0) + _describe_stage(name, stage))
        applied = apply_stage(Span(name, 0, 0, stage), made.tuning, model, objective, seed)
        applied = applied or apply(model, Tuning())
        for line in _lines(list(list_parts(model, objective, optim, applied, taken, stage.lr))):
            print(line)
        applied.remove()


def _describe_stage(name: str, stage: Any) -> str:
    until = "to the end" if stage.until is None else f"until step {stage.until}"
    named = (("terms", stage.terms), ("sources", stage.sources))
    words = [f"{kind} {', '.join(k for k, weight in of.items() if weight)}" for kind, of in named if of is not None]
    return "; ".join([f"stage {name}, {until}", *words])


def _lines(parts: Sequence[Part]) -> Iterator[str]:
    """Yield a table's lines, and below it a line for each key that sets a rate other than ``optim.lr``."""
    keys = list(dict.fromkeys(rate.key for part in parts for rate in part.rates if rate.key != "optim.lr"))
    rows = [HEADS, *(_row(part, keys) for part in parts)]
    total, trained = sum(part.parameters for part in parts), sum(part.trained for part in parts)
    rows.append(("all", f"{total:,}", f"{trained:,}", "", "", ""))
    sizes = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    sizes[4] = max(len(HEADS[4]), min(sizes[4], WIDTH - sum(sizes) + sizes[4] - 2 * (len(HEADS) - 1)))
    for row in rows:
        cells = (_fit(cell, size, i in (1, 2)) for i, (cell, size) in enumerate(zip(row, sizes, strict=True)))
        yield "  ".join(cells).rstrip()
    for i, key in enumerate(keys, 1):
        yield f"[{i}] {key}"


def _fit(cell: str, size: int, right: bool) -> str:
    """Return a cell of exactly this width. A longer one loses its middle."""
    if len(cell) > size:
        cell = f"{cell[: (size - 1) // 2]}…{cell[len(cell) - size // 2 :]}"
    return cell.rjust(size) if right else cell.ljust(size)


def _row(part: Part, keys: Sequence[str]) -> tuple[str, ...]:
    name = f"  adapters, {part.adapters}" if part.adapters else part.name
    rate = ", ".join(_rate(rate, keys) for rate in part.rates)
    if not part.rates and part.parameters:
        rate = "frozen"
    return name, f"{part.parameters:,}", f"{part.trained:,}", rate, part.weights, part.licence


def _rate(rate: Rate, keys: Sequence[str]) -> str:
    low, high = f"{rate.low:.2g}", f"{rate.high:.2g}"
    mark = f" [{keys.index(rate.key) + 1}]" if rate.key in keys else ""
    return (high if low == high else f"{low} to {high}") + mark
