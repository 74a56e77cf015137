"""Towers with dropout, draws on the device and tokens, and batches for them: tests hold a step in chunks against it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align import Batch, JointModel, Objective, Rows, Term, Tower
from align.grad_cache.slices import leaf
from align.losses.kinds import KINDS
from align.model.joint import JointModel as Model
from align.preprocess import Array
from align.seeds import generator
from align.values import Features

dim, size, length = 6, 5, 4
names = ["audio", "image", "text", "touch"]
owners = [[0, 1, 1, 3, -1], [0, 1, 2, 3, 4, 5, 5], [0, 0, 1, 3, 3, -1], [1, 2, 3, 4]]  # holes, several rows, negatives
chunk = {"audio": 3, "image": 1, "text": 2}  # touch is read whole


class Noisy(Array):
    """An array with noise of the modality's generator on the device, and padding trimmed as a tokenizer trims it."""

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if generator is not None:
            values = values + 0.1 * torch.randn(values.shape, generator=generator, dtype=values.dtype)
        longest = max(1, int((values[:, 0].abs() * 3).long().clamp(max=length).max())) if len(values) else length
        longest = length if generator is None else longest  # ranks gather tokens of one length
        return torch.stack([values * (k + 1) for k in range(longest)], 1)  # (n, L, size)


class Sequences(nn.Module):
    """(n, L, size) to features with tokens, of which each row has its own number, with dropout."""

    def __init__(self, width: int = 8, dropout: float = 0.3):
        super().__init__()
        self.width, self.dropout = width, dropout
        self.net = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Features:
        if not len(values):
            return Features(self.net(values.sum(1)), self.net(values), values.new_zeros(values.shape[:2]).bool())
        longest = (values[:, 0, 0].abs() * 3).long().clamp(1, length)
        mask = torch.arange(values.shape[1]) < longest[:, None]
        tokens = torch.tanh(self.net(values)) * mask[:, :, None]
        return Features(tokens.sum(1) / mask.sum(1)[:, None], tokens, mask)


def model(dropout: float = 0.3, dtype: torch.dtype = torch.float64, share: bool = False) -> JointModel:
    torch.manual_seed(0)
    towers = {m: Tower(Noisy((size,)), Sequences(dropout=dropout)) for m in names}
    if share:
        towers["touch"] = Tower(Noisy((size,)))
    return Model(towers, dim, {"touch": "image"} if share else None).to(dtype)


def objective(loss: nn.Module, dtype: torch.dtype = torch.float64) -> Objective:
    """A term of the loss, between as many modalities as it takes."""
    kind = KINDS[str(loss.kind)]
    used = names[: kind.least] if kind.ordered else names[1:4]
    return Objective({"t": Term(loss, used)}, dim=dim, batch=6, modalities=names).to(dtype)


def batch(dtype: torch.dtype = torch.float64, part: int = 0, parts: int = 1) -> Batch:
    """Every parts-th sample of six, with their rows."""
    draw, rows = torch.Generator().manual_seed(5), {}
    for name, owner in zip(names, owners, strict=True):
        values = torch.randn(len(owner), size, generator=draw, dtype=torch.float64).to(dtype)
        sample = torch.tensor(owner)
        keep = Rows(values, sample).owner % parts == part
        rows[name] = Rows(values[keep], torch.where(sample >= 0, sample // parts, -1)[keep])
    samples = torch.arange(part, 6, parts)
    out = Batch(rows, [str(int(i)) for i in samples], samples)
    out.group, out.weight = torch.tensor([0, 0, 1, 1, 2, -1])[samples], torch.arange(1.0, 7)[samples]
    out.number = samples  # a bank asks for it
    out.labels = ["abc"[int(i) % 3] for i in samples]  # for losses of classes
    return out


def generators() -> dict[str, torch.Generator]:
    return {m: generator(3, m) for m in names}


def one_graph(name, tower, values, generator=None, tokens=False):
    """The tower in the same chunks as ``chunk`` has, all in one graph, by a plain loop."""
    outs = []
    n = len(leaf(values))
    for start in range(0, max(n, 1), chunk.get(name, max(n, 1))):
        outs.append(tower(values[start : start + chunk.get(name, n)], generator=generator, tokens=tokens))
    if not tokens:
        return torch.cat(outs)
    longest = max(mask.shape[1] for _, _, mask in outs)
    return (
        torch.cat([pooled for pooled, _, _ in outs]),
        torch.cat([F.pad(each, (0, 0, 0, longest - each.shape[1])) for _, each, _ in outs]),
        torch.cat([F.pad(mask, (0, longest - mask.shape[1])) for _, _, mask in outs]),
    )


def step(made: JointModel, terms: Objective, given: Batch, run=None, **more) -> dict[str, Tensor]:
    """Name -> gradient of every parameter, and the loss."""
    torch.manual_seed(11)
    embeddings = made(given, generators=generators(), tokens=terms.tokens, run=run, **more)
    loss, _ = terms(embeddings, generator=torch.Generator().manual_seed(2))
    loss.backward()
    named = [*made.named_parameters(prefix="model"), *terms.named_parameters(prefix="objective")]
    return {"loss": loss.detach()} | {n: p.grad for n, p in named if p.grad is not None}


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative distance of two dicts' tensors; infinite where they have other names."""
    if found.keys() != wanted.keys():
        return float("inf")
    norms = [(float((found[n].double() - x.double()).norm()), float(x.double().norm())) for n, x in wanted.items()]
    return max(apart / size if size else apart for apart, size in norms)
