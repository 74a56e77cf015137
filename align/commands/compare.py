"""``align compare RUN RUN``: which of two evaluations is better, and whether the data can tell."""

from __future__ import annotations


def compare(runs: list[str], /, *, json: bool = False) -> None:
    """Compare the results of two or more evaluations, sample by sample

    Args:
        runs: folders with results.json and samples.safetensors, as align evaluate writes them
        json: print the comparison as JSON
    """
    raise NotImplementedError
