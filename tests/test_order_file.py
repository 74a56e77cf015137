"""Order files: clusters of a cache, written once, by which shards are shuffled; the order is a function of the file."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_cache import write_cache
from test_data_grid import pieced
from tiny import Dense, npy

from align import JointModel, Tower
from align.commands import main
from align.curation.mine.clusters import find_clusters
from align.curation.mine.ordering import order_shards
from align.data import Columns, Loader, Shards, ShardWriter
from align.data.archive.keys import hash_keys
from align.data.order import order_clusters
from align.data.order_file import Held, read_order, write_order
from align.lit import AlignData
from align.lit.sources import Source
from align.preprocess import Array

SAMPLES, SIZE, BATCH = 40, 4, 8
KINDS = SAMPLES // SIZE


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Shards of vectors in ten kinds, interleaved; two samples have no image. A cache of their embeddings."""
    folder = tmp_path_factory.mktemp("world")
    centres, draw = np.random.default_rng(0).normal(size=(KINDS, 6)), np.random.default_rng(1)
    with ShardWriter(folder / "shards", "train", per_shard=15) as writer:
        for i in range(SAMPLES):
            row = npy(centres[i % KINDS] + draw.normal(size=6) / 20)
            names = ["image.0.npy", "image.1.npy"] if i == 3 else ["image.npy"]
            writer.write(f"{i:03d}", {"text.npy": row} | ({} if i in (7, 20) else dict.fromkeys(names, row)))
    torch.manual_seed(0)
    model = JointModel({m: Tower(Array((6,)), Dense()) for m in ("image", "text")}, 5)
    pattern = str(folder / "shards" / "train-*.tar")
    write_cache(folder / "cache", "set", model, pattern, kind="embedding")
    order_shards(f"{folder}/cache/set:text", folder / "order.safetensors", size=SIZE)
    return folder, pattern, model


def held(shards: Shards) -> list[Held]:
    return [Held(len(index), hash_keys(index.keys)) for index in shards.indexes]


