"""Cost of the check of a step that is not finite, in CPU time: ``python tests/benchmarks/guard.py``.

A step of two small towers (12 layers each), forward, backward, clipping and AdamW, with `Finite` and with torch's
``clip_grad_norm_`` in its place. Both alternate, and the medians are compared. The difference of the two alone is
printed too, as a share of the step.
"""

from __future__ import annotations

import statistics
import time
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from align import Objective, Term
from align.lit.finite import Finite
from align.losses import InfoNCE
from align.values import Batch, Rows

WIDTH, LAYERS, BATCH, ROUNDS = 192, 12, 16, 15


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)

    def layer() -> nn.Module:
        return nn.TransformerEncoderLayer(WIDTH, 3, 4 * WIDTH, 0.0, batch_first=True)

    model = nn.ModuleDict({m: nn.Sequential(*(layer() for _ in range(LAYERS))) for m in ("image", "text")})
    objective = Objective({"t": Term(InfoNCE(), ["image", "text"])}, dim=WIDTH, batch=BATCH, modalities=[*model])
    both = nn.ModuleList([model, objective])
    optimizer = torch.optim.AdamW(both.parameters(), fused=True)
    rows = {m: Rows(torch.randn(BATCH, 32, WIDTH), torch.arange(BATCH)) for m in model}
    batch = Batch(rows, ids=[str(i) for i in range(BATCH)], position=torch.arange(BATCH))
    check = Finite(model, objective)
    trainer = SimpleNamespace(precision_plugin=None, optimizers=[optimizer])
    module: Any = SimpleNamespace(trainer=trainer, named_parameters=both.named_parameters)

    def step(ours: bool) -> tuple[float, float]:
        """Return CPU seconds of the step, and of the parts that differ."""
        begin = time.process_time()
        first = time.process_time()
        if ours:
            check.begin(batch)
        apart = time.process_time() - first
        optimizer.zero_grad()
        made = {m: model[m](rows[m].values).mean(1) for m in model}
        embeddings: Any = {m: Rows(nn.functional.normalize(x, dim=1), rows[m].sample) for m, x in made.items()}
        first = time.process_time()
        if ours:
            check.note(embeddings)
        apart += time.process_time() - first
        loss = objective.losses["t"]([r.values for r in embeddings.values()], [r.sample for r in embeddings.values()])
        loss.backward()
        first = time.process_time()
        if ours:
            check.clip(module, {"loss": loss.detach()}, 1.0)
            check.end()
        else:
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        apart += time.process_time() - first
        optimizer.step()
        return time.process_time() - begin, apart

    for ours in (True, False):
        step(ours)
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for ours in (True, False):
            found[ours].append(step(ours))
    whole, apart = ({k: statistics.median(x[i] for x in v) for k, v in found.items()} for i in (0, 1))
    print(f"{sum(p.numel() for p in both.parameters()) / 1e6:.1f} M parameters, {len([*both.parameters()])} tensors")
    print(f"step with torch's clip_grad_norm_ {1000 * whole[False]:.1f} ms, with the check {1000 * whole[True]:.1f} ms")
    more = apart[True] - apart[False]
    print(f"the check alone {1e6 * more:.0f} µs more than clip_grad_norm_: {more / whole[False]:.2%} of the step")


if __name__ == "__main__":
    main()
