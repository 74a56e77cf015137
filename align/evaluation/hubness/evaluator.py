"""The evaluator ``hubness``: k-occurrences of every direction, and recall with each repair beside that without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, final

from torch import Tensor

from align.evaluation.findings import Findings
from align.evaluation.hubness.bank import make_bank, open_bank, read_rows
from align.evaluation.hubness.direction import bound_shapes, measure, score_variant
from align.evaluation.hubness.section import hubness_section
from align.evaluation.samples import Intervals
from align.evaluation.space import Space
from align.scoring import Correction
from align.scoring.bank import Bank
from align.scoring.repairs import SHARPNESS, dual_bank, inverted_softmax, nnn, qb_norm, sinkhorn
from align.values import Embeddings, Scores

REPAIRS = ("nnn", "inverted_softmax", "qb_norm", "dual_bank", "sinkhorn")
TEST = "-transductive"  # the end of a repair's name whose bank is the test set
NO_BANK = "hubness is not repaired: there is no bank of queries; give training shards with --train, or say --bank test"


@final
@dataclass(frozen=True)
class Hubness:
    """Evaluator of ``hubness/image_to_text/skewness``, … and ``hubness/image_to_text/nnn/recall@1``, ….

    Args:
        k: of the lists in which candidates occur. It is at most one less than the candidates.
        bank: the queries that a repair learns from: "train", or "test". Repairs by the test set have names that end
            in ``-transductive``, for no search has its queries beforehand.
        bank_size: rows of each modality that are drawn from the bank. 0: all.
        repairs: those that are measured.
        nearest, alpha: of NNN. sharpness: of the softmaxes. steps: of Sinkhorn.
    """

    k: int = 10
    bank: Literal["train", "test"] = "train"
    bank_size: int = 0
    repairs: tuple[str, ...] = REPAIRS
    nearest: int = 128
    alpha: float = 0.75
    sharpness: float = SHARPNESS
    steps: int = 10

    name = "hubness"

    def __post_init__(self) -> None:
        if odd := [name for name in self.repairs if name not in REPAIRS]:
            raise ValueError(f"no repair {odd[0]!r}; there are {', '.join(REPAIRS)}")
        if self.bank not in ("train", "test"):
            raise ValueError(f"a bank is 'train' or 'test'; got {self.bank!r}")
        if min(self.k, self.nearest, self.steps) < 1 or self.bank_size < 0 or not self.sharpness > 0:
            raise ValueError(
                "hubness takes k, nearest and steps of at least 1, bank_size of at least 0 and a sharpness above 0; "
                f"got {self.k}, {self.nearest}, {self.steps}, {self.bank_size} and {self.sharpness}"
            )

    def run(self, space: Space) -> Findings:
        """Return the shape of the counts and recall of each direction, as it is and with each repair.

        Raises ValueError for a bank from the test set that is said to be of training.
        """
        table = space.table()
        learnt = open_bank(space, self.bank) if self.repairs else None
        notes: list[str] = [NO_BANK] if learnt is None and self.repairs else []
        facts: dict[str, Any] = {"k": self.k, "bank": self.bank, "directions": {}}
        scores: Scores = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        statistics: dict[str, Any] = {}
        intervals: Intervals = {}
        counts: dict[tuple[str, str], dict[str, Tensor]] = {}
        for query, of in permutations(sorted(m for m in table if table[m].n), 2):
            if table[of].n < 2 or not bool((table[query].sample >= 0).any()):
                notes.append(f"hubness of {query} to {of} is not measured: it takes a query and two rows of {of}")
                continue
            k = min(self.k, table[of].n - 1)
            found = list(self._correct(space, learnt, query, of, notes))
            corrections = {self._name(one): one for one in found}
            facts["directions"][f"{query}_to_{of}"] = {"k": k} | {n: dict(c.settings) for n, c in corrections.items()}
            made = measure(table, query, of, space.scores(query, of), space.hit.rule, corrections, k)
            counts[query, of] = {name: one.counts for name, one in made.items()}
            bounds = bound_shapes(made, table[of].owner, draws=space.draws, seed=space.seed)
            for name, one in made.items():
                prefix = f"hubness/{query}_to_{of}/{name}{'/' * bool(name)}"
                parts = score_variant(one, table[of].owner, prefix, space.ks)
                scores |= parts[0]
                samples |= parts[1]
                statistics |= parts[2]
                intervals |= {f"{prefix}{shape}": bound for shape, bound in bounds[name].items()}
        about = self._describe(learnt)
        facts["about"] = f"a candidate's count is one value of its sample. {about}".strip()
        if not counts:
            return Findings({}, {"hubness": facts, "notes": notes})
        intervals |= space.intervals({name: x for name, x in samples.items() if name not in intervals}, statistics)
        section = hubness_section(table, counts, scores, intervals, space.ks, self.k, about)
        protocol = {"hubness": facts, "notes": list(dict.fromkeys(notes))}
        return Findings(scores, protocol, section, samples, statistics, intervals)

    def _correct(
        self, space: Space, learnt: Embeddings | None, query: str, of: str, notes: list[str]
    ) -> Iterator[Correction]:
        """Yield the corrections of one direction. Adds a line to the notes where some are not made."""
        if learnt is None:
            return
        queries = read_rows(learnt, query, self.bank_size, space.seed)
        if not len(queries):
            notes.append(f"hubness of answers to {query} is not repaired: the bank has no row of {query}")
            return
        if "nnn" in self.repairs and len(queries) < self.nearest:
            notes.append(f"NNN takes all {len(queries):,} rows of {query} in its bank, fewer than {self.nearest}")
        bank = make_bank(space, queries, query, of)
        gallery = read_rows(learnt, of, self.bank_size, space.seed)
        for name in self.repairs:
            if name != "dual_bank" or len(gallery):
                yield self._make(name, bank, gallery)
            else:
                notes.append(f"hubness of {of} is not repaired by dual_bank: the bank has no row of {of}")

    def _make(self, name: str, bank: Bank, gallery: Tensor) -> Correction:
        match name:
            case "nnn":
                made = nnn(bank, k=self.nearest, alpha=self.alpha)
            case "inverted_softmax":
                made = inverted_softmax(bank, sharpness=self.sharpness)
            case "qb_norm":
                made = qb_norm(bank, sharpness=self.sharpness)
            case "dual_bank":
                made = dual_bank(bank, gallery, sharpness=self.sharpness)
            case _:
                made = sinkhorn(bank, sharpness=self.sharpness, steps=self.steps)
        return Correction(made.name, made.shift, made.active, {**made.settings, "bank": bank.size})

    def _name(self, correction: Correction) -> str:
        return correction.name + TEST * (self.bank == "test")

    def _describe(self, learnt: Embeddings | None) -> str:
        if learnt is None:
            return ""
        if self.bank == "test":
            return "Repairs are transductive: their bank is the test set itself."
        return f"Repairs learn from {learnt.size:,} training samples."
