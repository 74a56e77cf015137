"""ConceptTexts: names of concepts, for which training reads a synonym, a definition or a parent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.files import read_json
from align.files.concepts import find_ancestors, read_concepts
from align.media.words import WORDS, read_text
from align.preprocess.base import Preprocess
from align.values import Values


class ConceptTexts(Preprocess):
    """Texts about named concepts, as rows of another preprocess (KEEP, Zhou et al. 2024, arXiv 2412.13126). A config::

        text:
          preprocess:
            class_path: align.preprocess.ConceptTexts
            init_args:
              file: configs/ideas/digit_concepts.json
              text: {class_path: align.preprocess.Bytes, init_args: {context: 32}}

    Training reads, in place of a name, one of its texts, drawn by the row's generator and so by (seed, epoch,
    position): a definition with the probability ``definitions``, a text of a concept above it with ``parents``, else
    the name or a synonym. All texts of a kind have the same chance. A kind without a text gives way to the names.
    Evaluation reads the name. Names are found in any case. Another text is read as it stands, so captions and names may
    come in one set. With the json's labels as texts (``members: {text: "json:label.digit"}``) no caption is needed.

    file: see ``align.files.concepts``. A checkpoint carries it. text: the preprocess of texts, such as ``Bytes``.
    definitions, parents: probabilities. up: the steps to the highest concept whose names are read.

    Raises ValueError for probabilities below 0 or of more than 1 together, for up below 1, and for a file of another
    form.
    """

    suffixes: ClassVar[tuple[str, ...]] = WORDS.suffixes
    medium = WORDS

    def __init__(self, file: str, text: Preprocess, definitions: float = 0.25, parents: float = 0.25, up: int = 1):
        if min(definitions, parents) < 0 or definitions + parents > 1:
            raise ValueError(
                f"definitions and parents are probabilities, 1 at most together; got {definitions} and {parents}"
            )
        if up < 1:
            raise ValueError(f"up is a number of steps, at least 1; got {up}")
        self.file, self.text, self.definitions, self.parents, self.up = file, text, definitions, parents, up
        concepts = read_concepts(file)
        self._texts: dict[str, tuple[list[str], list[str], list[str]]] = {}  # names, definitions, names above
        for name, each in concepts.items():
            above = find_ancestors(concepts, name, up)[1:]
            words = [word for parent in above for word in (parent, *concepts[parent].synonyms)]
            self._texts[name.casefold()] = [name, *each.synonyms], [*each.definitions], words

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the preprocess of texts, such as ``context``, which a tower checks."""
        if name.startswith("_") or "text" not in vars(self):
            raise AttributeError(name)
        return getattr(self.text, name)

    def decode(self, source: Any) -> str:
        return read_text(source)

    def draw(self, x: str, generator: torch.Generator) -> str:
        """Return a text about the concept of a name, or another text as it stands. It draws twice in any case."""
        kind, place = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        names, definitions, above = self._texts.get(x.strip().casefold(), ([x], [], []))
        chosen = definitions if kind < self.definitions else above if kind < self.definitions + self.parents else names
        texts = chosen or names
        return texts[int(place * len(texts))]

    def train(self, x: str, generator: torch.Generator) -> Tensor:
        return self.text.train(self.draw(x, generator), generator)

    def eval(self, x: str) -> Tensor:
        return self.text.eval(x)

    def collate(self, rows: Sequence[Tensor]) -> Values:
        return self.text.collate(rows)

    def device(self, values: Any, generator: torch.Generator | None = None) -> Any:
        return self.text.device(values, generator)

    def join(self, values: Any, others: Any) -> Any:
        return self.text.join(values, others)

    def assets(self) -> dict[str, str]:
        return {"file": json.dumps(read_json(self.file), ensure_ascii=False, indent=1)}

    def ready(self) -> None:
        self.text.ready()
