"""Corruptions of texts: typos."""

from __future__ import annotations

import torch

from align.evaluation.robustness.corruptions.corruption import Corruption, at
from align.preprocess import Preprocess

NAMES = ("typos",)
TYPOS = (0.05, 0.1, 0.15, 0.2, 0.3)
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def typos(x: str, strength: int, generator: torch.Generator) -> str:
    """Return a text with typing errors. TYPOS has the share of its letters that have one.

    A letter is swapped with the next, left out, doubled, or replaced by a neighbour on a keyboard, each as often as the
    other: the synthetic noise of Belinkov and Bisk 2018 (arXiv 1711.02173), section 4.1, and the commonest slips of
    typing. A letter that is on no QWERTY keyboard is doubled instead of replaced. A text never becomes empty. The
    shares are chosen here.
    """
    if not isinstance(x, str):
        raise ValueError(f"robustness corrupts texts, and this preprocess decodes to {type(x).__name__}")
    share = at(TYPOS, strength)
    draws = torch.rand(len(x), 3, generator=generator, dtype=torch.float64).tolist()
    out: list[str] = []
    i = 0
    while i < len(x):
        hit, kind, key = draws[i]
        letter, after = x[i], x[i + 1 : i + 2]
        i += 1
        if not letter.isalpha() or hit >= share:
            out.append(letter)
        elif kind < 0.25 and after.isalpha():
            out += [after, letter]
            i += 1
        elif kind < 0.5:
            continue
        elif kind < 0.75 or not (near := neighbours(letter)):
            out += [letter, letter]
        else:
            out.append(near[int(key * len(near))])
    return "".join(out) if "".join(out).strip() else x


def neighbours(letter: str) -> str:
    """Return the keys beside a letter on a QWERTY keyboard, in its case, "" for a letter that is not there.

    >>> neighbours("s"), neighbours("P"), neighbours("é")
    ('adwezx', 'OL', '')
    """
    for row, keys in enumerate(KEYS):
        at = keys.find(letter.lower())
        if at < 0:
            continue
        found = keys[max(0, at - 1) : at] + keys[at + 1 : at + 2]
        if row:
            found += KEYS[row - 1][at : at + 2]
        if row + 1 < len(KEYS):
            found += KEYS[row + 1][max(0, at - 1) : at + 1]
        return found if letter.islower() else found.upper()
    return ""


def corruptions(preprocess: Preprocess) -> dict[str, Corruption]:
    """Return the corruptions of texts by name."""
    return {"typos": Corruption(typos, TYPOS, "share of the letters that have a typing error")}
