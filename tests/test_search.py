"""The index on disk, and exact search against a loop."""

import json

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.data import Shards
from align.embedding import embed_shards, fingerprint
from align.search import Index, compose, nearest, save_hits, write_index
from align.search.save import safe
from align.values import Rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(model, shards, folder of the index)"""
    folder = tmp_path_factory.mktemp("search")
    samples = list(tiny_space.world().items())
    for i in range(2):
        tiny_space.write_tar(folder / "s" / f"test-{i:06d}.tar", dict(samples[12 * i : 12 * i + 12]))
    shards = Shards(str(folder / "s" / "test-*.tar"), shuffle=False)
    model = tiny_space.model("pairwise")
    write_index(embed_shards(model, shards), shards, folder / "index", model=fingerprint(model))
    return model, shards, folder / "index"


def random(n, d=8, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("block", [3, 7, 1000])
def test_nearest_is_the_plain_loop(block, monkeypatch):
    monkeypatch.setattr("align.search.query.block", block)
    sample = torch.tensor([0, 0, 0, 0, 1, 2, 2, 4, 5, 5, 9])  # the first has more rows than a block
    rows, query = Rows(random(11, seed=1), sample), random(4, seed=2)
    scores, found = nearest({"a": query}, rows, of="b", k=5)
    for q in range(4):
        best = {}
        for s, v in zip(sample.tolist(), rows.values, strict=True):
            best[s] = max(best.get(s, -9), float(v @ query[q]))
        order = sorted(best, key=lambda s: -best[s])[:5]
        assert found[q].tolist() == order
        assert scores[q].tolist() == pytest.approx([best[s] for s in order], abs=1e-6)


def test_of_equals_the_first():
    rows = Rows(random(1).expand(30, -1), torch.arange(30))
    assert nearest({"a": random(1, seed=1)}, rows, of="b", k=30)[1][0].tolist() == list(range(30))
    assert nearest({"a": random(1)}, Rows(random(2), torch.arange(2)), of="b", k=5)[1].shape == (1, 2)
    with pytest.raises(ValueError, match="k must be at least 1"):
        nearest({"a": random(1)}, rows, of="b", k=0)


def test_composed_queries_sum_or_multiply():
    rows = Rows(random(20), torch.arange(20))
    a, b = random(1, seed=1), random(1, seed=2)
    best = nearest({"a": a, "b": b}, rows, of="c", k=1, how="cosine")[1]
    assert int(best) == int((rows.values @ a[0] + rows.values @ b[0]).argmax())
    best = nearest({"a": a, "b": b}, rows, of="c", k=1, how="mip")[1]
    assert int(best) == int((rows.values * a * b).sum(dim=1).argmax())


def test_minus():
    a, b = random(1, seed=1), random(1, seed=2)
    got = compose({"text": a, "image": b}, {"text": b})
    assert torch.allclose(got["text"], F.normalize(a - b, dim=1), atol=1e-6)
    assert got["image"] is b
    with pytest.raises(ValueError, match="minus text needs a text query"):
        compose({"image": a}, {"text": b})


def test_an_index_goes_out_and_in(made):
    model, _, folder = made
    index = Index.open(folder, model=fingerprint(model))
    assert index.modalities == {"audio": 23, "image": 23, "text": 25}
    hits = index.query(model.embed(text=["ddd"]), "image", k=3)[0]
    rows = index.rows("image")
    scores = rows.values @ model.embed(text=["ddd"])["text"][0]
    order = scores.argsort(descending=True)[:3]
    assert [h.sample for h in hits] == rows.sample[order].tolist()
    assert [h.rank for h in hits] == [1, 2, 3]
    assert hits[0].item["key"] == f"{hits[0].sample:04d}"
    assert hits[0].item["shard"].endswith(f"test-{hits[0].sample // 12:06d}.tar")
    assert index.items[5]["caption"] == ["fff", "ggg"]
    assert index.items[5]["label"] is None
    assert index.items[1]["caption"][0].startswith("a ccc")
    assert index.items[1]["label"] == {"kind": "ccc", "half": 0}
    top = index.query(model.embed(image=[torch.ones(8).numpy()]), "text", k=2, how="objective", terms=model.terms)[0]
    assert abs(top[0].score) > 1  # at the learned scale


def test_another_models_index_is_refused(made):
    with pytest.raises(ValueError, match=r"was made by another model .* align embed MODEL SHARDS --out"):
        Index.open(made[2], model="0" * 64)


def test_what_is_no_index(tmp_path, made):
    with pytest.raises(FileNotFoundError, match=r"no index in .*; make one with: align embed MODEL SHARDS"):
        Index.open(tmp_path)
    with pytest.raises(ValueError, match=r"has no 'smell'; it has audio, image, text"):
        Index.open(made[2]).rows("smell")


@pytest.mark.parametrize("name", ["image.safetensors", "items.jsonl"])
def test_a_flipped_bit_is_found(made, tmp_path, name):
    import shutil

    shutil.copytree(made[2], tmp_path / "index")
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    index = Index.open(tmp_path / "index")
    with pytest.raises(ValueError, match="is damaged"):
        index.query({"text": random(1)}, "image")


def test_a_newer_index_is_refused(made, tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({**json.loads((made[2] / "index.json").read_text()), "schema": 2}))
    with pytest.raises(ValueError, match="has schema 2; this align reads up to 1"):
        Index.open(tmp_path)


def test_writing_is_all_or_nothing(made, tmp_path, monkeypatch):
    model, shards, _ = made
    embeddings = embed_shards(model, shards)
    write_index(embeddings, shards, tmp_path / "index", model="one")
    before = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    monkeypatch.setattr("align.search.write.sha256", lambda path: 1 / 0)
    other = embed_shards(model, shards)
    other["image"].values.neg_()
    with pytest.raises(ZeroDivisionError):
        write_index(other, shards, tmp_path / "index", model="two")
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before
    monkeypatch.undo()
    write_index(embeddings, shards, tmp_path / "index", model="two")
    assert Index.open(tmp_path / "index").about["model"] == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_folder_of_something_else_is_not_overwritten(made, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="is there and is no index"):
        write_index(embed_shards(made[0], made[1]), made[1], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_found_files_come_out_of_the_shards(made, tmp_path):
    model, shards, folder = made
    hits = Index.open(folder).query(model.embed(text=["bbb"]), "image", k=3)[0]
    files = save_hits(hits, tmp_path / "found")
    assert len(files) == 12
    assert all(path.parent == tmp_path / "found" for path in files)
    for hit in hits:
        stored = shards.read(hit.sample)[0]
        assert (tmp_path / "found" / f"{hit.rank:02d}-{hit.item['key']}.image.npy").read_bytes() == stored["image.npy"]
    stale = hits[0]._replace(item={**hits[0].item, "key": "gone"})
    with pytest.raises(ValueError, match="no longer has the sample 'gone'"):
        save_hits([stale], tmp_path / "found")


@pytest.mark.parametrize(
    ("name", "file"), [("../../etc/passwd", "_.._etc_passwd"), ("a/b c", "a_b_c"), ("...", "_"), ("x" * 300, "x" * 100)]
)
def test_names_stay_in_the_folder(name, file):
    assert safe(name) == file
