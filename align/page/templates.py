"""The environment of the page's templates, which lie beside this file in ``kit/``.

Python hands over values and no HTML: every value is escaped where it is printed, and a name that nobody gave raises. A
line break beside a tag is layout of the template and does not reach the page.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

from align.page.bars import arrange_bars
from align.page.chart import plot
from align.page.chart_blocks import chart_of
from align.page.confusions import arrange_confusions
from align.page.heat import arrange_heat
from align.page.numbers import write_exact, write_interval, write_rounded
from align.page.plane import arrange_plane
from align.page.section import Bars, Measured, Table

if TYPE_CHECKING:
    from jinja2 import Environment

FIGURES: Mapping[str, str] = dict.fromkeys(("curve", "histogram", "scatter"), "chart")  # kind -> template
LAYOUT = re.compile(r"(?<=[>}])\s*\n\s*|\s*\n\s*(?=<|\{[{%#])")


def read_kit(name: str) -> str:
    """Return the text of a file of ``kit/``."""
    return files("align.page").joinpath("kit", *name.split("/")).read_text(encoding="utf-8").strip()


@cache
def environment() -> Environment:
    """Return the environment of all templates, made at the first page: jinja2 is imported here alone."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    env = Environment(loader=FunctionLoader(_load), autoescape=True, undefined=StrictUndefined)
    env.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # `tojson` escapes <, >, & and all but ASCII
    env.filters |= {"runs": group_runs, "kind": kind_of, "heat": arrange_heat, "grid": arrange_bars}
    env.filters |= {"plot": lambda block: plot(chart_of(block)), "plane": arrange_plane, "data_uri": data_uri}
    env.filters |= {"confused": arrange_confusions, "columns": list_columns, "words": write_words}
    env.filters |= {"rounded": write_rounded, "exact": write_exact, "interval": write_interval}
    env.filters |= {"place": "{:.1f}".format, "thousands": "{:,}".format, "percent": "{:.1%}".format}
    env.filters |= {
        "numbered": lambda names: dict(enumerate(names)),
        "pinned": is_pinned,
        "unit": lambda value: min(1.0, max(0.0, value)),
    }
    env.tests |= {"digest": is_digest, "measured": lambda cell: isinstance(cell, Measured)}
    return env


def data_uri(png: bytes) -> str:
    """Return a PNG as the address of a picture in the page itself."""
    return "data:image/png;base64," + b64encode(png).decode()


def kind_of(block: object) -> str:
    """Return the name of the block's class in lower case."""
    return type(block).__name__.lower()


def group_runs(blocks: Iterable[object]) -> list[tuple[str, list[object]]]:
    """Return blocks that follow one another and are drawn together, as (template, blocks).

    The template is that of ``kit/blocks/`` with the name of the block's kind. All figures have one, side by side.
    """
    runs = groupby(blocks, lambda block: FIGURES.get(kind_of(block), kind_of(block)))
    return [(template, list(some)) for template, some in runs]


def is_pinned(block: Table | Bars) -> bool:
    """Return True for a table whose first column stays in sight: one with intervals, or with many columns."""
    if isinstance(block, Bars):
        return any(bar.interval for bar in block.bars)
    return len(block.head) > 6 or any(isinstance(cell, Measured) for row in block.rows for cell in row)


def write_words(names: Iterable[str]) -> dict[str, str]:
    """Return the text of each metric, which has spaces for underscores, by its name."""
    return {name: name.replace("_", " ") for name in names}


def list_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all records, each once, in the order in which they come."""
    return list(dict.fromkeys(key for record in records for key in record))


def is_digest(value: object) -> bool:
    """Return True for the 64 hexadecimal digits of a SHA-256."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _load(name: str) -> tuple[str, str, None]:
    """Return a template without its layout, its name, and no test for changes. Line numbers stay as in the file."""
    source = LAYOUT.sub(lambda layout: "{#" + "\n" * layout[0].count("\n") + "#}", read_kit(name))
    return source, name, None
