"""A user's pipeline as a source, made with webdataset or without. It chooses the samples and their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from align.data.bad import AGAIN, Bad, Lost
from align.data.labels import class_names
from align.data.meta import read_meta
from align.data.names import CODE, modalities, with_foreign
from align.data.reading import Reading
from align.data.restarting import Restarting
from align.values import Sample

LOOK = 32  # samples that are looked at before training, for their modalities and classes


class Pipeline(Reading):  # not @final, so that a config names it by its class path
    """The samples of a ``webdataset.WebDataset``, a ``webdataset.DataPipeline`` or any other iterable of dicts.

    A sample is a dict, member name -> content, named as in shards: ``image.jpg``, ``text.txt``, ``jpg``, ``json``. A
    content is bytes or decoded: a PIL picture, an array, a tensor, a sound as (array, rate), a str, a list of str (one
    row each), for ``json`` a dict, for ``cls`` a number. A content may have its modality's plain name (``image``). None
    is a missing member. ``__key__`` and ``__url__`` are taken where they are given.

    Each reading process (each worker of each rank) calls ``make`` for itself and reads without end. An epoch is
    ``samples`` positions over all ranks, for any length of the pipeline. One that runs out begins again, counted as
    "pipeline/began-again". The pipeline itself divides its samples among ranks and workers: with webdataset by
    ``nodesplitter=webdataset.split_by_node`` and its split by workers. A pass of a Loader begins it anew, and so does a
    resumed run. Nothing of its order is kept.

    Args:
        make: makes the pipeline. In a config it is the import path of a function. It is also called before training in
            the main process, for a look at the first samples.
        samples: positions of an epoch, over all ranks.
        members: as for ``Shards``.
        max_bad: as for ``Shards``. Samples that the pipeline itself leaves out are not counted.

    Empty dicts, which some versions of webdataset yield at the end of a shard, are passed over. Anything else that is
    no dict of names is bad ("sample/not-a-dict") and costs its position.
    ``read`` raises ValueError for a pipeline that fails, that yields nothing to one of its readers, or that yields
    batches.
    """

    counted = False

    def __init__(
        self,
        make: Callable[[], Iterable[Any]],
        *,
        samples: int,
        members: Mapping[str, str | Sequence[str]] | None = None,
        max_bad: float = 0.001,
    ):
        if not callable(make):
            raise TypeError(f"make is a function that returns the pipeline, not a {type(make).__name__}")
        if not isinstance(samples, int) or isinstance(samples, bool):
            raise TypeError(f"samples={samples!r} says how many samples an epoch has: a whole number, at least 1")
        if samples < 1:
            raise ValueError(f"samples={samples} says how many samples an epoch has: at least 1")
        made_by: Any = make
        while isinstance(made_by, partial):
            made_by = made_by.func
        made_by = made_by if hasattr(made_by, "__qualname__") else type(made_by)
        name = f"{made_by.__module__}.{made_by.__qualname__}"
        super().__init__([], with_foreign(members), streams=1, block=1, max_bad=max_bad, name=name)
        self.make, self.stated, self._samples = make, members, samples
        self._endless = Restarting(make, name)

    def __len__(self) -> int:
        """Return the positions of an epoch."""
        return self._samples

    def __repr__(self) -> str:
        return f"Pipeline({len(self)} samples an epoch from {self.name})"

    def with_defaults(self, members: Mapping[str, str | Sequence[str]] | None, max_bad: float) -> Pipeline:
        """Return the same pipeline with this ``max_bad``, and with these member names where it has none."""
        return Pipeline(self.make, samples=len(self), members=self.stated or members, max_bad=max_bad)

    def begin(self, rank: int, world: int) -> None:
        """Begin anew, for this rank of ``world``."""
        self._endless.begin(rank, world)

    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """Return the pipeline's next sample, at any position. See ``Reading.read``."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        found, again = self._endless.next()
        sample: Sample = {"__key__": f"{epoch}-{position}", "__url__": self.name, "__index__": position}
        bad = [Bad(AGAIN, self.name, self._endless.reader)] * again
        if not isinstance(found, Mapping):
            return sample, [*bad, Bad("sample/not-a-dict", self.name, f"a {type(found).__name__}")]
        if other := [name for name in found if not isinstance(name, str)]:
            return sample, [*bad, Bad("sample/not-a-dict", self.name, f"a dict with the key {other[0]!r}")]
        if isinstance(found.get("__key__"), list | tuple):
            raise ValueError(f"{self.name} yields batches: leave out .batched(), the loader makes them")
        sample |= {name: str(found[name]) for name in ("__key__", "__url__") if found.get(name) not in (None, "")}
        sample |= {name: x for name, x in found.items() if not name.startswith("__") and x is not None}
        return sample, bad

    @cached_property
    def modalities(self) -> dict[str, int]:
        """Modality -> the number of the first samples with a row of it."""
        return self._first_samples[0]

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """Attribute -> class names in the labels of the first samples."""
        return self._first_samples[1]

    @property
    def lost(self) -> list[Lost]:
        """Empty: nothing is known of a pipeline before it is read."""
        return []

    @property
    def pipelines(self) -> list[str]:
        """The name of this pipeline."""
        return [self.name]

    def report(self) -> dict[str, int]:
        """Return counts of the bad, by reason, in everything read so far (also by a Loader's workers)."""
        return dict(sorted(self._counts.items()))

    def close(self) -> None:
        """End the pipeline. Reading begins it anew."""
        self._endless.close()

    @cached_property
    def _first_samples(self) -> tuple[dict[str, int], dict[str, list[str]]]:
        """``modalities`` and ``classes`` of up to LOOK samples, of a pipeline that is made for this alone.

        The samples themselves are not kept: 32 decoded photographs may be gigabytes.
        """
        looking, found = Pipeline(self.make, samples=LOOK, members=self.members), Counter[str]()
        labels, refused = [], []
        try:
            for position in range(LOOK):
                sample, bad = looking.read(position)
                if any(each.reason == AGAIN for each in bad):
                    break
                found.update(_modalities(sample, self.members))
                labels.append(read_meta(sample, self.members)[0].label)
                refused += [each.key for each in bad]
        finally:
            looking.close()
        if len(refused) == len(labels):
            says = "leave out .to_tuple() and .batched()"
            raise ValueError(f"{self.name} yields {refused[0]}, no dict from names to contents: {says}")
        return dict(sorted(found.items())), class_names(labels)


def _modalities(sample: Sample, members: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the modalities that a sample has. A member of any other plain name is one too."""
    names = {name for name in sample if not name.startswith("__")}
    mapped = {name for each in members.values() for name in each} | {"json", "label"}
    return modalities(names, members) | {name for name in names - mapped - CODE if "." not in name}
