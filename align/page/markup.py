"""HTML made from Python values: everything that is not markup already is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any


class Markup(str):
    """Text that is HTML already."""


def esc(value: object) -> Markup:
    """Escaped for use between tags and inside quoted attributes; Markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """``tag("p", "1 < 2", class_="note")``. None and False leave an attribute out, True writes it bare, _ becomes -."""
    given = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items() if v is not None and v is not False}
    start = "".join(f" {k}" if v is True else f' {k}="{esc(v)}"' for k, v in given.items())
    if name in {"input", "rect", "line", "circle", "path", "use"}:
        return Markup(f"<{name}{start}/>")
    return Markup(f"<{name}{start}>{''.join(map(esc, children))}</{name}>")


def table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> Markup:
    """A plain table in its frame."""
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("div", tag("table", top, body, class_="plain"), class_="scroll")


def join(parts: Any) -> Markup:
    """Parts one after the other, each escaped unless it is Markup."""
    return Markup("".join(map(esc, parts)))


def number(value: float) -> Markup:
    """A score with three decimals, and its full precision in the element's value."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return tag("data", text, value=repr(float(value)))


def block(data: Any, **attributes: object) -> Markup:
    """A JSON block that no parser of HTML can take for a tag."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return tag("script", Markup(text), type="application/json", **attributes)


def icon(modality: str) -> Markup:
    """A small drawing for a well-known name, a plain mark for any other."""
    known = {"image", "audio", "points", "text"}
    use = tag("use", href=f"#i-{modality if modality in known else 'other'}")
    return tag("svg", use, class_="icon", aria_hidden="true", viewBox="0 0 16 16")


def name(modality: str) -> Markup:
    """A modality with its icon; a composed query ("audio+image") with the icon of each."""
    parts = modality.split("+")
    return tag("span", join(icon(m) for m in parts), tag("span", " + ".join(parts)), class_="modality")


def choice(key: str, legend: str, options: Sequence[tuple[str, str, Markup | None]], chosen: str) -> Markup:
    """A row of buttons of which one is down: radio buttons, so that the arrow keys work. Options: value, text, icon."""
    buttons = [
        tag("label", tag("input", type="radio", name=key, value=v, checked=v == chosen), tag("span", drawn or "", text))
        for v, text, drawn in options
    ]
    return tag("fieldset", tag("legend", legend), tag("div", *buttons), class_="choice")
