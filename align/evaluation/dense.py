"""Dense evaluation: classes told place by place, and phrases pointed at, inside of pictures and clouds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from align.data import Columns
from align.encoders.last_attention import Attention
from align.evaluation.dense_section import Shown, dense_section
from align.evaluation.findings import Findings
from align.evaluation.labels import class_places
from align.evaluation.prompts import class_prompts, equal_prompts
from align.evaluation.region_masks import Regional, read_regions
from align.evaluation.space import Space
from align.metrics.overlap import class_overlaps, guessed_iou, mean_iou
from align.scoring.maps import enlarge, heat

BLOCK = 16  # rows read at a time
SHOWN = 6  # heat maps of the page
RULES = {
    "miou": "the mean over classes of intersection over union, at the size that the tower reads; places of no region "
    "with a class do not count; of regions that share a place the last counts",
    "accuracy": "the share of the places whose highest class is right",
    "pointing": "the highest place of a phrase's map lies in its region; of several the share that does",
}


class Prompted(NamedTuple):
    """Classes of an attribute. number: (labels,) the class of each label. prompts: (C, D)."""

    labels: Sequence[str]
    number: Tensor
    prompts: Tensor


@dataclass
class Told:
    """Values of a modality so far, a list entry a row: overlaps (C, 2) and accuracy by attribute, and hits of phrases.

    accuracy: (right places, places).
    """

    overlaps: dict[str, list[Tensor]] = field(default_factory=dict)
    right: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    places: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    pointed: list[tuple[float, float, int]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    left_out: int = 0


@final
@dataclass(frozen=True)
class Dense:
    """``dense/MODALITY/ATTRIBUTE/miou`` and ``/accuracy``, and ``dense/MODALITY/pointing/accuracy``, each with chance.

    Every place of a dense map (``JointModel.dense``) is given the class whose prompts it is nearest to. It reads the
    regions of the samples' json and a mask of their numbers (see ``region_masks``). The floor, which is no region, does
    not count. A map is enlarged to the size that the tower reads before it is compared.

    Pointing (Zhang et al. 2016, arXiv:1608.00507, section 4.2, the pointing game) asks with each region's phrase for
    the highest place of its row. Its chance is the mean share of the places that a region has.

    attention: of the encoder's last block, see ``JointModel.dense``. masks: modality -> member with its masks.
    """

    attention: Attention = "plain"
    masks: Mapping[str, str] = field(default_factory=lambda: {"image": "mask.png", "points": "points_mask.npy"})
    name = "dense"
    text = "text"

    def run(self, space: Space) -> Findings:
        """Return the scores of each modality that has a mask, a grid or points, and samples with regions.

        Raises ValueError, with the tower's name, for an attention that an encoder does not have.
        """
        scores: dict[str, float] = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        statistics: dict[str, Any] = {}
        found: dict[str, Told] = {}
        notes: list[str] = []
        classes = self._prompt(space) if self.text in space.model.modalities else {}
        for m, mask in self.masks.items():
            if m not in space.model.modalities or self.text not in space.model.modalities:
                continue
            if isinstance(space.shards, Columns) and space.shards.raw is None:
                notes.append(f"dense maps of {m} are not measured: {space.shards.name} is a cache without raw shards")
                continue
            told = self._read(space, m, mask, classes)
            if not told.pointed and not told.overlaps:
                notes.append(f"dense maps of {m} are not measured: no sample has regions, or its tower no places")
                continue
            found[m] = told
            for attribute, overlaps in told.overlaps.items():
                prefix, rows = f"dense/{m}/{attribute}/", torch.tensor(told.rows[attribute])
                each = torch.stack(overlaps)  # (rows, C, 2)
                scores[prefix + "miou"] = float(mean_iou(each, torch.ones(1, len(each), dtype=torch.float64)))
                samples[prefix + "miou"], statistics[prefix + "miou"] = (each, rows), mean_iou
                right = torch.tensor(told.right[attribute], dtype=torch.float64)  # (rows, 2)
                scores[prefix + "accuracy"] = float(right[:, 0].sum() / right[:, 1].sum())
                scores[prefix + "chance"] = guessed_iou(told.places[attribute])
            if told.pointed:
                hits = torch.tensor(told.pointed, dtype=torch.float64)  # (phrases, 3)
                prefix = f"dense/{m}/pointing/"
                scores[prefix + "accuracy"], scores[prefix + "chance"] = hits[:, :2].mean(0).tolist()
                samples[prefix + "accuracy"] = (hits[:, 0], hits[:, 2].long())
        if not found:
            return Findings({}, {"notes": notes or ["dense maps are not measured: the model has no text tower"]})
        around = space.intervals(samples, statistics)
        facts = {"dense": {"attention": self.attention, **RULES, "regions left out": _count_left(found)}}
        section = dense_section(scores, {m: told.shown for m, told in found.items()}, around)
        return Findings(scores, {**facts, "notes": notes}, section, samples, statistics, around)

    def _prompt(self, space: Space) -> dict[str, Prompted]:
        """Return the prompts of each attribute's classes. Labels with equal prompts are one class."""
        out = {}
        for attribute in space.classes:
            names, templates = space.names(attribute), space.templates[attribute]
            first = torch.tensor(equal_prompts(space.model, names, templates, text=self.text))
            kept, number = first.unique(return_inverse=True)
            prompts = class_prompts(space.model, [names[i] for i in kept], templates, text=self.text).cpu()
            out[attribute] = Prompted(list(space.classes[attribute]), number, prompts)
        return out

    def _read(self, space: Space, m: str, mask: str, classes: Mapping[str, Prompted]) -> Told:
        told, asked = Told(), space.model.towers[m].preprocess
        for start, block in self._blocks(space, m, mask):
            kept = [(i, one) for i, one in enumerate(block, start) if one is not None and one.regions]
            told.left_out += sum(one.left_out for one in block if one is not None)
            if not kept:
                continue
            values = asked.collate([one.row for _, one in kept])
            maps = space.model.dense_values(m, values, self.attention).cpu()
            phrases = [region.text for _, one in kept for region in one.regions if region.text]
            asking: dict[str, Any] = {self.text: phrases}
            vectors = space.model.embed(**asking)[self.text].cpu()
            begin = 0
            for (i, one), places in zip(kept, maps, strict=True):
                for attribute, prompted in classes.items():
                    _tell(told, attribute, prompted, places, one, i)
                named = [region for region in one.regions if region.text]
                if named:
                    cosines = _at_size(heat(places[None], vectors[begin : begin + len(named)])[0], named[0].mask)
                    told.pointed += [
                        (*_point(one_map, region.mask), i) for one_map, region in zip(cosines, named, strict=True)
                    ]
                    if len(told.shown) < SHOWN and cosines.ndim == 3:
                        told.shown.append(Shown(one.row, cosines[0], named[0].text, named[0].mask))
                begin += len(named)
        return told

    def _blocks(self, space: Space, m: str, mask: str) -> Iterator[tuple[int, list[Regional | None]]]:
        """Yield the rows of a modality with their regions, some at a time, with the place of the first."""
        shards = space.shards.raw if isinstance(space.shards, Columns) else space.shards
        assert shards is not None
        preprocess, block, start = space.model.towers[m].preprocess, [], 0
        for i, sample in enumerate(space.members([m, mask])):
            block.append(read_regions(sample, m, preprocess, mask, shards.members))
            if len(block) == BLOCK:
                yield start, block
                block, start = [], i + 1
        yield start, block


