"""Numbers for the contents of rows, equal where the contents are. An evaluation finds equal captions by them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from align.data.names import TEXT
from align.preprocess import Preprocess
from align.preprocess.view import Inside, View
from align.values import Values

VALUES, CONTENT = "content/values", "content/number"


class Around(Preprocess):
    """A preprocess around another one, for the time of an evaluation. ``row`` is its own, all else the inner one's."""

    def __init__(self, inner: Preprocess):
        self.inner = inner

    @property
    def suffixes(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.suffixes

    @property
    def text(self) -> bool:
        """True where the members are texts."""
        return TEXT in self.suffixes

    @property
    def of(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.of

    def view(self, x: Any, generator: torch.Generator | None = None) -> View:
        return self.inner.view(x, generator)

    def decode(self, source: Any) -> Any:
        return self.inner.decode(source)

    def train(self, x: Any, generator: torch.Generator) -> Tensor:
        return self.inner.train(x, generator)

    def eval(self, x: Any) -> Tensor:
        return self.inner.eval(x)

    @abstractmethod
    def row(self, source: Any, generator: torch.Generator | None = None) -> Any: ...

    def collate(self, rows: Sequence[Any]) -> Values:
        return self.inner.collate(rows)

    def device(self, values: Any, generator: torch.Generator | None = None) -> Any:
        return self.inner.device(values, generator)

    def ready(self) -> None:
        self.inner.ready()


@final
class Marked(Around):
    """A preprocess whose collated values carry a number for each row, equal where the rows' content is.

    Texts are equal up to white space and case, anything else to the byte. The number is a 63-bit hash: it does not
    depend on the tokenizer, so two models are asked about the same equal captions.
    """

    def row(self, source: Any, generator: torch.Generator | None = None) -> Any:
        return self.inner.row(source, generator), number(source, self.text)

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        values = self.inner.collate([row for row, _ in rows])
        numbers = {CONTENT: torch.tensor([found for _, found in rows], dtype=torch.int64)}
        return numbers | (values if isinstance(values, dict) else {VALUES: values})


def number(source: Any, text: bool) -> int:
    """Return the content of a row's bytes or string as a number from 0, and -1 for an object of unknown content.

    A row of a cache is an array. Equal arrays are equal content. So are equal places in equal wholes.
    """
    if isinstance(source, Inside):
        place = source.value if isinstance(source.value, bytes) else repr(source.value).encode()
        whole = source.whole.numpy() if isinstance(source.whole, Tensor) else source.whole
        source, text = place + number(whole, False).to_bytes(9, "little", signed=True), False
    if isinstance(source, np.ndarray):
        source, text = f"{source.dtype} {source.shape} ".encode() + source.tobytes(), False
    if isinstance(source, str):
        source = source.encode("utf-8", "replace")
    if not isinstance(source, bytes | bytearray | memoryview):
        return -1
    data = bytes(source)
    if text:
        data = " ".join(data.decode("utf-8-sig", "replace").split()).casefold().encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def split_content(values: Values) -> tuple[Values, Tensor]:
    """Split values that ``Marked`` collated into those of the inner preprocess and the (n,) content numbers."""
    if not isinstance(values, dict):
        raise TypeError("values without content: they were not collated by Marked")
    rest = {name: x for name, x in values.items() if name != CONTENT}
    return rest.get(VALUES, rest), values[CONTENT]
