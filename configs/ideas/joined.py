"""Three models trained apart, joined without one cross pair: picture and sound of one digit.

    python configs/ideas/joined.py                   # 3 seeds, writes configs/ideas/results/joined.csv
    python configs/ideas/run.py joined --table

For each seed, three small models learn image-text, audio-text and points-text on 3,000 samples of digits each, without
a common sample. Their spaces are joined on 1,000 pictures, 1,000 sounds, 1,000 clouds and 1,000 texts of four other
shards, none of them paired, and measured on 1,000 test samples. Pictures and sounds of one digit are right.

- chained: a picture finds the nearest text in its space, and that text ranks the sounds in theirs.
- joined: ``align.bind.join_spaces`` makes pseudo-pairs, on which the towers and terms of ``joined.yaml`` are trained.
- equal weights, no decoupling: the same without the router, and without the decoupling of language.
- all pairs: one model with four towers, trained with all pairs on the 9,000 samples, for as many steps.

All of it runs in this process, since ``align train`` takes longer to start than these heads to train.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from run import HERE, Row, table, write_rows
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
from align.values import Batch

DIGITS = Path("shards/digits")
SPACES = {"image": "pictures", "audio": "sounds", "points": "clouds"}
STEPS, BATCH, DIM = 100, 64, 32
ARMS = {"joined": (True, 0.1), "equal weights": (False, 0.0), "no decoupling": (True, 0.0)}  # route, weight of language


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
    return [str(DIGITS / f"{split}-{i:06d}.tar") for i in range(first, first + count)]


def train(model: JointModel, objective: Objective, batches: Iterator[Batch] | Loader, steps: int) -> None:
    """Train a model and its temperatures in place."""
    optimizer = torch.optim.AdamW([*model.train().parameters(), *objective.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for batch in batches:
        value, _ = objective(model(batch, tokens=objective.tokens))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        objective.clamp_()
    model.eval()


def train_model(modalities: list[str], shards: list[str], seed: int, folder: Path) -> float:
    """Train a model with pairs of all its modalities, and write it. Returns the seconds that it took.

    A model of an earlier run is kept.
    """
    took = folder.with_suffix(".seconds")
    if took.is_file():
        return float(took.read_text())
    begin = time.monotonic()
    torch.manual_seed(seed)
    model = JointModel(make_towers(modalities), DIM)
    objective = Objective({"pairs": Term(InfoNCE(), "all")}, dim=DIM, batch=BATCH, modalities=modalities)
    loader = Loader(Shards(shards, seed=seed), model.preprocess, batch=BATCH, train=True, steps=STEPS, seed=seed)
    train(model, objective, loader, STEPS)
    align.save(model, folder)
    took.write_text(f"{time.monotonic() - begin:.1f}")
    return float(took.read_text())


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
    draws = torch.Generator().manual_seed(seed)
    picked = (torch.randperm(len(pairs), generator=draws)[:128] for _ in range(150))
    train(model, objective, (take(whole, some) for some in picked), 150)
    return model


def take(batch: Batch, samples: Tensor) -> Batch:
    """Return some samples of a batch."""
    rows = {}
    for m, given in batch.items():
        place = torch.full((batch.size,), -1).scatter_(0, samples, torch.arange(len(samples)))[given.sample]
        order = place.argsort()[(place < 0).sum() :]
        assert isinstance(given.values, Tensor)
        rows[m] = given._replace(values=given.values[order], sample=place[order])
    group = None if batch.group is None else batch.group[samples]
    return Batch(rows, [batch.ids[i] for i in samples.tolist()], batch.position[samples], group=group)


def embed(folder: Path, shards: list[str], cache: Path, tower: str, name: str) -> str:
    """Write embeddings of one tower into a cache, if they are not there, and return the column's name."""
    if (cache / "cache.json").is_file() and name in json.loads((cache / "cache.json").read_text())["sets"]:
        return f"{cache}/{name}:{tower}"
    write_cache(
        align.load(folder),
        shards,
        cache,
        name=name,
        source=str(folder),
        features=False,
        dtype="float32",
        towers=[tower],
    )
    return f"{cache}/{name}:{tower}"


def score(arm: str, seed: int, a: list[Tensor], b: list[Tensor], hits: Tensor, seconds: float) -> list[Row]:
    """Return recall@1 and mAP, the means of both directions. a, b: query and answer of each direction, (n, D)."""
    scores = [
        nn.functional.normalize(x, dim=1) @ nn.functional.normalize(y, dim=1).T for x, y in zip(a, b, strict=True)
    ]
    found = {
        "image_audio/recall@1": [recall_at(ranks(s, hits), 1) for s in scores],
        "image_audio/map": [mean_average_precision(s, hits) for s in scores],
    }
    return [Row(arm, seed, name, sum(values) / 2, round(seconds, 1)) for name, values in found.items()]


def measure(seed: int, work: Path) -> list[Row]:
    """Train, join and score with one seed."""
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
    rows = []

    begin = time.monotonic()
    image, audio = (asked[m].side_by_side for m in ("image", "audio"))
    through = [
        pool["sounds"][(image @ pool["pictures"].T).argmax(1)],
        pool["pictures"][(audio @ pool["sounds"].T).argmax(1)],
    ]
    rows += score("chained", seed, through, [audio, image], hits, time.monotonic() - begin)

    done = join_spaces(spaces, work / "pseudo")
    pairs = Shards(str(work / "pseudo" / "train-*.tar"), shuffle=False)
    for arm, (route, language) in ARMS.items():
        begin = time.monotonic()
        model = join_model(done.widths, pairs, seed, route, language)
        with torch.no_grad():
            made = [model.towers[m](x[:, None]) for m, x in (("image", image), ("audio", audio))]
        rows += score(arm, seed, made, made[::-1], hits, time.monotonic() - begin)

    seconds = train_model([*SPACES, "text"], shard_names(0, 9), seed, work / "models" / "all")
    made = [
        join_rows({m: embed(work / "models" / "all", test, work / "test" / m, m, "all")}) for m in ("image", "audio")
    ]
    made = [x.side_by_side for x in made]
    return rows + score("all pairs", seed, made, made[::-1], hits, seconds)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for seed in (0, 1, 2):
        rows += measure(seed, Path("runs/ideas/joined") / str(seed))
        print("\n".join(table(rows)), flush=True)
        write_rows(HERE / "results" / "joined.csv", rows)


if __name__ == "__main__":
    main()
