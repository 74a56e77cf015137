"""A typed function as a command line: its parser, its ``--help``, and one line for a typing error.

A parameter whose type is a dataclass is a group: each field is an option, and ``--help`` lists them under a title.
"""

from __future__ import annotations

import inspect
import re
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from itertools import takewhile
from typing import Any, Literal, final, get_args, get_origin, get_type_hints

from docstring_parser import Docstring, parse
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from align.commands.errors import Refused, nearest
from align.commands.shortened import shorten

FOLDERS = ("out", "run")
"""Positionals that name the folder a command writes to."""


def arguments(function: Callable[..., Any], prog: str, args: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Parse ``args`` into ``function``'s positionals and options. Raises Refused (code 2) with the nearest name.

    A positional that is the folder to write to can be given as ``--out`` too, as in all commands. A group is returned
    as its dataclass.
    """
    doc = parse(inspect.getdoc(function) or "")
    parser = ArgumentParser(prog=prog, description=_text(doc), formatter_class=Help, exit_on_error=False)
    parameters = _parameters(function)
    folder = next((p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name in FOLDERS), None)
    flags = [] if folder is None else list(dict.fromkeys(("--out", f"--{folder}")))
    by_name = any(arg.split("=")[0] in flags for arg in takewhile(lambda arg: arg != "--", args))
    helps = _helps(doc)
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    for p in parameters:
        if p.name in groups:
            about = parse(inspect.getdoc(p.annotation) or "")
            section = parser.add_argument_group(about.short_description, about.long_description)
            for field in _parameters(p.annotation):
                _add_option(section, field, _helps(about))
        elif p.name == folder and by_name:
            given = {"type": p.annotation, "metavar": p.name.upper(), "help": helps.get(p.name, "")}
            parser.add_argument(*flags, dest=p.name, **given, **_default(p))
        elif p.kind is p.POSITIONAL_ONLY:
            _add_positional(parser, p, helps, ". --out FOLDER means the same" if p.name == folder else "")
        else:
            _add_option(parser, p, helps)
    values = _parse(parser, args, flags)
    found = {
        p.name: groups[p.name](**{field.name: values[field.name] for field in _parameters(p.annotation)})
        if p.name in groups
        else values[p.name]
        for p in parameters
    }
    return [found.pop(p.name) for p in parameters if p.kind is p.POSITIONAL_ONLY], found


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters with their types. ``str | None`` becomes str: YAML reads "#a" and "null" as None."""
    hints = {name: str if hint == str | None else hint for name, hint in get_type_hints(function).items()}
    return [p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()]


def _text(doc: Docstring) -> str:
    return ".\n\n".join(part for part in (doc.short_description, doc.long_description) if part)


def _helps(doc: Docstring) -> dict[str, str]:
    return {p.arg_name: p.description or "" for p in doc.params}


def _add_positional(parser: Any, p: inspect.Parameter, helps: dict[str, str], more: str) -> None:
    hint, given = p.annotation, {}
    if get_origin(hint) is list:
        optional = {} if p.default is p.empty else {"default": p.default}
        hint, given = get_args(hint)[0], {"nargs": "*" if optional else "+", **optional}
    elif p.default is not p.empty:
        given = {"nargs": "?", "default": p.default}
    parser.add_argument(p.name, type=hint, help=helps.get(p.name, "").rstrip("." if more else "") + more, **given)


def _add_option(parser: Any, p: inspect.Parameter, helps: dict[str, str]) -> None:
    name = p.name.rstrip("_")
    given: dict[str, Any] = {"dest": p.name, "help": helps.get(p.name, ""), **_default(p)}
    if p.annotation is bool:
        given["action"] = "store_true"
    elif words := choices(p.annotation):
        given["choices"] = words
    elif get_origin(p.annotation) is list:  # given several times
        given |= {"action": "append", "type": get_args(p.annotation)[0], "metavar": name.upper()}
    else:
        given |= {"type": p.annotation, "metavar": name.upper()}
    parser.add_argument(f"--{name.replace('_', '-')}", **given)


def _default(p: inspect.Parameter) -> dict[str, Any]:
    return {"required": True} if p.default is p.empty else {"default": p.default}


def _parse(parser: Any, args: Sequence[str], flags: Sequence[str]) -> Any:
    """Parse the arguments. A wrong one becomes one line and code 2. flags: names beside the parser's."""
    known = [*flags, *(option for action in parser._actions for option in action.option_strings)]
    for arg in args:
        if arg == "--":
            break
        name = arg.split("=")[0]
        if name.startswith("--") and name not in known and not any(name.startswith(k + ".") for k in known):
            raise Refused(f"no option {name} in `{parser.prog}`; {nearest(name, known)}", code=2)
    try:
        return parser.parse_args(_put_positionals_together(parser, args))
    except ArgumentError as error:
        flags_of = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
        text = re.sub(r"^(\w+): ", lambda key: f"{flags_of.get(key[1], key[1])}: ", shorten(error))
        raise Refused(f"{parser.prog}: {text} (see {parser.prog} --help)", code=2) from error


def _put_positionals_together(parser: Any, args: Sequence[str]) -> list[str]:
    """Return the arguments with the positionals behind the options.

    argparse gives a positional that may be missing its default at the first gap, and then refuses it after an option:
    `align search IDX --of image "a cone"`.
    """
    alone = {flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    options, positionals, left = [], [], list(args)
    while left and left[0] != "--":
        arg = left.pop(0)
        if not arg.startswith("--") and arg not in alone:
            positionals.append(arg)
            continue
        options.append(arg)
        if "=" not in arg and arg not in alone:
            if not left or left[0].startswith("--"):
                return list(args)  # an option without its value: argparse says so
            options.append(left.pop(0))
    return [*options, *positionals, *left]


@final
class Help(DefaultHelpFormatter):
    """Help that keeps a command's paragraphs apart. It marks options that are required and prints default values."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fold = super()._fill_text
        return "\n\n".join(fold(paragraph, width, indent) for paragraph in text.split("\n\n"))

    def _get_help_string(self, action: Action) -> str:
        said = action.help or ""
        if action.required and action.option_strings:
            return f"{said} (required)"
        nothing = any(action.default is none for none in (None, False, SUPPRESS)) or action.default in ("", [])
        return said if nothing else f"{said} (default: %(default)s)"


def choices(hint: Any) -> list[str]:
    """Return the words that an option can be, none where it takes other values.

    >>> choices(Literal["cosine", "mip"] | None), choices(str)
    (['cosine', 'mip'], [])
    """
    return [word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)]
