"""One line of what a config's parser says of a value."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

from align.commands.errors import nearest

_no_union = r"(?:(?!Does not validate).)+?"
_union = (  # one without another inside
    rf"Does not validate against any of the Union subtypes Subtypes: {_no_union} Errors: - ({_no_union}) "
    rf"Given value type: {_no_union} Given value: ({_no_union})(?= - | Given value type: |$)"
)
_problem = (
    r"given class_path '([\w.]+)': (?:Parser key \"([\w.]+)\": )?(?:Type \S+ \S+ )?"
    r"((?!Option|Does not validate).+?)(?=\. Got value| - | Given value|$)"
)

_option_of_class = r"class_path '(?P<module>[\w.]+)\.(?P<name>\w+)': Option '(?P<option>\w+)' is not accepted"
_option_of_callable = (
    r"Option '(?P<option>\w+)' is not accepted\. Got value: "
    r"Namespace\(class_path='(?P<module>[\w.]+)\.(?P<name>\w+)'"
)


def shortened(error: Exception) -> str:
    """One line; for a mistyped argument or class no more than that, with the nearest right name."""
    text = " ".join(str(error).split())
    if found := re.search(_option_of_class, text) or re.search(_option_of_callable, text):
        module, name, option = found["module"], found["name"], found["option"]
        known = inspect.signature(getattr(import_module(module), name)).parameters
        return f"{module}.{name} has no argument {option!r}; {nearest(option, known)}"
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", text):
        module, name = found.groups()
        return f"{module} has no {name}; {nearest(name, _public(import_module(module)))}"
    while text.count("Does not validate") > 1 and (inner := re.search(_union, text)):
        text = text[: inner.start()] + _forms(inner) + text[inner.end() :]
    if found := re.findall(_problem, text):  # of several forms that a value may have, the one that it has
        name, key, problem = found[-1]
        text = f"{name}{key and f', {key}'}: {problem}"
    else:
        text = re.sub(_union, _forms, text)
    text = re.sub(r"Problem with given class_path '([\w.]+)': ", r"\1, ", text)
    text = re.sub(r'Parser key "([\w.]+)": ', r"\1: ", text)
    text = re.sub(r"\bType [\w.]+(\[.*?\])? (?=expects )", "", text)
    return _expected(text).replace(". Got value: ", "; got ")


def _forms(found: re.Match[str]) -> str:
    """The dump of a value that no form of a key takes: what its class says of it, else the forms."""
    problems, value = found.groups()
    listed = problems.split(" - ")
    if said := [line for line in listed if not line.startswith(("Expected a", "Not a valid subclass", "a "))]:
        name = re.search(r"class_path='([\w.]+)'", value)
        return f"{name[1]}: {said[-1]}" if name else said[-1]
    forms = [_expected(line) for line in listed if line.startswith("Expected a")]
    forms += re.findall(r"Not a valid subclass of (\w+)", problems)
    return f"expected {' or '.join(form.removeprefix('expected ') for form in forms)}; got {value}"


def _expected(text: str) -> str:
    """Types as a config names them: ``Expected a <class 'int'>`` is "expected int"."""
    text = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"expected one of \1", text)
    text = re.sub(r"Expected a <class '(?:\w+\.)*(\w+)'>", r"expected \1", text)
    return re.sub(r"\bexpected NoneType\b", "expected null", text)


def _public(module: Any) -> list[str]:
    """The names of a module that a config may mean: those in ``__all__``, else what it or a module in it defines."""
    here = module.__name__
    defined = [n for n, value in vars(module).items() if f"{getattr(value, '__module__', '')}.".startswith(f"{here}.")]
    return list(getattr(module, "__all__", [name for name in defined if not name.startswith("_")]))
