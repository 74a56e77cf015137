"""The evaluator ``geometry``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, final

from align.embedding import fingerprint
from align.evaluation.findings import Findings
from align.evaluation.geometry.depths import galleries
from align.evaluation.geometry.maps import cosines_of, map_of
from align.evaluation.geometry.matrix import GivenMatrix
from align.evaluation.geometry.measured import Measured
from align.evaluation.geometry.pair import Sampling, measure_given, measure_pair
from align.evaluation.geometry.parts import LEAST, Part, common, read_parts
from align.evaluation.geometry.section import geometry_section
from align.evaluation.geometry.single import measure_against, measure_modality
from align.evaluation.samples import proportion
from align.evaluation.space import Space
from align.model import JointModel

FACTS = {
    "distance": "cosine, of rows of unit length",
    "rows": "all but RSA: all rows; pairs: the first row of each sample that has both",
    "intervals": "scores that are no means over samples: bootstrap of their linearised values (Estimate)",
    "without intervals": {"rsa_p, rsa_given_p": "p-values of a permutation test"},
    "ties": "a neighbour counts where it is nearer than the next one",
}


@final
@dataclass(frozen=True)
class Geometry:
    """Evaluator of single modalities (``geometry/image/uniformity``) and of pairs (``geometry/audio+image/cka``).

    k: neighbours of mutual kNN. rows: samples of RSA at most. permutations: of the Mantel test. against: another model,
    whose neighbours are compared with those of the same modality. against_name: its name in the scores. matrix: of
    dissimilarities, compared with each modality. Raises ValueError for numbers that cannot be.
    """

    name = "geometry"
    k: int = 10
    rows: int = 2000
    permutations: int = 999
    against: JointModel | None = None
    against_name: str = "other"
    matrix: GivenMatrix | None = None

    def __post_init__(self) -> None:
        if self.k < 1 or self.permutations < 1 or not LEAST <= self.rows <= 2000:
            raise ValueError(
                f"geometry takes k >= 1, permutations >= 1 and {LEAST} to 2,000 rows of RSA; "
                f"got {self.k}, {self.permutations} and {self.rows:,}"
            )

    def run(self, space: Space) -> Findings:
        """Return the scores of every modality with 4 rows, and of every pair with 4 samples that have both.

        Raises ValueError for a matrix that does not fit the samples, and for another model without a modality of this
        one.
        """
        self._check(space)
        table, found = space.table(), Measured()
        parts, notes = read_parts(table)
        sampling = Sampling(self.rows, self.permutations, space.seed)
        sums = {m: measure_modality(found, m, part, self.k) for m, part in parts.items()}
        pictures = []
        for m, other in combinations(parts, 2):
            both = parts[m], parts[other]
            if note := measure_pair(found, (m, other), both, self.k, sampling):
                notes.append(note)
                continue
            samples = common(*both)
            pictures.append(cosines_of(m, other, both[0].of(samples), both[1].of(samples), space.seed))
        if self.matrix is not None:
            given = [measure_given(found, m, part, self.matrix, table.ids, sampling) for m, part in parts.items()]
            notes += filter(None, given)
        if self.against is not None:
            notes += self._compare(found, space, parts, self.against)
        notes += found.ties()
        if not found.scores:
            return Findings({}, {"notes": notes})
        statistics = {name: proportion for name in found.samples if name.endswith("/separability")}
        intervals = space.intervals(found.samples, statistics)
        if next(iter(parts.values())).rows.dim > 1:
            pictures.append(map_of(parts, sums, space.seed))
        blocks = [*pictures, *galleries(table, parts, space.classes)]
        section = geometry_section(found, intervals, blocks, self.against_name if self.against is not None else "")
        return Findings(found.scores, self._protocol(found, notes), section, found.samples, statistics, intervals)

    def _check(self, space: Space) -> None:
        if self.against is not None and not set(self.against.modalities) & set(space.model.modalities):
            raise ValueError(
                f"geometry: {self.against_name} embeds {', '.join(self.against.modalities)}, and the model "
                f"{', '.join(space.model.modalities)}: they share no modality to compare"
            )

    def _compare(self, found: Measured, space: Space, parts: dict[str, Part], model: JointModel) -> list[str]:
        """Add the neighbours' overlap with another model. Return notes."""
        name, other = self.against_name, space.of_model(model)
        shared = [m for m in parts if m in model.modalities]
        notes = [f"geometry: {name} has no tower for {m}: it is not compared" for m in parts if m not in shared]
        theirs = other.table()
        others, left = read_parts(theirs, [m for m in shared if m in theirs])
        positions = space.table().position.tolist(), theirs.position.tolist()
        for m, part in others.items():
            measure_against(found, m, parts[m], part, *positions, name, self.k)
            if f"geometry/{m}/knn_against_{name}" not in found.scores:
                notes.append(f"geometry: fewer than {LEAST} samples have {m} in the model and in {name}")
        return notes + [f"{name}: {note}" for note in left]

    def _protocol(self, found: Measured, notes: list[str]) -> dict[str, Any]:
        settings = {"k": self.k, "RSA samples at most": self.rows, "permutations": self.permutations}
        facts: dict[str, Any] = {**FACTS, **settings, "counts": found.counts}
        if self.against is not None:
            facts["against"] = {"name": self.against_name, "model": fingerprint(self.against)}
        if self.matrix is not None:
            facts["matrix"] = self.matrix.source
        return {"geometry": facts, "notes": notes}
