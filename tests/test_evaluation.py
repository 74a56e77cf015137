"""Evaluation against loops that can be checked by eye."""

import hashlib
import io
import json
import math
import sys

import numpy as np
import pytest
import tiny_space
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from align.data import Shards
from align.embedding import embed_shards, fingerprint
from align.embedding.tables import concatenate
from align.evaluation import evaluate, retrieval, write_results, zeroshot
from align.evaluation.hits import by_group, by_label, by_sample
from align.evaluation.labels import attributes, memberships
from align.evaluation.retrieval import retrieval_shards
from align.evaluation.zeroshot import class_prompts
from align.metrics import average_precisions, hit_places, mean_average_precision
from align.metrics import ranks as best_ranks
from align.scoring import choose
from align.values import Embeddings, Rows, TermInfo

pairs = [TermInfo(("image", "text"), "pairwise", 10.0)]
triple = [TermInfo(("image", "audio", "text"), "symile", 20.0)]


def random(n, d=8, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def table(rows, **more):
    n = 1 + max(max(s.tolist(), default=0) for _, s in rows.values())
    ids = [f"{i}" for i in range(n)]
    return Embeddings({m: Rows(v, s) for m, (v, s) in rows.items()}, ids, torch.arange(n), **more)


def loop_ranks(scores, hits):
    """The rank of each query's best hit, a candidate at a time; queries without a hit are left out."""
    out = []
    for s, h in zip(scores.tolist(), hits.tolist(), strict=True):
        if any(h):
            best = max(x for x, right in zip(s, h, strict=True) if right)
            out.append(1 + sum(x >= best for x, right in zip(s, h, strict=True) if not right))
    return out


@pytest.fixture
def shards(tmp_path):
    samples = tiny_space.world()
    first, second = dict(list(samples.items())[:10]), dict(list(samples.items())[10:])
    tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", first)
    tiny_space.write_tar(tmp_path / "s" / "test-000001.tar", second)
    return Shards(str(tmp_path / "s" / "test-*.tar"), shuffle=False)


# labels and hits


def test_labels_of_every_form():
    labels = ["b", 0, None, ["a", "b"], {"label": "a", "size": 3}, "unknown"]
    assert memberships(labels, "label", ["a", "b"]).int().tolist() == [[0, 1], [1, 0], [0, 0], [1, 1], [1, 0], [0, 0]]
    assert memberships([{"digit": 7}, 7], "digit", [str(i) for i in range(10)]).nonzero().tolist() == [[0, 7]]
    assert attributes(labels) == ["label", "size"]


def test_an_int_is_a_name_before_it_is_a_position():
    assert memberships([1, 9], "label", ["9", "1"]).int().tolist() == [[0, 1], [1, 0]]


def test_hit_rules():
    e = table({"a": (random(4), torch.arange(4))}, labels=["x", "y", "x", None], group=torch.tensor([5, 5, -1, -1]))
    s = torch.tensor([0, 1, 2, 3, -1])
    eye = torch.eye(5, dtype=torch.bool)
    eye[4, 4] = False
    assert by_sample()(s, s).equal(eye)
    grouped = eye.clone()
    grouped[0, 1] = grouped[1, 0] = True
    assert by_group(e)(s, s).equal(grouped)
    same = torch.zeros(5, 5, dtype=torch.bool)
    same[0, 0] = same[1, 1] = same[2, 2] = same[0, 2] = same[2, 0] = True
    assert by_label(e, "label", ["x", "y"])(s, s).equal(same)


# retrieval


@pytest.mark.parametrize("how", ["sample", "label"])
def test_retrieval_is_the_plain_loop(how, monkeypatch):
    monkeypatch.setattr(sys.modules["align.evaluation.blocks"], "cells", 40)  # chunks of two queries
    labels = [i % 3 for i in range(15)]
    sample_a = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 9, -1])
    sample_b = torch.tensor([0, 1, 1, 3, 4, 5, 7, 8, 9, 9, 14, -1, 2])
    a, b = random(10, seed=1), random(13, seed=2)
    e = table({"a": (a, sample_a), "b": (b, sample_b)}, labels=labels)
    hits = by_sample() if how == "sample" else by_label(e, "label", ["0", "1", "2"])
    got = retrieval({"a": a}, b, sample_a, sample_b, hits, of="b", ks=(1, 2, 5))

    def right(i, j):
        i, j = int(sample_a[i]), int(sample_b[j])
        return i >= 0 and j >= 0 and (i == j if how == "sample" else labels[i] == labels[j])

    hit = torch.tensor([[right(i, j) for j in range(13)] for i in range(10)])
    scores = a.double() @ b.double().T
    ranks = loop_ranks(scores, hit)
    for k in (1, 2, 5):
        assert got[f"recall@{k}"] == pytest.approx(sum(r <= k for r in ranks) / len(ranks))
    assert got["median_rank"] == sorted(ranks)[(len(ranks) - 1) // 2]
    precisions = []
    for s, h in zip(scores, hit, strict=True):
        if h.any():
            order = s.argsort(descending=True).tolist()
            at = [place for place, j in enumerate(order, 1) if h[j]]
            precisions.append(sum(n / place for n, place in enumerate(at, 1)) / len(at))
    assert got["map"] == pytest.approx(sum(precisions) / len(precisions), abs=1e-6)
    assert got["chance"] == pytest.approx(float(np.mean([h.float().mean() for h in hit if h.any()])), abs=1e-6)


def test_places_give_the_metric():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-3, 4, (50, 40), generator=generator).float() / 3  # many ties, zeros and negatives
    scores[0] = 0.5
    scores[1, :3] = torch.tensor([float("nan"), -0.0, 0.0])
    for share in (0.1, 0.5):
        hits = torch.rand(50, 40, generator=generator) < share
        hits[:, 7] = True
        places = hit_places(scores, hits)
        assert places.rank.equal(best_ranks(scores, hits))
        assert float(average_precisions(places).mean()) == pytest.approx(
            mean_average_precision(scores, hits), abs=1e-12
        )