def cluster_loop(x, size):
    """The same divisions, sample after sample, each part by a plain sort."""
    x, out = F.normalize(x, dim=1), []

    def divide(members, parts):
        if parts == 1:
            out.append(members)
            return
        count = round(len(members) * (parts // 2) / parts)
        mean = x[members].mean(0)
        a = max(members, key=lambda i: float((x[i] - mean).square().sum()))
        b = max(members, key=lambda i: float((x[i] - x[a]).square().sum()))
        a, b, left = x[a], x[b], members[:count]
        for _ in range(8):
            near = sorted(members, key=lambda i: float(x[i] @ (b - a)))
            if {*near[:count]} == {*left}:
                break
            left, right = near[:count], near[count:]
            a, b, members = x[left].mean(0), x[right].mean(0), near
        divide([i for i in members if i in left], parts // 2)
        divide([i for i in members if i not in left], parts - parts // 2)

    divide([*range(len(x))], max(1, round(len(x) / size)))
    return [{*members} for members in out]


@pytest.mark.parametrize(("n", "size"), [(37, 5), (12, 3), (4, 9), (6, 1)])
def test_clusters_are_those_of_the_loop_and_of_equal_size(n, size):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(n))
    found = find_clusters(x, size)
    got = [{*np.flatnonzero(found == c).tolist()} for c in range(found.max() + 1)]
    assert got == cluster_loop(x, size)
    assert {abs(len(members) - n / len(got)) < 1.5 for members in got} == {True}
    with pytest.raises(ValueError, match="a cluster has at least 1 sample; got size=0"):
        find_clusters(x, 0)


def test_near_samples_are_a_cluster_and_those_without_a_row_too(world, tmp_path):
    folder, pattern, _ = world
    found = read_order(folder / "order.safetensors", held(Shards(pattern)))
    for kind in range(KINDS):
        assert len({*found[kind::KINDS].tolist()}) == 1
    assert sorted(Counter(found.tolist()).values()) == [SIZE] * KINDS
    made = order_shards(f"{folder}/cache/set:image", tmp_path / "image", size=SIZE)
    assert (made.samples, made.without, made.clusters) == (SAMPLES, 2, 10 + 1)
    clusters = read_order(tmp_path / "image", held(Shards(pattern)))
    assert clusters[7] == clusters[20] == 10
    assert clusters[3] == clusters[13]
    assert 0.8 < made.near < 1


def test_the_mean_cosine_is_that_of_the_pairs(world, tmp_path):
    folder, _, _ = world
    made = order_shards(f"{folder}/cache/set:text", tmp_path / "one", size=7)
    rows = Columns({"text": f"{folder}/cache/set:text"}, shuffle=False)
    x = F.normalize(rows.find_rows("text", np.arange(SAMPLES)).pooled.double(), dim=1)
    found = read_order(tmp_path / "one", [Held(s.samples, s.keys) for s in rows.shards])
    pairs = [float(x[i] @ x[j]) for i in range(SAMPLES) for j in range(SAMPLES) if i != j and found[i] == found[j]]
    assert made.near == pytest.approx(np.mean(pairs), abs=1e-6)


def test_an_epoch_is_its_clusters_side_by_side_in_another_order():
    clusters = np.array([2, 0, 1, 0, 2, 1, 1])
    epochs = [order_clusters(clusters, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    for found in epochs:
        assert sorted(found.tolist()) == [*range(7)]
        runs = [int(c) for i, c in enumerate(clusters[found]) if i == 0 or clusters[found][i - 1] != c]
        assert sorted(runs) == [0, 1, 2]
    assert len({found.tobytes() for found in epochs}) == 3
    assert np.array_equal(order_clusters(clusters, seed=0, epoch=1), epochs[1])
    many = np.repeat(np.arange(2), 3)
    seen = {tuple(order_clusters(many, seed=0, epoch=e).tolist()) for e in range(200)}
    assert len(seen) > 60  # of 2 · 6 · 6


def load(made, **more):
    folder, pattern, _ = made
    shards = Shards(pattern, seed=4, order=folder / "order.safetensors")
    return Loader(shards, {"text": Array((6,))}, **{"batch": BATCH, "train": True, "steps": 7, "seed": 3, **more})


def steps_of(ranks, world):
    """The keys of each global step, of the batches that the ranks have."""
    steps = []
    for together in zip(*ranks, strict=True):
        ids = [""] * BATCH
        for r, found in enumerate(together):
            ids[r::world] = found.ids
        steps.append(ids)
    return steps


def test_batches_hold_whole_clusters_over_ranks_workers_and_a_resume(world, monkeypatch):
    expected = [found.ids for found in load(world)]
    for ids in expected:
        assert sorted(Counter(int(key) % KINDS for key in ids).values()) == [SIZE] * (BATCH // SIZE)
    assert sorted(key for ids in expected[:5] for key in ids) == [f"{i:03d}" for i in range(SAMPLES)]
    assert expected[5] != expected[0]
    for ranks in (1, 2, 4):
        for workers in (1, 2):
            found = [pieced(load(world, rank=r, world=ranks), workers, monkeypatch) for r in range(ranks)]
            assert steps_of(found, ranks) == expected
    assert [found.ids for found in load(world, start_step=3, steps=4)] == expected[3:]


def test_a_config_names_the_file_for_shards_and_for_cached_columns(world):
    folder, pattern, model = world
    order, column = str(folder / "order.safetensors"), {"text": f"{folder}/cache/set:text"}

    def numbers(source: Source) -> list[int]:
        opener = AlignData(source, batch=BATCH)._opener
        part = opener.one(source, 4)
        return [part.number(p, 1) for p in range(SAMPLES)]

    plain = numbers(Source(pattern))
    one = numbers(Source(pattern, order=order))
    assert one != plain
    assert one == order_clusters(read_order(order, held(Shards(pattern))), seed=4, epoch=1).tolist()
    assert numbers(Source(pattern, columns=column, order=order)) == one
    assert numbers(Source(columns=column, order=order)) == one
    direct = Columns(column, seed=4, order=order)
    batch, _ = direct.batch([0, 1, 2], 1, {"text": model.preprocess["text"]})
    assert batch.ids == [f"{i:03d}" for i in one[:3]]


def test_what_does_not_fit_is_one_line(world, tmp_path):
    folder, pattern, _ = world
    order, shards = folder / "order.safetensors", Shards(pattern)
    (tmp_path / "text").write_text("no order")
    write_order(tmp_path / "short", np.zeros(15), held(shards)[:1])
    other = [Held(15, "0" * 64), *held(shards)[1:]]
    write_order(tmp_path / "keys", np.zeros(SAMPLES), other)
    write_order(tmp_path / "count", np.zeros(SAMPLES + 1), [*held(shards)[:2], held(shards)[2]._replace(samples=11)])
    opener = AlignData("x")._opener
    for call, line in (
        (lambda: Shards(pattern, order=tmp_path / "none"), "no order file at .*none; `align shards order` writes one"),
        (lambda: Shards(pattern, order=tmp_path / "text"), "text is no order file"),
        (lambda: Shards(pattern, order=tmp_path / "short"), "short is the order of 1 shards, these are 3"),
        (lambda: Shards(pattern, order=tmp_path / "keys"), "order of other shards: number 1 has other keys"),
        (lambda: Shards(pattern, order=tmp_path / "count"), "number 3 has 10 samples, not 11; write it anew"),
        (lambda: Shards(pattern, order=order, shuffle=False), "shuffle=False reads shards in the order of their files"),
        (lambda: write_order(tmp_path / "x", np.zeros(3), held(shards)), "a cluster for each of the 40 samples; got 3"),
        (lambda: opener.one(Source(pattern, order=str(order)), 0, shuffle=False), "leave it out of data.val"),
        (lambda: order_shards(f"{folder}/cache/set:text", order), "order.safetensors stands there; --force"),
        (lambda: order_shards(f"{folder}/cache/set:text", tmp_path / "x", size=0), "at least 1 sample; got size=0"),
    ):
        with pytest.raises((ValueError, FileNotFoundError, FileExistsError), match=line) as error:
            call()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()


def test_the_command_writes_the_file_of_the_function(world, tmp_path, capsys):
    folder, pattern, _ = world
    out = tmp_path / "new" / "order"
    command = ["shards", "order", str(folder / "cache"), "--of", "text", "--out", str(out), "--size", "4"]
    assert main(command) == 0
    assert "40 samples in 10 clusters" in capsys.readouterr().out
    assert out.read_bytes() == (folder / "order.safetensors").read_bytes()
    assert main(command) == 1
    assert "stands there" in capsys.readouterr().err
    assert main([*command, "--force", "--shards", "train-000001*,train-00000[1]*"]) == 0
    assert len(read_order(out, held(Shards(pattern))[1:2])) == 15
    assert main([*command[:4], "txt", *command[5:], "--force"]) == 1
    assert "has no column 'txt'" in capsys.readouterr().err
