"""The whole corpus."""

from __future__ import annotations

from hostile.addresses import headers, ids, ranges
from hostile.arrays import arrays
from hostile.bodies import jsons
from hostile.forms import forms
from hostile.naming import naming
from hostile.pictures import bombs
from hostile.protocol import broken, slow
from hostile.rare import rare
from hostile.request import Hostile
from hostile.shapes import counts
from hostile.sounds import sounds, videos
from hostile.uris import uris
from hostile.values import values
from hostile.watch import Outside


def make_corpus(outside: Outside) -> list[Hostile]:
    """Return every request. Some name the files and the address of ``outside``. Raises ValueError for a name twice."""
    listener, canary = outside.listener, outside.canary
    found = [
        *broken(),
        *slow(),
        *rare(),
        *headers(),
        *ranges(),
        *ids(),
        *jsons(),
        *values(),
        *forms(),
        *uris(listener, str(canary)),
        *bombs(),
        *sounds(),
        *videos(),
        *naming(canary, listener),
        *counts(),
        *arrays(outside.marker),
    ]
    names = [(one.kind, one.name) for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two requests have one name: {sorted(twice)}")
    return found
