"""The space that evaluators measure: a model and shards, with every table computed once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal, final

from torch import Tensor

from align.data import Columns, Shards
from align.data.places.benchmark import Benchmark
from align.embedding.embed import Progress, embed_shards
from align.embedding.tables import first_rows, vectors
from align.evaluation.altered import Altered, Change
from align.evaluation.blocks import score_blocks
from align.evaluation.classes import Classes, Templates, resolve_classes, resolve_templates
from align.evaluation.counts import check_counts
from align.evaluation.hits import Hit, HitRule, choose_hits
from align.evaluation.labels import spell_labels
from align.evaluation.readings import read_features, read_tokens
from align.evaluation.samples import Intervals, Samples, Statistics
from align.evaluation.samples import intervals as bootstrap_intervals
from align.model import JointModel
from align.scoring import choose
from align.values import Batch, Embeddings

Of = Literal["embedding", "features", "tokens"]
Split = Literal["test", "train", "distractors"]

_makers: dict[str, Callable[[JointModel, Batch], Embeddings]] = {
    "embedding": lambda model, rows: model(rows),
    "features": read_features,
    "tokens": read_tokens,
}


@final
class Space:
    """A model and shards. ``table`` and ``hit`` are computed when they are first asked for, and then kept.

    Args: those of ``align.evaluate``. draws: of the bootstrap, 0 for no intervals. seed: of evaluators' draws, which is
    that of the shards' order.

    Raises ValueError where the shards are not as their manifest says, for classes that come twice and for attributes
    that the shards do not have.
    """

    def __init__(
        self,
        model: JointModel,
        shards: Shards | Columns,
        *,
        train: Shards | Columns | None = None,
        classes: Classes | None = None,
        templates: Templates | None = None,
        hit: Hit | None = None,
        attribute: str | None = None,
        ks: Sequence[int] = (1, 5, 10),
        batch: int = 64,
        workers: int = 0,
        progress: Progress | None = None,
        distractors: Shards | Columns | None = None,
        draws: int = 1000,
    ):
        if any(k < 1 for k in ks):
            raise ValueError(f"recall@k needs k >= 1, got {list(ks)}")
        self.model, self.shards, self.train = model, shards, train
        self.known = _class_names(shards)
        self.classes = resolve_classes(self.known, classes, attribute)
        beside = _benchmark(shards)
        if templates is None and beside is not None and beside.templates and list(self.classes) == ["label"]:
            templates = beside.templates
        self.templates = resolve_templates(self.classes, templates)
        self.ks, self.seed, self.progress = tuple(ks), shards.seed, progress
        self.distractors, self.draws = distractors, draws
        self.bad: dict[Split, Counter[str]] = {}  # split -> reason -> members left out, once a table of it is read
        self.labels: dict[Split, list[Any]] = {}  # split -> labels as the shards have them
        self._hit: HitRule | None = None
        self._asked_hit, self._attribute, self._batch, self._workers = hit, attribute, batch, workers
        self._changes: dict[str, tuple[Change, ...]] = {}
        self._tables: dict[tuple[Of, Split], Embeddings] = {}
        for some in filter(None, (shards, train, distractors)):
            if (raw := some.raw if isinstance(some, Columns) else some) is not None:
                check_counts(raw)

    def table(self, of: Of = "embedding", split: Split = "test") -> Embeddings:
        """Return all rows of a split, read on the first call. Labels that are positions are spelled as class names.

        of: "embedding" has values (n, D) and each row's content (see ``align.values.Rows``), "features" the encoders'
        pooled features (n, W), "tokens" the embeddings with tokens (n, L, D) and mask (n, L) where an encoder has them.
        Raises ValueError for the train split of a space without one, and for tokens that no encoder has.
        """
        if (of, split) not in self._tables:
            shards = self._shards(split)
            before = Counter(shards.report())
            table = embed_shards(
                self.model,
                shards,
                self._batch,
                self._workers,
                content=of == "embedding",
                preprocess=self._preprocess(),
                make=_makers[of],
                progress=self.progress,
            )
            bad = Counter(shards.report()) - before
            for _, reason, n in shards.lost:
                bad[reason] += n
            self.bad.setdefault(split, bad)
            self.labels.setdefault(split, table.labels)
            known = self.known if split == "test" else _class_names(shards)
            beside = _benchmark(shards)
            positions = beside is not None and bool(beside.classes)
            self._tables[of, split] = replace(table, labels=spell_labels(table.labels, known, positions=positions))
        return self._tables[of, split]

    @property
    def hit(self) -> HitRule:
        """The rule by which a retrieved row counts."""
        if self._hit is None:
            self._hit = choose_hits(self.table(), self.classes, self._asked_hit, self._attribute)
        return self._hit

    def scores(self, query: str | Sequence[str], of: str) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows of the query, their scores (rows, c) for the c rows of ``of``), a block at a time.

        query: a modality, whose rows ask in the order of the table. Of several modalities, the samples that have them
        all ask, as ``embedding.first_rows`` lists them. ``scoring.choose`` picks the rule.
        """
        table, terms = self.table(), self.model.terms
        asked = (query,) if isinstance(query, str) else tuple(query)
        rows = {query: vectors(table, query)} if isinstance(query, str) else first_rows(table, asked)[0]
        yield from score_blocks(rows, vectors(table, of), choose(terms, asked, of), of=of, terms=terms)

    def intervals(self, samples: Samples, statistics: Statistics | None = None) -> Intervals:
        """Return the interval of each score by its samples, see ``samples.intervals``. It is {} where draws is 0."""
        return bootstrap_intervals(samples, statistics or {}, draws=self.draws, seed=self.seed)

    def of_model(self, model: JointModel) -> Space:
        """Return the space of another model on the same shards. Its tables are its own."""
        space = copy(self)
        space.model, space._changes = model, {}
        space._tables, space._hit, space.bad, space.labels = {}, None, {}, {}
        return space

    def altered(self, change: Mapping[str, Change]) -> Space:
        """Return the space of the same shards with changed rows: modality -> change between ``decode`` and ``eval``.

        Its tables are its own. A change of a modality that is changed already comes after that one. Raises ValueError
        for a modality without a tower.
        """
        for m in change:
            if m not in self.model.modalities:
                raise ValueError(f"no tower for {m!r} to alter; the model has {', '.join(self.model.modalities)}")
        space = copy(self)
        space._changes = self._changes | {m: (*self._changes.get(m, ()), one) for m, one in change.items()}
        space._tables, space._hit, space.bad, space.labels = {}, None, {}, {}
        return space

    def _shards(self, split: Split) -> Shards | Columns:
        if split == "test":
            return self.shards
        given = {"train": self.train, "distractors": self.distractors}[split]
        if given is None:
            kind = "training shards" if split == "train" else split
            raise ValueError(f"this evaluation has no {kind}; give them: evaluate(…, {split}=SHARDS), --{split}")
        return given

    def _preprocess(self) -> dict[str, Altered] | None:
        if not self._changes:
            return None
        ours = self.model.preprocess
        return {m: Altered(ours[m], self._changes.get(m, ()), self.seed, m) for m in ours}


def _benchmark(shards: Shards | Columns) -> Benchmark | None:
    """Return what CLIP_benchmark's layout says beside the shards, None for shards of any other."""
    raw = shards.raw if isinstance(shards, Columns) else shards
    return None if raw is None else raw.benchmark


def _class_names(shards: Shards | Columns) -> dict[str, list[str]]:
    return {name: list(map(str, names)) for name, names in shards.classes.items()}
