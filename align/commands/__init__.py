"""The command line: ``align COMMAND ...``, one file a subcommand.

A command is a typed function: positional-only parameters are the positionals, keyword-only ones the options, and its
docstring is its help. This file imports neither torch nor lightning, and neither do the commands before they run.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

from align.commands.errors import Refused, explain, nearest
from align.commands.process import keep_memory, print_any_name

FLOORS = (
    ("errors",),
    (
        "dropped",
        "figures",
        "named",
        "out_folder",
        "process",
        "progress",
        "ranks",
        "shown",
        "sizes",
        "stopping",
    ),
    ("classes", "over", "pairs", "shortened", "soup_shares", "tables"),
    (
        "arguments",
        "evaluating",
        "export_graphs",
        "export_hub",
        "export_sentences",
        "groups",
        "hits",
        "index_report",
        "index_settings",
        "search_groups",
    ),
    ("calibrate", "correct", "devices", "index_backend", "results_page", "soup_measure", "suite"),
    ("open_searcher",),
    (
        "assemble",
        "bind",
        "compatible",
        "config",
        "doctor",
        "dry_run",
        "embed_labelling",
        "evaluate",
        "export",
        "import_",
        "index_build",
        "index_change",
        "mteb",
        "report",
        "search",
        "serve",
        "shards_build",
        "shards_check",
        "shards_cut",
        "shards_mine",
        "shards_show",
        "shards_stats",
        "trec",
        "zeroshot",
    ),
    ("compare_runs", "index_add", "shards_order"),
    ("compare", "embed", "index_export", "index_show", "soup", "start_towers", "sweep"),
    ("train",),
    ("quickstart",),
    ("demo",),
)

commands = {  # name -> module:function, in the order of a first visit
    "quickstart": "quickstart:quickstart",
    "demo": "demo:demo",
    "train": "train:train",
    "sweep": "sweep:sweep",
    "import": "import_:import_",
    "export": "export:export",
    "evaluate": "evaluate:evaluate",
    "compare": "compare:compare",
    "trec": "trec:trec",
    "mteb": "mteb:mteb",
    "report": "report:report",
    "soup": "soup:soup",
    "zeroshot": "zeroshot:zeroshot",
    "shards build": "shards_build:build",
    "shards check": "shards_check:check",
    "shards show": "shards_show:show",
    "shards split": "shards_cut:split",
    "shards merge": "shards_cut:merge",
    "shards filter": "shards_cut:filter_",
    "shards stats": "shards_stats:stats",
    "shards mine": "shards_mine:mine_negatives",
    "shards order": "shards_order:order_",
    "index build": "index_build:build",
    "index add": "index_add:add",
    "index delete": "index_change:delete",
    "index compact": "index_change:compact",
    "index backend": "index_backend:backend",
    "index show": "index_show:show",
    "index check": "index_show:check",
    "index export": "index_export:export",
    "search": "search:search",
    "serve": "serve:serve",
    "embed": "embed:embed",
    "bind": "bind:bind",
    "bind average": "bind:average",
    "assemble": "assemble:assemble",
    "compatible": "compatible:compatible",
    "doctor": "doctor:doctor",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    The codes: 0 done, 1 a file, config or folder is wrong, 2 the command line is wrong, 3 data or run fell below a
    stated threshold, 130 and 143 after SIGINT and SIGTERM.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    try:
        if not args or args[0] in ("-h", "--help"):
            print(overview())
            return 0
        if args[0] == "--version":
            from align import __version__

            print(__version__)
            return 0
        name, rest = _choose(args)
        keep_memory()
        print_any_name()
        code = _run(name, rest)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except KeyboardInterrupt:
        print("align: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has closed the pipe, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = explain(error)
        if message is None:  # a bug of ours: show the traceback
            raise
        print(f"align: {message}", file=sys.stderr)
        return code


def overview() -> str:
    """Return the text of ``align --help``."""
    return "\n".join(
        [
            "usage: align COMMAND [options]",
            "",
            "One embedding space over images, audio, 3D points and text, and then your own",
            "modality.",
            "",
            *_describe(commands, "  "),
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


def _describe(names: Iterable[str], start: str) -> list[str]:
    """Return each command with its summary, in lines that fit the terminal."""
    heads = {name: f"{start}{name:<15}" for name in names}
    columns = get_terminal_size().columns
    return [
        fill(_summary(_load(name)), columns, initial_indent=head, subsequent_indent=" " * len(head))
        for name, head in heads.items()
    ]


def _choose(args: list[str]) -> tuple[str, list[str]]:
    for words in (2, 1):
        name = " ".join(args[:words])
        if name in commands:
            return name, args[words:]
    family = [name for name in commands if name.startswith(args[0] + " ")]
    if family:
        if len(args) == 1 or args[1] in ("-h", "--help"):
            print("\n".join(_describe(family, "align ")))
            raise SystemExit(0)
        raise Refused(f"no command {' '.join(args[:2])!r}; {nearest(' '.join(args[:2]), family)}", code=2)
    raise Refused(f"no command {args[0]!r}; {nearest(args[0], commands)} (align --help lists them all)", code=2)


def _load(name: str) -> Callable[..., int | None]:
    module, function = commands[name].split(":")
    return getattr(import_module(f"align.commands.{module}"), function)


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n")[0].rstrip(".")


def _run(name: str, args: list[str]) -> int:
    function = _load(name)
    parse = getattr(function, "parse", None)  # train builds its parser from the library's classes
    if parse is not None:
        return parse(args) or 0
    from align.commands.arguments import arguments  # which needs jsonargparse

    positionals, options = arguments(function, f"align {name}", args)
    return function(*positionals, **options) or 0
