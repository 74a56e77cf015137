"""Three models trained apart, joined without one cross pair: picture and sound of one digit.

    python configs/ideas/joined.py               # 2 cores, 1 thread: 5 min a seed; writes results/joined.csv

For each seed, three small models learn image-text, audio-text and points-text on 3,000 samples of digits each, without
a common sample. Their spaces are joined on 1,000 pictures, 1,000 sounds, 1,000 clouds and 1,000 texts of four other
shards, none of them paired, and measured on 1,000 test samples. Pictures and sounds of one digit are right.

- chained: a picture finds the nearest text in its space, and that text ranks the sounds in theirs.
- joined: ``align.bind.join_spaces`` makes pseudo-pairs, on which the towers and terms of ``joined.yaml`` are trained.
- equal weights, no decoupling: the same without the router, and without the decoupling of language.
- all pairs: one model with four towers, trained with all pairs on the 9,000 samples, for as many steps.

The models stay in runs/ideas/joined/SEED, and are read from there the next time.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from compare import Arms, compare
from fit import draw, take, train
from sets import find_shards
from torch import Tensor, nn

import align
from align.bind import join_rows, join_spaces
from align.data import Loader, Shards
from align.embedding.features import write_cache
from align.encoders import ImageCNN, PointNet, Precomputed, SpectrogramCNN, TransformerText
from align.heads import Padded, Router
from align.losses import Decouple, InfoNCE
from align.metrics import mean_average_precision, ranks, recall_at
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.preprocess import Array, Audio, Bytes, Image, Points

SPACES = {"image": "pictures", "audio": "sounds", "points": "clouds"}
STEPS, BATCH, DIM = 100, 64, 32
JOINED = {
    "joined": (True, 0.1),
    "equal weights": (False, 0.0),
    "no decoupling": (True, 0.0),
}  # route, weight of language


def make_towers(modalities: list[str]) -> dict[str, Tower]:
    """Return small towers, without training."""
    makers = {
        "image": lambda: Tower(Image(28, crop_scale=(0.8, 1.0)), ImageCNN(64, widths=[8, 16, 32], stem=2)),
        "audio": lambda: Tower(
            Audio(8000, 1.0, n_mels=40, n_fft=256, hop=80), SpectrogramCNN(64, n_mels=40, widths=[8, 16, 32])
        ),
        "points": lambda: Tower(Points(128, preset="absolute"), PointNet(64, hidden=[16, 32, 64], bands=3)),
        "text": lambda: Tower(Bytes(24), TransformerText(context=24, width=32, depth=1, heads=2)),
    }
    return {m: makers[m]() for m in modalities}


def shard_names(first: int, count: int, split: str = "train") -> list[str]:
    return find_shards("digits", split)[first : first + count]


def train_model(modalities: list[str], shards: list[str], seed: int, folder: Path) -> None:
    """Train a model with pairs of all its modalities, and write it. A model of an earlier run is kept."""
    if (folder / "model.json").is_file():
        return
    torch.manual_seed(seed)
    model = JointModel(make_towers(modalities), DIM)
    objective = Objective({"pairs": Term(InfoNCE(), "all")}, dim=DIM, batch=BATCH, modalities=modalities)
    loader = Loader(Shards(shards, seed=seed), model.preprocess, batch=BATCH, train=True, steps=STEPS, seed=seed)
    train(model, objective, loader, STEPS)
    align.save(model, folder)


def join_model(widths: dict[str, list[int]], pairs: Shards, seed: int, route: bool, language: float) -> JointModel:
    """Train routers on pseudo-pairs, as ``joined.yaml`` does."""
    torch.manual_seed(seed)
    towers = {
        m: Tower(Array([1, sum(w)]), Precomputed(sum(w)), lambda width, dim, w=w: Router(width, dim, w, route=route))
        for m, w in widths.items()
    }
    towers["space"] = Tower(Array([1, len(SPACES)]), Precomputed(len(SPACES)), Padded)
    model = JointModel(towers, 64)
    terms = {"overall": Term(InfoNCE(), [*widths])}
    if language:
        terms["language"] = Term(Decouple(), ["text", "space"], language)
    objective = Objective(terms, dim=64, batch=128, modalities=[*towers])
    (whole,) = Loader(pairs, model.preprocess, batch=len(pairs), train=False)
    picked = draw(len(pairs), 128, 150, torch.Generator().manual_seed(seed))
    train(model, objective, (take(whole, some) for some in picked), 150)
    return model


def embed(folder: Path, shards: list[str], cache: Path, tower: str, name: str) -> str:
    """Write embeddings of one tower into a cache, if they are not there, and return the column's name."""
    about = cache / "cache.json"
    if not about.is_file() or name not in json.loads(about.read_text())["sets"]:
        options = {"source": str(folder), "features": False, "dtype": "float32", "towers": [tower]}
        write_cache(align.load(folder), shards, cache, name=name, **options)
    return f"{cache}/{name}:{tower}"


