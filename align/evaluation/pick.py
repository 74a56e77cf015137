"""The choice of evaluators, by name or by import path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from align.evaluation.findings import Evaluator


def pick(
    wanted: Sequence[str | Evaluator], settings: Mapping[str, Callable[[], Evaluator]] | None = None
) -> list[Evaluator]:
    """Return the evaluators in the order in which they are wanted.

    A name is one of those in ``align.evaluation``. Any other one is the import path of a class, built without
    arguments. An evaluator is taken as it is. settings: name -> a function that makes the evaluator of this name, with
    other settings than its defaults. Raises ValueError for no evaluator, an unknown name (with the nearest
    right one), a path that leads to no evaluator, and for a name that comes twice.
    """
    known = known_evaluators()
    if not wanted:
        raise ValueError(f"an evaluation needs an evaluator: {', '.join(known)}, or the import path of a class")
    makers = {**known, **(settings or {})}
    found = [_build(one, makers) if isinstance(one, str) else one for one in wanted]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the evaluator {name!r} comes twice; leave one of them out")
    return found


def known_evaluators() -> dict[str, type[Evaluator]]:
    """Return name -> class of the evaluators that ``align.evaluation`` exports."""
    return {kind.name: kind for kind in vars(import_module("align.evaluation")).values() if _is_evaluator(kind)}


def _is_evaluator(kind: Any) -> bool:
    return isinstance(kind, type) and isinstance(getattr(kind, "name", None), str) and callable(getattr(kind, "run", 0))


def _build(name: str, known: Mapping[str, Callable[[], Evaluator]]) -> Evaluator:
    if name in known:
        return known[name]()
    room, _, attribute = name.rpartition(".")
    if not room:
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"no evaluator {name!r}; {hint} (one of your own: its import path, my.module.MyEvaluator)")
    try:
        module = import_module(room)
    except TypeError:  # a path that begins with a dot
        raise ValueError(f"evaluator {name!r} is no import path such as my.module.MyEvaluator") from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{room}.".startswith(f"{error.name}."):
            raise  # a module that the user's own one imports
        hint = "is its folder on PYTHONPATH?"
        raise ValueError(f"evaluator {name!r}: there is no module {error.name!r}; {hint}") from None
    kind: Any = getattr(module, attribute, None)
    if not _is_evaluator(kind):
        there = ", ".join(key for key, value in vars(module).items() if _is_evaluator(value)) or "none"
        raise ValueError(f"{name!r} is no evaluator, a class with a name and run(space); {room} has {there}")
    try:
        return kind()
    except TypeError as error:
        hint = "evaluate(…, with_=[…]) takes one that is built"
        raise ValueError(f"evaluator {name!r} cannot be built without arguments ({error}); {hint}") from None