def test_constant_embeddings_score_nothing():
    """Whatever block of a matrix product a row falls into: equal rows tie, and ties never help."""
    one = random(1, 48)
    same = one.expand(203, -1).contiguous()
    e = table({m: (same, torch.arange(203)) for m in ("a", "b")}, labels=[i % 4 for i in range(203)])
    for hits in (by_sample(), by_label(e, "label", ["0", "1", "2", "3"])):
        scores = retrieval_shards(e, hits, ks=(1, 10))
        assert {v for k, v in scores.items() if "recall" in k or "map" in k} == {0.0}
        assert {v for k, v in scores.items() if "median" in k} == {203.0}
    members = memberships(e.labels, "label", ["0", "1", "2", "3"])
    assert zeroshot({"a": one.expand(203, -1)}, one.expand(4, -1), members)["accuracy"] == 0


def test_a_row_is_never_its_own_match():
    e = table({"a": (random(6), torch.tensor([0, 0, 1, 1, 2, 2]))})
    values, sample = e["a"].values, e["a"].sample
    got = retrieval({"a": values}, values, sample, sample, by_sample(), of="a", ks=(1, 5))
    scores = values @ values.T
    scores.fill_diagonal_(-9)
    hit = (sample[:, None] == sample) & ~torch.eye(6, dtype=torch.bool)
    ranks = loop_ranks(scores, hit)
    assert got["recall@1"] == pytest.approx(sum(r == 1 for r in ranks) / 6)
    assert got["recall@5"] == 1
    assert got["chance"] == pytest.approx(1 / 5)


def test_all_ordered_pairs_and_nothing_where_nothing_hits():
    a, b, c = random(5, seed=1), random(5, seed=2), random(2, seed=3)
    s = torch.arange(5)
    e = table({"a": (a, s), "b": (b, s), "c": (c, torch.tensor([7, 8])), "d": (c[:0], s[:0])})
    scores = retrieval_shards(e, by_sample())
    assert {k.split("/")[0] for k in scores} == {"a_to_b", "b_to_a"}  # c shares no sample, d has no rows


