"""mteb's tasks of shards: every direction of retrieval, zero-shot classification and composed queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from align.convert.harness.composing import composed_tasks
from align.convert.harness.content import read_content
from align.convert.harness.directing import list_directions, retrieval_task
from align.convert.harness.labelling import zeroshot_tasks
from align.convert.harness.rules import pick_rule
from align.convert.harness.tasks import ShardTask
from align.data import Shards
from align.evaluation import ComposedQuery, Space
from align.model import JointModel
from align.scoring import How

TEMPLATE = "a {}"


class Built(NamedTuple):
    """Tasks of shards, and lines about what has none."""

    tasks: list[ShardTask]
    notes: list[str]


def build_tasks(
    model: JointModel,
    shards: Shards,
    *,
    title: str | None = None,
    template: str = TEMPLATE,
    queries: Sequence[ComposedQuery] = (),
    reference: str = "image",
    of: str = "image",
    how: How | None = None,
) -> Built:
    """Return mteb's tasks of shards, which measure what ``align.evaluate`` does.

    Args:
        model: says which members are read, and by its terms which modalities ask together.
        shards: their rows are held in memory, as they are stored.
        title: the beginning of the tasks' names. None: the name of the shards' folder.
        template: the prompt of a class, with one ``{}`` for its name.
        queries: composed queries, whose references are rows of ``reference``, and their answers rows of ``of``.
        how: the rule of the harness, which names the score of ``align.evaluate`` that is the same.

    Raises ValueError as ``align.evaluate`` does for shards, classes and queries that do not fit.
    """
    if template.count("{}") != 1:
        raise ValueError(f"a template has one {{}} for the class name, as in 'a photo of a {{}}'; got {template!r}")
    space = Space(model, shards, templates=[template], draws=0)
    content = read_content(model, shards)
    title = title or re.sub(r"[^\w.-]+", "-", shards.urls[0].parent.name or "shards")
    tasks: list[ShardTask] = []
    for asks, answers in list_directions(content, model.terms):
        if task := retrieval_task(content, asks, answers, title):
            tasks.append(task)
    for attribute, words in space.classes.items() if "text" in model.modalities else ():
        tasks += zeroshot_tasks(content, model, attribute, list(words), space.names(attribute), template, title)
    if queries:
        rule = how or pick_rule(model.terms, (reference, "text"), of)
        way = "product" if rule == "mip" else "sum"
        tasks += composed_tasks(content, queries, way, title, reference, of)
    return Built(tasks, content.notes)
