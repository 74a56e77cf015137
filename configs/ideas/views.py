"""Sounds that meet their own augmentations, first alone, then beside the captions; and votes of a sound's snippets.

    python configs/ideas/views.py                # 2 cores, 1 thread: 4.5 min a seed; writes results/views.csv

A clip of ESC-10 asks for clips of its class, by its middle 1.5 s, or by the votes of five snippets of 1.5 s.
"""

from __future__ import annotations

from typing import Any

import torch
from compare import compare
from in_process import train_arms
from sets import find_member, read_set

from align.metrics import mean_average_precision
from align.scoring import vote

BOTH = {"pair": 1.0, "sounds": 1.0}
ARMS = {
    "captions alone": (["--data.views=null"], [(200, {"pair": 1.0})]),
    "views beside": ([], [(200, BOTH)]),
    "views alone, then beside": ([], [(100, {"sounds": 1.0}), (200, BOTH)]),
}
SNIPPETS = 5


def embed(model: Any, waves: list[torch.Tensor]) -> torch.Tensor:
    """Return (n, D) of decoded sounds."""
    reader = model.preprocess["audio"]
    return model.embed_values("audio", reader.collate([reader.eval(wave) for wave in waves]))


def cut(wave: torch.Tensor, length: int) -> list[torch.Tensor]:
    """Return snippets of a sound (..., T), spread evenly over it."""
    starts = torch.linspace(0, max(0, wave.shape[-1] - length), SNIPPETS).long().tolist()
    return [wave[..., start : start + length] for start in starts]


def score(model: Any) -> dict[str, float]:
    """Return the mean average precision of clips that ask for clips of their class, by middles and by votes."""
    samples = read_set("esc10", "test")
    names = [sample["text.txt"].decode() for sample in samples]
    reader = model.preprocess["audio"]
    waves = [reader.decode(find_member(sample, "audio")) for sample in samples]
    snippets = [x for wave in waves for x in cut(wave, int(reader.seconds * reader.sample_rate))]
    kinds = {name: i for i, name in enumerate(sorted(set(names)))}
    label = torch.tensor([kinds[name] for name in names])
    hits = label[:, None] == label
    whole, parts = embed(model, waves), embed(model, snippets)
    item, itself = torch.arange(len(waves)).repeat_interleave(SNIPPETS), torch.arange(len(waves))
    made = {"middle": vote(whole @ whole.T, itself, itself, skip_own=True)[0]}
    for how in ("mean", "best", "count"):
        made[f"votes by {how}"] = vote(parts @ parts.T, item, item, how, skip_own=True)[0]
    keep = ~torch.eye(len(waves), dtype=torch.bool)
    wanted = hits[keep].view(len(waves), -1)
    return {
        f"audio_to_audio/map, {name}": mean_average_precision(x[keep].view(len(x), -1), wanted)
        for name, x in made.items()
    }


if __name__ == "__main__":
    compare(__doc__, views=train_arms("views", ARMS, score))
