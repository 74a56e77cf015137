"""`align serve` under load: a process of its own on an index of 100,000 rows, asked by many clients at one time.

    python tests/benchmarks/serve_load.py --seconds 60 --clients 32 --slow 200

Each client sends the next request when it has the answer: by turns a search by a text and a picture to embed. This is
done twice, the second time beside slow clients, which send a byte a second, one half of them of a head and one half of
a body. Prints requests, errors and times of both, and the rows of different requests that share a forward pass.

Prints memory, too, every ``--every`` seconds beside the answers so far, and its growth for 1,000 answers in the second
half of each part, by least squares. The first half has the growth of caches that fill and of threads that start.

RUN is a model with an image and a text tower. Without it, one of the quickstart's form is made, with random weights.
The rows are random, of unit length. Pictures of the items lie in shards. Exit code 1 where a request has failed.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.append(str(Path(__file__).parents[1]))

from load_clients import (
    WORDS,
    Answer,
    ask_on,
    ask_slowly,
    count_statuses,
    draw_asks,
    find_share,
    find_slope,
    read_memory,
    read_metrics,
    read_passes,
)

import align


class Memory(NamedTuple):
    """MiB of the server and of its decoders after a number of answers."""

    answers: int
    server: float
    decoders: float


SHARD = 10_000  # samples of a shard
ASKS = 200  # different requests


def make_model(folder: Path) -> Path:
    """Save an image and a text tower of the quickstart's form, with random weights."""
    from align.encoders import ImageCNN, TransformerText
    from align.heads import Linear
    from align.preprocess import Image, Tokens

    torch.manual_seed(0)
    image = align.Tower(Image(size=64, mean="half"), ImageCNN(width=128, widths=(16, 32, 64, 128), stem=2), Linear)
    text = align.Tower(Tokens(context=16), TransformerText(vocabulary=49408, context=16, width=64, depth=1), Linear)
    align.save(align.JointModel({"image": image, "text": text}, 64).eval(), folder)
    return folder


