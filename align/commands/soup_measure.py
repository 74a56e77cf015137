"""The measure of ``align soup``: evaluators over held-out sets, each with its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.commands.errors import Refused
from align.commands.groups import Protocol

if TYPE_CHECKING:
    from align.model import JointModel
    from align.soup import Ingredient, Measure


def make_measure(
    found: Sequence[Ingredient],
    shards: Sequence[str],
    settings: Mapping[str, Any],
    score: str,
    protocol: Protocol,
    opening: Mapping[str, Any],
    load: Callable[[str], JointModel],
) -> Measure:
    """Return the measure of the averages. settings: evaluators, batch and workers. opening: of the shards."""
    from contextlib import contextmanager

    from align.commands.classes import read_classes, read_descriptions, read_templates
    from align.commands.named import split
    from align.commands.over import budget
    from align.commands.progress import progress
    from align.data import Shards
    from align.evaluation.pick import pick
    from align.soup import Measure

    try:
        pick(settings["with_"])
    except ValueError as error:
        raise Refused(f"--with: {error}", code=2) from None
    asked = {
        **settings,
        "classes": None if protocol.classes is None else read_classes(protocol.classes),
        "templates": None if protocol.templates is None else read_templates(protocol.templates),
        "descriptions": None if protocol.descriptions is None else read_descriptions(protocol.descriptions),
        "hit": protocol.hit,
        "attribute": protocol.attribute,
    }
    sets = {name: Shards(split(names), shuffle=False, **opening) for name, names in name_sets(shards).items()}

    @contextmanager
    def watch(name: str) -> Iterator[Any]:
        with budget("--max-bad"), progress(name) as say:
            yield say

    return Measure(load(str(found[0].folder)), found, sets, split(score), asked, watch)


def name_sets(shards: Sequence[str]) -> dict[str, str]:
    """Return name -> patterns of each ``--shards``, by default the name of their folder.

    >>> name_sets(["photos/test-*.tar", "ood=sketches/test-*.tar"])
    {'photos': 'photos/test-*.tar', 'ood': 'sketches/test-*.tar'}
    """
    sets: dict[str, str] = {}
    for text in shards:
        stated = re.match(r"([A-Za-z0-9_.-]+)=(.+)", text)
        name, patterns = (stated[1], stated[2]) if stated else (Path(text.split(",")[0]).parent.name or text, text)
        if name in sets:
            raise Refused(f"two --shards are named {name!r}; name them: --shards NAME={text}", code=2)
        sets[name] = patterns
    return sets
