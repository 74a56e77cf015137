"""Peak memory and time of one action, in a process of its own: ``python tests/faults/measure.py CASES.json``.

CASES.json is a list of [name, action, path]; a line of JSON comes back for each: name, MiB that the peak of resident
memory rose above what it was, ms, and how it ended. The action is done once on something harmless before.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from align.data import Shards
from align.preprocess import Array, Audio, Image, Points
from align.values import BadSample

READERS = {
    "image": Image(size=32),
    "audio": Audio(sample_rate=8000, seconds=0.1, n_mels=8),
    "points": Points(points=16),
    "array": Array(shape=[6]),
}


def memory(what: str) -> int:
    """VmHWM (the peak) or VmRSS of this process, in KiB."""
    return next(int(x.split()[1]) for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))


def act(action: str, path: str) -> Any:
    """Decode a file, or open a shard and read all of it."""
    if action == "shard":
        shards = Shards(path, shuffle=False, max_bad=1)
        return f"{sum(1 for _ in shards.samples(0))} samples {shards.report()}"
    reader = READERS[action]
    return f"decoded {tuple(reader.eval(reader.decode(Path(path).read_bytes())).shape)}"


def measured(name: str, action: str, path: str) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin = memory("VmRSS"), time.perf_counter()
    try:
        end = act(action, path)
    except BadSample as error:
        end = error.reason
    except ValueError as error:
        end = f"ValueError: {error}"
    ms = 1000 * (time.perf_counter() - begin)
    return {"name": name, "mib": (memory("VmHWM") - before) / 1024, "ms": ms, "end": end}


if __name__ == "__main__":
    cases = json.loads(Path(sys.argv[1]).read_text())
    for name, action, path in cases:
        found = measured(name, action, path)
        if not name.startswith("warm"):
            print(json.dumps(found), flush=True)
