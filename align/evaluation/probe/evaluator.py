"""The evaluator ``probe``: linear models and neighbours on frozen embeddings and features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from align.evaluation.findings import Findings
from align.evaluation.labels import memberships
from align.evaluation.probe.answers import Answers, Settings, answer
from align.evaluation.probe.measures import of_answers, of_numbers, score_of
from align.evaluation.probe.plan import Plan, make_plan
from align.evaluation.probe.pool import pool_of, to_classes
from align.evaluation.probe.protocol import Row, describe, note_answers
from align.evaluation.probe.ridge import Predicted, predict
from align.evaluation.probe.section import build_section
from align.evaluation.probe.targets import read_targets
from align.evaluation.space import Space
from align.metrics.recall import check_k

Source = Literal["head", "tower"]


@final
@dataclass(frozen=True)
class Probe:
    """``probe/ATTRIBUTE/MODALITY/…`` on the embeddings, ``probe/ATTRIBUTE/MODALITY/tower/…`` on the encoder's features.

    Logistic regression, whose C is chosen on training rows: accuracy, mean_per_class, or map where samples have several
    classes. k nearest neighbours: knn@20. The same regression on few labels, the mean over seeds: shots@1 (labels a
    class), labels@0.1 (share of the labels). Ridge regression of numbers in the json: r2, mae, spearman.

    Args:
        folds: None to learn from the training shards. "shards": each official fold is answered by a probe on the other
            ones, a fold being the shards of one name (fold1-000000.tar, …). Or the key of the json that names the fold.
        of: "head" for the embeddings, "tower" for the features.
        rows: "unit" scales each row to the length 1, "raw" takes it as it is.
        group: key of the json. Samples with an equal value never stand on both sides. See ``groups.find_groups``.
        neighbours, shots, shares: the k, the labels a class, and the shares of labels that are measured.
        seeds: draws of the few labels.
        targets: keys of the json with numbers to predict.

    Raises ValueError for settings that measure nothing, for no training rows, and for a group on both sides.
    """

    folds: str | None = None
    of: Sequence[Source] = ("head", "tower")
    rows: Literal["unit", "raw"] = "unit"
    group: str = "auto"
    neighbours: Sequence[int] = (10, 20, 100, 200)
    shots: Sequence[int] = (1, 2, 4, 8, 16)
    shares: Sequence[float] = (0.01, 0.1, 1.0)
    seeds: int = 3
    targets: Sequence[str] = ()

    name = "probe"

    def __post_init__(self):
        for k in (*self.neighbours, *self.shots):
            check_k(k)
        if odd := [share for share in self.shares if not 0 < share <= 1]:
            raise ValueError(f"a share of the labels is above 0 and at most 1, not {odd[0]}")
        if not 1 <= self.seeds <= 1000:
            raise ValueError(f"the few labels need one draw at least and take 1,000 at most, not {self.seeds:,}")
        if not self.of or (set(self.of) - {"head", "tower"}):
            raise ValueError(f"a probe is of head, of tower, or of both, not of {', '.join(self.of) or 'nothing'}")
        if self.rows not in ("unit", "raw"):
            raise ValueError(f"the rows of a probe are unit or raw, not {self.rows!r}")

    def run(self, space: Space) -> Findings:
        """Return the findings of all attributes, targets, modalities and sources."""
        plan = make_plan(space, self.folds, self.group)
        notes: list[str] = []
        numbers = self._regress(space, plan, notes)
        told = self._classify(space, plan, notes)
        measured = {row.prefix: of_answers(one) for row, one in told.items()}
        measured |= {row.prefix: of_numbers(one) for row, one in numbers.items()}
        samples = {
            prefix + name: (values, one.sample)
            for prefix, one in measured.items()
            for name, (values, _) in one.values.items()
        }
        statistics = {
            prefix + name: statistic
            for prefix, one in measured.items()
            for name, (_, statistic) in one.values.items()
            if statistic is not None
        }
        scores = {name: score_of(values, statistics.get(name)) for name, (values, _) in samples.items()}
        around = space.intervals(samples, statistics)
        section = build_section(told, numbers, plan, scores, around) if scores else None
        scores |= {row.prefix + "chance": 1 / len(space.classes[row.name]) for row, one in told.items() if one.near}
        if not scores:
            notes.append("the probe measures nothing: no attribute and no target has rows to learn from and to answer")
        about = {"probe": describe(self.rows, plan, told, numbers, self.seeds), "notes": notes}
        return Findings(scores, about, section, samples, statistics, around)

    def _classify(self, space: Space, plan: Plan, notes: list[str]) -> dict[Row, Answers]:
        how = Settings(self.rows == "unit", self.neighbours, self.shots, self.shares, self.seeds, space.seed)
        found: dict[Row, Answers] = {}
        for attribute, names in space.classes.items():
            tables = [space.table(split=split) for split in (plan.learns, "test")]
            targets, known, _ = to_classes([memberships(table.labels, attribute, list(names)) for table in tables])
            for source, m in self._sources(space):
                of = "embedding" if source == "head" else "features"
                learns, asked = space.table(of, plan.learns), space.table(of)
                if m not in learns or m not in asked or not asked[m].n:
                    continue
                train = pool_of(learns, m, targets[0], known[0])
                row, test = Row(attribute, m, source), pool_of(asked, m, targets[1], known[1])
                one = answer(train, test, plan.parts, plan.groups, len(names), how)
                if one is None:
                    notes.append(f"no probe of {attribute} from {m}: no row of it with a class to learn from")
                    continue
                found[row] = one
                notes += note_answers(row, one, train, list(names), self.neighbours)
        return found

    def _regress(self, space: Space, plan: Plan, notes: list[str]) -> dict[Row, Predicted]:
        found: dict[Row, Predicted] = {}
        for key in self.targets:
            learnt, asked = read_targets(space, plan.learns, key), read_targets(space, "test", key)
            if missing := int(asked.isnan().sum()):
                notes.append(f"{key}: {missing:,} of {len(asked):,} samples have no number: they are left out")
            for source, m in self._sources(space):
                of = "embedding" if source == "head" else "features"
                if m not in space.table(of, plan.learns) or m not in space.table(of):
                    continue
                train = pool_of(space.table(of, plan.learns), m, learnt, ~learnt.isnan())
                test = pool_of(space.table(of), m, asked, ~asked.isnan())
                one = predict(train, test, plan.parts, plan.groups, self.rows == "unit", space.seed)
                if one is None:
                    notes.append(f"no probe of {key} from {m}: no row of it with a number to learn from and to answer")
                else:
                    found[Row(key, m, source)] = one
        return found

    def _sources(self, space: Space) -> list[tuple[Source, str]]:
        return [(source, m) for m in space.model.modalities for source in self.of]
