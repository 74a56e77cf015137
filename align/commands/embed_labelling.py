"""``align embed --to fiftyone|label-studio``: shards as the folder of a labelling tool."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from align.commands.devices import Computing
from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.stopping import ending

Tool = Literal["fiftyone", "label-studio"]


def check_options(tool: Tool, given: Mapping[str, bool]) -> None:
    """Raise Refused for options that belong to a cache, and for several processes. given: option -> it was given."""
    if odd := [option for option, there in given.items() if there]:
        raise Refused(f"{odd[0]} belongs to a cache; leave it out with --to {tool}", code=2)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refused(f"--to {tool} is written by one process; start it without torchrun", code=2)


def embed_for(
    tool: Tool, model: str, shards: list[str], out: Path, name: str, placing: Computing, weights: Weights, **how: Any
) -> int:
    """Write shards as a folder of a tool, and print what was left out on stderr and the folder on stdout.

    how: arguments of ``align.convert.labelling.open_reading``.
    """
    from align.commands.over import budget, say_bad
    from align.commands.progress import progress
    from align.convert.labelling import open_reading, write_fiftyone, write_label_studio
    from align.convert.labelling.answers import can_ask
    from align.files.fresh import check_fresh

    check_fresh(out)
    write = {"fiftyone": write_fiftyone, "label-studio": write_label_studio}[tool]
    with ending(lambda: f"{out} is not written"), budget("--max-bad"), progress("embedding") as say:
        loaded = placing.load(weights, model)
        reading = open_reading(loaded, shards, progress=say, **how)
        try:
            written = write(reading, out, name)
        finally:
            reading.shards.close()
    say_bad(written.facts.counts)
    for note in written.notes:
        print(note, file=sys.stderr)
    if not can_ask(loaded):
        print("the model has no tower 'text' that reads words, so there are no zero-shot labels", file=sys.stderr)
    samples = written.facts.samples
    print(f"wrote {samples} sample{'s' * (samples != 1)} to {out}", file=sys.stderr)
    print(out)
    return 0
