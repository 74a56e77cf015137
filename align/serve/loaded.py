"""A model with its index, decoders and queue, which serve requests until others take their place."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, final

from torch import Tensor

from align.media.medium import Face
from align.model import JointModel
from align.page.faces import size
from align.search.item import Item
from align.search.searcher import Searcher
from align.search.where import Where, conditions, parse
from align.serve.batching import Batcher, as_row
from align.serve.decoders import Decoders
from align.serve.decoding import Task
from align.serve.limits import Limits
from align.serve.members import Members, list_names
from align.serve.refusal import Refusal, suggest
from align.values import BadSample

FACES = 64 << 20  # bytes of faces in memory
T = TypeVar("T")


@final
class Loaded:
    """A model, its index, its decoders and its queue, for the requests of one moment.

    name: of the model, as clients see it. sha256: its fingerprint. source: its folder, or its name on the hub.
    searcher: None for a model without an index, for which ``reason`` says so.
    """

    def __init__(
        self,
        model: JointModel,
        searcher: Searcher | None,
        limits: Limits,
        *,
        name: str = "align",
        sha256: str = "",
        source: str = "",
        reason: str = "this server has a model and no index; start it with: align serve INDEX",
    ):
        self.model, self.searcher, self.name, self.sha256, self.reason = model, searcher, name, sha256, reason
        self.source = source
        self.created = int(time.time())
        self.limits = limits
        self.decoders = Decoders(model.preprocess, limits)
        self.batcher = Batcher(model, limits)
        about: Mapping[str, Any] = {} if searcher is None else searcher.index.about
        self.members = Members(list_names(about))
        self.faces = Faces(FACES)
        self._grids: dict[str, bool] = {}  # modality -> its tower's maps have a grid
        self._users = 0
        self._retired = self._closed = False
        self._lock = threading.Lock()

    @property
    def texts(self) -> list[str]:
        """The modalities whose inputs are strings."""
        return [m for m, p in self.model.preprocess.items() if p.medium is not None and p.medium.name == "words"]

    def need_index(self) -> Searcher:
        """Return the searcher. Raises Refusal (404) where there is none."""
        if self.searcher is None:
            raise Refusal(404, self.reason, code="no_index")
        return self.searcher

    def find_item(self, number: int) -> Item:
        """Return an item by its number. Raises Refusal (404)."""
        try:
            return self.need_index().index.items([number])[0]
        except (KeyError, OverflowError):
            raise Refusal(404, f"there is no item {number}", code="no_such_item", param="id") from None

    def check_modality(self, modality: str) -> None:
        """Raise Refusal (422) for a modality that the model lacks."""
        if modality not in self.model.modalities:
            hint = suggest(modality, self.model.modalities)
            raise Refusal(422, f"the model has no {modality[:60]!r}; {hint}", code="unknown_modality", param="modality")

    def check_of(self, of: str) -> None:
        """Raise Refusal (422) for a modality that the index lacks."""
        have = self.need_index().index.modalities
        if of not in have:
            hint = suggest(of, have) if have else "it is empty"
            raise Refusal(422, f"the index has no {of[:60]!r}; {hint}", code="unknown_modality", param="of")

    def parse(self, where: Mapping[str, Any] | None) -> Where | None:
        """Return a filter's tree. Raises Refusal (422), also for one that asks where the files lie on this machine."""
        try:
            tree = parse(where) if where else None
        except ValueError as error:
            raise Refusal(422, str(error), code="bad_filter", param="where") from None
        for condition in conditions(tree) if tree is not None else ():
            if condition.key == "shard":
                raise Refusal(422, "shard is no key of a filter here; key is", code="bad_filter", param="where")
            values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            if condition.key == "folder" and (
                condition.operator not in ("eq", "ne", "in", "exists") or any(str(v).startswith("/") for v in values)
            ):
                hint = "folder is a path below the indexed folder, and is asked by eq or in"
                raise Refusal(422, hint, code="bad_filter", param="where")
        return tree

    def suffix(self, modality: str, name: str) -> str:
        """Return a suffix of a visitor's file name where the modality's files have it, else the usual one."""
        medium = self.model.preprocess[modality].medium
        known = () if medium is None else (*medium.suffixes, *medium.files)
        found = re.search(r"[A-Za-z0-9]{1,8}$", name)
        suffix = found[0].lower() if found else ""
        return suffix if suffix in known else next(iter(known), "")

    async def row(self, modality: str, given: str | bytes | tuple[bytes, str]) -> Tensor:
        """Return the row of a text or a file, decoded by a decoder. Raises Refusal (422)."""
        if modality in self.texts:
            if not isinstance(given, str):
                raise Refusal(422, f"{modality} is given as text", param="parts")
            if len(given) > self.limits.text:
                raise Refusal(413, f"a text of {len(given)} characters; at most {self.limits.text} are read")
            try:
                return await self.run(lambda: self.model.preprocess[modality].row(given))
            except BadSample as error:
                raise Refusal(422, f"the {modality} cannot be read ({error})", code="undecodable") from None
        if isinstance(given, str):  # never a path
            raise Refusal(422, f"{modality} is given as a file: data, or an upload", param="parts")
        data, name = (given, "") if isinstance(given, bytes) else given
        return as_row(await self.decoders.decode(Task("row", modality, self.suffix(modality, name), data)))

    async def has_grid(self, modality: str) -> bool:
        """Return True for a tower whose dense maps have a height and a width, see ``JointModel.dense``."""
        if modality not in self._grids:

            def look() -> bool:
                try:
                    return self.model.dense_values(modality, self.model.preprocess[modality].collate([])).ndim == 4
                except ValueError:
                    return False

            self._grids[modality] = await self.run(look)
        return self._grids[modality]

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self.batcher.threads, work)

    def examples(self, each: int) -> dict[str, list[int]]:
        """Return modality -> numbers of items that have rows of it, evenly spread."""
        index = self.need_index().index
        found = {}
        for m in index.modalities:
            numbers = index.numbers(m)
            step = max(1, len(numbers) // max(1, each))
            found[m] = numbers[::step][:each].tolist()
        return found

    def hold(self) -> bool:
        """Count a request. Return False, and count none, where this has closed in favour of another."""
        with self._lock:
            self._users += not self._closed
            return not self._closed

    def release(self) -> None:
        """Count a request out, and close after the last one of a retired."""
        with self._lock:
            self._users -= 1
        self._close_unused()

    def retire(self) -> None:
        """Close when the last request has ended, at once where there is none."""
        self._retired = True
        self._close_unused()

    def _close_unused(self) -> None:
        with self._lock:
            if not self._retired or self._users or self._closed:
                return
            self._closed = True
        self.decoders.close()
        self.batcher.close()
        close = getattr(None if self.searcher is None else self.searcher.index, "close", None)
        if close is not None:
            close()


@final
class Faces:
    """The faces of the latest items, in at most so many bytes."""

    def __init__(self, most: int):
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[Hashable, Face] = OrderedDict()

    def get(self, key: Hashable) -> Face | None:
        """Return a face that is still there, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, face: Face) -> None:
        """Keep a face, and drop those that were asked for longest ago."""
        if key not in self._kept:
            self._kept[key] = face
            self._bytes += size(face)
        while self._bytes > self._most and self._kept:
            self._bytes -= size(self._kept.popitem(last=False)[1])
