"""Requests a second of ``align serve``, with rows embedded together and one by one, for 1, 8 and 64 clients.

    python tests/benchmarks/serve.py RUN [--seconds 5]

RUN has an index. Clients keep their connection, and send the next request when they have the answer. The table has
requests a second, the median and the 99th percentile in milliseconds, the rows of a batch, and the resident memory of
the server and of its decoders. The ratio is that of requests a second, together over one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

CLIENTS = (1, 8, 64)
WARM = 20  # requests before the clock starts


def serve(run: str, together: bool) -> None:
    """Serve until the parent ends the process."""
    from align.commands.process import keep_memory
    from align.commands.serve import run as answer
    from align.serve.limits import Limits
    from align.serve.loading import Place
    from align.serve.server import bind

    keep_memory()
    limits = Limits() if together else Limits(window=0.0, batch=1)
    place = Place(run)
    answer(place, place.open(limits), limits, bind("127.0.0.1", 0), [])


def bodies(size: int = 64) -> dict[str, bytes]:
    """Return the body of a search by each kind of query: a text, and a picture that is decoded first."""
    from PIL import Image

    out = io.BytesIO()
    Image.effect_mandelbrot((size, size), (-2, -1, 1, 1), 50).convert("RGB").save(out, "PNG")
    picture = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    return {
        "text": json.dumps({"query": "a red wooden cone", "of": "image", "k": 10}).encode(),
        "picture": json.dumps({"parts": [{"modality": "image", "data": picture}], "of": "audio", "k": 10}).encode(),
        "embeddings": json.dumps({"input": "a red wooden cone"}).encode(),
    }


async def ask(host: str, port: int, path: str, body: bytes, end: float, times: list[float]) -> int:
    """Send requests on one connection until the end. Returns the number that failed."""
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    failed = 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in answer.decode().split("\r\n")[1:-2])
        await reader.readexactly(int(fields["content-length"]))
        if answer.startswith(b"HTTP/1.1 200"):
            times.append(time.perf_counter() - start)
        else:
            failed += 1
    writer.close()
    return failed


async def measure(port: int, path: str, body: bytes, clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Return the times of the requests that were answered, the number of others, and the seconds of the whole."""
    await asyncio.gather(*(ask("127.0.0.1", port, path, body, time.perf_counter() + 0.3, []) for _ in range(clients)))
    times: list[float] = []
    start = time.perf_counter()
    failed = await asyncio.gather(*(ask("127.0.0.1", port, path, body, start + seconds, times) for _ in range(clients)))
    return sorted(times), sum(failed), time.perf_counter() - start


def counts(port: int) -> dict[str, float]:
    """Return the server's metrics."""
    from urllib.request import urlopen

    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def memory(pid: int) -> tuple[int, int]:
    """Return the MiB of a process and of all below it, pages that they share counted once (PSS)."""
    below, mine = 0, 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            chain, one = [], int(folder.name)
            while one > 1 and one != pid:
                one = int((Path("/proc") / str(one) / "stat").read_text().rpartition(")")[2].split()[1])
                chain.append(one)
            if one != pid:
                continue
            rollup = (folder / "smaps_rollup").read_text().splitlines()
            size = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except OSError:
            continue
        if int(folder.name) == pid:
            mine += size
        else:
            below += size
    return mine >> 10, below >> 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--serve", choices=["together", "alone"])
    given = parser.parse_args()
    if given.serve:
        serve(given.run, given.serve == "together")
        return
    rates: dict[tuple[str, int, str], float] = {}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; clients and server share them")
    head = ["clients", "req/s", "p50 ms", "p99 ms", "rows/batch", "failed"]
    print(f"{'rows':>9} {'query':>10} " + " ".join(f"{name:>10}" for name in head))
    for way in ("alone", "together"):
        command = [sys.executable, __file__, given.run, "--serve", way]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                port = int(server.stdout.readline().rsplit(":", 1)[1])
                for query, body in bodies().items():
                    path = "/v1/embeddings" if query == "embeddings" else "/v1/search"
                    for clients in CLIENTS:
                        before = counts(port)
                        times, failed, seconds = asyncio.run(measure(port, path, body, clients, given.seconds))
                        after = counts(port)
                        rows, batches = (
                            after[f"align_{name}_total"] - before[f"align_{name}_total"] for name in ("rows", "batches")
                        )
                        rates[way, clients, query] = rate = len(times) / seconds
                        middle, late = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
                        mean = rows / max(batches, 1)
                        print(
                            f"{way:>9} {query:>10} {clients:>10} {rate:>10.1f} {middle:>10.1f} {late:>10.1f} "
                            f"{mean:>10.1f} {failed:>10}"
                        )
                mine, below = memory(server.pid)
                print(f"{way:>9}: {mine} MiB of the server, {below} MiB of its decoders and their parent (PSS)")
            finally:
                server.terminate()
    for query in bodies():
        ratios = [f"{rates['together', n, query] / rates['alone', n, query]:.2f} for {n}" for n in CLIENTS]
        print(f"together over alone, {query}: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
