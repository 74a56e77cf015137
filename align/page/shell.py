"""A page that is one HTML file, needs nothing else and asks nothing of any other place.

The page's own text lies beside this file in ``kit/``. Its content security policy allows exactly that script and that
style (by their hashes), pictures and sounds from the file itself, and no connection at all.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from align.files import atomic_write
from align.page.markup import Markup, esc, join, tag

Section = tuple[str, str, str, Markup]
"""(anchor, title, one line about it, content)."""


def write_page(
    path: str | Path,
    *,
    title: str,
    scripts: Sequence[str],
    sections: Sequence[Section],
    version: str = "",
    model: Markup | None = None,
    summary: Markup | None = None,
    headline: Markup | None = None,
    data: Markup | None = None,
) -> Path:
    """Write the page and return its path. scripts: files of ``kit/``; data: the block that they read."""
    path = Path(path)
    style = _read("page.css")
    script = "\n".join(["'use strict';", *(_read(name) for name in scripts)])
    page = _fill(
        _read("template.html"),
        {
            "policy": policy(script, style),
            "title": esc(title),
            "version": esc(version),
            "model": model or Markup(),
            "style": Markup(style),
            "script": Markup(script),
            "summary": summary or Markup(),
            "headline": headline or Markup(),
            "nav": join(tag("a", name, href=f"#{key}") for key, name, _, _ in sections),
            "sections": join(_section(*section) for section in sections),
            "data": data or Markup(),
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as f:
        f.write(page.encode("utf-8", "replace"))  # a path may hold bytes that are no UTF-8
    return path


def _section(key: str, title: str, about: str, content: Markup) -> Markup:
    return tag("section", tag("header", tag("h2", title), tag("p", about)), content, id=key)


def policy(script: str, style: str) -> Markup:
    """The content security policy that allows this script and this style and nothing from elsewhere."""

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
    return Markup("; ".join(f"{k} {v}" for k, v in rules.items()))


def _read(name: str) -> str:
    return files("align.page").joinpath("kit", name).read_text(encoding="utf-8").strip()


def _fill(template: str, parts: Mapping[str, Markup]) -> str:
    """Put the parts in their ``{{places}}`` in one pass, so that nothing inside a part is taken for a place."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], template)
