"""Mined hard negatives against a double loop over the rows of a cache, and what their shards hold."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from made_cache import write_cache
from tiny import Dense, npy
from torch import Tensor, nn

from align import Features, JointModel, Tower
from align.commands import main
from align.curation import mine_shards
from align.curation.mine import near
from align.curation.mine.rules import Rules
from align.data import Shards, ShardWriter
from align.preprocess import Array, Bytes

count = 30


class Letters(nn.Module):
    """The mean of a vector for each byte."""

    width = 6

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(259, 6)

    def forward(self, values: Tensor) -> Features:
        return Features(self.table(values).mean(1))


def captions(i: int) -> list[str]:
    draw = np.random.default_rng(i)
    words = ["".join(draw.choice([*"abcdefgh"], 5)) for _ in range(1 + i % 2)]
    if i in (4, 9):
        words[0] = "twin"
    return words


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Shards of images and captions, with groups, a hole, a caption too much and negatives of their own; a cache."""
    folder = tmp_path_factory.mktemp("world")
    with ShardWriter(folder / "shards", "train", per_shard=11) as writer:
        for i in range(count):
            members = {"image.npy": npy(np.random.default_rng(100 + i).normal(size=6))}
            members |= {"text.txt": "\n".join(captions(i)).encode()} if i != 13 else {}
            members |= {"text.neg.txt": b"old"} if i == 5 else {}
            members |= {"json": json.dumps({"group": i % 3}).encode()} if i % 4 == 1 else {}
            writer.write(f"{i:03d}", members)
    torch.manual_seed(0)
    model = JointModel({"text": Tower(Bytes(8), Letters()), "image": Tower(Array((6,)), Dense())}, 5)
    shards = f"{folder}/shards/train-*.tar"
    write_cache(folder / "cache", "one", model, shards, kind="embedding")
    write_cache(folder / "cache", "raw", model, shards, towers=("text",))
    return folder, model


def embedded(model: JointModel) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    texts = {i: model.embed(text=captions(i))["text"] for i in range(count) if i != 13}
    images = model.embed(image=[np.random.default_rng(100 + i).normal(size=6).astype(np.float32) for i in range(count)])
    return texts, {i: images["image"][i : i + 1] for i in range(count)}


def by_hand(model: JointModel, by: str, rules: Rules) -> dict[int, list[str]]:
    """Sample -> its negatives: all rows of all others, sorted; one after the other is taken or not."""
    texts, images = embedded(model)
    asking = texts if by == "text" else images
    group = {i: i % 3 if i % 4 == 1 else None for i in range(count)}
    out = {}
    for i in texts:
        ranked = []
        for j in texts:
            for k, caption in enumerate(captions(j)):
                if j == i or caption in captions(i) or (group[i] is not None and group[i] == group[j]):
                    continue
                ranked.append((-max(float(q @ texts[j][k]) for q in asking[i]), j, k, caption))
        own = min(max(float(q @ row) for q in asking[i]) for row in texts[i])
        found = []
        for score, _, _, caption in sorted(ranked)[rules.ranks[0] : rules.ranks[1]]:
            fits = rules.margin is None or -score <= own - rules.margin
            fits = fits and (rules.relative_margin is None or -score <= own - rules.relative_margin * abs(own))
            fits = fits and (rules.max_score is None or -score <= rules.max_score)
            fits = fits and (rules.min_score is None or -score >= rules.min_score)
            if fits and caption not in found:
                found.append(caption)
        out[i] = found[: rules.count]
    return out


def written(folder) -> dict[int, list[str]]:
    out = {}
    for sample in Shards(f"{folder}/train-*.tar", shuffle=False).samples(0):
        new = "text.neg.0.txt" if "005" in sample["__key__"] else "text.neg.txt"
        out[int(sample["__key__"])] = sample.get(new, b"").decode().splitlines()
    return out


@pytest.mark.parametrize(
    ("by", "rules"),
    [
        ("text", Rules(count=3)),
        ("text", Rules((4, 12), margin=0.1, count=6)),
        ("image", Rules((2, 30), count=4, max_score=0.3, min_score=-0.5)),
        ("image", Rules((0, 45), relative_margin=0.5, count=45)),
    ],
)
@pytest.mark.parametrize("tiles", [False, True])
def test_equals_a_double_loop(world, tmp_path, by, rules, tiles, monkeypatch):
    folder, model = world
    if tiles:
        monkeypatch.setattr(near, "SAMPLES", 4)
        monkeypatch.setattr(near, "ROWS", 7)
    cache = folder / "cache" / "one"
    mined = mine_shards(f"{cache}:text", f"{folder}/shards/train-*.tar", tmp_path, by=f"{cache}:{by}", rules=rules)
    wanted = by_hand(model, by, rules)
    found = written(tmp_path)
    assert {i: words for i, words in found.items() if i != 13} == wanted
    assert found[13] == []
    assert mined.written == {"train": count}
    assert sum(n * k for n, k in mined.found.items()) == sum(map(len, wanted.values())) > 20
    assert mined.left_out == {"no pair": 1}


