"""A model of align under mteb's encoder and search protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from align.convert.harness.batches import Known, embed_batches
from align.convert.harness.meta import describe
from align.convert.harness.rules import fuse, pick_rule
from align.evaluation.blocks import score_blocks
from align.extras import has_part, pip_install
from align.scoring import How

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mteb.models import ModelMeta

    from align.model import JointModel

TIED = 10  # candidates of a query among which equal scores are counted


def mteb(model: JointModel, *, name: str = "align/model", how: How | None = None, keep: bool = False) -> Harness:
    """Return a model for ``mteb.evaluate``.

        mteb.evaluate(align.convert.mteb(align.load("RUN")), mteb.get_tasks(["Flickr30kI2TRetrieval"]))

    Args:
        model: a trained model. It is read in evaluation mode.
        name: owner/name, which mteb's results are filed under.
        how: the rule of every search. None: as ``align.scoring.choose`` says, and "cosine" where that rule would not
            read all modalities of a query.
        keep: keep the embeddings of texts and of files as bytes in memory, for several tasks over the same rows.

    Raises ImportError, with the command that installs it, where mteb is missing, and ValueError for another rule.
    """
    check_installed()
    if how is not None and how not in get_args(How):
        raise ValueError(f"how is 'cosine', 'mip' or 'objective'; got {how!r}")
    return Harness(model, describe(model, name, how), how, {} if keep else None)


def check_installed() -> None:
    """Raise ImportError, with the command that installs it, where mteb is missing."""
    if not has_part("mteb", "SearchProtocol"):
        raise ImportError(f"mteb 2.26 or later is needed: {pip_install('mteb')}")


class Searched(NamedTuple):
    """Facts of a search. how: its rule. queries: their number. tied: those with equal scores among the best 10."""

    how: How
    queries: int
    tied: int


@final
class Harness:
    """A model of align for mteb. ``searched`` holds the facts of the last search of each task, by its name,
    and ``blank`` the number of texts without a character, which are rows of zeros.

    Retrieval and reranking come through ``index`` and ``search``: a query of several modalities is scored by
    ``align.score`` with all of them. Every other kind of task comes through ``encode`` and ``similarity``, by cosines.
    An input of several modalities is there one row, the sum of its unit vectors. So is a document of several
    modalities in a search, and then the rule is "cosine".
    """

    def __init__(self, model: JointModel, meta: ModelMeta, how: How | None = None, known: Known | None = None):
        self.model, self.known = model, known
        self.how: How | None = how
        self.searched: dict[str, Searched] = {}
        self.blank: dict[str, int] = {}
        self._meta = meta
        self._documents: dict[str, Tensor] = {}
        self._ids: list[str] = []

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The description of the model."""
        return self._meta

    def encode(self, inputs: Iterable[Mapping[str, Any]], *, task_metadata: Any, **more: Any) -> Tensor:
        """Return (n, D) float32 of the n inputs of a loader. Splits and prompts, in ``more``, are not read."""
        return fuse(embed_batches(self.model, inputs, task_metadata.name, self.known, self.blank)).float()

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosines (n, m) of (n, D) with (m, D)."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosines (n,) of row i with row i."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)

    def index(self, corpus: Any, *, task_metadata: Any, encode_kwargs: Mapping[str, Any], **more: Any) -> None:
        """Embed the documents of a task, which take the place of the last one's."""
        self._documents = self._embed(corpus, task_metadata, "document", encode_kwargs, more.get("num_proc"))
        self._ids = [str(name) for name in corpus["id"]]

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **more: Any,
    ) -> dict[str, dict[str, float]]:
        """Return query -> document -> score, of the ``top_k`` best documents of each query.

        top_ranked: query -> the documents that are its candidates, where those are not all. Scores are float32, made
        in float64 as in ``align evaluate``. Raises ValueError before ``index``, and for scores that are no numbers.
        """
        if not self._ids:
            raise ValueError(f"task {task_metadata.name}: index its corpus before the search")
        names = [str(name) for name in queries["id"]]
        asked = self._embed(queries, task_metadata, "query", encode_kwargs, more.get("num_proc"))
        of = next(iter(self._documents))
        alone = len(self._documents) == 1
        how = (self.how or pick_rule(self.model.terms, asked, of)) if alone else "cosine"
        blocks = score_blocks(asked, fuse(self._documents), how, of=of, terms=self.model.terms)
        place = {name: i for i, name in enumerate(self._ids)}
        found: dict[str, dict[str, float]] = {}
        tied = 0
        for rows, scores in blocks:
            for name, row in zip(names[rows], scores, strict=True):
                listed = None if top_ranked is None else [place[one] for one in top_ranked.get(name, ())]
                best, at = (row if listed is None else row[listed]).sort(descending=True, stable=True)
                if best.isnan().any():
                    raise ValueError(f"task {task_metadata.name}: query {name} has scores that are no numbers")
                near = best[: TIED + 1].tolist()
                tied += len(set(near)) < len(near)
                ids = [self._ids[i if listed is None else listed[i]] for i in at[:top_k].tolist()]
                found[name] = dict(zip(ids, best[:top_k].tolist(), strict=True))
        self.searched[task_metadata.name] = Searched(how, len(names), tied)
        return found

    def _embed(
        self, rows: Any, task: Any, side: str, encode_kwargs: Mapping[str, Any], processes: int | None
    ) -> dict[str, Tensor]:
        """Return modality -> (n, D) of the queries or documents of a task, read as mteb reads them for an encoder."""
        from mteb._create_dataloaders import create_dataloader  # where titles and instructions join their texts
        from mteb.types import PromptType

        size = encode_kwargs.get("batch_size", 32)
        loader = create_dataloader(
            rows, task_metadata=task, prompt_type=PromptType(side), batch_size=size, num_proc=processes
        )
        batches: Iterable[Any] = loader
        return embed_batches(self.model, batches, task.name, self.known, self.blank)


def _unit(rows: Any) -> Tensor:
    return F.normalize(torch.as_tensor(rows).float(), dim=-1)
