"""Shares of the models of a soup, as the command line states them."""

from __future__ import annotations

from align.commands.errors import Refused
from align.commands.named import split


def read_numbers(option: str, text: str) -> list[float]:
    """Return the numbers of an option's list. Ends the command where one is no number."""
    try:
        return [float(part) for part in split(text)]
    except ValueError:
        raise Refused(f"{option} takes numbers with commas between them: 0,0.5,1, not {text!r}", code=2) from None


def read_shares(text: str | None, n: int) -> list[float]:
    """Return the share of each of n models. Ends the command where they are not n, or do not sum to 1."""
    if text is None:
        return [1 / n] * n
    shares = read_numbers("--weights", text)
    if len(shares) != n or not abs(sum(shares) - 1) < 1e-6 or any(share < 0 for share in shares):
        raise Refused(f"--weights are {n} shares, one a model, that sum to 1; got {text} for {n} models", code=2)
    return shares


def read_gaussian(text: str, n: int) -> list[float]:
    """Return the shares of n models along a bell curve. Ends the command for other than a mean and a spread above 0."""
    from align.soup.shares import gaussian_shares

    numbers = read_numbers("--gaussian", text)
    if len(numbers) != 2 or not numbers[1] > 0:
        raise Refused(f"--gaussian is a mean and a spread above 0, such as 15,2; got {text}", code=2)
    return gaussian_shares(n, *numbers)
