"""An attack: a server, the whole corpus sent to it, and a table by kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import align
from hostile.client import Address, Answer, Good, judge, send
from hostile.request import Hostile
from hostile.watch import SECRET, Memory, Outside, memory

CODE = "import sys; from pathlib import Path; from hostile.world import main; sys.exit(main(Path(sys.argv[1])))"
MB = 1 << 20
LONG = 1.0  # seconds


@dataclass
class Server:
    """A server in a process of its own. pid: its process, below a tracer where there is one."""

    address: Address
    pid: int
    process: subprocess.Popen[str]
    folder: Path


@contextmanager
def serving(folder: Path, tracer: Sequence[str] = ()) -> Iterator[Server]:
    """Start a server whose world, working folder, temporary folder and home lie in a folder, and end it."""
    world, work, temporary, home = (folder / name for name in ("world", "work", "tmp", "home"))
    for one in (world, work, temporary, home):
        one.mkdir()
    paths = [str(Path(align.__file__).parent.parent), str(Path(__file__).parent.parent)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(temporary),
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "ALIGN_CACHE": str(home / "cache"),
    }
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*tracer, sys.executable, "-c", CODE, str(world)],
            cwd=work,
            env=env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    pid = process.pid
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address.startswith("http://"):
            raise RuntimeError(f"the server does not start: {(folder / 'log').read_text()[-2000:]}")
        host, _, port = address.removeprefix("http://").rpartition(":")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pid = int(children.read_text().split()[0]) if tracer else pid
        yield Server((host, int(port)), pid, process, folder)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class Row:
    """A kind's line of the table.

    growth: bytes of the server and of its decoders after the kind. highest: the most after one of its requests.
    long: requests that took more than ``LONG``.
    """

    kind: str
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_name: str = ""
    growth: Memory = field(default_factory=lambda: Memory(0, 0))
    highest: Memory = field(default_factory=lambda: Memory(0, 0))
    wrong: list[str] = field(default_factory=list)
    long: list[Hostile] = field(default_factory=list)

    def take(self, one: Hostile, answer: Answer, wrong: str) -> None:
        """Count an answer."""
        self.requests += 1
        self.statuses.update(answer.statuses[:1] or [0])
        self.long += [one] if answer.seconds > LONG else []
        if answer.seconds > self.slowest:
            self.slowest, self.slowest_name = answer.seconds, one.name
        if wrong:
            self.wrong.append(f"{one.kind}, {one.name}: {wrong}")


def attack(server: Server, corpus: Sequence[Hostile], good: Good, outside: Outside) -> list[Row]:
    """Send the corpus once, a good request after each, and return a row for each kind.

    Requests that a deadline ends are sent together, with good requests meanwhile.
    """
    rows = []
    for kind, group in groupby(corpus, key=lambda one: one.kind):
        row, before, requests = Row(kind), memory(server.pid), list(group)
        for one in (one for one in requests if not one.slow):
            answer = send(server.address, one)
            row.take(one, answer, judge(one, answer, SECRET) or good.wrong() or _seen(outside))
            row.highest = Memory(*map(max, row.highest, memory(server.pid)))
        together = [one for one in requests if one.slow]
        with ThreadPoolExecutor(max(1, len(together))) as threads:
            sent = [threads.submit(send, server.address, one) for one in together]
            while not all(one.done() for one in sent):
                row.wrong += [f"{kind}: meanwhile {wrong}"] if (wrong := good.wrong()) else []
                time.sleep(0.05)
            for one, answer in zip(together, (one.result() for one in sent), strict=True):
                row.take(one, answer, judge(one, answer, SECRET) or good.wrong() or _seen(outside))
        after = memory(server.pid)
        row.growth = Memory(after.server - before.server, after.decoders - before.decoders)
        rows.append(row)
    return rows


def _seen(outside: Outside) -> str:
    if opened := outside.opened():
        return f"files outside were touched: {', '.join(sorted(set(opened)))}"
    return "an address was asked" if outside.visited() else ""


def write_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the kinds and their sum."""
    lines = [
        "| kind | requests | statuses | slowest ms | server MB | decoders MB | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    server, decoders = (sum(getattr(row.growth, which) for row in rows) for which in Memory._fields)
    whole = Row(
        "all",
        requests=sum(row.requests for row in rows),
        statuses=sum((row.statuses for row in rows), Counter()),
        slowest=max(row.slowest for row in rows),
        growth=Memory(server, decoders),
        wrong=[one for row in rows for one in row.wrong],
    )
    for row in (*rows, whole):
        statuses = ", ".join(f"{status or 'closed'} × {n}" for status, n in sorted(row.statuses.items()))
        name = f" ({row.slowest_name})" if row.slowest_name else ""
        lines.append(
            f"| {row.kind} | {row.requests} | {statuses} | {1000 * row.slowest:.0f}{name} | "
            f"{row.growth.server / MB:+.1f} | {row.growth.decoders / MB:+.1f} | {len(row.wrong)} |"
        )
    return "\n".join(lines)
