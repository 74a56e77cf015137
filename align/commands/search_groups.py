"""Groups of options of ``align search``: the parts of a query, the threshold of its scores, and how rows are read."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from align.commands.errors import Refused, nearest
from align.commands.pairs import pairs

if TYPE_CHECKING:
    from align.search import Found, Searcher
    from align.search.explain import Share

NAMED = ("text", "image", "video", "audio", "points")
"""Modalities with options of their own."""


@final
@dataclass(frozen=True)
class Query:
    """query

    Given together, these options are the parts of one query. Each part has a weight. A part with minus asks for samples
    that are less like it.

    Args:
        text: a text
        image: a file
        video: a file
        audio: a file
        points: a file
        with_: files of other modalities: NAME=FILE, separated by commas
        minus_text: a text to be less like
        minus_image: a file to be less like
        minus_video: a file to be less like
        minus_audio: a file to be less like
        minus_points: a file to be less like
        minus_with: files of other modalities to be less like: NAME=FILE
        weights: weights of parts that are not 1, as in image=2,minus-text=0.5
        words: words to look for in the captions, joined with the other parts by rank. Alone, they are the whole query
        hybrid: look for the text in the captions too
        like: the key of a sample of the index, whose own rows ask
        from_: with --to: a text about the file that is given, such as "a metal cone". The file is asked for with the
            change from this text to the other one, by the sum of cosines
        to: with --from: the text about the samples to find, such as "a wooden cone"
        direction: the factor of the change
        balance: 0 adds the change to the file, 1 to the text --from, and between to both
    """

    text: str | None = None
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    points: str | None = None
    with_: str | None = None
    minus_text: str | None = None
    minus_image: str | None = None
    minus_video: str | None = None
    minus_audio: str | None = None
    minus_points: str | None = None
    minus_with: str | None = None
    weights: str = ""
    words: str | None = None
    hybrid: bool = False
    like: str | None = None
    from_: str | None = None
    to: str | None = None
    direction: float = 1.0
    balance: float = 0.5

    def list_parts(self) -> list[tuple[str, str, float]]:
        """Return (modality, text or file, weight) of each part, those with a minus last.

        Raises ValueError for a weight that is no number, or of no part, with the nearest name.
        """
        plus = {m: getattr(self, m) for m in NAMED}
        minus = {m: getattr(self, f"minus_{m}") for m in NAMED}
        named = {m: x for m, x in plus.items() if x is not None} | pairs(self.with_ or "", "--with")
        named |= {f"-{m}": x for m, x in minus.items() if x is not None}
        named |= {f"-{m}": x for m, x in pairs(self.minus_with or "", "--minus-with").items()}
        given = {name.replace("minus-", "-", 1): x for name, x in pairs(self.weights, "--weights").items()}
        for name in given:
            if name not in named:
                raise Refused(f"--weights {name}: the query has no such part; {nearest(name, named)}", code=2)
        listed = [
            (m.removeprefix("-"), x, (-1 if m.startswith("-") else 1) * _weight(m, given.get(m, "1")))
            for m, x in named.items()
        ]
        return self._add_direction(listed)

    def _add_direction(self, listed: list[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
        """Return the parts with those of the direction from one text to the other, where there is one."""
        from align.scoring.direction import weigh_direction

        if self.from_ is None and self.to is None:
            if (self.direction, self.balance) != (1.0, 0.5):
                raise Refused("--direction and --balance are of the change from one text to another: --from, --to", 2)
            return listed
        if self.from_ is None or self.to is None:
            raise Refused("a change goes from a text to a text; give both, --from and --to", code=2)
        if not listed:
            raise Refused("a change is added to a file; give it too, as in --image x.png", code=2)
        try:
            reference, after, before = weigh_direction(self.direction, self.balance)
        except ValueError as error:
            raise Refused(f"--direction, --balance: {error}", code=2) from None
        rest = [(m, x, weight * reference) for m, x, weight in listed]
        return [*rest, ("text", self.to, after), ("text", self.from_, before)]


def _weight(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused(f"--weights {name}={text}: a weight is a number, as in image=2,text=0.5", code=2) from None


@final
@dataclass(frozen=True)
class Correcting:
    """hubs

    A hub is a sample that many queries find, whatever they ask. A correction lowers its scores, by a bank of queries.

    Args:
        correct: shards or patterns, separated by commas, whose rows of --by are the bank: training data. The correction
            is stored in the index, and later searches use it
        correction: the method: nnn, inverted_softmax, dual_bank or sinkhorn
        no_correction: leave the stored correction out
    """

    correct: str | None = None
    correction: Literal["nnn", "inverted_softmax", "dual_bank", "sinkhorn"] = "nnn"
    no_correction: bool = False


@final
@dataclass(frozen=True)
class Calibration:
    """threshold

    Args:
        threshold: the least score of a hit: a number, or calibrated, for the one that --calibrate stored
        calibrate: labelled shards or patterns, separated by commas, on which to choose the least score that has the
            precision of --precision. It is printed, and stored in the index where that can be written
        precision: the share of right hits among those that reach the threshold, from 0 to 1
        by: the modalities that ask, separated by commas: of the samples of --calibrate and --correct (default text), or
            the rows of the sample of --like (default: the modality searched among)
        hit: the rule by which a hit of --calibrate is right. Default: group where samples have groups, else sample
        attribute: the attribute of the labels that --hit label means, where there are several
    """

    threshold: str | None = None
    calibrate: str | None = None
    precision: float | None = None
    by: str | None = None
    hit: Literal["group", "sample", "label"] | None = None
    attribute: str | None = None

    def least(self) -> float | Literal["calibrated"] | None:
        """Return the threshold of a search. Ends the command where it is neither a number nor the word."""
        if self.threshold is None or self.threshold == "calibrated":
            return self.threshold
        try:
            return float(self.threshold)
        except ValueError:
            raise Refused(f"--threshold is a number or calibrated; got {self.threshold!r}", code=2) from None


@final
@dataclass(frozen=True)
class Backing:
    """how rows are read

    Args:
        backend: exact, or dense, scores every row. inverted reads the dimensions of the query that are not zero, with
            the same answer: for sparse heads. hamming compares the signs alone: for binary heads. Default: the
            approximate search of the index where it has one (see align index backend), else exact
        explain: show so many dimensions of each hit that its score comes from, by name where the head has names
    """

    backend: Literal["exact", "dense", "inverted", "hamming"] | None = None
    explain: int | None = None

    def engine(self, searcher: Searcher) -> Searcher:
        """Return a searcher of the same index and model by this backend."""
        if self.backend in (None, "exact", "dense"):
            return searcher
        from align.search import Engined, Hamming, Inverted

        engined = copy(searcher)  # with its space and its dims
        engined.index = Engined(searcher.index, Inverted if self.backend == "inverted" else Hamming)
        return engined

    def list_shares(
        self, searcher: Searcher, asked: list[tuple[str, str, float]], of: str, found: Found, how: Any
    ) -> list[list[Share]]:
        """Return for each hit the dimensions that its score comes from, nothing where none are asked for."""
        if self.explain is None:
            return []
        from align.search import Part
        from align.search.explain import explain_hits

        parts = [Part(m, x, weight) for m, x, weight in asked]
        return explain_hits(searcher, parts, of, [hit.sample for hit in found.hits], how, self.explain)
