"""CLIP's byte pairs: the vocabulary file that open_clip brings, read without open_clip, whose import costs seconds."""

from __future__ import annotations

import gzip
import heapq
import re
import string
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2  # of the file's; the vocabulary was planned for 49,152 ids, and 256 of them are bytes
MARKS = ("<start_of_text>", "<end_of_text>")
LAST = "</w>"  # marks the piece that ends a word
KEPT = 64  # characters of the longest word that is remembered
ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d"
PLAIN = re.compile(r"[ -%'-~]*")  # printable ASCII without "&": texts that need no mending


class BytePairs:
    """Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909, algorithm 1) over the 256 bytes, with the merges that
    CLIP was trained with (Radford et al. 2021, arXiv:2103.00020, section 2.4).

    ``start`` and ``end`` are the ids of the marks, ``len`` is the number of ids.
    """

    def __init__(self, path: Path):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            merges = [tuple(line.split()) for line in islice(file, 1, MERGES + 1)]
        shown = [b for b in range(256) if chr(b).isprintable() and b not in b" \xa0\xad"]
        hidden = [b for b in range(256) if b not in shown]
        self.letters = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}
        letters = list(self.letters.values())
        pieces = [*letters, *(x + LAST for x in letters), *("".join(pair) for pair in merges), *MARKS]
        self.ids = {piece: i for i, piece in enumerate(pieces)}
        self.ranks: dict[Any, int] = {pair: rank for rank, pair in enumerate(merges)}
        self.start, self.end = (self.ids[mark] for mark in MARKS)
        self.remembered = lru_cache(1 << 16)(self.split)

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, text: str, most: int | None = None) -> list[int]:
        """Return the ids of a cleaned text, without marks. most: read no further than so many ids."""
        return list(islice(chain.from_iterable(self._each_word(text)), most))

    def _each_word(self, text: str) -> Iterator[tuple[int, ...]]:
        words = read_words(text.isascii())
        for found in words.finditer(text):
            word = found[0].encode().decode("latin-1").translate(self.letters)
            yield self.remembered(word) if len(word) <= KEPT else self.split(word)

    def split(self, word: str) -> tuple[int, ...]:
        """Return the ids of one word, whose bytes stand as ``letters``. It takes n log n steps."""
        if word in MARKS:
            return (self.ids[word],)
        pieces = [*word[:-1], word[-1] + LAST]
        n = len(pieces)
        left, right = list(range(-1, n - 1)), list(range(1, n + 1))
        ranks: list[int] = []  # a heap
        places: dict[int, list[int]] = {}  # rank -> the left places of its pair

        def note(i: int) -> None:
            rank = self.ranks.get((pieces[i], pieces[right[i]])) if i >= 0 and right[i] < n else None
            if rank is not None:
                if rank not in places:
                    heapq.heappush(ranks, rank)
                places.setdefault(rank, []).append(i)

        for i in range(n):
            note(i)
        while ranks:
            rank, merged = heapq.heappop(ranks), []
            for i in sorted(places.pop(rank)):  # all places of a pair, left to right, before any other pair
                j = right[i]
                if j == n or self.ranks.get((pieces[i], pieces[j])) != rank:
                    continue  # an earlier merge took one of the two
                pieces[i], pieces[j], right[i] = pieces[i] + pieces[j], "", right[j]
                if right[j] < n:
                    left[right[j]] = i
                merged.append(i)
            for i in merged:
                note(i)
                note(left[i])
        return tuple(self.ids[piece] for piece in pieces if piece)


@cache
def read_words(ascii_only: bool) -> Any:
    """Return the pattern of a text's words: marks, English endings, runs of letters, single digits, runs of the rest.

    ASCII alone needs no classes of Unicode, and not the package that has them, whose import takes 0.05 s.
    """
    if ascii_only:
        return re.compile("|".join((*MARKS, ENDINGS, "[a-z]+", "[0-9]", r"[^\sa-z0-9]+")), re.IGNORECASE | re.ASCII)
    import regex

    return regex.compile("|".join((*MARKS, ENDINGS, r"\p{L}+", r"\p{N}", r"[^\s\p{L}\p{N}]+")), regex.IGNORECASE)


def clean_text(text: str, how: str) -> str:
    """Return a text as open_clip's tokenizers clean it: broken encodings and HTML's entities mended, white space
    collapsed.

    how: "whitespace" does no more, "lower" also makes it lower case, "canonicalize" also removes ASCII punctuation.
    """
    if not PLAIN.fullmatch(text):
        import html

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    if how == "canonicalize":
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
    text = " ".join(text.split())
    return text.lower() if how == "lower" else text


@cache
def read_byte_pairs() -> BytePairs:
    """Return CLIP's byte pairs, read at their first use in 0.1 s. Raises OSError where open_clip has no such file."""
    spec = find_spec("open_clip")  # finds a package without importing it
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        if (path := Path(folder) / FILE).is_file():
            return BytePairs(path)
    raise OSError(
        f"open_clip_torch has no {FILE} here; install it again: pip install --force-reinstall open_clip_torch"
    )
