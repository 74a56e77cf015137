"""The protocol that every result file carries: all that is needed to get its numbers again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import align
from align.checkpoint import read_parts
from align.data import Shards
from align.data.names import FOREIGN
from align.embedding import fingerprint
from align.evaluation.counts import counts
from align.evaluation.prompts import Word
from align.model import JointModel
from align.model.place import name_dtype
from align.values import Embeddings

tie_rule = "rank = 1 + strictly better + equal and wrong: ties never help"

hit_rules = {
    "sample": "a row of the same sample",
    "group": "a row whose sample has the same group, else of the same sample",
    "label": "a row whose sample has the same label",
    "caption": "a text equal, up to white space and case, to one of the query's sample; asked by a text, a row whose "
    "sample has an equal one; else a row of the same sample",
}


def full_text(hit: str) -> str:
    """Return a hit rule's name with its meaning."""
    return f"{hit}: {hit_rules[hit]}" if hit in hit_rules else hit


def protocol(
    model: JointModel,
    shards: Shards,
    embeddings: Embeddings,
    *,
    classes: Mapping[str, Mapping[str, Word]],
    templates: Mapping[str, Sequence[str]],
    hit: str,
    command: str | None = None,
    bad: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return all that a reader needs to get the numbers again, as plain data.

    version, command, seed (of the shards' order), model (SHA-256 of its stored weights), device, precision (in which
    the weights ran), parts (origin and licence of the published weights in it), shards (name -> samples),
    classes, templates, hit rule, tie rule, samples, rows (modality -> how many), max bad (the share of bad samples
    allowed), members (modality -> names in the shards) and bad (reason -> members that were left out). classes:
    attribute -> label -> its name or names in prompts.
    The protocol has lists where all labels are their own names.
    """
    return {
        "version": align.__version__,
        "command": command,
        "seed": shards.seed,
        "model": fingerprint(model),
        "device": model.device.type,
        "precision": name_dtype(model),
        "parts": read_parts(model),
        "shards": counts(shards),
        "classes": {a: list(m) if all(k == v for k, v in m.items()) else dict(m) for a, m in classes.items()},
        "templates": {a: list(names) for a, names in templates.items()},
        "hit rule": full_text(hit),
        "tie rule": tie_rule,
        "samples": embeddings.size,
        "rows": {m: rows.n for m, rows in embeddings.items()},
        "members": None if shards.members == FOREIGN else shards.members,
        "max bad": shards.max_bad,
        "bad": dict(bad or {}),
    }
