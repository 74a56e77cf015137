"""An evaluation with every block that a section may have: `python tests/every_section.py FILE` writes its page."""

from __future__ import annotations

import io
import math
import random
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from PIL import Image

from align.page.section import (
    Bar,
    Bars,
    Block,
    Confusions,
    Curve,
    Gallery,
    Histogram,
    Interval,
    Matrix,
    Measured,
    Pictures,
    Scatter,
    Section,
    Table,
    Tile,
)
from align.report import write_report

LISTS = """
cone,cube,cylinder,sphere,torus,pyramid,prism,capsule,ring,star
dog,rooster,pig,cow,frog,cat,hen,insects,sheep,crow,rain,sea waves,crackling fire,crickets,chirping birds,\
water drops,wind,pouring water,toilet flush,thunderstorm,crying baby,sneezing,clapping,breathing,coughing,footsteps,\
laughing,brushing teeth,snoring,drinking sipping,door wood knock,mouse click,keyboard typing,door wood creaks,\
can opening,washing machine,vacuum cleaner,clock alarm,clock tick,glass breaking
CIFAR-10,CIFAR-100,ImageNet,Flickr30k,COCO,ESC-50,UrbanSound8K,VGGSound,AudioCaps,Clotho,ModelNet40,\
ScanObjectNN hardest,Objaverse-LVIS
"""
SHAPES, SOUNDS, SETS = (line.split(",") for line in LISTS.split("\n")[1:4])
MODALITIES = ("audio", "image", "points", "text")


def around(value: float, width: float = 0.03) -> Interval:
    """Return an interval of a share around a value, wider below it."""
    return max(0.0, value - 1.2 * width), min(1.0, value + width)


def confusions(title: str, names: Sequence[str], samples: int, accuracy: float, seed: int) -> Confusions:
    """Return counts where a class is most often taken for its neighbours."""
    draw = random.Random(seed)
    counts = [[0] * len(names) for _ in names]
    for i, row in enumerate(counts):
        share = min(0.99, max(0.3, draw.gauss(accuracy, 0.1)))
        for _ in range(samples):
            row[i if draw.random() < share else (i + draw.choice([1, 1, 1, 2, -1, 3])) % len(names)] += 1
    return Confusions(title, names, counts)


def bell(mean: float, width: float, edges: list[float]) -> list[float]:
    """Return the shares of a normal distribution by bin."""
    below = [math.erf((edge - mean) / width / math.sqrt(2)) for edge in edges]
    return [(b - a) / (below[-1] - below[0]) for a, b in pairwise(below)]


