"""Regions: phrases look for their region in the picture and in all pictures, and point into their picture."""

from __future__ import annotations

from functools import partial
from typing import final

from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.findings import Findings
from align.evaluation.region_ranks import find_ranks, number_phrases, point
from align.evaluation.samples import proportion
from align.evaluation.space import Space
from align.model import JointModel
from align.page.section import Measured, Section, Table
from align.values import Batch, Embeddings, Rows, Scores

PLACE, BOX = "place", "box"
WORDS = {
    "regions/picture/recall@1": "the best region of its picture",
    "regions/recall@1": "the best region of all pictures",
    "regions/recall@5": "among the best 5 of all pictures",
    "regions/pointing": "the best place of its picture lies in the region",
}


@final
class RegionRecall:
    """Evaluator of ``regions``: each phrase of a region asks for it by the cosine.

    ``regions/picture/recall@1``: among the regions of its picture. ``regions/recall@1``, ``@5``: among those of all
    pictures. A region with an equal phrase is right too. ``regions/pointing``: the middle of the picture's token that
    is nearest to the phrase lies in a right box of its picture (the pointing game, Zhang et al. 2018, arXiv:1608.00507,
    without its margin). ``…/chance`` is the share of a random choice. Ties never help.

    region, phrase: the modalities, whose rows have parts. The region's tower reads the tokens of the picture's.
    """

    name = "regions"

    def __init__(self, region: str = "region", phrase: str = "region_text"):
        self.region, self.phrase = region, phrase

    def run(self, space: Space) -> Findings:
        """Return the recalls and the pointing accuracy. There are none for a model or shards without regions."""
        m, text = self.region, self.phrase
        if m not in space.model.follows or text not in space.model.modalities:
            return Findings({}, {"notes": [f"regions are not measured: the model has no towers {m} and {text}"]})
        of = space.model.follows[m]
        table = space.read(partial(read_places, region=m, phrase=text, of=of), [m, text])
        phrases, regions = table[text], table[m]
        if phrases.part is None or regions.part is None:
            return Findings({}, {"notes": [f"regions are not measured: no rows of {m} and {text} in these shards"]})
        asks, theirs = number_phrases(phrases, regions)
        box, place = vectors(table, f"{m}/{BOX}"), vectors(table, f"{text}/{PLACE}")
        found = find_ranks(vectors(table, text), phrases.sample, asks, vectors(table, m), regions.sample, theirs)
        hit, share = point(place, phrases.sample, asks, box, regions.sample, theirs)
        kept = found.answers > 0  # phrases whose region has a row
        if not bool(kept.any()):
            return Findings({}, {"notes": ["regions are not measured: no phrase has its region"]})
        sample = phrases.sample[kept]
        right = {
            "regions/picture/recall@1": _first(found.within[kept], 1),
            "regions/recall@1": _first(found.rank[kept], 1),
            "regions/recall@5": _first(found.rank[kept], 5),
            "regions/pointing": hit[kept].float(),
        }
        samples = {name: (values, sample) for name, values in right.items()}
        scores: Scores = {name: float(values.double().mean()) for name, values in right.items()}
        scores["regions/picture/chance"] = float(found.chance[kept].double().mean())
        scores["regions/pointing/chance"] = float(share[kept].double().mean())
        statistics = dict.fromkeys(samples, proportion)
        around = space.intervals(samples, statistics)
        lines = [[said, Measured(scores[name], around.get(name))] for name, said in WORDS.items()]
        note = f"{int(kept.sum())} phrases, {regions.n} regions; cosine."
        section = Section("Regions", note, [Table(["a phrase finds", "share"], lines, left=1)])
        facts = {"regions": "cosine; a region with an equal phrase is right"}
        return Findings(scores, facts, section, samples, statistics, around)


def _first(rank: Tensor, k: int) -> Tensor:
    return ((rank > 0) & (rank <= k)).float()


def read_places(model: JointModel, batch: Batch, *, region: str, phrase: str, of: str) -> Embeddings:
    """Return embeddings with two tables more: the box of each region, and the place that each phrase points at.

    A place is (x, y), the middle of the nearest token of its sample's first picture in fractions, or -1 where two are
    equally near or where there is no picture.
    """
    out = model(batch, tokens=[of])
    tower, pictures, asks = model.towers[of], out[of], out[phrase]
    H, W = tower.encoder.grid_of(batch[of].values)
    assert pictures.tokens is not None  # asked for above
    assert isinstance(asks.values, Tensor)
    maps = pictures.tokens[:, tower.encoder.grid_start :]  # (m, H · W, D)
    place = asks.values.new_full((asks.n, 2), -1.0)
    first = {s: i for i, s in reversed([*enumerate(pictures.sample.tolist())])}
    for i, s in enumerate(asks.sample.tolist()):
        if s < 0 or s not in first:
            continue
        heat = maps[first[s]] @ asks.values[i].to(maps.dtype)
        best = (heat == heat.amax()).nonzero().flatten()
        if len(best) == 1:
            y, x = divmod(int(best), W)
            place[i] = place.new_tensor([(x + 0.5) / W, (y + 0.5) / H])
    given = batch[region]
    assert isinstance(given.values, dict)
    out.rows[f"{phrase}/{PLACE}"] = Rows(place, asks.sample, part=asks.part)
    out.rows[f"{region}/{BOX}"] = Rows(given.values["box"].to(place.dtype), given.sample, part=given.part)
    return out