def test_composed_retrieval_multiplies():
    """text = the sum of two digits: neither tells alone, both together do."""
    D, n = 64, 100
    signs = torch.randint(0, 2, (20, D), generator=torch.Generator().manual_seed(0)).float() * 2 - 1
    x, y = signs[:10], signs[10:]
    a, b = torch.arange(n) % 10, torch.arange(n) // 10
    rows = {"image": x[a], "audio": y[b], "text": x[a] * y[b]}
    e = table({m: (F.normalize(v, dim=1), torch.arange(n)) for m, v in rows.items()})
    scores = retrieval_shards(e, by_sample(), terms=triple)
    assert scores["audio+image_to_text/recall@1"] == 1
    assert scores["audio+text_to_image/recall@5"] == 0  # the ten images of one digit tie: the nine wrong ones go first
    assert scores["audio+text_to_image/recall@10"] == 1
    assert scores["image_to_text/recall@1"] < 0.1
    assert not any("+" in k for k in retrieval_shards(e, by_sample(), terms=pairs))


def test_composed_queries_need_all_their_rows():
    images, sounds, texts = random(3), random(2, seed=1), random(3, seed=2)
    one, two = torch.tensor([0, 1, 1]), torch.tensor([1, 2])
    e = table({"image": (images, one), "audio": (sounds, two), "text": (texts, torch.arange(3))})
    scores = retrieval_shards(e, by_sample(), terms=triple)
    query = images[1] * sounds[0]  # sample 1, its first image
    order = (texts @ query).argsort(descending=True).tolist()
    assert scores["audio+image_to_text/median_rank"] == order.index(1) + 1


# zero-shot


def test_zeroshot_is_the_plain_loop():
    x, prompts = random(40, seed=1), random(7, seed=2)
    labels = [i % 9 for i in range(40)]  # two of nine classes are unknown
    members = memberships([y if y < 7 else None for y in labels], "label", list("0123456"))
    got = zeroshot({"image": x}, prompts, members, terms=pairs)
    right1 = right5 = n = 0
    for v, y in zip(x, labels, strict=True):
        if y < 7:
            order = (prompts @ v).argsort(descending=True).tolist()
            n, right1, right5 = n + 1, right1 + (order[0] == y), right5 + (y in order[:5])
    assert got == pytest.approx({"accuracy": right1 / n, "accuracy@5": right5 / n, "chance": 1 / 7})
    assert "accuracy@5" not in zeroshot({"image": x}, prompts[:5], members[:, :5])
    assert zeroshot({"image": x}, prompts, members & False) == {}


def test_any_of_several_classes_is_right():
    prompts = torch.eye(3)
    members = torch.tensor([[True, True, False], [True, True, False], [False, True, True]])
    x = torch.tensor([[0.9, 0.8, 0.0], [0.8, 0.9, 0.0], [0.9, 0.8, 0.1]])
    assert zeroshot({"image": x}, prompts, members)["accuracy"] == pytest.approx(2 / 3)


def test_prompts_are_the_mean_of_normalised_embeddings():
    model = tiny_space.model()
    got = class_prompts(model, ["bbb", "c_d"], ["{}", "{} bee"])
    one, two = model.embed(text=["bbb", "bbb bee"])["text"]
    assert torch.allclose(got[0], F.normalize(one + two, dim=0), atol=1e-6)
    one, two = model.embed(text=["c d", "c d bee"])["text"]
    assert torch.allclose(got[1], F.normalize(one + two, dim=0), atol=1e-6)
    with pytest.raises(ValueError, match=r"a template has one \{\}"):
        class_prompts(model, ["a"], ["a photo"])
    with pytest.raises(ValueError, match="at least one class"):
        class_prompts(model, [])


def test_the_objective_scores_where_a_term_fits():
    assert choose(pairs, ["image"], "text") == "objective"
    assert choose(pairs, ["audio"], "text") == choose([], ["image"], "text") == "cosine"
    assert choose(triple, ["image"], "text") == "cosine"
    assert choose(triple, ["audio", "image"], "text") == "objective"


# over shards


