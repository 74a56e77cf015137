"""A page that is one HTML file, needs nothing else and asks nothing of any other place.

Its content security policy allows exactly its script and its style (by their hashes), pictures and sounds from the file
itself, and no connection at all.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from align.files import atomic_write
from align.page.blocks import Chapter
from align.page.section import Tile
from align.page.templates import environment, read_kit

STYLES = ("page.css", "blocks.css")


@final
@dataclass(frozen=True)
class Page:
    """The values of a page.

    Args:
        scripts: files of ``kit/``, in their order.
        version, model: of the program and of the model, for the foot of the page. "" leaves them out.
        facts: names and values under the title.
        tiles: headline numbers.
        data: JSON blocks for the scripts, by the id of their element.
        linked: pairs (query, answer) of modalities that the gallery shows. The heat map's cells lead there.
    """

    title: str
    scripts: Sequence[str]
    chapters: Sequence[Chapter]
    version: str = ""
    model: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    tiles: Sequence[Tile] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    linked: Set[tuple[str, str]] = frozenset()


def render(page: Page) -> bytes:
    """Return the page as HTML. A part of a path that is no UTF-8 becomes "?"."""
    script = "\n".join(["'use strict';", *(read_kit(name) for name in page.scripts)])
    style = "\n".join(read_kit(name) for name in STYLES)
    html = environment().get_template("page.html").render(
        page=page, policy=policy(script, style), script=script, style=style
    )  # fmt: skip
    return html.encode("utf-8", "replace")


def write_page(path: str | Path, page: Page) -> Path:
    """Write the page and return its path."""
    path = Path(path)
    content = render(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as f:
        f.write(content)
    return path


def policy(script: str, style: str) -> str:
    """Return the content security policy that allows this script and this style and nothing from elsewhere."""

    def sha(text: str) -> str:
        return "'sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    rules = {
        "default-src": "'none'",
        "script-src": sha(script),
        "style-src": sha(style),
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{k} {v}" for k, v in rules.items())
