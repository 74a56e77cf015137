"""Shards of a run as a config names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from align.data import Concat, Mixture
from align.data.kept import read_size
from align.data.mixing.sources import Part
from align.data.reading import check_by_position
from align.data.views import check_views
from align.lit.opened import Opened, check, open_account
from align.lit.sources import AS_ONE, Mix, Named, Opener, Source
from align.lit.standing import Standing
from align.model import JointModel

BEGIN: Mapping[str, Any] = {"step": 0}


@final
class AlignData:
    """Training and validation shards.

    Args:
        train: a path, glob or brace pattern of training shards, a list of them, an ``align.data.Pipeline`` by class
            path, one source (``{urls: …, columns: {text: CACHE/SET:text}}``, where ``urls`` may be left out), or named
            sources that are mixed: ``{digits: {urls: …, weight: 2}, esc: {urls: …, weight: 1}}``, see
            ``align.lit.sources.Source``.
        val: the same for validation, where named sources follow one another. None: no validation.
        batch: samples in a step, over all ranks, a multiple of their number. A rest at the end of an epoch is dropped
            (another order brings it back). A validation has every sample, in a smaller last batch.
        workers: processes that decode, per rank. Their number changes no bit of the result.
        members: modality -> member names, for shards that do not name their members by modality.
        streams: the order of samples is a round robin over this many streams.
        block: neighbouring samples of a shard that are shuffled, and fetched, together. None: 1 for local files, which
            is a full shuffle, and 256 where a shard is remote. A block goes anywhere in an epoch, and its samples stay
            within 8 x block x streams positions of each other (98,304 for 256 and 48).
        max_bad: the run stops above max(10, max_bad x seen) bad samples, and at an epoch's end above max(1, max_bad x
            its samples). With 1 it never does.
        mix: rules by which named sources are mixed.
        resampled: draw training shards with replacement, without counting them: for very large sets. Needs samples.
        samples: number of samples in an epoch of resampled shards.
        allow_pipe: run ``pipe:COMMAND`` among the shards in a shell, which is refused otherwise.
        keep: memory, in all the workers of a rank together, for decoded training samples, which later epochs augment
            anew: a number of bytes, or such as 2GiB. It changes no bit of the result. A set that does not fit is
            decoded anew in every epoch, and one line says so. 0 keeps nothing.
        views: modality -> number of rows that each of its training rows becomes, each augmented anew, as in {audio: 2}
            for ``align.losses.Views``. The first of them is the row without this key.
    """

    def __init__(
        self,
        train: Named,
        val: Named | None = None,
        batch: int = 256,
        workers: int = 2,
        members: dict[str, list[str]] | None = None,
        streams: int = 48,
        block: int | None = None,
        max_bad: float = 0.001,
        mix: Mix = AS_ONE,
        resampled: bool = False,
        samples: int | None = None,
        allow_pipe: bool = False,
        keep: int | str = "512MiB",
        views: dict[str, int] | None = None,
    ):
        if batch < 1 or workers < 0:
            raise ValueError(f"data.batch must be at least 1 and data.workers at least 0; got {batch} and {workers}")
        self.train, self.val, self.batch, self.workers = train, val, batch, workers
        self.keep, self.views = read_size(keep), views or {}
        self.max_bad, self.mix, self.resampled, self.samples = max_bad, mix, resampled, samples
        if isinstance(train, dict) and (resampled or samples is not None):
            raise ValueError("data.resampled and data.samples belong to the single sources where there are several")
        if not isinstance(train, dict) and mix != AS_ONE:
            raise ValueError(
                "data.mix mixes named sources; data.train names one set of shards: write {NAME: {urls: …}}"
            )
        self._opener = Opener(streams, block, max_bad, members, allow_pipe)

    def open(
        self,
        model: JointModel,
        seed: int,
        state: Mapping[str, Any] = BEGIN,
        weights: Mapping[int, Mapping[str, float] | None] | None = None,
    ) -> Opened:
        """Return the shards, found and checked against the model.

        state: of the checkpoint that the run goes on from. Bad samples before a stop count after it.
        weights: first step -> source -> its weight from there on, or None for the weights that they have by themselves.
        Raises FileNotFoundError for a pattern without files, and ValueError where
        they do not fit the model or hold less than one batch.
        """
        train, val = self._open_train(seed, weights), self._open_val()
        for part in train.sources.values() if isinstance(train, Mixture) else [train]:
            check_views(self.views, model.preprocess, part)
        check(train, val, model.modalities, self.batch)
        ledger, budget = open_account(train, val, self.max_bad, state.get("bad", {}))
        standing = Standing(train, self.batch, self.mix.losses_every)
        standing.resume(state["step"], state.get("data", {}))
        return Opened(train, val, model.preprocess, self.batch, seed, ledger, budget, standing, self.views)

    def _open_train(self, seed: int, weights: Mapping[int, Mapping[str, float] | None] | None) -> Part | Mixture:
        if isinstance(self.train, dict):
            return self._opener.mixture(self.train, self.mix, batch=self.batch, seed=seed, by_step=weights)
        if isinstance(self.train, Source):
            drawn = {"resampled": self.train.resampled or self.resampled, "samples": self.train.samples or self.samples}
            return self._opener.one(replace(self.train, **drawn), seed)
        return self._opener.one(Source(self.train, resampled=self.resampled, samples=self.samples), seed)

    def _open_val(self) -> Part | Concat | None:
        if self.val is None:
            return None
        if isinstance(self.val, dict):
            shards = self._opener.concat(self.val)
        else:
            source = self.val if isinstance(self.val, Source) else Source(self.val)
            shards = self._opener.one(source, 0, shuffle=False)
        check_by_position(shards)
        return shards
