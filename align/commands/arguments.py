"""A typed function as a command line: its parser, its ``--help``, and one line for a typing error."""

from __future__ import annotations

import inspect
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, Literal, final, get_args, get_origin, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from align.commands.errors import Refused, nearest


def arguments(function: Callable[..., Any], prog: str, args: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Parse ``args`` into ``function``'s positionals and options. Raises Refused (code 2) with the nearest name.

    A positional that is the folder to write to can be given as ``--out`` too, as in all commands.
    """
    doc = parse(inspect.getdoc(function) or "")
    helps = {p.arg_name: p.description or "" for p in doc.params}
    text = ".\n\n".join(part for part in (doc.short_description, doc.long_description) if part)
    parser = ArgumentParser(prog=prog, description=text, formatter_class=Help, exit_on_error=False)
    hints = get_type_hints(function)
    signature = inspect.signature(function).parameters.values()
    folder = next((p.name for p in signature if p.kind is p.POSITIONAL_ONLY and p.name in FOLDERS), None)
    flags = [] if folder is None else list(dict.fromkeys(("--out", f"--{folder}")))
    by_name = any(arg.split("=")[0] in flags for arg in takewhile(lambda arg: arg != "--", args))
    for p in signature:
        hint = str if hints[p.name] == str | None else hints[p.name]  # else YAML reads "#a" and "null" as None
        given: dict[str, Any] = {"help": helps.get(p.name, "")}
        if p.name == folder and by_name:
            parser.add_argument(*flags, type=hint, dest=p.name, metavar=p.name.upper(), **given, **_default(p))
            continue
        if p.name == folder:
            given["help"] = f"{given['help'].rstrip('.')}; --out takes it too"
        if p.kind is p.POSITIONAL_ONLY:
            if get_origin(hint) is list:
                hint, given["nargs"] = get_args(hint)[0], "+"
            elif p.default is not p.empty:
                given |= {"nargs": "?", "default": p.default}
            parser.add_argument(p.name, type=hint, **given)
            continue
        flag = f"--{p.name.rstrip('_').replace('_', '-')}"
        if hint is bool:
            parser.add_argument(flag, dest=p.name, action="store_true", default=p.default, **given)
            continue
        given |= _default(p)
        if words := choices(hint):
            given["choices"] = words
        else:
            given |= {"type": hint, "metavar": p.name.rstrip("_").upper()}
        parser.add_argument(flag, dest=p.name, **given)
    values = _parse(parser, args, flags)
    positional = [p.name for p in signature if p.kind is p.POSITIONAL_ONLY]
    return [values[name] for name in positional], {
        p.name: values[p.name] for p in signature if p.name not in positional
    }


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
        return parser.parse_args(list(args))
    except ArgumentError as error:
        raise Refused(f"{parser.prog}: {' '.join(str(error).split())} (see {parser.prog} --help)", code=2) from error


FOLDERS = ("out", "run")
"""Positionals that name the folder a command writes to."""


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
        nothing = any(action.default is none for none in (None, False, SUPPRESS)) or action.default == ""
        return said if nothing else f"{said} (default: %(default)s)"


def choices(hint: Any) -> list[str]:
    """Return the words that an option can be, none where it takes other values.

    >>> choices(Literal["cosine", "mip"] | None), choices(str)
    (['cosine', 'mip'], [])
    """
    return [word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)]
