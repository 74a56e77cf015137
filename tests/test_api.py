"""The public names and signatures are the committed list. After a deliberate change: python tests/test_api.py"""

import inspect
import re
from pathlib import Path
from types import GenericAlias

import pytest

import align

committed = Path(__file__).parent / "reference" / "api.txt"


def api() -> str:
    lines = []
    for name in sorted(align.__all__):
        thing = getattr(align, name)
        if isinstance(thing, GenericAlias):  # Sample, Scores: dict[...]
            lines.append(name)
        elif inspect.isclass(thing):
            lines.append(f"{name}{_signature(thing)}")
            members = [(n, m) for n, m in inspect.getmembers(thing) if n in _own(thing) and not n.startswith("_")]
            lines += [f"{name}.{n}{_signature(m) if callable(m) else ''}" for n, m in members]
        else:
            lines.append(f"{name}{_signature(thing) if callable(thing) else ''}")
    return "\n".join(lines) + "\n"


def _own(kind: type) -> set[str]:
    return {n for k in kind.__mro__ if k.__module__.startswith("align.") for n in vars(k)}


def _signature(thing: object) -> str:
    try:
        return str(inspect.signature(thing))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return ""


def test_names_and_signatures_are_the_committed_list():
    assert api() == committed.read_text(encoding="utf-8")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match="Tower"):
        _ = align.Towr


def test_type_checkers_see_the_same_names():
    stub = (Path(align.__file__).parent / "__init__.pyi").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^from .* as (\w+)$", stub, flags=re.MULTILINE)) == sorted(align.__all__)


if __name__ == "__main__":
    committed.write_text(api(), encoding="utf-8")
