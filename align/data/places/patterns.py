"""Patterns of shard names: counting and expanding them, and escaping a path so that it is no pattern."""

from __future__ import annotations

import glob
import os
import re
import shlex
from itertools import islice
from pathlib import Path

from braceexpand import braceexpand

MOST = 1_000_000  # shards that one brace pattern may name
MARKS = "*?[]{}"
LITERAL = {"[{]": "\0o", "[}]": "\0c"}  # a brace in brackets is plain, and no path holds a NUL

_numbers = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_letters = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?(\d+))?")
_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # in braceexpand's order


def braces(pattern: str) -> list[str]:
    """Expand ``train-{000000..000003}.tar`` and ``{a,b}.tar`` as webdataset does. ``[{]`` is a plain brace.

    The names are counted before any is made. Raises ValueError for a brace too many, and for more than MOST names.

    >>> braces("{08..10}.{a,b}")
    ['08.a', '08.b', '09.a', '09.b', '10.a', '10.b']
    """
    for mark, held in LITERAL.items():
        pattern = pattern.replace(mark, held)
    if re.search(r"\d{1000}", pattern):
        raise ValueError("holds a number of more than 1,000 digits")
    try:
        n = count(pattern)
    except ValueError:
        raise ValueError("has a brace too many or too few") from None
    except RecursionError:
        raise ValueError("nests its braces too deeply") from None
    if n > MOST:
        raise ValueError(f"names {f'{n:,}' if n < 10**18 else 'far more than 10^18'} shards, more than {MOST:,}")
    found = list(islice(braceexpand(pattern, escape=False), MOST + 1))
    for mark, held in LITERAL.items():
        found = [name.replace(held, mark) for name in found]
    return found


def count(pattern: str) -> int:
    """Return the number of a brace pattern's names, without making them. Raises ValueError where braces do not pair.

    >>> count("{0..100000000}.tar"), count("{a..e..2}-{1,{2..4}}")
    (100000001, 12)
    """
    total = 1
    for part in _parts(pattern):
        if part[:1] == "{":
            inner = part[1:-1]
            options = _parts(inner, ",")
            ranged = _range(inner)
            total *= ranged if ranged is not None else sum(map(count, options)) if len(options) > 1 else count(inner)
    return total


def _range(inner: str) -> int | None:
    """Return the number of names in ``0..9``, ``09..00..3`` or ``a..e``, None for anything else."""
    if found := _numbers.fullmatch(inner):
        start, end = int(found[1]), int(found[2])
    elif found := _letters.fullmatch(inner):
        start, end = _alphabet.index(found[1]), _alphabet.index(found[2])
    else:
        return None
    step = int(found[3] or 1) or 1
    return abs(end - start) // step + 1


def _parts(pattern: str, comma: str = "") -> list[str]:
    """Cut the pattern at its outermost braces, or at the commas outside of any. Raises ValueError for a lone brace."""
    found, start, depth = [], 0, 0
    for at, c in enumerate(pattern):
        if c == "{":
            if depth == 0 and not comma:
                found.append(pattern[start:at])
                start = at
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0 and not comma:
                found.append(pattern[start : at + 1])
                start = at + 1
        elif c == comma and depth == 0:
            found.append(pattern[start:at])
            start = at + 1
        if depth < 0 and not comma:
            raise ValueError("a brace too many")
    if depth:
        raise ValueError("a brace too few")
    return [*found, pattern[start:]]


def escape(path: str | os.PathLike[str]) -> str:
    """Return a path as a pattern that matches this path alone.

    >>> escape("set[12]/a{1,2}/x?")
    'set[[]12]/a[{]1,2[}]/x[?]'
    """
    return re.sub(r"[{}]", r"[\g<0>]", glob.escape(os.fspath(path)))


def inside(folder: str | os.PathLike[str], pattern: str = "*.tar") -> str:
    """Return the pattern of files in a folder. Marks in the folder's name are escaped."""
    return os.path.join(escape(folder), pattern)


def typeable(folder: str | os.PathLike[str], pattern: str = "*.tar") -> str:
    """Return ``inside`` as it can be typed in a shell: in quotes where the folder's name needs them.

    >>> typeable("out", "train-*.tar"), typeable("my set[1]")
    ('out/train-*.tar', "'my set[[]1]/*.tar'")
    """
    whole, plain = inside(folder, pattern), os.path.join(folder, pattern.replace("*", ""))
    return whole if shlex.quote(plain) == plain else shlex.quote(whole)


def anchor(pattern: str) -> str | None:
    """Return the pattern with its longest beginning that is a folder here escaped, None where no folder has marks.

    ``set[12]/train-*.tar`` are the shards of the folder ``set[12]`` where there is one, not those of ``set1``.
    """
    ends = [at for at, c in enumerate(pattern) if c == "/"]
    for end in reversed(ends):
        folder = pattern[:end]
        if not any(mark in folder for mark in (*MARKS, ":")):
            return None
        if os.path.isdir(folder):
            return escape(folder) + pattern[end:]
    return None


def one_path(path: Path | str) -> str:
    """Return a path as ``align.data.Shards`` takes it, so that it names one file and is never a pattern."""
    text = os.fspath(path)
    return text if "://" in text else escape(text)
