"""Shards: samples by position, in an order that is a function of the seed and the epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from align.data.archive.coverage import (
    count_modalities,
    count_repeated,
    count_unused,
    find_copy,
    modalities_of,
    select_members,
)
from align.data.archive.keys import hash_keys
from align.data.as_webdataset import as_webdataset
from align.data.bad import Bad, Lost
from align.data.labels import class_names, merge_classes
from align.data.meta import read_meta
from align.data.names import with_foreign
from align.data.order import Orders
from align.data.order_file import Held, read_order
from align.data.places.benchmark import read_benchmark
from align.data.places.manifest import count_missing, find_lost, read_manifest
from align.data.places.opening import open_shards
from align.data.places.servers import Unreachable
from align.data.places.source import MemberReader, ReadOrder, usual_block
from align.data.places.urls import Location, resolve_shards
from align.data.reading import Reading
from align.values import Sample

if TYPE_CHECKING:
    from webdataset.compat import WebDataset


@final
class Shards(Reading):
    """Samples of WebDataset shards, by position, on a disk or on a server.

    Position p of an epoch holds the same sample for any number of ranks and workers. Nothing is unpacked (a compressed
    archive is refused), and nothing pickled is ever opened. Each member is checked against the checksum in the index.

    Args:
        urls: a path, a glob, a brace pattern ``{000000..000003}``, a URL (http(s) or fsspec's), or a list of them.
        seed, shuffle, streams, block: determine the order (``align.data.order``). shuffle=False: the order of the
            files. block=None: 1, a full shuffle, or 256 where a shard is remote: neighbours then come in one request,
            and stay within 8 · block · streams positions of each other.
        max_bad: the share of bad samples above which a Loader stops. 1 never stops it.
        members: modality -> member names for shards that do not name their members by modality, e.g.
            ``{"text": ["txt", "json:caption"]}``. ``txt:lines`` is a text with a caption a line. The rest is as in
            ``names.FOREIGN``, and in a folder of CLIP_benchmark's layout as its dataset_type.txt says.
        allow_pipe: run ``pipe:COMMAND`` in a shell and read its output. Without it such a name is refused.
        cache: bytes on this disk for remote content: of each process for its prefetch, and of the folder for shards
            that are kept whole (``align.data.places.keep``).
        progress: called with (done, total) while shards without an index are indexed.
        order: an order file (``align shards order``), whose clusters are shuffled whole, so that a batch holds samples
            that are near each other. ``streams`` and ``block`` then do not determine the order.

    A remote shard that stays unreachable is in quarantine: its positions stay empty, counted as shard/unreachable.
    Raises FileNotFoundError for a missing file or an empty pattern, ValueError for one that is no shard, OSError for a
    remote shard that cannot be reached where nothing tells how many samples it has.
    """

    def __init__(
        self,
        urls: str | Location | Sequence[str | Location],
        *,
        seed: int = 0,
        shuffle: bool = True,
        streams: int = 48,
        block: int | None = None,
        max_bad: float = 0.001,
        members: Mapping[str, Sequence[str]] | None = None,
        allow_pipe: bool = False,
        cache: int = 16 << 30,
        progress: Callable[[int, int], None] | None = None,
        order: str | Path | None = None,
    ):
        if cache < 0:
            raise ValueError(f"cache is a number of bytes, not {cache}")
        if order is not None and not shuffle:
            raise ValueError(f"shuffle=False reads shards in the order of their files, not in that of {order}")
        places = resolve_shards(urls, allow_pipe=allow_pipe)
        block = usual_block(places) if block is None else block
        self.benchmark = read_benchmark(places)
        members = {**(self.benchmark.members if self.benchmark else {}), **(members or {})}
        super().__init__(places, with_foreign(members), streams=streams, block=block, max_bad=max_bad)
        self.seed, self.shuffle, self.allow_pipe, self.cache = seed, shuffle, allow_pipe, cache
        self.indexes, about = open_shards(self.urls, cache, progress)
        held = [Held(len(index), hash_keys(index.keys)) for index in self.indexes] if order is not None else []
        clusters = None if order is None else read_order(order, held)
        shuffled = streams if shuffle else None
        self._orders = Orders(self.lengths, seed=seed, streams=shuffled, block=block, clusters=clusters)
        self._wanted: dict[tuple[int, frozenset[str] | None], np.ndarray] = {}
        self._source = MemberReader(self.urls, about, self.indexes, cache, streams if shuffle else None, self.block)

    def __len__(self) -> int:
        """Return the number of samples. Bad ones count too: they keep their position."""
        return int(self._source.ends[-1])

    def __repr__(self) -> str:
        return f"Shards({len(self)} samples in {len(self.urls)} shard{'s' * (len(self.urls) != 1)} from {self.urls[0]})"

    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """See ``Reading.read``.

        A damaged header is reported (shard/header) also where the index still finds a sound payload.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        ordered = self._orders[epoch]
        shard, i = self.find(int(ordered[position]))
        index = self.indexes[shard]
        sample: Sample = {"__key__": index.keys[i], "__url__": str(self.urls[shard]), "__index__": position}
        reader = ReadOrder(ordered, position, stride, (epoch, modalities), lambda s: self._readable(s, modalities))
        try:
            members, faults = self._source.sample(shard, i, reader)
        except Unreachable:
            return sample, [Bad("shard/unreachable", sample["__url__"], sample["__key__"])]
        sample.update(members)
        bad = []
        for name, fault in faults:
            kind = "shard" if fault == "header" else self._kind(name)
            bad.append(Bad(f"{kind}/{fault}", sample["__url__"], sample["__key__"], name))
        return sample, bad

    @property
    def numbers(self) -> int:
        """All samples have a number."""
        return len(self)

    def number(self, position: int, epoch: int = 0) -> int:
        """Return the number of the sample at a position in the unshuffled set."""
        return int(self._orders[epoch][position])

    def find(self, number: int) -> tuple[int, int]:
        """Return the shard of the unshuffled set's number-th sample, and the sample's number in that shard."""
        shard = int(np.searchsorted(self._source.ends, number, side="right"))
        return shard, number - (int(self._source.ends[shard - 1]) if shard else 0)

    @property
    def lengths(self) -> list[int]:
        """Samples of each shard, in the order of ``urls``."""
        return [len(index) for index in self.indexes]

    @cached_property
    def modalities(self) -> dict[str, int]:
        """Modality -> the number of samples with a row of it, by their members' names (``json:…``: with a json)."""
        return count_modalities(self.indexes, self.members)

    @cached_property
    def ignored(self) -> dict[str, int]:
        """Member name -> the number of its members, for names without a meaning here, which are never opened."""
        return count_unused(self.indexes, self.members)

    @cached_property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest.json beside the shards, where they lie in one folder that has one."""
        found = self._manifests()
        return found[0] if len(found) == 1 and len({place.parent for place in self.urls}) == 1 else None

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """Attribute -> class names, from the manifest, else from CLIP_benchmark's classnames.txt, else from the labels.

        A plain label is the attribute "label". In classnames.txt several classes may have one name.
        """
        stated = merge_classes(dict(found.get("classes") or {}) for found in self._manifests())
        if stated:
            return stated
        if self.benchmark is not None and self.benchmark.classes:
            return {"label": list(self.benchmark.classes)}
        number = range(len(self))
        metas = (read_meta(self.read(p, 0, frozenset())[0], self.members)[0] for p in number)
        return class_names(meta.label for meta in metas)

    def report(self) -> dict[str, int]:
        """Return counts of the bad by reason: in indexing and in all that was read (also by a Loader's workers).

        "sample/duplicate-key" counts samples whose key an earlier shard has too. They are read all the same.
        "sample/lost" counts samples without a trace in a damaged shard, which the manifest or an older index counts.
        """
        total = Counter(self._counts)
        total["sample/duplicate-key"] += self._repeated
        total["sample/lost"] += sum(self._missing.values())
        for index in self.indexes:
            total.update(index.notes)
        return dict(sorted((+total).items()))

    @cached_property
    def _missing(self) -> dict[str, int]:
        return count_missing(self.urls, self.indexes)

    @cached_property
    def _repeated(self) -> int:
        return count_repeated(self.indexes)

    def copies(self) -> tuple[str, str, str] | None:
        """Return (shard, later shard, key) of a sample that two shards hold byte for byte by their indexes, or None."""
        found = find_copy(self.indexes)
        return None if found is None else (str(self.urls[found[0]]), str(self.urls[found[1]]), found[2])

    @property
    def lost(self) -> list[Lost]:
        """Samples and members that the indexing had to leave out: bad, without a position."""
        return find_lost(self.urls, self.indexes, self._missing)

    def webdataset(self, *, shardshuffle: int = 0, resampled: bool = False) -> WebDataset:
        """Return a ``webdataset.WebDataset`` over the same files: ``__key__``, ``__url__``, and members as bytes.

        Shards are split over ranks and workers by ``split_by_node`` and ``split_by_worker``. webdataset reads the files
        itself and promises less than ``read``: no checksums, no count of lost samples in a damaged shard, no resume.
        Members of a key that do not lie together come as several samples, and pickled members come too.

        shardshuffle: shards that are shuffled together, 0 for none. resampled: draw shards with replacement, without
        end. Raises ValueError for a shard that is not a file on a disk, or that has # or ? in its path.
        """
        return as_webdataset(self.urls, shardshuffle, resampled)

    def close(self) -> None:
        """Close the open files. Reading opens them again."""
        self._source.close()

    def _readable(self, shard: int, modalities: frozenset[str] | None) -> np.ndarray:
        key = (shard, modalities)
        if key not in self._wanted:
            self._wanted[key] = select_members(self.indexes[shard].names, self.members, modalities)
        return self._wanted[key]

    def _kind(self, name: str) -> str:
        return min(modalities_of(name, self.members), default="") or name.rpartition(".")[2]

    def _manifests(self) -> list[dict[str, Any]]:
        found = map(read_manifest, dict.fromkeys(place.parent for place in self.urls))
        return [content for content in found if content is not None]
