"""Three models trained apart, joined without one cross pair: picture and sound of one digit.

    python configs/ideas/joined.py                   # 3 seeds, writes configs/ideas/results/joined.csv
    python configs/ideas/run.py joined --table

For each seed, three small models learn image-text, audio-text and points-text on 3,000 samples of digits each, without
a common sample. Their spaces are joined on 2,000 pictures, 2,000 sounds, 2,000 clouds and 2,000 texts of four other
sets, none of them paired, and measured on 1,000 test samples. Pictures and sounds of one digit are right.

- chained: a picture finds the nearest text in its space, and that text ranks the sounds in theirs.
- joined: ``align.bind.join_spaces`` makes pseudo-pairs, ``joined.yaml`` trains routers on them.
- equal weights, no decoupling: the same without the router, and without the decoupling of language.
- all pairs: one model with four towers, trained on the 9,000 samples with all pairs, for as many steps.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import run as ideas
import torch
from run import HERE, Row, table, write_rows
from torch import Tensor, nn

import align
from align.bind import join_rows, join_spaces
from align.data import Loader, Shards
from align.embedding.features import write_cache
from align.encoders import ImageCNN, PointNet, SpectrogramCNN, TransformerText
from align.losses import InfoNCE
from align.metrics import mean_average_precision, ranks, recall_at
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.preprocess import Audio, Bytes, Image, Points

DIGITS = Path("shards/digits")
SPACES = {"image": "pictures", "audio": "sounds", "points": "clouds"}
STEPS, BATCH, DIM = 150, 128, 32
ARMS = {
    "joined": [],
    "equal weights": ["--model.towers.text.head.init_args.route=false"],
    "no decoupling": ["--objective.terms.language.weight=0"],
}


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


def train_model(modalities: list[str], shards: list[str], seed: int, folder: Path) -> float:
    """Train a model with pairs of all its modalities, and write it. Returns the seconds that it took."""
    if folder.is_dir():  # of an interrupted run
        return 0.0
    begin = time.monotonic()
    torch.manual_seed(seed)
    model = JointModel(make_towers(modalities), DIM).train()
    objective = Objective({"pairs": Term(InfoNCE(), "all")}, dim=DIM, batch=BATCH, modalities=modalities)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    loader = Loader(Shards(shards, seed=seed), model.preprocess, batch=BATCH, train=True, steps=STEPS, seed=seed)
    for batch in loader:
        value, _ = objective(model(batch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        objective.clamp_()
    align.save(model.eval(), folder)
    return time.monotonic() - begin


def embed(folder: Path, shards: list[str], cache: Path, tower: str, name: str) -> str:
    """Write embeddings of one tower into a cache, and return the column's name."""
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
        item = embed(models[m], shard_names(10 + 2 * i, 2), work / "items" / m, m, name)
        spaces[name] = {m: item, "text": embed(models[m], shard_names(16, 2), work / "items" / "text", "text", name)}
    test = shard_names(0, 1, "test")
    asked = {m: join_rows({n: embed(models[m], test, work / "test" / m, m, n)}) for m, n in SPACES.items()}
    shards = Shards(test, shuffle=False)
    label = torch.tensor([json.loads(shards.read(i)[0]["json"])["group"] for i in range(len(shards))])
    hits = label[:, None] == label
    pool = join_rows({name: own["text"] for name, own in spaces.items()}).values
    rows = []

    begin = time.monotonic()
    image, audio = (asked[m].side_by_side for m in ("image", "audio"))
    through = [
        pool["sounds"][(image @ pool["pictures"].T).argmax(1)],
        pool["pictures"][(audio @ pool["sounds"].T).argmax(1)],
    ]
    rows += score("chained", seed, through, [audio, image], hits, time.monotonic() - begin)

    print(join_spaces(spaces, work / "pseudo"), flush=True)
    for arm, options in ARMS.items():
        begin, folder = time.monotonic(), work / arm.replace(" ", "_")
        own = [f"--data.train={work}/pseudo/train-*.tar", f"--seed={seed}", "--fresh", *options]
        ideas.run(["train", "--config", str(HERE / "joined.yaml"), "--run", str(folder), *own])
        model = align.load(folder)
        made = [model.embed(**{m: list(x[:, None].numpy())})[m] for m, x in (("image", image), ("audio", audio))]
        rows += score(arm, seed, made, made[::-1], hits, time.monotonic() - begin)

    seconds = train_model([*SPACES, "text"], shard_names(0, 9), seed, work / "models" / "all")
    made = [
        join_rows({m: embed(work / "models" / "all", test, work / "test" / m, m, "all")}) for m in ("image", "audio")
    ]
    made = [x.side_by_side for x in made]
    return rows + score("all pairs", seed, made, made[::-1], hits, seconds)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    rows = []
    for seed in (0, 1, 2):
        rows += measure(seed, Path("runs/ideas/joined") / str(seed))
        print("\n".join(table(rows)), flush=True)
        write_rows(HERE / "results" / "joined.csv", rows)


if __name__ == "__main__":
    main()
