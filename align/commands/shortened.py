"""Messages of a config's parser about a value, in one line."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any, get_args, get_type_hints

from align.commands.errors import nearest

_no_union = r"(?:(?!Does not validate).)+?"
_union = (  # a union without another one inside
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


def shorten(error: Exception) -> str:
    """Return the message in one line. A mistyped argument or class is named with the nearest right one."""
    text = " ".join(str(error).split())
    if found := re.search(_option_of_class, text) or re.search(_option_of_callable, text):
        module, name, option = found["module"], found["name"], found["option"]
        known = _arguments(getattr(import_module(module), name))
        if option in known:  # the parameter groups of an optimiser, say
            return f"{module}.{name} gets its argument {option!r} from align; a config does not give it"
        return f"{module}.{name} has no argument {option!r}; {nearest(option, known)}"
    if found := re.search(r"Group 'tuning' does not accept option '(\w+)", text):
        known = _arguments(import_module("align.tuning").Tuning)
        return f"tuning has no key {found[1]!r}; {nearest(found[1], known)}"
    if found := re.search(r'"?validate"?: .*?Unexpected keys: \{\'(\w+)\'', text):
        return f"validate has no key {found[1]!r}; {nearest(found[1], ['with', 'every_steps'])}"
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
    text = re.sub(r"[;.] [Gg]ot (value: )?Namespace\(class_path='([\w.]+)'.*$", r" in \2", text)
    return _name_types(text).replace(". Got value: ", "; got ")


def _arguments(kind: Any) -> list[str]:
    """Return the names of a class's arguments, those of an ``Unpack[TypedDict]`` among them."""
    found = list(inspect.signature(kind).parameters.values())
    packed = [p.name for p in found if p.kind is p.VAR_KEYWORD]
    kinds = [part for name in packed for part in get_args(get_type_hints(kind.__init__).get(name))]
    flat = [name for part in kinds for name in part.__annotations__]
    return [p.name for p in found if p.name not in packed] + flat


def _forms(found: re.Match[str]) -> str:
    """Return a line for a value that no form of a key takes: the reason of its class, else the forms."""
    problems, value = found.groups()
    listed = problems.split(" - ")
    if said := [
        line for line in listed if not line.startswith(("Expected a", "Expected <class", "Not a valid subclass", "a "))
    ]:
        name = re.search(r"class_path='([\w.]+)'", value)
        return f"{name[1]}: {said[-1]}" if name else said[-1]
    forms = [_name_types(line) for line in listed if line.startswith(("Expected a", "Expected <class"))]
    forms += re.findall(r"Not a valid subclass of (\w+)", problems)
    return f"expected {' or '.join(form.removeprefix('expected ') for form in forms)}; got {value}"


def _name_types(text: str) -> str:
    """Return the message with types as a config names them: ``Expected a <class 'int'>`` is "expected int"."""
    text = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"expected one of \1", text)
    text = re.sub(r"Expected (?:a )?<class '(?:\w+\.)*(\w+)'>", r"expected \1", text)
    return re.sub(r"\bexpected NoneType\b", "expected null", text)


def _public(module: Any) -> list[str]:
    """Return the names of a module that a config may mean: ``__all__``, else those that it or its modules define."""
    here = module.__name__
    defined = [n for n, value in vars(module).items() if f"{getattr(value, '__module__', '')}.".startswith(f"{here}.")]
    return list(getattr(module, "__all__", [name for name in defined if not name.startswith("_")]))
