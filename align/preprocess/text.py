"""Text: one string becomes one row of token ids, by CLIP's byte pairs or by plain bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.media.words import WORDS, read_text
from align.preprocess.base import Preprocess, check_at_least, stack
from align.values import Values

PER_TOKEN = 16  # characters of the text read for each token of context: byte pairs take quadratic time on a long word


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

    def collate(self, rows: Sequence[Tensor]) -> Values:
        return stack(rows, (self.context,), torch.int64)


class Tokens(Text):
    """CLIP's byte-pair tokens, as open_clip makes them (Radford et al. 2021, section 2.4).

    A row is (context,) int64: start (49406), the tokens, end (49407), then 0. A long text is cut and keeps its end.
    """

    def __init__(self, context: int = 77):
        super().__init__(context)
        self.vocabulary = 49408

    def ready(self) -> None:
        bpe()

    def eval(self, x: str) -> Tensor:
        return bpe()(" ".join(x.split())[: PER_TOKEN * self.context], context_length=self.context)[0]


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


@cache
def bpe() -> Any:
    """Return open_clip's tokenizer. It is made at its first use: reading its merges takes 0.5 s."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
