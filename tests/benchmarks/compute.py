"""A training step computed in several ways: CPU time, peak memory and the loss, of TransformerText and ImageCNN.

    OMP_NUM_THREADS=1 python tests/benchmarks/compute.py                      # 256 pairs, about 2 minutes
    OMP_NUM_THREADS=1 python tests/benchmarks/compute.py --compile inductor   # compiled too: needs a C++ compiler

Pairs of an image of 64 pixels and 64 bytes of text, a transformer of six blocks, InfoNCE. A step is forward, loss,
backward and AdamW. Each line is a process of its own. CPU time is the smallest of the rounds after the first one,
memory the VmHWM of the second step, above the VmRSS before it. A CPU without bfloat16 instructions is slower in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from align import Batch, JointModel, Objective, Rows, Term, Tower
from align.encoders import ImageCNN, TransformerText
from align.losses import InfoNCE
from align.model.compute import Compute, computing
from align.optim import Ema, Optim
from align.preprocess import Bytes, Image

WAYS = ("plain", "bf16 autocast", "checkpointing", "channels-last", "EMA", "compiled")


def make(n: int) -> tuple[JointModel, Objective, Batch]:
    torch.manual_seed(0)
    towers = {
        "image": Tower(Image(64), ImageCNN()),
        "text": Tower(Bytes(64), TransformerText(context=64, depth=6)),
    }
    model = JointModel(towers, 128)
    objective = Objective({"pairs": Term(InfoNCE(), ["image", "text"])}, dim=128, batch=n, modalities=["image", "text"])
    samples = torch.arange(n)
    images = torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8)
    rows = {"image": Rows(images, samples), "text": Rows(torch.randint(3, 259, (n, 64)), samples)}
    return model, objective, Batch(rows, [str(i) for i in range(n)], samples)


def status(name: str) -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) / 1024


def measure(way: str, n: int, rounds: int, backend: str) -> dict[str, float]:
    model, objective, batch = make(n)
    settings = {
        "checkpointing": Compute(checkpointing=True),
        "channels-last": Compute(channels_last=True),
        "compiled": Compute(compile=True, backend=backend),
    }
    times, memory, losses = [], 0.0, []
    with computing(model, settings.get(way, Compute())):
        optimizer = Optim(ema=Ema() if way == "EMA" else None).build(model, objective)
        for i in range(rounds + 1):
            Path("/proc/self/clear_refs").write_text("5")
            before, start = status("VmRSS"), time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=way.startswith("bf16")):
                loss, _ = objective(model(batch))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            del loss
            times.append(time.process_time() - start)
            memory = status("VmHWM") - before if i == 1 else memory
    return {"cpu": min(times[1:]), "first": times[0], "memory": memory, "loss": losses[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", default="", metavar="BACKEND")
    parser.add_argument("--way", default="")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given.way, given.batch, given.rounds, given.compile)))
        return
    print(
        "| a step | CPU s | times plain | first step, s | peak MiB | loss after the last |\n|---|---|---|---|---|---|"
    )
    plain = 0.0
    for way in WAYS if given.compile else WAYS[:-1]:
        words = [sys.executable, __file__, "--way", way, *sys.argv[1:]]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        plain = plain or found["cpu"]
        cells = f"{found['cpu']:.2f} | {found['cpu'] / plain:.2f} | {found['first']:.1f}"
        print(f"| {way} | {cells} | {found['memory']:.0f} | {found['loss']:.4f} |", flush=True)


if __name__ == "__main__":
    main()