def test_members_keep_their_bytes_and_training_reads_the_negatives(world, tmp_path):
    folder, model = world
    cache = folder / "cache" / "one"
    mine_shards(f"{cache}:text", f"{folder}/shards/train-*.tar", tmp_path, rules=Rules(count=2))
    before, after = (
        {
            s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")}
            for s in Shards(p, shuffle=False).samples(0)
        }
        for p in (f"{folder}/shards/train-*.tar", f"{tmp_path}/train-*.tar")
    )
    for key, members in before.items():
        assert members.items() <= after[key].items()
        assert {*after[key]} - {*members} <= {"text.neg.0.txt" if key == "005" else "text.neg.txt"}
    assert after["005"]["text.neg.txt"] == b"old"
    from align.data import Loader

    batch = next(iter(Loader(Shards(f"{tmp_path}/train-*.tar"), model.preprocess, batch=8, train=True, steps=1)))
    assert (batch["text"].sample == -1).sum() >= 12


def test_random_ones_follow_from_the_seed_and_the_key(world, tmp_path):
    folder, _ = world
    cache, found = folder / "cache" / "one", []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        rules = Rules((0, 40), count=3, sampling="random", seed=seed)
        mine_shards(f"{cache}:text", f"{folder}/shards/train-*.tar", tmp_path / name, rules=rules)
        found.append(written(tmp_path / name))
    assert found[0] == found[1] != found[2]
    assert all(len(words) == 3 for i, words in found[0].items() if i != 13)


def test_ties_go_to_the_first_row():
    score = np.array([[0.5, 0.9, 0.5, 0.9, -np.inf, 0.5]], dtype=np.float32)
    ids = np.array([[10, 11, 12, 13, 14, 15]])
    rows, scores = near.take_best(score, ids, 4)
    assert rows.tolist() == [[11, 13, 10, 12]]
    assert near.take_best(score[:, ::-1], ids[:, ::-1], 4)[0].tolist() == rows.tolist()
    assert near.take_best(score, ids, 8)[0].tolist() == [[11, 13, 10, 12, 15, -1, -1, -1]]
    assert scores.dtype == np.float32


def test_the_command_and_what_it_says(world, tmp_path, capsys):
    folder, model = world
    args = [
        "shards",
        "mine",
        str(folder / "cache"),
        str(folder / "shards"),
        "--out",
        str(tmp_path / "out"),
        "--of",
        "text",
    ]
    assert main([*args, "--by", "image", "--set", "one", "--ranks", "3:20", "--count", "2", "--workers", "2"]) == 0
    said = capsys.readouterr().out
    assert "30 samples" in said
    assert "58 hard negatives of text for 29 samples" in said
    assert "not asked, no pair: 1 sample" in said
    assert written(tmp_path / "out") == {13: []} | by_hand(model, "image", Rules((3, 20), count=2))
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "out").glob("*.tar")}
    assert main([*args, "--by", "image", "--set", "one", "--ranks", "3:20", "--count", "2"]) == 0
    assert sums == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "out").glob("*.tar")}


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--of", "text"], 2, "has text in one, raw: choose one with --set"),
        (["--of", "txt"], 1, "has no column 'txt': did you mean text?"),
        (["--of", "text", "--set", "ones"], 1, "has no set 'ones': did you mean one?"),
        (["--of", "text", "--set", "one", "--ranks", "5"], 2, "--ranks '5': write LOW:HIGH"),
        (["--of", "text", "--set", "one", "--ranks", "5:5"], 1, "0 <= LOW < HIGH, as in 10:50; got 5:5"),
        (["--of", "text", "--set", "one", "--count", "0"], 1, "at least 1; got 0"),
        (["--of", "text", "--set", "raw", "--by", "CACHE/one:image"], 1, "are compared by embeddings of one model"),
    ],
)
def test_refused(world, tmp_path, capsys, more, code, message):
    folder, _ = world
    more = [x.replace("CACHE", str(folder / "cache")) for x in more]
    out = tmp_path / "out"
    assert main(["shards", "mine", str(folder / "cache"), str(folder / "shards"), "--out", str(out), *more]) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not out.exists()


def test_other_shards_are_refused(world, tmp_path):
    folder, _ = world
    with ShardWriter(tmp_path, "train") as writer:
        writer.write("x", {"text.txt": b"a"})
    with pytest.raises(ValueError, match=r"another train-000000.tar|no shard"):
        mine_shards(f"{folder}/cache/one:text", f"{tmp_path}/train-*.tar", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": math.nan}, "margin is a finite number; got nan"),
        ({"sampling": "hardest"}, "'nearest' or 'random'; got 'hardest'"),
        ({"ranks": (-1, 4)}, "got -1:4"),
    ],
)
def test_rules_in_order(options, message):
    with pytest.raises(ValueError) as error:
        Rules(**options)
    assert message in str(error.value)
