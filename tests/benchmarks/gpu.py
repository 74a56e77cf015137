"""The losses and the model on a GPU: time, peak memory, share of the bfloat16 matrix rate, images a second and MFU.

    python tests/benchmarks/gpu.py                                                     # some minutes on an H100
    python tests/benchmarks/gpu.py --device cpu --batches 256 --steps 1 --models tiny  # no GPU

Losses: forward and backward of bfloat16 rows, D = 512, against open_clip's ClipLoss and SigLipLoss, and against the
cached in-batch negatives of Sentence Transformers (CachedMultipleNegativesRankingLoss: rows of logits in chunks). A
peer that does not fit into memory is printed as "no memory". Share: the products of ours, 4·B²·D for InfoNCE and 3·B²·D
for SigLIP, by the rate of a large bfloat16 product measured here. MFU: 2 operations a multiply-add and 3 passes,
counted by torch's FlopCounterMode in one forward pass, by the same rate. Targets: >= 1.4x, >= 45x less, >= 50 %, and
MFU >= 40 % on ViT-B/16.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from align.losses import infonce, siglip

D = 512
MODELS = {  # name: (pixels, patch, width, depth, heads, batch)
    "ViT-B/32": (224, 32, 768, 12, 12, 1024),
    "ViT-B/16": (224, 16, 768, 12, 12, 256),
    "ViT-L/14": (224, 14, 1024, 24, 16, 128),
    "four modalities": (224, 32, 768, 12, 12, 512),
    "tiny": (32, 16, 32, 2, 2, 4),
}


class Cost(NamedTuple):
    seconds: float
    mib: float
    value: float


def cached_ranking(a: Tensor, b: Tensor, scale: Tensor, rows: int = 1024) -> Tensor:
    """The loss of CachedMultipleNegativesRankingLoss after its embeddings: rows of a against all of b, in chunks."""
    total = a.new_zeros((), dtype=torch.float32)
    for start in range(0, len(a), rows):
        logits = scale * a[start : start + rows] @ b.T
        labels = torch.arange(start, start + len(logits), device=a.device)
        total = total + F.cross_entropy(logits.float(), labels, reduction="sum")
    return total / len(a)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rate(device: str, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a large product."""
    n = 8192 if device == "cuda" else 512
    a, best = torch.randn(n, n, device=device, dtype=dtype), float("inf")
    for _ in range(10 if device == "cuda" else 3):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(4):
            a @ a
        synchronise(device)
        best = min(best, (time.perf_counter() - start) / 4)
    return n**3 / best


def measure(loss: Callable[[Tensor, Tensor, Tensor], Tensor], B: int, device: str, steps: int) -> Cost | None:
    """Smallest time and largest memory above the inputs of forward + backward. None: it does not fit."""
    draw = torch.Generator().manual_seed(0)
    rows = [F.normalize(torch.randn(B, D, generator=draw), dim=1) for _ in range(2)]
    a, b = (x.to(device, torch.bfloat16).requires_grad_() for x in rows)
    scale = torch.tensor(14.3, device=device, requires_grad=True)
    best, most, value = float("inf"), 0.0, 0.0
    try:
        for _ in range(steps + 1):  # the first one warms
            a.grad = b.grad = scale.grad = None
            gc.collect()
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() if device == "cuda" else 0
            synchronise(device)
            start = time.perf_counter()
            found = loss(a, b, scale)
            found.backward()
            synchronise(device)
            best, value = min(best, time.perf_counter() - start), float(found.detach())
            if device == "cuda":
                most = max(most, (torch.cuda.max_memory_allocated() - before) / 2**20)
            del found
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return Cost(best, most, value)


