"""Names: a text as the names of a vocabulary that stand in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from align.media.words import WORDS, read_text
from align.preprocess.base import Preprocess, stack
from align.values import Values


@final
class Names(Preprocess):
    """Texts as rows of 0 and 1 over a vocabulary: entry i is 1 where ``names[i]`` stands in the text as whole words.

    It is the explicit side of a space of concepts (SESA, Bogdanova and Yazdani 2017, arXiv:1708.03246)::

        text:
          preprocess: {class_path: align.preprocess.Names, init_args: {names: [cube, red]}}
          encoder: {class_path: align.encoders.Precomputed, init_args: {width: 2}}
          head: {class_path: align.heads.Concepts, init_args: {names: [cube, red], head: align.heads.Identity}}

    Upper and lower case are equal. A text without any of the names is a row of zeros, which is like nothing.

    Raises ValueError for no names, and for one that comes twice.
    """

    suffixes: ClassVar[tuple[str, ...]] = WORDS.suffixes
    medium = WORDS

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self._places = {tuple(_split(name)): i for i, name in enumerate(self.names)}
        if () in self._places or not self.names or len(self._places) < len(self.names):
            raise ValueError(f"a vocabulary has one name or more, each a single time; got {self.names[:8]}")
        self._sizes = sorted({len(words) for words in self._places})

    def decode(self, source: Any) -> str:
        """Return the text. Raises BadSample and FileNotFoundError as ``read_text`` does."""
        return read_text(source)

    def train(self, x: str, generator: torch.Generator) -> Tensor:
        return self.eval(x)

    def eval(self, x: str) -> Tensor:
        row, words = torch.zeros(len(self.names)), _split(x)
        runs = (tuple(words[i : i + n]) for n in self._sizes for i in range(len(words) - n + 1))
        row[[self._places[run] for run in runs if run in self._places]] = 1.0
        return row

    def collate(self, rows: Sequence[Tensor]) -> Values:
        return stack(rows, (len(self.names),), torch.float32)


def _split(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
