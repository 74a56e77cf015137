"""Sets of the suites, as their JSON files state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, final

from align.files import read_json

SUITES = ("image", "audio", "points")
FOLDER = Path(__file__).with_name("data")
T = TypeVar("T")


@final
@dataclass(frozen=True)
class Place:
    """A folder below DIR that may hold a set. shards: pattern of its test split, "" in CLIP_benchmark's layout.

    note: the way in which its samples differ from those that the published numbers were measured on.
    """

    folder: str
    shards: str = ""
    layout: str = "recipe"
    note: str = ""


@final
@dataclass(frozen=True)
class Published:
    """Numbers that others have published. scores: as ours are called. note: how their protocol differs, "" for not."""

    model: str
    source: str
    scores: Mapping[str, float]
    note: str = ""


@final
@dataclass(frozen=True)
class EvalSet:
    """A public set and its protocol.

    Args:
        name, title, suite: for scores, for tables, and the suite that it belongs to.
        modalities: towers that a model needs.
        evaluators: names of evaluators.
        places: folders that may hold it, the first that is there counts.
        score: the headline, with ``{attribute}`` for the attribute of the labels. unit: it in few words.
        shown: all scores that tables show.
        chance: the expected headline of a blind guess.
        get: the command that makes it, with ``{folder}`` for the folder.
        samples: of the whole test split, 0 where nobody states the number.
        attribute, hit: as of ``align.evaluate``. classes, templates: names in classes.json and templates.json, "" for
            those of the shards and for the usual ones.
        published: numbers of others.
    """

    name: str
    title: str
    suite: str
    modalities: Sequence[str]
    evaluators: Sequence[str]
    places: Sequence[Place]
    score: str
    unit: str
    shown: Sequence[str]
    chance: float
    get: str
    samples: int = 0
    attribute: str = ""
    classes: str = ""
    templates: str = ""
    hit: str = ""
    published: Sequence[Published] = field(default_factory=tuple)

    def command(self, data: Path) -> str:
        """Return the way to get the set into its folder below ``data``."""
        return self.get.format(folder=data / self.places[0].folder)


@cache
def read_sets() -> Mapping[str, EvalSet]:
    """Return name -> set, in the order of the suites. Raises ValueError for a file that does not state its sets."""
    found: dict[str, EvalSet] = {}
    for suite in SUITES:
        for one in parse_sets(read_json(FOLDER / f"{suite}.json"), f"{suite}.json"):
            if one.name in found or one.name in (*SUITES, "all"):
                raise ValueError(f"{suite}.json: the name {one.name!r} is taken")
            found[one.name] = one
    return MappingProxyType(found)


def parse_sets(content: Any, where: str) -> list[EvalSet]:
    """Return the sets of a file's content. Raises ValueError with the file, the set and the key that is wrong."""
    if not isinstance(content, dict) or set(content) != {"suite", "sets"}:
        raise ValueError(f"{where} has the keys suite and sets")
    out = []
    for entry in content["sets"]:
        here = f"{where}, {entry.get('name') if isinstance(entry, dict) else entry!r}"
        parts = {"suite": content["suite"]}
        if isinstance(entry, dict):
            parts |= entry
            parts["places"] = tuple(_make(Place, one, f"{here}, places") for one in entry.get("places", ()))
            parts["published"] = tuple(
                _make(Published, one, f"{here}, published") for one in entry.get("published", ())
            )
        made = _make(EvalSet, parts, here)
        if not made.places or made.score not in made.shown or "{folder}" not in made.get:
            raise ValueError(f"{here}: it needs places, its score among those shown, and {{folder}} in get")
        if any(score not in made.shown for one in made.published for score in one.scores):
            raise ValueError(f"{here}: a published score is none of those shown")
        out.append(made)
    return out


def choose_sets(text: str) -> list[EvalSet]:
    """Return the sets of ``image``, ``audio,cifar10`` or ``all``: names of suites or of sets, with commas.

    Raises ValueError for a name that is neither, with the nearest right one.
    """
    sets = read_sets()
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [*SUITES, "all", *sets]
    if not names:
        raise ValueError(f"no suite is named; there are {', '.join(known[:4])}")
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"no suite or set {name!r}; {hint}")
    return [one for one in sets.values() if {"all", one.suite, one.name} & set(names)]


def _make(kind: type[T], entry: Any, where: str) -> T:
    """Return the dataclass of an entry. Raises ValueError for a key too many, too few, or of another type."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: {entry!r} is no object")
    known = {one.name: one for one in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(set(entry) - set(known)):
        raise ValueError(f"{where}: no key {unknown[0]!r}; there are {', '.join(known)}")
    needed = [n for n, one in known.items() if one.default is MISSING and one.default_factory is MISSING]
    if missing := [name for name in needed if name not in entry]:
        raise ValueError(f"{where}: the key {missing[0]!r} is missing")
    types = {"str": str, "int": int, "float": (int, float)}
    for name, value in entry.items():
        wanted = types.get(str(known[name].type))
        if wanted is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise ValueError(f"{where}: {name} is a {known[name].type}, not {value!r}")
    return kind(**entry)
