"""Numbers of equal contents: a preprocess that also tells which rows are equal, for the time of an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from align.data.names import TEXT
from align.preprocess import Preprocess
from align.values import Values

VALUES, CONTENT = "content/values", "content/number"


@final
class Marked(Preprocess):
    """A preprocess whose collated values carry a number for each row, equal where the rows' content is.

    Texts are equal up to white space and case, anything else to the byte. The number is a 63-bit hash: it does not
    depend on the tokenizer, so two models are asked about the same equal captions.
    """

    def __init__(self, inner: Preprocess):
        self.inner = inner
        self.text = TEXT in inner.suffixes

    @property
    def suffixes(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.suffixes

    def decode(self, source: Any) -> Any:
        return self.inner.decode(source)

    def train(self, x: Any, generator: torch.Generator) -> Tensor:
        return self.inner.train(x, generator)

    def eval(self, x: Any) -> Tensor:
        return self.inner.eval(x)

    def row(self, source: Any, generator: torch.Generator | None = None) -> Any:
        return self.inner.row(source, generator), number(source, self.text)

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        values = self.inner.collate([row for row, _ in rows])
        numbers = {CONTENT: torch.tensor([found for _, found in rows], dtype=torch.int64)}
        return numbers | (values if isinstance(values, dict) else {VALUES: values})

    def device(self, values: Any, generator: torch.Generator | None = None) -> Any:
        return self.inner.device(values, generator)

    def ready(self) -> None:
        self.inner.ready()


def number(source: Any, text: bool) -> int:
    """The content of a row's bytes or string as a number from 0; -1 for an object whose content is not known."""
    if isinstance(source, str):
        source = source.encode("utf-8", "replace")
    if not isinstance(source, bytes | bytearray | memoryview):
        return -1
    data = bytes(source)
    if text:
        data = " ".join(data.decode("utf-8-sig", "replace").split()).casefold().encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def parted(values: Values) -> tuple[Values, Tensor]:
    """(the values as the inner preprocess collated them, (n,) content) of what ``Marked`` collated."""
    if not isinstance(values, dict):
        raise TypeError("values without content: they were not collated by Marked")
    rest = {name: x for name, x in values.items() if name != CONTENT}
    return rest.get(VALUES, rest), values[CONTENT]
