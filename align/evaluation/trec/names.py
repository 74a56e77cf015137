"""Names of rows in TREC's files: one word each, and no two alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from align.values import Embeddings

NEGATIVE, DISTRACTOR = "%negative", "%distractor:"
"""A row of no sample, and the beginning of a distractor's name. No key begins so, as its % is %25."""


def name_samples(table: Embeddings) -> list[str]:
    """Return a name for each sample: its key, or KEY#0, KEY#1, … of equal keys. See ``write_key``."""
    return tell_apart(map(write_key, table.ids))


def name_rows(table: Embeddings, modality: str, distractors: Embeddings | None = None) -> list[str]:
    """Return a name for each row of a modality, and then of its distractors.

    It is the key of the row's sample, or KEY#0, KEY#1, … of several rows and of equal keys.
    """
    names = [*_list_names(table, modality)]
    if distractors is not None and modality in distractors:
        names += [DISTRACTOR + name for name in _list_names(distractors, modality)]
    return tell_apart(names)


def _list_names(table: Embeddings, modality: str) -> Iterator[str]:
    keys = [*map(write_key, table.ids)]
    for sample in table[modality].sample.tolist():
        yield keys[sample] if sample >= 0 else NEGATIVE


def write_key(key: str) -> str:
    """Return a key as one word: white space, controls, # and % are percent-encoded.

    >>> write_key("a b#1")
    'a%20b%231'
    """
    return re.sub(r"[\s\x00-\x1f\x7f#%]", lambda one: "".join(f"%{b:02X}" for b in one[0].encode()), key)


def tell_apart(names: Iterable[str]) -> list[str]:
    """Return the names, with #0, #1, … behind those that come several times.

    >>> tell_apart(["a", "b", "a"])
    ['a#0', 'b', 'a#1']
    """
    names = list(names)
    count, seen, out = Counter(names), Counter[str](), []
    for name in names:
        out.append(f"{name}#{seen[name]}" if count[name] > 1 else name)
        seen[name] += 1
    return out
