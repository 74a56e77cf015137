"""The commands by name: the text of ``align --help``, and the command that a command line names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

from align.commands.errors import Refused, nearest

Commands = Mapping[str, str]
"""Name -> module:function, the module in this folder."""


def overview(commands: Commands) -> str:
    """Return the text of ``align --help``."""
    return "\n".join(
        [
            "usage: align COMMAND [options]",
            "",
            "One embedding space over images, audio, 3D points and text, and then your own",
            "modality.",
            "",
            *_describe(commands, commands, "  "),
            "",
            "Start with: align quickstart, then align demo. `align COMMAND --help` describes",
            "a command and its options. RUN (the folder of a training run) is accepted",
            "wherever MODEL is, as is LAYOUT:SOURCE, a published model (see align import",
            "--help).",
            "--debug prints tracebacks.",
            "Exit codes: 0 done, 1 a file, config or folder is wrong, 2 the command line is",
            "wrong, 3 data or run below a threshold, 130 and 143 after SIGINT and SIGTERM.",
        ]
    )


def _describe(commands: Commands, names: Iterable[str], start: str) -> list[str]:
    """Return each command with its summary, in lines that fit the terminal."""
    heads = {name: f"{start}{name:<15}" for name in names}
    columns = get_terminal_size().columns
    return [
        fill(_summary(load(commands, name)), columns, initial_indent=head, subsequent_indent=" " * len(head))
        for name, head in heads.items()
    ]


def choose(commands: Commands, args: list[str]) -> tuple[str, list[str]]:
    """Return the name of the command, of one word or two, and the other arguments.

    Prints the commands of a family, such as ``align shards``, and ends. Ends with one line for an unknown name.
    """
    for words in (2, 1):
        name = " ".join(args[:words])
        if name in commands:
            return name, args[words:]
    family = [name for name in commands if name.startswith(args[0] + " ")]
    if family:
        if len(args) == 1 or args[1] in ("-h", "--help"):
            print("\n".join(_describe(commands, family, "align ")))
            raise SystemExit(0)
        raise Refused(f"no command {' '.join(args[:2])!r}; {nearest(' '.join(args[:2]), family)}", code=2)
    raise Refused(f"no command {args[0]!r}; {nearest(args[0], commands)} (align --help lists them all)", code=2)


def load(commands: Commands, name: str) -> Callable[..., int | None]:
    """Return the function of a command. Imports its file."""
    module, function = commands[name].split(":")
    return getattr(import_module(f"align.commands.{module}"), function)


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n")[0].rstrip(".")
