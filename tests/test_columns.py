"""Columns of a cache: the batches of live training, from blocks that are checked, alone and beside raw shards."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from made_cache import write_cache

from align import JointModel, Tower
from align.data import Columns, Concat, Loader, Mixture, Shards, ShardWriter, TooManyBad, open_cache
from align.data.columns.format import parse_column, read_cache, record_path
from align.data.mixing.direct import is_direct
from align.encoders import Precomputed
from align.files import read_json, write_json
from align.preprocess import Array, FeatureTokens

modalities = tiny.modalities


class Wordy(torch.nn.Module):
    """(n, 6) to features with one to three tokens."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.width = width

    def forward(self, values):
        tokens = torch.stack([values, values * 2, values * 3], 1)
        mask = torch.arange(3) < 1 + (values[:, :1] * 7).abs().long() % 3
        return tiny.Features(values * 5, tokens, mask)


def write_shards(folder: Path, samples: int = 50) -> str:
    """Holes, two captions, a hard negative, groups, weights, labels, and two bad members."""
    draw = np.random.default_rng(1)
    with ShardWriter(folder, "train", per_shard=20) as writer:
        for i in range(samples):
            about = (
                {"label": {"kind": f"k{i % 3}"}, "caption": "no row of a column"}
                | ({"group": i // 4} if i % 2 else {})
                | ({"weight": i / 9} if i > 40 else {})
            )
            members, x = {"json": json.dumps(about).encode()}, draw.normal(size=6)
            for m in modalities:
                if draw.random() > 0.3:
                    names = [f"{m}.0.npy", f"{m}.1.npy"] if m == "text" else [f"{m}.npy"]
                    members |= {name: tiny.npy(x + draw.normal(size=6)) for name in names}
            if i % 7 == 0:
                members |= {"text.neg.npy": tiny.npy(-x)}
            if i in (3, 31):
                members["image.npy"] = b"no array"
            writer.write(f"{i:04d}", members)
    return str(folder / "train-*.tar")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    shards = write_shards(folder / "shards")
    model = tiny.made(seed=1)[0].float().eval()
    wordy = JointModel({"text": Tower(Array((6,)), Wordy())}, 4)
    write_cache(folder / "cache", "a", model, shards, block=7)
    write_cache(folder / "cache", "half", model, shards, dtype=torch.float16)
    write_cache(folder / "cache", "words", wordy, shards, tokens=("text",), block=8)
    write_cache(folder / "other", "b", tiny.made(seed=2)[0].float(), shards, towers=("audio", "text"))
    return folder, shards, model


def columns(folder: Path, of=modalities, name: str = "cache/a", **options) -> Columns:
    return Columns({m: f"{folder}/{name}:{m}" for m in of}, **{"seed": 3, "max_bad": 1, **options})


def heads(of=modalities, **options) -> JointModel:
    return JointModel({m: Tower(encoder=Precomputed(6, **options)) for m in of}, 4)


def load(source, preprocess, **options):
    loader = Loader(source, preprocess, **{"batch": 12, "train": True, "steps": 9, **options})
    found = [*loader]
    loader.close()
    return found, loader.counts


def check_equal(live, cached, model, of=modalities, tolerance=1e-6):
    """Batches of raw shards and of a cache hold the same samples, and rows that are the features."""
    for a, b in zip(live, cached, strict=True):
        assert (a.ids, a.labels) == (b.ids, b.labels)
        assert torch.equal(a.position, b.position)
        for x, y in ((a.group, b.group), (a.weight, b.weight)):
            assert (x is None and y is None) or torch.equal(x, y)
        for m in of:
            assert torch.equal(a[m].sample, b[m].sample)
            wanted = model.towers[m].features(a[m].values).pooled
            assert torch.allclose(wanted, b[m].values.float(), atol=tolerance), m


@pytest.mark.parametrize("options", [{}, {"workers": 3}, {"start_step": 4, "steps": 5}, {"rank": 1, "world": 2}])
def test_a_cache_gives_the_batches_of_live_training(world, options):
    folder, shards, model = world
    live, counts = load(Shards(shards, seed=3, max_bad=1), model.preprocess, **{**options, "workers": 0})
    cached, same = load(columns(folder), heads().preprocess, **options)
    check_equal(live, cached, model)
    assert counts == same
    assert options or {"array/not-npy", "sample/empty"} <= {*counts}


def test_float16_is_read_as_it_stands(world):
    folder, shards, model = world
    live, _ = load(Shards(shards, seed=3, max_bad=1), model.preprocess)
    cached, _ = load(columns(folder, name="cache/half"), heads().preprocess)
    assert cached[0]["text"].values.dtype == torch.float16
    check_equal(live, cached, model, tolerance=1e-3)
    assert heads()(cached[0])["text"].values.dtype == torch.float32


def test_the_order_through_samples_equals_a_plain_loop(world):
    """``read``, one sample after another: the way of mixtures, and of columns beside raw shards."""
    folder, shards, model = world
    live = Shards(shards, seed=3, max_bad=1)
    cached = columns(folder)
    for (position, epoch), m in [((p, e), m) for p in range(50) for e in (0, 2) for m in modalities]:
        raw, _ = live.read(position, epoch)
        sample, _ = cached.read(position, epoch)
        number = cached.number(position, epoch)
        assert (sample["__key__"], number) == (raw["__key__"], live.number(position, epoch))
        rows = [x for name, x in sample.items() if name.startswith(f"{m}.") and ".neg." not in name]
        wanted = []
        for name in sorted(name for name in raw if name.startswith(f"{m}.") and ".neg." not in name):
            if raw[name] != b"no array":
                x = model.preprocess[m].row(raw[name])
                wanted.append(model.towers[m].features(x[None]).pooled[0].detach().numpy())
        assert len(rows) == len(wanted)
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(rows, wanted, strict=True))


def test_the_column_wins_over_the_raw_shard(world):
    folder, shards, model = world
    raw = Shards(shards, seed=3, max_bad=1, members={"text": "json:caption"})
    joined = columns(folder, ("text",), raw=raw)
    assert joined.modalities == Shards(shards).modalities
    live, counts = load(Shards(shards, seed=3, max_bad=1), model.preprocess)
    preprocess = {**model.preprocess, "text": heads(("text",)).preprocess["text"]}
    cached, same = load(joined, preprocess, workers=1, keep=1 << 20)
    check_equal(live, cached, model, ("text",))
    assert all(torch.equal(a["image"].values, b["image"].values) for a, b in zip(live, cached, strict=True))
    assert counts == same


def test_sets_of_two_caches_join(world):
    folder, _, _ = world
    both = Columns({"text": f"{folder}/other/b:text", "image": f"{folder}/cache/a:image"}, seed=3, max_bad=1)
    one = columns(folder, ("image", "text"))
    a, _ = load(both, heads(("image", "text")).preprocess)
    b, _ = load(one, heads(("image", "text")).preprocess)
    assert all(x.ids == y.ids and torch.equal(x["image"].values, y["image"].values) for x, y in zip(a, b, strict=True))
    assert all(torch.equal(x["text"].sample, y["text"].sample) for x, y in zip(a, b, strict=True))
    assert not torch.allclose(a[0]["text"].values, b[0]["text"].values)


def test_a_mixture_of_caches_equals_its_slow_way(world, monkeypatch):
    folder, _, _ = world
    preprocess = heads().preprocess

    def mixed():
        parts = {"one": columns(folder), "two": columns(folder, ("audio", "text"), "other/b", seed=5)}
        return Mixture(parts, {"one": 2, "two": 1}, batch=12)

    assert is_direct(mixed(), preprocess)
    fast, counts = load(mixed(), preprocess, workers=2)
    monkeypatch.setattr("align.data.pieces.is_direct", lambda *_: False)
    slow, same = load(mixed(), preprocess)
    for a, b in zip(fast, slow, strict=True):
        assert (a.ids, a.source, a.labels) == (b.ids, b.source, b.labels)
        assert all(torch.equal(a[m].sample, b[m].sample) and torch.equal(a[m].values, b[m].values) for m in modalities)
    assert counts == same


def test_tokens_are_padded_with_their_mask(world):
    folder, shards, _ = world
    live, _ = load(Shards(shards, seed=3, max_bad=1), {"text": Array((6,))})
    reader = heads(("text",), tokens=True)
    assert isinstance(reader.preprocess["text"], FeatureTokens)
    cached, _ = load(columns(folder, ("text",), "cache/words"), reader.preprocess, workers=2)
    for a, b in zip(live, cached, strict=True):
        wanted, values = Wordy()(a["text"].values), b["text"].values
        assert torch.equal(values["mask"], wanted.mask)
        assert torch.allclose(values["pooled"], wanted.pooled)
        assert torch.allclose(values["tokens"], wanted.tokens * wanted.mask[..., None])
        features = reader.towers["text"].features(values)
        assert torch.equal(features.tokens[features.mask], wanted.tokens[wanted.mask])
    alone = Concat({"x": columns(folder, ("text",), "cache/words")})
    slow, _ = load(alone, reader.preprocess, train=False, steps=None)
    some = reader.preprocess["text"].device(slow[0]["text"].values)
    assert some["tokens"].shape[1] == 3


def test_columns_survive_a_spawned_worker(world):
    folder, _, _ = world
    cached = columns(folder)
    before = [*cached.samples(0)]
    content = pickle.dumps(cached)
    assert len(content) < 20_000
    after = [*pickle.loads(content).samples(0)]
    assert [sample["__key__"] for sample in after] == [sample["__key__"] for sample in before]
    cached.close()
    assert len([*cached.samples(0)]) == len(before)


def test_shards_chooses_among_those_of_the_cache(world):
    folder, _, _ = world
    assert columns(folder, shards="train-00000[12].tar").lengths == [20, 10]
    assert len(open_cache(f"{folder}/cache/a:text", shards="*-000000.tar").reader.parts) == 1
    with pytest.raises(
        FileNotFoundError, match=r"no shard of .*cache matches test-\*\.tar; it has train-000000\.tar, "
    ):
        columns(folder, shards="test-*.tar")


def copy(world, tmp_path) -> Path:
    folder = tmp_path / "w"
    shutil.copytree(world[0], folder)
    return folder


def flip(part: Path, at: int) -> None:
    data = bytearray(part.read_bytes())
    data[at] ^= 1
    part.write_bytes(data)


@pytest.mark.parametrize("place", ["values", "header", "json"])
def test_a_flipped_byte_costs_the_rows_of_its_block(world, tmp_path, place):
    folder = copy(world, tmp_path)
    part = folder / "cache/a/train-000001.tar"
    block = read_json(record_path(part))["blocks"][1]  # samples 27..33
    flip(part, {"values": block[2] + block[3] - 4, "header": block[2] + 12, "json": block[5] + 40}[place])
    whole, _ = load(columns(world[0]), heads().preprocess, train=False, steps=None)
    cached = columns(folder)
    batches, counts = load(cached, heads().preprocess, train=False, steps=None)
    numbers = cached._orders[0]
    assert counts["text/checksum"] == counts["image/checksum"] == 7
    assert str(part) == cached.first("text/checksum").partition(":")[0]
    for a, b in zip(whole, batches, strict=True):
        for i, position in enumerate(a.position.tolist()):
            lost = 27 <= numbers[position] < 34
            assert b.ids[i] == ("" if lost else a.ids[i])
            for m in modalities:
                assert int((b[m].sample == i).sum()) == (0 if lost else int((a[m].sample == i).sum()))
    with pytest.raises(TooManyBad):
        load(columns(folder, max_bad=0.001), heads().preprocess, steps=12)


def test_a_set_whose_block_is_damaged_leaves_the_other_sets_rows(world, tmp_path):
    folder = copy(world, tmp_path)
    part = folder / "cache/a/train-000000.tar"
    flip(part, read_json(record_path(part))["blocks"][0][2] + 400)
    both = Columns({"image": f"{folder}/cache/a:image", "text": f"{folder}/other/b:text"}, seed=3, max_bad=1)
    batches, counts = load(both, heads(("image", "text")).preprocess, train=False, steps=None)
    assert counts["image/checksum"] == 7
    assert "text/checksum" not in counts
    keys = {key for batch in batches for i, key in enumerate(batch.ids) if (batch["text"].sample == i).any()}
    assert {key for key in keys if key < "0007"}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"text": "nowhere/a:text"}, "no cache .*nowhere .it has no cache.json"),
        ({"text": "cache/aa:text"}, "has no set 'aa'; did you mean a[?]"),
        ({"text": "cache/a:txt"}, "has no column 'txt'; did you mean text[?]"),
        ({"text": "cache-a-text"}, "a column is CACHE/SET:MODALITY"),
    ],
)
def test_an_unknown_name_is_refused(world, names, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        Columns({m: f"{world[0]}/{name}" for m, name in names.items()})


def test_a_cut_part_a_missing_one_and_one_of_another_shard_are_refused(world, tmp_path):
    folder = copy(world, tmp_path)
    part = folder / "cache/a/train-000001.tar"
    part.write_bytes(part.read_bytes()[:-600])
    with pytest.raises(ValueError, match=r"train-000001\.tar is cut: \d+ bytes, its record says \d+; remove it"):
        columns(folder)
    part.unlink()
    with pytest.raises(FileNotFoundError, match=r"no part .*train-000001\.tar; the same `align embed` command"):
        columns(folder)
    record = record_path(folder / "other/b/train-000000.tar")
    write_json(record, {**read_json(record), "source": "f" * 64})
    with pytest.raises(
        ValueError, match=r"was made of another shard than .*: 20 samples of sha256 ffffffffffff, not 20"
    ):
        columns(folder, ("text",), "other/b")


def test_caches_and_shards_of_other_samples_are_refused(world, tmp_path):
    folder, _, model = world
    others = write_shards(tmp_path / "shards", samples=44)
    write_cache(tmp_path / "cache", "a", model, others, towers=("text",))
    with pytest.raises(ValueError, match=r"different shards train-000002\.tar \(10 and 4 samples\): they do not join"):
        Columns({"image": f"{folder}/cache/a:image", "text": f"{tmp_path}/cache/a:text"})
    with pytest.raises(ValueError, match=r"made of another train-000002\.tar than .*, which has 4 samples, not 10"):
        columns(folder, ("text",), raw=Shards(others))
    content = read_json(tmp_path / "shards/manifest.json")
    shard = content["shards"]["train-000000.tar"]
    write_json(
        tmp_path / "shards/manifest.json", {**content, "shards": {"train-000000.tar": {**shard, "sha256": "e" * 64}}}
    )
    with pytest.raises(ValueError, match=r"which has sha256 eeeeeeeeeeee, not"):
        Columns({"text": f"{tmp_path}/cache/a:text"}, raw=Shards(others))


def test_rows_that_do_not_fit_the_tower_are_refused_with_both_widths(world):
    folder, _, _ = world
    for preprocess, says in [
        (Array((5,)), "has rows of width 6, the tower 'text' takes rows of width 5: give it the encoder "),
        (Array((2, 6)), r"takes rows of shape \(2, 6\)"),
        (FeatureTokens(6), "has rows of width 6, the tower 'text' takes tokens of width 6"),
        (tiny_text(), "takes the input of Bytes"),
    ]:
        with pytest.raises(ValueError, match=says):
            load(columns(folder, ("text",)), {"text": preprocess})
    with pytest.raises(ValueError, match="has tokens of width 6, the tower 'text' takes rows of width 6"):
        load(columns(folder, ("text",), "cache/words"), {"text": Array((6,))})
    with pytest.raises(ValueError, match="has rows of 3 tokens, the tower 'text' takes 2"):
        load(columns(folder, ("text",), "cache/words"), {"text": FeatureTokens(6, 2)})


def tiny_text():
    from align.preprocess import Bytes

    return Bytes(context=8)


def test_a_newer_cache_and_one_of_other_content_are_refused(tmp_path):
    for content, says in [
        ({"schema": 9}, "has schema 9; this align reads up to 1"),
        ({"schema": 1}, "no list of shards"),
    ]:
        write_json(tmp_path / "cache.json", content)
        with pytest.raises(ValueError, match=says):
            read_cache(tmp_path)
    assert str(parse_column("a/b/c:text")) == "a/b/c:text"
    assert parse_column("./net:text").set == "net"
    with pytest.raises(ValueError, match=r"a column is CACHE/SET:MODALITY, .* got 'net:text'"):
        parse_column("net:text")
