"""The mark of a mirror: whose rows a collection holds, and whether they are whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, final

SCHEMA = 1
METRIC = "IP"  # the inner product, of unit rows


@final
@dataclass(frozen=True)
class Mark:
    """Facts that a collection keeps about its rows.

    Args:
        index: id of the index. of: the modality. model: SHA-256 of the index's model. dim: numbers in a row.
        generation: of the index, when the rows were sent.
        push: a name of the sending that made the rows whole, "" while rows are being sent.
    """

    index: str
    of: str
    dim: int
    model: str = ""
    generation: int = 0
    push: str = ""
    metric: str = METRIC
    align: int = SCHEMA

    @property
    def name(self) -> str:
        """The collection's name, of letters, digits and underscores."""
        return name_collection(self.index, self.of)

    def plain(self) -> dict[str, Any]:
        """Return the mark as JSON has it."""
        return asdict(self)

    def with_push(self, push: str) -> Mark:
        """Return the mark with the name of a sending."""
        return replace(self, push=push)


def name_prefix(index: str) -> str:
    """Return the beginning of the names of an index's collections."""
    return f"align_{re.sub('[^A-Za-z0-9]', '_', index)}_"


def name_collection(index: str, of: str) -> str:
    """Return the name of the collection for a modality of an index.

    A name that servers do not take gets a digest in its place.

    >>> name_collection("3f2a", "image"), name_collection("3f2a", "look here")
    ('align_3f2a_image', 'align_3f2a_look_here_6bd51d6d')
    """
    plain = re.sub("[^A-Za-z0-9]", "_", of)[:60]
    digest = "" if plain == of else "_" + hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name_prefix(index)}{plain}{digest}"


def read_mark(stored: Any) -> Mark | None:
    """Return the mark that a collection keeps, None where it keeps none of ours."""
    if not isinstance(stored, Mapping) or not isinstance(stored.get("align"), int):
        return None
    try:
        return Mark(**{str(key): value for key, value in stored.items()})
    except TypeError:  # of a later schema
        return Mark("", "", 0, align=stored["align"])


def check_mark(found: Mark | None, wanted: Mark, dim: int | None, metric: str | None, where: str) -> Mark:
    """Return the mark of a collection that is this index's mirror. where: the server, for a message.

    dim, metric: those of the collection itself. Raises ValueError for a collection that is not ours, or is of another
    index, model, width or metric.
    """
    named = f"{where}: the collection {wanted.name}"
    if found is None:
        raise ValueError(f"{named} is not of align; rename it there, or choose another server")
    if found.align != SCHEMA:
        raise ValueError(f"{named} has schema {found.align}; this align knows {SCHEMA}: upgrade align")
    if (found.index, found.of) != (wanted.index, wanted.of):
        raise ValueError(f"{named} is of another index ({found.index}, {found.of}); choose another server")
    if (width := dim) != wanted.dim or (width := found.dim) != wanted.dim:
        raise ValueError(f"{named} has rows of {width} numbers, the index of {wanted.dim}; drop it there")
    for compares in (metric or wanted.metric, found.metric):  # one whose making was stopped has none yet
        if compares != wanted.metric:
            raise ValueError(f"{named} compares by {compares}, the index by {wanted.metric}; drop it there")
    if found.model != wanted.model:
        raise ValueError(
            f"{named} is of another model ({found.model[:12]}, the index's is {wanted.model[:12]}); drop it there"
        )
    return found
