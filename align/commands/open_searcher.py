"""The index and the model of ``align search``, opened from a folder of either."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Weights

if TYPE_CHECKING:
    from align.search import Searcher


def open_searcher(
    index: str, in_: str | None, model: str | None, weights: Weights, placing: Placing, backend: str | None
) -> Searcher:
    """Open the index, with the model that is named, or the one that the index names.

    Prints a line on stderr where the index was made in another precision.
    """
    from align.search.open import compare_precision

    searcher = _find_index(index, in_, model, weights, placing, backend)
    if line := compare_precision(searcher.index.about, searcher.model):
        print(line, file=sys.stderr)
    return searcher


def _find_index(
    index: str, in_: str | None, model: str | None, weights: Weights, placing: Placing, backend: str | None
) -> Searcher:
    from align.search.open import find_index, open_index

    if in_ is not None:
        if model is not None:
            raise Refused("name the model once: as INDEX or as --model", code=2)
        weights.locate(index)  # an error of the model comes before one of the index
        return open_index(find_index(in_, index), placing.load(weights, index), backend=backend)
    if not Path(index).exists():
        try:
            weights.locate(index)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no index at {index}: {error}") from error
        raise FileNotFoundError(
            f"{index} is no folder here, so it has no index; make one with: align index build "
            f"{shlex.quote(index)} SHARDS --out FOLDER, and name FOLDER in place of the model"
        )
    place = find_index(index)
    if model is None and place != Path(index):
        model = index  # a run, whose checkpoint can be chosen
    if model is not None:
        return open_index(place, placing.load(weights, model), backend=backend)
    device = placing.find_device()
    return open_index(place, allow=weights.list_allowed(), device=device, dtype=placing.dtype, backend=backend)
