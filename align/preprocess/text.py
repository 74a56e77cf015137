"""Text: one string becomes one row of token ids, by CLIP's byte pairs or by plain bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from align.media.words import WORDS, read_text
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.byte_pairs import clean_text, read_byte_pairs
from align.values import Values


class Text(Preprocess):
    """The part that all tokenizers share. A leaf's ``eval`` turns a string into (context,) int64 ids."""

    suffixes: ClassVar[tuple[str, ...]] = WORDS.suffixes
    medium = WORDS

    def __init__(self, context: int):
        check_at_least("context", context, 3)
        self.context = context

    def decode(self, source: Any) -> str:
        return read_text(source)

    def train(self, x: str, generator: torch.Generator) -> Tensor:
        return self.eval(x)

    @property
    def draws(self) -> bool:
        """True where training draws. Otherwise ``keep`` returns the whole row."""
        return type(self).train is not Text.train

    def keep(self, source: Any) -> Tensor | str | None:
        text = super().keep(source)
        return text if text is None or self.draws else self.eval(text)

    def finish(self, kept: Tensor | str, generator: torch.Generator | None = None) -> Tensor:
        return kept if isinstance(kept, Tensor) else super().finish(kept, generator)

    def collate(self, rows: Sequence[Tensor]) -> Values:
        return stack(rows, (self.context,), torch.int64)


def join_ids(values: Tensor, others: Tensor, end: int, link: Sequence[int]) -> Tensor:
    """Return (n, context) ids of two rows with a link between, one start and one end, cut as a long text is."""
    out = torch.zeros_like(values)
    for i, (one, two) in enumerate(zip(values.tolist(), others.tolist(), strict=True)):
        ids = [*one[: one.index(end)], *link, *two[1 : two.index(end)]][: values.shape[1] - 1]
        out[i, : len(ids) + 1] = torch.tensor([*ids, end])
    return out


class Tokens(Text):
    """CLIP's byte-pair tokens, those of open_clip's ``SimpleTokenizer`` (Radford et al. 2021, section 2.4).

    A row is (context,) int64: start (49406), the tokens, end (49407), then 0.

    context: ids in a row.
    clean: "lower" makes the text lower case, "canonicalize" also removes its ASCII punctuation, "whitespace" does
        neither. All three mend broken encodings and HTML's entities and collapse white space.
    reduction: the tokens of a long text that training keeps: the first ("cut"), a block anywhere ("simple"), any in
        their order ("random"), or any in any order ("shuffle"). Evaluation keeps the first.
    """

    def __init__(
        self,
        context: int = 77,
        clean: Literal["lower", "canonicalize", "whitespace"] = "lower",
        reduction: Literal["cut", "simple", "random", "shuffle"] = "cut",
    ):
        super().__init__(context)
        check_choice("clean", clean, ("lower", "canonicalize", "whitespace"))
        check_choice("reduction", reduction, ("cut", "simple", "random", "shuffle"))
        self.clean, self.reduction = clean, reduction
        self.vocabulary = 49408

    @property
    def draws(self) -> bool:
        return type(self).train is not Tokens.train or self.reduction != "cut"

    def ready(self) -> None:
        read_byte_pairs()

    def eval(self, x: str) -> Tensor:
        return self._mark(read_byte_pairs().encode(clean_text(x, self.clean), self.context - 2))

    def train(self, x: str, generator: torch.Generator) -> Tensor:
        room = self.context - 2
        if self.reduction == "cut":
            return self.eval(x)
        ids = read_byte_pairs().encode(clean_text(x, self.clean))
        if len(ids) > room and self.reduction == "simple":
            start = int(torch.randint(len(ids) - room + 1, (), generator=generator))
            ids = ids[start : start + room]
        elif len(ids) > room:
            kept = torch.randperm(len(ids), generator=generator)[:room]
            ids = [ids[i] for i in (kept if self.reduction == "shuffle" else kept.msort()).tolist()]
        return self._mark(ids)

    def join(self, values: Tensor, others: Tensor) -> Tensor:
        pairs = read_byte_pairs()
        return join_ids(values, others, pairs.end, pairs.encode("and"))

    def _mark(self, ids: list[int]) -> Tensor:
        pairs = read_byte_pairs()
        row = torch.zeros(self.context, dtype=torch.int64)
        row[: len(ids) + 2] = torch.tensor([pairs.start, *ids, pairs.end])
        return row


class Bytes(Text):
    """The text's UTF-8 bytes. They need no vocabulary file and hold every language and every typing error.

    A row is (context,) int64: start (1), each byte + 3, end (2), then 0. A long text is cut and keeps its end.

    context: ids in a row. lower: read upper case as lower case.
    """

    def __init__(self, context: int = 64, lower: bool = True):
        super().__init__(context)
        self.lower = lower
        self.vocabulary = 259

    def eval(self, x: str) -> Tensor:
        text = x.lower() if self.lower else x
        ids = [1, *(byte + 3 for byte in text.encode()[: self.context - 2]), 2]
        return torch.tensor(ids + [0] * (self.context - len(ids)))

    def join(self, values: Tensor, others: Tensor) -> Tensor:
        return join_ids(values, others, 2, [byte + 3 for byte in b" and "])