def make_index(model: str, folder: Path, rows: int) -> None:
    """Write shards of small pictures with captions, and an index of random rows for them."""
    from PIL import Image

    from align.embedding import fingerprint
    from align.search.item import Item
    from align.search.local import LocalIndex
    from align.values import Rows

    loaded = align.load(model)
    about = {"dim": loaded.dim, "model": {"source": str(Path(model).resolve()), "sha256": fingerprint(loaded)}}
    pictures = []
    for i in range(256):
        out = io.BytesIO()
        Image.new("RGB", (16, 16), (i, 255 - i, 7 * i % 256)).save(out, "PNG")
        pictures.append(out.getvalue())
    (folder / "shards").mkdir()
    generator = torch.Generator().manual_seed(0)
    with LocalIndex.create(folder / "index", about) as index:
        for start in range(0, rows, SHARD):
            shard, items = folder / "shards" / f"test-{start // SHARD:06d}.tar", []
            with tarfile.open(shard, "w") as tar:
                for i in range(start, min(rows, start + SHARD)):
                    key, caption = f"{i:08d}", f"a {WORDS[i % 10]} {WORDS[i // 10 % 10]} thing {i}"
                    for name, data in (("png", pictures[i % 256]), ("txt", caption.encode())):
                        member = tarfile.TarInfo(f"{key}.{name}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
                    items.append(Item(key, {"shard": str(shard), "key": key}, [caption], WORDS[i % 10]))
            values = torch.nn.functional.normalize(torch.randn(len(items), loaded.dim, generator=generator), dim=1)
            with index.change() as change:
                change.add({"image": Rows(values, torch.arange(len(items)))}, items)


def start(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start the server, and return it with its port when it answers."""
    command = [sys.executable, "-m", "align", "serve", str(folder / "index"), "--port", "0"]
    modules = os.pathsep.join([str(Path(align.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": modules.rstrip(os.pathsep)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the server has not started; its lines are above")
    return process, int(line.rsplit(":", 1)[1])


async def load(
    pid: int, port: int, seconds: float, clients: int, slow: int, every: float
) -> tuple[list[Answer], list[Memory]]:
    """Ask for so many seconds. Returns the answers, and the memory every so many seconds."""
    asks, answers, ends = draw_asks(ASKS), [], []
    memory: list[Memory] = []
    begin = time.monotonic()
    before = read_metrics(port)

    def going() -> bool:
        return time.monotonic() < begin + seconds

    async def watch() -> None:
        moments = [every * i for i in range(1, int(seconds / every) + 1)] or [seconds]
        for moment in (0.0, *moments):
            await asyncio.sleep(max(0.0, begin + moment * 0.99 - time.monotonic()))
            server, decoders = await asyncio.to_thread(read_memory, pid)
            memory.append(Memory(len(answers), server, decoders))
            print(
                f"  at {moment:4.0f} s: {len(answers):6} answers, {server:6.1f} MiB of the server, "
                f"{decoders:6.1f} MiB of its decoders",
                flush=True,
            )

    slowly = [asyncio.create_task(ask_slowly(port, i % 2 == 0, going, ends)) for i in range(slow)]
    mine = [ask_on(port, asks[i % 7 :] + asks[: i % 7], going, answers) for i in range(clients)]
    await asyncio.gather(watch(), *mine)
    took = time.monotonic() - begin
    for task in slowly:
        await task
    after = await asyncio.to_thread(read_metrics, port)
    for kind in ("text", "picture"):
        good = [one.ended - one.began for one in answers if one.kind == kind and one.status == 200]
        middle, late = find_share(good, 0.5), find_share(good, 0.99)
        rate = len(good) / took
        print(f"  {kind:>7}: {len(good):6} answers, {rate:6.1f} a second, p50 {middle:6.1f} ms, p99 {late:6.1f} ms")
    for modality, (rows, passes) in read_passes(before, after).items():
        print(
            f"  {modality:>7}: {rows:6.0f} rows in {passes:.0f} forward passes: {rows / max(passes, 1):.2f} rows a pass"
        )
    bad = {status: n for status, n in count_statuses(answers).items() if status != 200}
    print(f"  errors: {sum(bad.values())} {bad or ''}".rstrip())
    if ends:
        lasted = sorted(length for length, _ in ends)
        print(
            f"  slow clients: {len(ends)} ended by the server with {sorted({status for _, status in ends})}, "
            f"after {lasted[0]:.1f} to {lasted[-1]:.1f} s"
        )
    return answers, memory


def tell_growth(memory: list[Memory]) -> str:
    """Return the growth of the whole, and that of the second half for 1,000 answers."""
    grown = [memory[-1][i] - memory[0][i] for i in (1, 2)]
    late = [1000 * find_slope([(one.answers, one[i]) for one in memory]) for i in (1, 2)]
    return (
        f"grew by {grown[0]:+.1f} MiB of the server and {grown[1]:+.1f} of its decoders; in the second half, for 1,000 "
        f"answers: {late[0]:+.2f} and {late[1]:+.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, begin = Path(name), time.monotonic()
        make_index(given.run or str(make_model(folder / "model")), folder, given.rows)
        print(f"an index of {given.rows} rows, made in {time.monotonic() - begin:.0f} s; {os.cpu_count()} cores")
        process, port = start(folder)
        try:
            asyncio.run(_warm_up(port))
            late: list[dict[str, float]] = []
            failed = 0
            for slow in (0, given.slow):
                print(f"{given.clients} clients, {slow} slow ones, {given.seconds:g} s, load {os.getloadavg()[0]:.1f}")
                answers, memory = asyncio.run(load(process.pid, port, given.seconds, given.clients, slow, given.every))
                failed += sum(one.status != 200 for one in answers)
                times = {k: [a.ended - a.began for a in answers if a.kind == k] for k in ("text", "picture")}
                late.append({kind: find_share(found, 0.99) for kind, found in times.items()})
                print(f"  memory {tell_growth(memory)}", flush=True)
            ratios = [f"{kind} {late[1][kind] / late[0][kind]:.2f}" for kind in late[0]]
            print(f"p99 beside the slow clients over p99 without them: {', '.join(ratios)}")
        finally:
            process.terminate()
            code = process.wait(60)
    print(f"failed: {failed}; the server's exit code: {code}")
    return int(failed > 0)


async def _warm_up(port: int) -> None:
    """Send each request twice, so that the server has read the lists of the shards that hold its hits."""
    answers: list[Answer] = []
    asks = draw_asks(ASKS)

    def going() -> bool:
        return len(answers) < 2 * ASKS

    await asyncio.gather(
        *(ask_on(port, asks[i * ASKS // 8 :] + asks[: i * ASKS // 8], going, answers) for i in range(8))
    )
    print(f"slowest answer of the warm-up: {max(one.ended - one.began for one in answers):.1f} s")


if __name__ == "__main__":
    sys.exit(main())