def test_every_row_is_embedded_once(shards):
    model = tiny_space.model().train()
    e = embed_shards(model, shards, batch=7)
    assert model.training
    assert model.towers["image"].training
    assert e.ids == [f"{i:04d}" for i in range(24)]
    assert e["audio"].sample.tolist() == [i for i in range(24) if i != 3]
    assert e["image"].sample.tolist() == [i for i in range(24) if i != 4]
    assert e["text"].sample.tolist() == sorted([*range(24), 5])
    assert e.labels[5] is None
    assert e.labels[0] == {"kind": "bbb", "half": 0}
    raw = np.load(io.BytesIO(shards.read(9)[0]["image.npy"]))
    assert torch.allclose(e["image"].values[8], F.normalize(torch.from_numpy(raw), dim=0), atol=1e-6)
    said = []
    again = embed_shards(model, shards, batch=24, progress=lambda *x: said.append(x))
    assert all(torch.allclose(again[m].values, e[m].values, atol=1e-6) for m in e)
    assert said[-1] == (24, 24)


def test_empty_positions_leave_the_table():
    first, second = ({"a": Rows(random(2), torch.tensor(s))} for s in ([0, 2], [1, -1]))
    one = Embeddings(first, ["x", "", "y"], torch.arange(3), ["l", None, "m"], group=torch.tensor([1, -1, 2]))
    two = Embeddings(second, ["", "z"], torch.arange(3, 5), [None, "n"])
    e = concatenate([one, two])
    assert e.ids == ["x", "y", "z"]
    assert e.labels == ["l", "m", "n"]
    assert e.position.tolist() == [0, 2, 4]
    assert e["a"].sample.tolist() == [0, 1, 2, -1]
    assert e.group is not None
    assert e.group.tolist() == [1, 2, -1]


def test_evaluate(shards, tmp_path):
    model = tiny_space.model("pairwise", "symile")
    results = evaluate(model, shards, batch=5, command="align evaluate M S", ks=(1, 10))
    scores = results.scores
    e = results.embeddings
    prompts = class_prompts(model, tiny_space.classes)
    images = list(zip(e["image"].values, e["image"].sample.tolist(), strict=True))
    right = [int((prompts @ v).argmax()) == s % 6 for v, s in images if s != 5]
    assert scores["zeroshot/kind/image/accuracy"] == pytest.approx(sum(right) / 22)
    assert scores["zeroshot/kind/image/chance"] == pytest.approx(1 / 6)
    assert {k.split("/")[2] for k in scores if k.startswith("zeroshot/")} == {"image", "audio", "audio+image"}
    ranks = []
    text, sample = e["text"].values, e["text"].sample
    for v, s in images:
        ranks += loop_ranks((text @ v)[None], (sample == s)[None])
    assert scores["image_to_text/recall@10"] == pytest.approx(sum(r <= 10 for r in ranks) / 23)
    kinds = [i % 6 if i != 5 else -1 for i in range(24)]
    ranks = []
    for v, s in images:
        same = torch.tensor([kinds[s] == kinds[t] and kinds[s] >= 0 for t in e["audio"].sample.tolist()])
        ranks += loop_ranks((e["audio"].values @ v)[None], same[None])
    assert scores["class/kind/image_to_audio/recall@1"] == pytest.approx(sum(r == 1 for r in ranks) / len(ranks))
    assert "audio+image_to_text/recall@1" in scores
    assert all(math.isfinite(v) for v in scores.values())

    about = results.protocol
    assert about["shards"] == {"test-000000.tar": 10, "test-000001.tar": 14}
    assert about["classes"]["kind"] == tiny_space.classes
    assert about["command"] == "align evaluate M S"
    assert about["hit rule"].startswith("sample")
    assert about["rows"] == {"audio": 23, "image": 23, "text": 25}
    path = write_results(results, tmp_path / "out")
    intervals = {score: list(ends) for score, ends in results.intervals.items()}
    assert json.loads(path.read_text()) == {**scores, "intervals": intervals, "protocol": about}


