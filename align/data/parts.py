"""Parts of a sample: entries of a list in its json, such as ``regions: [{box, text}, ...]``, one row each.

``members: {region: json:regions/box, region_text: json:regions/text}`` reads the boxes as rows of ``region``. A row's
part is the place of its entry in the list, so a region and its phrase have one part, and an entry without one of the
two changes the number of no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align.data.captions import is_blank

LIST = "list"
"""Second half of the reason (``region/list``) for something else where a list of objects belongs."""


def read_entries(entries: Any, key: str) -> Iterator[tuple[Any, str]]:
    """Yield (value, "") of each entry of a list, or (None, the second half of a reason) of one without such a value.

    No list (None) has no entries. The reasons are LIST, and "no-KEY" for an entry without the key, or a blank text.
    """
    if entries is None:
        return
    if not isinstance(entries, list | tuple):
        yield None, LIST
        return
    for entry in entries:
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(entry, dict):
            yield None, LIST
        elif value is None or (isinstance(value, str) and is_blank(value)):
            yield None, f"no-{key}"
        else:
            yield value, ""