def sections(seed: int = 0) -> list[Section]:
    """Return the sections of a whole evaluation, those of evaluators from outside included."""
    draw = random.Random(seed)
    edges = [-0.2 + 0.025 * i for i in range(45)]
    pairs = {(a, b): draw.uniform(0.3, 0.95) for a in MODALITIES for b in MODALITIES if a != b}
    pairs["audio+image", "text"] = 0.91

    def measured() -> Measured | str:
        value = draw.uniform(0.3, 0.95)
        return Measured(value, around(value)) if draw.random() < 0.9 else "–"

    def bar(row: str, column: str, width: float) -> Bar:
        value = draw.uniform(0.4, 0.95)
        return Bar(row, column, value, 0.1, interval=around(value, width))

    def cloud(i: int, n: int) -> list[tuple[float, float]]:
        far = 1 + i % 3
        x, y = 3 * far * math.cos(2.4 * i), 2 * far * math.sin(2.4 * i)
        return [(draw.gauss(x, 0.6), draw.gauss(y, 0.6)) for _ in range(n)]

    def falling(name: str, slope: float) -> Curve:
        lines = {
            "shape": [(x, 0.9 - slope * x) for x in range(6)],
            "recall@1": [(x, 0.8 - slope * x) for x in range(6)],
        }
        return Curve(
            name, "strength", "accuracy", lines, {"shape": [(x, y - 0.03, y + 0.02) for x, y in lines["shape"]]}
        )

    def probe(name: str, x: str, places: tuple[int, ...]) -> Curve:
        lines = {
            m: [(k, 0.4 + 0.1 * i + 0.2 * math.log10(k)) for k in places] for i, m in enumerate(("image", "audio"))
        }
        bands = {m: [(k, y - 0.06 / i, y + 0.04 / i) for i, (k, y) in enumerate(line, 1)] for m, line in lines.items()}
        return Curve(name, x, "accuracy", lines, bands)

    shapes = [bar(a, m, 0.03) for a in ("shape", "colour") for m in MODALITIES[:3]]
    zeroshot: list[Block] = [
        Bars("Attribute", "accuracy", shapes, {"shape": "10 classes"}),
        confusions("shape from image", SHAPES, 100, 0.85, 0),
        confusions("sound from audio", SOUNDS, 40, 0.8, 1),
        confusions("sixty classes", [f"class {i}" for i in range(60)], 50, 0.7, 2),
        confusions("200 classes", [f"a class with a name of many words, {i}" for i in range(200)], 50, 0.7, 3),
        Bars("Class", "accuracy", [bar(name, m, 0.1) for name in SOUNDS[:12] for m in ("image", "audio")], {}),
    ]
    names = SHAPES + SOUNDS
    bells = {"positives": bell(0.55, 0.12, edges), "negatives": bell(0.1, 0.09, edges)}
    rows = [["effective rank", Measured(43.2, (41.0, 47.5)), 38.1], ["uniformity", -2.41, -2.2]]
    geometry: list[Block] = [
        Histogram("image → text", "cosine", edges, bells),
        Scatter("Map by class", {name: cloud(i, 60) for i, name in enumerate(SHAPES)}, "PCA, 41 % of the variance"),
        Scatter("Map of 30 classes", {name: cloud(i, 20) for i, name in enumerate(names[:30])}, "PCA, 41 %"),
        Table(["measure", "image", "text"], rows),
    ]
    ends = {name: {pair: around(scale * value) for pair, value in pairs.items()} for name, scale in RECALLS.items()}
    recalls = {name: {pair: scale * value for pair, value in pairs.items()} for name, scale in RECALLS.items()}
    ranks = {"median_rank": {pair: round(20 * (1 - value)) for pair, value in pairs.items()}}
    robust = [falling(f"image: {name}", s) for name, s in (("blur", 0.05), ("noise", 0.08), ("JPEG", 0.02))]
    suites = [[model, *[measured() for _ in SETS]] for model in MODELS]
    captions = {"a": "the nearest of 41 queries", "b": "the nearest of 33"}
    retrieval = Matrix("", "same object", "sample", recalls | ranks, intervals=ends)
    probes = [
        probe("Accuracy by share of labels", "share of labels, %", (1, 10, 100)),
        probe("Accuracy by shots", "shots", (1, 2, 4, 8, 16)),
    ]
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "PNG")
    maps = [(file.getvalue(), words) for words in ("a small red cone", "a torus of <glass>")]
    first = [Tile("shape from image", 0.912, "accuracy", "chance 0.100", (0.87, 0.94))]
    mean = [Tile("recall@10", 0.83, "mean of 13 directions", "", (0.81, 0.85))]
    return [
        Section("Suites", "One row a model, one column a set.", [Table(["model", *SETS], suites)]),
        Section("Zero-shot", "Classes told by their names alone.", zeroshot, first),
        Section("Retrieval", "From every modality to every other.", [retrieval], mean),
        Section("Probe", "Logistic regression on frozen features.", probes),
        Section("Geometry", "How the space is filled.", geometry),
        Section(
            "Hubness", "Answers that come too often.", [Gallery(list("abc"), captions), Pictures(maps, "Heat maps")]
        ),
        Section("Robustness", "Accuracy under corruptions.", robust),
    ]


RECALLS = {"recall@1": 0.6, "recall@10": 1.0}
MODELS = ["runs/quickstart", "OpenCLIP ViT-B/32 laion2b_s34b_b79k", "ImageBind, published"]


def write(path: Path, some: list[Section] | None = None) -> Path:
    """Write the report of these sections, by default of all, and return its path."""
    samples = {}
    for key, colour in zip("abc", ("tomato", "steelblue", "seagreen"), strict=True):
        file = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(file, "PNG")
        samples[key] = {"__key__": key, "__url__": "a.tar", "image.png": file.getvalue(), "text.txt": colour.encode()}
    notes = ["hubness is transductive: its bank is the test set"]
    return write_report(
        path,
        title="Evaluation",
        scores={"a/b": 0.5},
        protocol={"notes": notes},
        samples=samples,
        sections=sections() if some is None else some,
    )


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
