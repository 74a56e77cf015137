"""Dense maps' part of a page: bars, and pictures with a phrase's heat map laid over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from align.evaluation.samples import Intervals
from align.page.overlay import draw_heat
from align.page.section import Bar, Bars, Block, Pictures, Section, Tile
from align.values import Scores


class Shown(NamedTuple):
    """A phrase's map of a picture. picture: (C, H, W) as the tower reads it. heat, mask: (H, W)."""

    picture: Tensor
    heat: Tensor
    phrase: str
    mask: Tensor


def dense_section(scores: Scores, shown: Mapping[str, Sequence[Shown]], around: Intervals) -> Section:
    """Return bars of the mean intersection over union and of pointing, and pictures with heat maps."""
    bars: dict[str, list[Bar]] = {"miou": [], "accuracy": []}
    for name, value in scores.items():
        _, m, attribute, metric = name.split("/")
        if metric == "miou" or (metric == "accuracy" and attribute == "pointing"):
            chance = scores.get(f"dense/{m}/{attribute}/chance")
            bars[metric].append(Bar(attribute, m, value, chance, {}, around.get(name)))
    blocks: list[Block] = [
        Bars(rows, words, bars[metric], {})
        for metric, rows, words in (("miou", "Attribute", "mIoU"), ("accuracy", "Task", "accuracy"))
        if bars[metric]
    ]
    for m, some in shown.items():
        if some:
            pictures = [(draw_heat(one.picture, one.heat, one.mask), one.phrase) for one in some]
            blocks.append(Pictures(pictures, f"Heat maps of phrases over {m}, the region's edge in white"))
    tiles = [
        Tile(f"{bar.row} in {bar.column}", bar.value, "mIoU by place", f"chance {bar.chance:.3f}", bar.interval)
        for bar in bars["miou"][:2]
    ]
    note = "Each place of a picture or a cloud is given a class by its name. The mark on a bar is chance."
    return Section("Dense maps", note, blocks, tiles)
