"""The space that evaluators measure: a model and shards, with every table computed once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.data import Columns, Shards
from align.data.places.benchmark import Benchmark
from align.embedding.embed import Make, Progress, embed_shards
from align.embedding.tables import first_rows, vectors
from align.evaluation.altered import Altered, Change
from align.evaluation.blocks import score_blocks
from align.evaluation.classes import Classes, Templates, resolve_classes, resolve_templates
from align.evaluation.counts import check_counts
from align.evaluation.descriptions import Descriptions, resolve_descriptions
from align.evaluation.hits import Hit, HitRule, choose_hits
from align.evaluation.labels import spell_labels
from align.evaluation.prompts import Name, describe
from align.evaluation.readings import read_codes, read_features, read_tokens
from align.evaluation.samples import Intervals, Samples, Statistics
from align.evaluation.samples import intervals as bootstrap_intervals
from align.evaluation.stated import read_members, read_stated
from align.model import JointModel
from align.model.spaces import in_block
from align.preprocess import Preprocess
from align.scoring import choose
from align.values import Batch, Embeddings, Sample

Of = Literal["embedding", "features", "tokens", "codes"]
Split = Literal["test", "train", "distractors"]

_makers: dict[str, Callable[[JointModel, Batch], Embeddings]] = {
    "embedding": lambda model, rows: model(rows),
    "features": read_features,
    "tokens": read_tokens,
    "codes": read_codes,
}


@final
class Space:
    """A model and shards. ``table`` and ``hit`` are computed when they are first asked for, and then kept.

    Args: those of ``align.evaluate``. draws: of the bootstrap, 0 for no intervals. seed: of evaluators' draws, which is
    that of the shards' order. together: all ranks of the process group share the embedding of each table. Then every
    rank asks for the same tables in the same order.

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
        descriptions: Descriptions | None = None,
        together: bool = False,
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
        self.descriptions = resolve_descriptions(self.classes, descriptions, attribute)
        self.ks, self.seed, self.progress = tuple(ks), shards.seed, progress
        self.distractors, self.draws = distractors, draws
        self.bad: dict[Split, Counter[str]] = {}  # split -> reason -> members left out, once a table of it is read
        self.labels: dict[Split, list[Any]] = {}  # split -> labels as the shards have them
        self._hit: HitRule | None = None
        self._asked_hit, self._attribute, self._batch, self._workers = hit, attribute, batch, workers
        self._changes: dict[str, tuple[Change, ...]] = {}
        self._plain: Space | None = None  # the space without changes, whose other rows are these
        self._together = together
        self._tables: dict[tuple[Of, Split], Embeddings] = {}
        for some in filter(None, (shards, train, distractors)):
            if (raw := some.raw if isinstance(some, Columns) else some) is not None:
                check_counts(raw)

    def table(self, of: Of = "embedding", split: Split = "test") -> Embeddings:
        """Return all rows of a split, read on the first call. Labels that are positions are spelled as class names.

        of: "embedding" has values (n, D) and each row's content (see ``align.values.Rows``), "features" the encoders'
        pooled features (n, W), "tokens" the embeddings with tokens (n, L, D) and mask (n, L) where an encoder has them,
        "codes" the weights of the codes (n, C) where a head has them.
        Raises ValueError for the train split of a space without one, and for tokens that no encoder has.
        """
        if (of, split) not in self._tables:
            plain = self._plain
            table = self._read(of, split) if plain is None else self._read_changed(plain.table(of, split), of, split)
            if plain is not None:
                self.bad.setdefault(split, plain.bad[split])
                self.labels.setdefault(split, plain.labels[split])
            self._tables[of, split] = table
        return self._tables[of, split]

    def names(self, attribute: str) -> list[Name]:
        """Return the names of an attribute's labels in prompts, or their descriptions, for ``class_prompts``."""
        return describe(self.classes[attribute], self.descriptions.get(attribute, {}))

    def json(self, split: Split = "test", first: int | None = None) -> list[dict[str, Any]]:
        """Return the json of each sample of ``table(split=…)``, {} where it has none. first: of so many samples alone.

        Media are not read. Raises ValueError for a cache without its raw shards.
        """
        return read_stated(self.of_split(split), self.table(split=split).position[:first].tolist())

    def members(self, names: Sequence[str], split: Split = "test") -> Iterator[Sample]:
        """Yield each sample of ``table(split=…)`` with some members, as the shards have them.

        names: of members that are no modality of the model ("mask.png"), and modalities, for all their members.
        Raises ValueError for a cache without its raw shards.
        """
        yield from read_members(self.of_split(split), self.table(split=split).position.tolist(), names)

    def _read(self, of: Of, split: Split) -> Embeddings:
        """Return a table of the shards, and keep their bad members and labels."""
        shards = self.of_split(split)
        before = Counter(shards.report())
        table = self._embed(of, split)
        bad = Counter(shards.report()) - before
        for _, reason, n in shards.lost:
            bad[reason] += n
        self.bad.setdefault(split, bad)
        self.labels.setdefault(split, table.labels)
        known = self.known if split == "test" else _class_names(shards)
        beside = _benchmark(shards)
        positions = beside is not None and bool(beside.classes)
        return replace(table, labels=spell_labels(table.labels, known, positions=positions))

    def _read_changed(self, whole: Embeddings, of: Of, split: Split) -> Embeddings:
        """Return a table without changes with the rows of the changed modalities in place of its own."""
        changed = [m for m in self._changes if m in whole]
        if not changed:
            return whole
        ours = self.model.preprocess
        part = self._embed(of, split, {m: Altered(ours[m], self._changes[m], self.seed, m) for m in changed})
        place = torch.full((max([*whole.position.tolist(), *part.position.tolist()], default=0) + 1,), -1)
        place[whole.position] = torch.arange(whole.size)
        at = torch.cat([place[part.position], torch.tensor([-1])])  # the last is where sample -1 looks
        rows = {m: part[m]._replace(sample=at[part[m].sample]) if m in changed else whole[m] for m in whole}
        return replace(whole, rows=rows)

    def _embed(self, of: Of, split: Split, readers: Mapping[str, Preprocess] | None = None) -> Embeddings:
        """Embed the rows of a split, of the readers' modalities alone where there are any."""
        return embed_shards(
            self.model,
            self.of_split(split),
            self._batch,
            self._workers,
            content=of == "embedding",
            modalities=None if readers is None else list(readers),
            preprocess=readers,
            make=_makers[of],
            progress=self.progress,
            together=self._together,
        )

    def read(self, make: Make, modalities: Sequence[str]) -> Embeddings:
        """Return a table of the test split that ``make`` makes of a model and a batch of some modalities, not kept."""
        how: dict[str, Any] = {"progress": self.progress, "together": self._together, "make": make, "content": True}
        return embed_shards(self.model, self.shards, self._batch, self._workers, modalities=modalities, **how)

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

    def announce(self, words: str) -> None:
        """Give the line of progress a few words about the next tables ("image blur@3"), where it can say any."""
        say = getattr(self.progress, "announce", None)
        if say is not None:
            say(words)

    def of_model(self, model: JointModel) -> Space:
        """Return the space of another model on the same shards. Its tables are its own."""
        space = copy(self)
        space.model, space._changes, space._plain = model, {}, None
        space._tables, space._hit, space.bad, space.labels = {}, None, {}, {}
        return space

    def of_first(self, dims: int) -> Space:
        """Return the space of the first coordinates of the embeddings, the others 0. Test rows are not embedded again.

        dims: 1 to below D, of a model whose embeddings are unit vectors.
        """
        whole, space = self.table(), self.of_model(in_block(self.model, (0, dims)))
        rows = {}
        for m, each in whole.items():
            values = vectors(whole, m).clone()
            values[:, dims:] = 0
            rows[m] = each._replace(values=F.normalize(values, dim=1, eps=1e-6))
        space._tables["embedding", "test"] = replace(whole, rows=rows)
        space.bad, space.labels = {"test": self.bad["test"]}, {"test": self.labels["test"]}
        return space

    def altered(self, change: Mapping[str, Change]) -> Space:
        """Return the space of the same shards with changed rows: modality -> change between ``decode`` and ``eval``.

        Only these modalities are embedded anew, and the other rows are those of this space. A change of a modality that
        is changed already comes after that one. Raises ValueError for a modality without a tower.
        """
        for m in change:
            if m not in self.model.modalities:
                raise ValueError(f"no tower for {m!r} to alter; the model has {', '.join(self.model.modalities)}")
        space = copy(self)
        space._plain = self._plain or self
        space._changes = self._changes | {m: (*self._changes.get(m, ()), one) for m, one in change.items()}
        space._tables, space._hit, space.bad, space.labels = {}, None, {}, {}
        return space

    def of_split(self, split: Split) -> Shards | Columns:
        """Return the shards of a split. Raises ValueError where the space has none."""
        if split == "test":
            return self.shards
        given = {"train": self.train, "distractors": self.distractors}[split]
        if given is None:
            kind = "training shards" if split == "train" else split
            raise ValueError(f"this evaluation has no {kind}; give them: evaluate(…, {split}=SHARDS), --{split}")
        return given


def _benchmark(shards: Shards | Columns) -> Benchmark | None:
    """Return what CLIP_benchmark's layout says beside the shards, None for shards of any other."""
    raw = shards.raw if isinstance(shards, Columns) else shards
    return None if raw is None else raw.benchmark


def _class_names(shards: Shards | Columns) -> dict[str, list[str]]:
    return {name: list(map(str, names)) for name, names in shards.classes.items()}
