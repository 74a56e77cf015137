"""A picture as a word of the text tower on solids, before and after the tower is tuned on text triplets.

    python configs/ideas/pseudo_token.py         # 2 cores, 1 thread: 1 min a seed; writes results/pseudo_token.csv

The model is that of composed.yaml, which the first start trains and keeps in runs/ideas. First the map from embeddings
to tokens is learned on training pictures and captions without triplets: "*" with a row's vector is drawn to the row.
Then a copy of the text tower is tuned on triplets (caption, "* but wood", caption of the change) of training solids:
the word stands for the caption, the target is the frozen tower's, and reference captions are hard negatives. Queries
are those of directions.py, asked as "* but wood".
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from compare import Row, compare
from composed_model import open_space
from directions import read_queries
from fit import draw, fit
from torch import Tensor

from align.embedding.tables import first_rows
from align.evaluation.composed_retrieval import best_rows, list_candidates, measure_lists
from align.losses import infonce
from align.model.pseudo_token import PseudoToken, compose, map_to
from align.model.tower import Tower
from align.quickstart import ATTRIBUTES
from align.quickstart.world import FULL, combinations

STEPS, BATCH, SCALE = 200, 128, 20.0


def learn_map(tower: Tower, rows: Tensor, seed: int) -> PseudoToken:
    """Return the map by which "*" is near each of the rows (n, D), pictures and captions."""
    torch.manual_seed(seed)
    mapped = map_to(tower, rows.shape[1])

    def compute(some: Tensor) -> Tensor:
        said = F.normalize(compose(tower, ["*"] * BATCH, mapped(rows[some])), dim=1)
        return infonce(said, rows[some], SCALE)

    fit(map(compute, draw(len(rows), BATCH, STEPS)), [mapped], 1e-3)
    return mapped


def draw_triplets(n: int, rng: random.Random) -> list[tuple[str, str, str, int]]:
    """Return n of (caption, change, caption of the change, number of the target) of training combinations."""
    known = {solid.group: i for i, solid in enumerate(combinations("train"))}
    solids, found = combinations("train"), []
    while len(found) < n:
        solid, name = rng.choice(solids), rng.choice(list(ATTRIBUTES))
        target = solid._replace(**{name: rng.choice(ATTRIBUTES[name])})
        if target.group in known and target.group != solid.group:
            said = [rng.choice(FULL).format(**one.label) for one in (solid, target)]
            found.append((said[0], f"* but {target.label[name]}", said[1], known[target.group]))
    return found


def tune(tower: Tower, mapped: PseudoToken, seed: int) -> Tower:
    """Return a copy of the text tower that is tuned on triplets of texts. The map and the tower itself stay."""
    tuned = copy.deepcopy(tower)
    fit(compute_losses(tuned, tower, mapped, random.Random(seed)), [tuned], 3e-4)
    return tuned


def compute_losses(tuned: Tower, tower: Tower, mapped: PseudoToken, rng: random.Random) -> Iterator[Tensor]:
    """Yield the losses of drawn triplets. tower: stays as it is, and embeds the references and targets."""
    ids, none = torch.arange(BATCH), torch.full((BATCH,), -1)
    for _ in range(STEPS):
        before, change, after, number = zip(*draw_triplets(BATCH, rng), strict=True)
        with torch.no_grad():
            first, target = (F.normalize(read(tower, texts), dim=1) for texts in (before, after))
            vectors = mapped(first)
        said, group = F.normalize(compose(tuned, change, vectors), dim=1), torch.tensor(number)
        there, kind = torch.cat([ids, none]), torch.cat([group, none])
        answers = torch.cat([target, first])
        yield infonce(said, answers, SCALE, sample_a=ids, sample_b=there, group_a=group, group_b=kind)


def read(tower: Tower, texts: list[str] | tuple[str, ...]) -> Tensor:
    """Return (n, D), not normalised."""
    return tower(tower.preprocess.collate([tower.preprocess.eval(text) for text in texts]))


def measure(seed: int) -> list[Row]:
    begin = time.monotonic()
    space = open_space(seed)
    model = space.model
    test, train, tower = space.table(), space.table(split="train"), model.towers["text"]
    pictures, captions = (first_rows(train, [m])[0][m] for m in ("image", "text"))
    for part in model.parameters():
        part.requires_grad_(False)
    mapped = learn_map(tower, torch.cat([pictures, captions]), seed)
    for part in tower.parameters():
        part.requires_grad_(True)
    tuned = tune(tower, mapped, seed)
    out = []
    for reference in ("image", "audio", "points"):
        queries = read_queries("test")
        lists, kept, places = list_candidates(test, queries, reference, "image")
        rows, images = (first_rows(test, [m])[0][m] for m in (reference, "image"))
        changes = [f"* but {change}" for change in read_changes(tuple(queries[i] for i in kept))]
        with torch.no_grad():
            vectors = mapped(rows[places])
            said = {
                "reference": rows[places],
                "word": compose(tower, changes, vectors),
                "word, tuned": compose(tuned, changes, vectors),
            }
        for way, query in said.items():
            scores = best_rows(F.normalize(query, dim=1) @ images.T, test, "image")
            for metric, values, _ in measure_lists(scores, lists, (10,)):
                if metric in ("recall@10", "map@10"):
                    seconds = round(time.monotonic() - begin, 1)
                    out.append(Row(way, seed, f"{reference}/{metric}", float(values.mean()), seconds))
    return out


def read_changes(queries: tuple) -> list[str]:
    """Return the words that the text of each query has and its text before has not."""
    return [" ".join(word for word in q.text.split() if word not in q.before.split() and word != "an") for q in queries]


if __name__ == "__main__":
    compare(__doc__, pseudo_token=measure)
