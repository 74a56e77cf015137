"""Options of ``--with probe``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Probing:
    """probes (--with probe)

    Args:
        folds: shards, where their names are those of folds (fold1-000000.tar, ...), or the key of the json that names
            the fold: each fold is told by a probe on the others. Without it, probes learn from --train
        probe_of: head for the embeddings, tower for the encoder's features, or both
        probe_rows: unit scales each row to the length 1, raw takes it as it is
        probe_group: the key of the json whose equal values never stand on both sides, none, or auto: recording where
            the json has it, else group
        neighbours: the k of kNN, separated by commas
        shots: labels a class that probes learn from, separated by commas. Empty: none
        shares: shares of the labels that probes learn from, separated by commas. Empty: none
        probe_seeds: draws of the few labels, whose mean is the score
        targets: keys of the json with numbers to predict by ridge regression, separated by commas
    """

    folds: str | None = None
    probe_of: str = "head,tower"
    probe_rows: Literal["unit", "raw"] = "unit"
    probe_group: str = "auto"
    neighbours: str = "10,20,100,200"
    shots: str = "1,2,4,8,16"
    shares: str = "0.01,0.1,1"
    probe_seeds: int = 3
    targets: str = ""

    def check(self, *, trains: bool) -> None:
        """Raise ValueError unless there are rows to learn from: training shards or folds."""
        from align.evaluation.probe.plan import check_source

        check_source(self.folds, trains=trains)

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options. Raises ValueError for a list that is none of numbers."""
        from align.commands.named import split
        from align.evaluation import Probe

        of: Any = split(self.probe_of)
        return Probe(
            folds=self.folds,
            of=of,
            rows=self.probe_rows,
            group=self.probe_group,
            neighbours=_numbers(self.neighbours, int, "neighbours"),
            shots=_numbers(self.shots, int, "shots"),
            shares=_numbers(self.shares, float, "shares"),
            seeds=self.probe_seeds,
            targets=split(self.targets),
        )


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    from align.commands.named import split

    try:
        return [kind(part) for part in split(text)]
    except ValueError:
        example = "1,2,4" if kind is int else "0.01,0.1,1"
        raise ValueError(f"--{option} is numbers separated by commas, as in {example}, not {text!r}") from None