def score(a: list[Tensor], b: list[Tensor], hits: Tensor) -> dict[str, float]:
    """Return recall@1 and mAP, the means of both directions. a, b: query and answer of each direction, (n, D)."""
    scores = [
        nn.functional.normalize(x, dim=1) @ nn.functional.normalize(y, dim=1).T for x, y in zip(a, b, strict=True)
    ]
    return {
        "image_audio/recall@1": sum(recall_at(ranks(s, hits), 1) for s in scores) / 2,
        "image_audio/map": sum(mean_average_precision(s, hits) for s in scores) / 2,
    }


def arms(seed: int) -> Arms:
    """Train the models apart, and return the ways to join them."""
    work = Path("runs/ideas/joined") / str(seed)
    models = {m: work / "models" / m for m in SPACES}
    for i, m in enumerate(SPACES):
        train_model([m, "text"], shard_names(3 * i, 3), seed, models[m])
    spaces = {}
    for i, (m, name) in enumerate(SPACES.items()):
        item = embed(models[m], shard_names(9 + i, 1), work / "items" / m, m, name)
        spaces[name] = {m: item, "text": embed(models[m], shard_names(12, 1), work / "items" / "text", "text", name)}
    test = shard_names(0, 1, "test")
    asked = {m: join_rows({n: embed(models[m], test, work / "test" / m, m, n)}) for m, n in SPACES.items()}
    shards = Shards(test, shuffle=False)
    label = torch.tensor([json.loads(shards.read(i)[0]["json"])["group"] for i in range(len(shards))])
    hits = label[:, None] == label
    pool = join_rows({name: given["text"] for name, given in spaces.items()}).values
    image, audio = (asked[m].side_by_side for m in ("image", "audio"))
    done = join_spaces(spaces, work / "pseudo")
    pairs = Shards(str(work / "pseudo" / "train-*.tar"), shuffle=False)

    def chain() -> dict[str, float]:
        through = [
            pool["sounds"][(image @ pool["pictures"].T).argmax(1)],
            pool["pictures"][(audio @ pool["sounds"].T).argmax(1)],
        ]
        return score(through, [audio, image], hits)

    def join(route: bool, language: float) -> dict[str, float]:
        model = join_model(done.widths, pairs, seed, route, language)
        with torch.no_grad():
            made = [model.towers[m](x[:, None]) for m, x in (("image", image), ("audio", audio))]
        return score(made, made[::-1], hits)

    def train_all() -> dict[str, float]:
        folder = work / "models" / "all"
        train_model([*SPACES, "text"], shard_names(0, 9), seed, folder)
        made = [join_rows({m: embed(folder, test, work / "test" / m, m, "all")}) for m in ("image", "audio")]
        made = [x.side_by_side for x in made]
        return score(made, made[::-1], hits)

    joined = {arm: lambda given=given: join(*given) for arm, given in JOINED.items()}
    return {"chained": chain, **joined, "all pairs": train_all}


if __name__ == "__main__":
    compare(__doc__, joined=arms)