def test_bad_members_are_missing_rows_and_counted(tmp_path):
    samples = tiny_space.world()
    samples["0007"]["image.npy"] = b"no array"
    samples["0009"] = {"image.npy": b"no array"}
    tiny_space.write_tar(tmp_path / "a.tar", samples)
    shards = Shards(str(tmp_path / "a.tar"), shuffle=False, max_bad=1)
    results = [evaluate(tiny_space.model(), shards, batch=4, workers=workers) for workers in (0, 1)]
    assert results[0].scores == results[1].scores
    for one in results:  # each counts its own
        assert one.protocol["rows"] == {"audio": 22, "image": 21, "text": 24}
        assert sum(n for reason, n in one.protocol["bad"].items() if reason.startswith("array/")) == 2


def test_one_attribute_needs_no_name(shards):
    results = evaluate(tiny_space.model(), shards, classes={"kind": tiny_space.classes}, templates=["{}"])
    assert "class/image_to_audio/recall@1" in results.scores
    assert results.protocol["templates"] == {"kind": ["{}"]}


def test_hits_by_group_and_label(tmp_path):
    tiny_space.write_tar(tmp_path / "test-000000.tar", tiny_space.world(group=True))
    shards = Shards(str(tmp_path / "test-000000.tar"), shuffle=False)
    by_default = evaluate(tiny_space.model(), shards)
    assert by_default.protocol["hit rule"].startswith("group")
    by_kind = evaluate(tiny_space.model(), shards, hit="label", attribute="kind")
    assert by_kind.scores["image_to_audio/recall@1"] == by_kind.scores["class/kind/image_to_audio/recall@1"]
    assert (
        by_default.scores["image_to_audio/recall@1"]
        > evaluate(tiny_space.model(), shards, hit="sample").scores["image_to_audio/recall@1"]
    )
    with pytest.raises(ValueError, match="an attribute is needed; the shards have half, kind"):
        evaluate(tiny_space.model(), shards, hit="label")


def test_what_does_not_fit_is_refused(shards):
    model = tiny_space.model()
    with pytest.raises(ValueError, match="no attribute 'colour'; they have half, kind"):
        evaluate(model, shards, classes={"colour": ["red"]})
    with pytest.raises(ValueError, match="templates for 'colour'"):
        evaluate(model, shards, templates={"colour": ["{}"]})
    with torch.no_grad():
        model.towers["image"].encoder.gain.fill_(float("nan"))
    with pytest.raises(ValueError, match="the image embedding of sample '0000' is not finite"):
        evaluate(model, shards)


def test_shards_without_the_models_modalities(tmp_path):
    tiny_space.write_tar(tmp_path / "a.tar", {"0": {"smell.npy": tiny_space.npy([1.0])}})
    with pytest.raises(ValueError, match="the model embeds image, audio, text; the shards have smell"):
        evaluate(tiny_space.model(), Shards(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("fault", ["missing", "cut", "foreign"])
def test_a_shard_set_that_is_not_its_manifest(tmp_path, fault):
    samples = list(tiny_space.world().items())
    for i in range(2):
        tiny_space.write_tar(tmp_path / f"test-{i:06d}.tar", dict(samples[12 * i : 12 * i + 12]))
    said = {"test-000000.tar": 12, "test-000001.tar": 12}
    (tmp_path / "manifest.json").write_text(json.dumps({"shards": {k: {"samples": n} for k, n in said.items()}}))
    pattern = str(tmp_path / "test-*.tar")
    evaluate(tiny_space.model(), Shards(pattern))
    match = "test-000001.tar is missing: manifest.json lists it"
    if fault == "missing":
        (tmp_path / "test-000001.tar").unlink()
    elif fault == "cut":
        tiny_space.write_tar(tmp_path / "test-000001.tar", dict(samples[12:20]))
        match = "has 8 samples, its manifest says 12"
    else:
        tiny_space.write_tar(tmp_path / "test-000002.tar", dict(samples[12:20]))
        match = "test-000002.tar is not in"
    with pytest.raises(ValueError, match=match):
        evaluate(tiny_space.model(), Shards(pattern))


def test_the_fingerprint_is_the_files(tmp_path):
    model = tiny_space.model()
    save_file({k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}, tmp_path / "m.safetensors")
    assert fingerprint(model) == hashlib.sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest()
    before = fingerprint(model)
    with torch.no_grad():
        model.towers["image"].encoder.gain.add_(1)
    assert fingerprint(model) != before