def losses(device: str, batches: list[int], steps: int, fastest: float) -> None:
    clip, sigmoid = ClipLoss(), SigLipLoss()
    table = {
        "infonce": (infonce, {"open_clip": clip, "cached, Sentence Transformers": cached_ranking}, 4),
        "siglip": (
            lambda a, b, s: siglip(a, b, s, -10.0),
            {"open_clip": lambda a, b, s: sigmoid(a, b, s, torch.tensor(-10.0, device=a.device))},
            3,
        ),
    }
    print(
        "| loss | B | ms | MiB | of the bf16 rate (target >= 50 %) | peer | ms | times as fast (>= 1.4x) | MiB "
        "| times less (>= 45x) |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (ours, peers, products) in table.items():
        for B in batches:
            mine = measure(ours, B, device, steps)
            if mine is None:
                print(f"| {name} | {B} | no memory |")
                continue
            share = products * B * B * D / fastest / mine.seconds
            for peer, loss in peers.items():
                other = measure(loss, B, device, steps)
                cells = ["no memory", "", "", ""]
                if other is not None:
                    less = other.mib / max(mine.mib, 1)
                    cells = [
                        f"{1000 * other.seconds:.1f}",
                        f"{other.seconds / mine.seconds:.2f}x",
                        f"{other.mib:.0f}",
                        f"{less:.0f}x",
                    ]
                said = [name, str(B), f"{1000 * mine.seconds:.1f}", f"{mine.mib:.0f}", f"{share:.0%}", peer, *cells]
                print("| " + " | ".join(said) + " |", flush=True)


def exact(device: str) -> None:
    """Print how far the value and the gradient of bfloat16 rows are from float64's on the same rows."""
    draw = torch.Generator().manual_seed(0)
    rows = [F.normalize(torch.randn(n, 64, generator=draw), dim=1).to(device, torch.bfloat16) for n in (600, 500)]
    for name, loss in (
        ("infonce", lambda a, b: infonce(a, b, 50.0)),
        ("siglip", lambda a, b: siglip(a, b, 50.0, -5.0)),
    ):
        low, wide = ([x.to(kind).requires_grad_() for x in rows] for kind in (torch.bfloat16, torch.float64))
        value, expected = loss(*low), loss(*wide)
        found, right = torch.autograd.grad(value, low), torch.autograd.grad(expected, wide)
        off = max(float((x.double() - y).abs().max() / y.abs().max()) for x, y in zip(found, right, strict=True))
        error = abs(float(value.detach()) - float(expected.detach())) / float(expected.detach())
        print(f"{name}: value off by {error:.1e} (bar 1e-5), gradient by {off:.1e} of its largest entry")


def tower(pixels: int, patch: int, width: int, depth: int, heads: int) -> nn.Module:
    """A vision transformer of timm, without weights."""
    import timm

    return timm.create_model(
        "vit_base_patch16_224",
        img_size=pixels,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        num_classes=D,
    )


def model(name: str, device: str, steps: int, fastest: float) -> None:
    """Print images/s and MFU of a training step: towers in bfloat16 autocast, InfoNCE, fused AdamW.

    "four modalities" has four such towers and all six pairs. The others have one tower of images, against fixed rows.
    """
    *shape, batch = MODELS[name]
    torch.manual_seed(0)
    towers = nn.ModuleList(tower(*shape) for _ in range(4 if name == "four modalities" else 1)).to(device)
    optimiser = torch.optim.AdamW(towers.parameters(), lr=1e-4, fused=device == "cuda")
    x = torch.randn(batch, 3, shape[0], shape[0], device=device)
    fixed = F.normalize(torch.randn(batch, D, device=device), dim=1).bfloat16()
    scale = torch.tensor(14.3, device=device, requires_grad=True)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            rows = [F.normalize(net(x).float(), dim=1).bfloat16() for net in towers]
        rows = rows if len(rows) > 1 else [*rows, fixed]
        pairs = [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]]
        optimiser.zero_grad(set_to_none=True)
        torch.stack([infonce(a, b, scale) for a, b in pairs]).sum().backward()
        optimiser.step()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for net in towers:
            net(x)
    work = 3 * counter.get_total_flops() / 2  # multiply-adds
    best = float("inf")
    for turn in range(steps + 2):
        synchronise(device)
        start = time.perf_counter()
        step()
        synchronise(device)
        best = min(best, time.perf_counter() - start) if turn >= min(2, steps) else best
    mfu = work / best / fastest
    bar = " (target >= 40 %)" if name == "ViT-B/16" else ""
    print(f"{name}: {batch * len(towers) / best:.0f} inputs/s at a batch of {batch}, MFU {mfu:.0%}{bar}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--batches", type=int, nargs="+", default=[8192, 32768, 65536])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=[m for m in MODELS if m != "tiny"], choices=[*MODELS])
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU: --device cpu --batches 256 --steps 1 --models tiny runs every line without one")
    where = torch.cuda.get_device_name() if given.device == "cuda" else "no GPU, the figures mean nothing"
    print(f"torch {torch.__version__}, {where}, bfloat16, D = {D}")
    fastest = rate(given.device, torch.bfloat16)
    print(f"a large bfloat16 product: {2 * fastest / 1e12:.2f} TFLOP/s")
    exact(given.device)
    losses(given.device, given.batches, given.steps, fastest)
    for name in given.models:
        model(name, given.device, given.steps, fastest)


if __name__ == "__main__":
    main()