def _at_size(maps: Tensor, mask: Tensor) -> Tensor:
    """Return maps (C, H, W) at the size of a mask, (C, h, w). Those of a cloud's points stay (C, P)."""
    return enlarge(maps[None], (mask.shape[0], mask.shape[1]))[0] if maps.ndim == 3 else maps


def _tell(told: Told, attribute: str, prompted: Prompted, places: Tensor, one: Regional, row: int) -> None:
    """Count the answers of a row's places to an attribute's classes, where its regions have one."""
    found = class_places([region.label for region in one.regions], attribute, prompted.labels)  # (R, m)
    truth = torch.full(one.regions[0].mask.shape, -1)
    for region, labels in zip(one.regions, found.tolist(), strict=True):
        known = [label for label in labels if label >= 0]
        if region.exact and len(known) == 1:
            truth[region.mask] = prompted.number[known[0]]
    if not bool((truth >= 0).any()):
        return
    cosines = _at_size(heat(places[None], prompted.prompts)[0], truth)  # (C, *places)
    best, answer = cosines.max(0)
    answer[(cosines == best).sum(0) > 1] = -1  # a tie is no answer
    C = len(prompted.prompts)
    told.overlaps.setdefault(attribute, []).append(class_overlaps(answer, truth, C))
    counted = truth >= 0
    told.right.setdefault(attribute, []).append((float((answer == truth)[counted].sum()), int(counted.sum())))
    told.rows.setdefault(attribute, []).append(row)
    seen = torch.bincount(truth[counted], minlength=C)
    told.places[attribute] = told.places.get(attribute, torch.zeros(C)) + seen


def _point(cosines: Tensor, mask: Tensor) -> tuple[float, float]:
    """Return the share of a map's highest places that lie in a region, and the region's share of all places."""
    highest = cosines == cosines.max()
    return float(mask[highest].double().mean()), float(mask.double().mean())


def _count_left(found: Mapping[str, Told]) -> dict[str, int]:
    return {m: told.left_out for m, told in found.items()}
