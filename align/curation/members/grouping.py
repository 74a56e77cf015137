"""Groups of samples that are never each other's negatives: those of one label, or of one caption."""

from __future__ import annotations

import json
from typing import Any, Literal

from align.data.captions import caption_of

By = Literal["label", "caption"]


def with_group(members: dict[str, bytes], by: By | None) -> dict[str, bytes]:
    """Return the members with the group in their json, or as they are where ``by`` is None or nothing is stated."""
    if by is None:
        return members
    try:
        stated: Any = json.loads(members.get("json", b"{}"))
    except (ValueError, RecursionError):
        return members
    group = (
        (caption_of(members) or None) if by == "caption" else stated.get("label") if isinstance(stated, dict) else None
    )
    if group is None or not isinstance(stated, dict):
        return members
    return {**members, "json": json.dumps({**stated, "group": group}, ensure_ascii=False).encode("utf-8", "replace")}
