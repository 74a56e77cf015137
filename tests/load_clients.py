"""Clients of a server under load: many that ask as fast as they are answered, and many that send a byte a second."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

WORDS = ("red", "green", "blue", "small", "large", "glass", "wooden", "cone", "cube", "torus")


class Ask(NamedTuple):
    """A request. kind: "text" for a search by a text, "picture" for a picture to embed."""

    kind: str
    data: bytes


class Answer(NamedTuple):
    """The end of a request. began, sent, ended: seconds of the clock. status: 0 where no whole answer came.

    torn: a part of an answer came.
    """

    kind: str
    began: float
    sent: float
    ended: float
    status: int
    torn: bool


def build_head(path: str, length: int) -> bytes:
    """Return the head of a POST with JSON."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def draw_asks(number: int, size: int = 64) -> list[Ask]:
    """Return different requests, by turns a search by a text and a picture to embed."""
    from PIL import Image

    asks = []
    for i in range(number):
        if i % 2:
            out = io.BytesIO()
            Image.effect_mandelbrot((size, size), (-2, -1, 1, 1), 10 + i % 90).convert("RGB").save(out, "PNG")
            data = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
            path, body = "/v1/embeddings", json.dumps({"input": {"image": data}}).encode()
        else:
            text = " ".join(WORDS[(i // 2 * step) % len(WORDS)] for step in (1, 3, 7))
            path, body = "/v1/search", json.dumps({"query": text, "of": "image", "k": 10}).encode()
        asks.append(Ask("picture" if i % 2 else "text", build_head(path, len(body)) + body))
    return asks


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool, bool]:
    """Return an answer's status, True where the connection goes on, and True for an answer that is torn."""
    head = b""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:-2])
        await reader.readexactly(int(fields["content-length"]))
    except asyncio.IncompleteReadError as error:
        return 0, False, bool(head or error.partial)
    except OSError:
        return 0, False, bool(head)
    return int(head.split()[1]), fields.get("connection") != "close", False


async def ask_on(port: int, asks: list[Ask], going: Callable[[], bool], answers: list[Answer]) -> None:
    """Send requests one after another while ``going``, on one connection as long as it holds."""
    reader = writer = None
    place = 0
    while going():
        one = asks[place % len(asks)]
        place += 1
        began = sent = time.monotonic()
        status, stays, torn = 0, False, False
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(one.data)
            await writer.drain()
            sent = time.monotonic()
            status, stays, torn = await read_answer(reader)
        except OSError:
            sent = float("inf")  # it has not been sent
        answers.append(Answer(one.kind, began, sent, time.monotonic(), status, torn))
        if not stays and writer is not None:
            writer.close()
            reader = writer = None
        if status != 200:
            await asyncio.sleep(0.05)
    if writer is not None:
        writer.close()


async def ask_slowly(port: int, head: bool, going: Callable[[], bool], ends: list[tuple[float, int]]) -> None:
    """Send a byte a second of a head or of a body, again and again. ends: seconds of each try, and its status."""
    data = build_head("/v1/embeddings", 4000)
    first, rest = (b"", data) if head else (data, b" " * 4000)
    while going():
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        answer = asyncio.ensure_future(read_answer(reader))
        writer.write(first)
        for byte in rest:
            if answer.done() or not going():
                break
            try:
                writer.write(bytes([byte]))
                await writer.drain()
            except OSError:
                break
            await asyncio.wait([answer], timeout=1.0)
        if going():
            ends.append((time.monotonic() - began, (await answer)[0]))
        answer.cancel()
        writer.close()


def read_metrics(port: int) -> dict[str, float]:
    """Return the server's counts by name, with their labels."""
    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def read_passes(before: dict[str, float], after: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return modality -> rows and forward passes between two states of the metrics."""
    found = {}
    for name, value in after.items():
        if name.startswith("align_rows_per_pass_count{"):
            rows = name.replace("_count{", "_sum{")
            passes = value - before.get(name, 0.0)
            found[name.split('"')[1]] = (after[rows] - before.get(rows, 0.0), passes)
    return found


def read_memory(pid: int) -> tuple[float, float]:
    """Return MiB of a process, and of all processes below it, that no file holds and none of them shares twice."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below, more = set(), {pid}
    while more := {one for one, parent in parents.items() if parent in more | below and one not in below | {pid}}:
        below |= more
    return _read_private(pid), sum(map(_read_private, below))


def _read_private(pid: int) -> float:
    """Return MiB of the process's own pages: private, dirty ones."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


def find_slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through the second half of (x, y), by least squares. NaN: fewer than two x."""
    late = samples[len(samples) // 2 :]
    x, y = (sum(values) / max(len(late), 1) for values in zip(*late, strict=True)) if late else (0.0, 0.0)
    square = sum((one - x) ** 2 for one, _ in late)
    return sum((one - x) * (other - y) for one, other in late) / square if square else float("nan")


def find_share(times: list[float], share: float) -> float:
    """Return a quantile in milliseconds, NaN of none."""
    return 1000 * sorted(times)[int(share * (len(times) - 1))] if times else float("nan")


def count_statuses(answers: list[Answer]) -> Counter[int]:
    """Return status -> number of answers."""
    return Counter(one.status for one in answers)
