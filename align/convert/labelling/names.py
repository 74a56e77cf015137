"""Names of fields in the tools, made from those of modalities and attributes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence


def name_field(text: str) -> str:
    """Return a part of a field's name: letters, digits and _.

    >>> name_field("size (cm)")
    'size_cm'
    """
    return re.sub(r"\W+", "_", text).strip("_") or "_"


def name_fields(names: Sequence[str]) -> dict[str, str]:
    """Return attribute -> the name of its labels' field: ``label`` for a plain label, else ``label_ATTRIBUTE``.

    Raises ValueError where two attributes get one name.
    """
    found = {name: "label" if name == "label" else f"label_{name_field(name)}" for name in names}
    if twice := [name for name, count in Counter(found.values()).items() if count > 1]:
        both = " and ".join(repr(name) for name in names if found[name] == twice[0])
        raise ValueError(f"the attributes {both} would both be the field {twice[0]}; rename one of them")
    return found
