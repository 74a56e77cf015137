"""The licence of a model: stated, or known from its parts, and never one that allows more than a part's does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PERMISSIVE = _words(
    """
    afl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 ecl-2.0 etalab-2.0 isc mit ms-pl ncsa odc-by
    openmdw-1.0 pddl postgresql unlicense wtfpl zlib
    """
)
"""Names of the hub for licences that ask for no more than attribution and notices."""
SHARE_ALIKE = {
    **{name: name.rpartition("-")[0] for name in ("cc-by-sa-3.0", "cc-by-sa-4.0", "gpl-2.0", "gpl-3.0", "agpl-3.0")},
    **dict.fromkeys(("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"), "cc-by-nc-sa"),
    **dict.fromkeys(("lgpl", "lgpl-2.1", "lgpl-3.0"), "lgpl"),
    "gpl": "gpl",
    "mpl-2.0": "mpl",
    "eupl-1.1": "eupl",
    "eupl-1.2": "eupl",
    "odbl": "odbl",
    "epl-1.0": "epl",
    "epl-2.0": "epl",
    "osl-3.0": "osl",
    "cdla-sharing-1.0": "cdla-sharing",
}
"""Licences under which all that is made of the work has to stay, with the family that satisfies them."""
NO_COMMERCE = _words(
    """
    cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 fair-noncommercial-research-license h-research intel-research deepfloyd-if-license
    """
)
NO_CHANGE = _words(
    """
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    """
)
OTHERS = _words(
    """
    apple-amlr apple-ascl bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m c-uda cc
    creativeml-openrail-m gemma gfdl grok2-community lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    lppl-1.3c ofl-1.1 openrail openrail++
    """
)
"""Names of the hub for licences with conditions of their own, which only the same licence keeps for certain."""
NAMES = PERMISSIVE | NO_COMMERCE | NO_CHANGE | OTHERS | frozenset(SHARE_ALIKE)
ALIASES = {"apache2": "apache-2.0", "apache-2": "apache-2.0", "apache2.0": "apache-2.0", "cc0": "cc0-1.0"}
NOTHING = frozenset(("", "unstated", "unknown", "other", "none"))


class Licence(NamedTuple):
    """A model's licence. name: as the hub writes it. lines: what its user should know, for the terminal."""

    name: str
    lines: tuple[str, ...] = ()

    def header(self) -> dict[str, str]:
        """Return the licence as keys of a card's header."""
        return {"license": self.name} if self.name in NAMES else {"license": "other", "license_name": self.name}


def choose_licence(parts: Mapping[str, Mapping[str, Any]], stated: str | None) -> Licence:
    """Return the stated licence, or without one that of the parts.

    parts: name -> {source, licence, changed} of the published weights in the model, as ``model.json`` has them.

    Raises ValueError where none is stated and none follows from the parts, where the stated one allows more than a
    part's does, and for a changed part whose licence forbids changed versions.
    """
    known = {part: split_licences(about["licence"]) for part, about in parts.items()}
    unstated = [f"{part} ({parts[part]['source']})" for part, names in known.items() if not names]
    for part, names in known.items():
        if parts[part]["changed"] and (fixed := NO_CHANGE & names):
            raise ValueError(
                f"{part} is under {sorted(fixed)[0]} and trained since: that licence lets nobody pass on a changed "
                "version; leave the tower out with --towers, or train with it frozen"
            )
    if stated is None:
        return _follow(known, unstated)
    name = normalise(stated)
    if name in NOTHING:
        raise ValueError(f"--licence {stated!r} names no licence; state one, such as --licence apache-2.0")
    if name not in NAMES and (near := get_close_matches(name, NAMES, n=1, cutoff=0.8)):
        raise ValueError(f"--licence {stated!r} is no licence that the hub knows; did you mean {near[0]}?")
    lines = [f"no licence is known of {part}: see that {name} fits it" for part in unstated]
    for part, names in known.items():
        for other in sorted(names):
            lost = conditions(other) - conditions(name)
            if lost and name in NAMES:
                raise ValueError(
                    f"--licence {name} allows more than {other}, the licence of {part}: it lacks "
                    f"{' and '.join(sorted(lost))}; state {other}, or one that keeps this"
                )
    if name not in NAMES:
        parted = ", and nothing compares it: see that it keeps those of the parts" if any(known.values()) else ""
        lines.append(f"{name} is no licence that the hub knows, so the card's header says other{parted}")
    return Licence(name, tuple(lines))


def _follow(known: Mapping[str, frozenset[str]], unstated: list[str]) -> Licence:
    """Return the licence of a part that keeps the conditions of all others."""
    if not known:
        raise ValueError("no licence is known of this model: state it, as in --licence apache-2.0")
    if unstated:
        raise ValueError(f"no licence is known of {', '.join(unstated)}: state the model's, as in --licence apache-2.0")
    names = list(dict.fromkeys(name for found in known.values() for name in sorted(found)))
    everything = frozenset().union(*(conditions(name) for name in names))
    for name in names:
        if everything <= conditions(name):
            return Licence(name, (f"licence {name}, after the licences of the parts",))
    raise ValueError(
        f"the parts are under {', '.join(names)}, and none of these keeps the conditions of the others; state a "
        "licence that does with --licence, or leave a tower out with --towers"
    )


def conditions(name: str) -> frozenset[str]:
    """Return the conditions of a licence beside attribution, in words.

    >>> sorted(conditions("cc-by-nc-4.0")), sorted(conditions("mit"))
    (['no commercial use'], [])
    """
    out = {"no commercial use"} if name in NO_COMMERCE else set()
    if name in NO_CHANGE:
        out.add("no changed versions")
    if name in SHARE_ALIKE:
        out.add(f"that what is made of it stays under {SHARE_ALIKE[name]}")
    if not out and name not in PERMISSIVE:
        out.add(f"the conditions of {name}")
    return frozenset(out)


def split_licences(text: str) -> frozenset[str]:
    """Return the licences that a part's text names. None of them where one is unstated.

    >>> sorted(split_licences("CC-BY-NC-SA 4.0, its head MIT")), split_licences("mit + unstated")
    (['cc-by-nc-sa-4.0', 'mit'], frozenset())
    """
    names = [normalise(word) for word in re.split(r", its head | \+ ", text)]
    return frozenset() if NOTHING & {*names} else frozenset(names)


def normalise(text: str) -> str:
    """Return a licence's name as the hub writes it.

    >>> normalise("Apache 2.0"), normalise("CC_BY-NC 4.0")
    ('apache-2.0', 'cc-by-nc-4.0')
    """
    name = re.sub(r"[\s_]+", "-", text.strip().lower())
    name = re.sub(r"-licen[cs]e$", "", name) if name not in NAMES else name
    return ALIASES.get(name, name)
