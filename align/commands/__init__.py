"""The command line: ``align COMMAND ...``, one file a subcommand.

A command is a typed function: positional-only parameters are the positionals, keyword-only ones the options, and its
docstring is its help. This file imports neither torch nor lightning, and neither do the commands before they run.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from align.commands.catalogue import choose, load, overview
from align.commands.errors import explain
from align.commands.process import keep_memory, print_any_name

FLOORS = (
    ("errors",),
    (
        "catalogue",
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
            print(overview(commands))
            return 0
        if args[0] == "--version":
            from align import __version__

            print(__version__)
            return 0
        name, rest = choose(commands, args)
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


def _run(name: str, args: list[str]) -> int:
    function = load(commands, name)
    parse = getattr(function, "parse", None)  # train builds its parser from the library's classes
    if parse is not None:
        return parse(args) or 0
    from align.commands.arguments import arguments  # which needs jsonargparse

    positionals, options = arguments(function, f"align {name}", args)
    return function(*positionals, **options) or 0
