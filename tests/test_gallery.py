"""Galleries cut down to hard negatives, against plain loops over queries, candidates and models."""

from __future__ import annotations

import itertools
import math

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.embedding.tables import vectors
from align.evaluation import Gallery, Space
from align.metrics.agreement import kendall


def noisy(seed, noise=0.5):
    """The tiny model with gains that differ by coordinate, so that it orders rows in its own way."""
    model, draw = tiny_space.model(), torch.Generator().manual_seed(seed)
    for name in ("image", "audio"):
        gain = 1 + noise * torch.randn(tiny_space.D, generator=draw)
        model.towers[name].encoder.gain = torch.nn.Parameter(gain)
    return model


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "test-000000.tar"
    return Shards(str(tiny_space.write_tar(path, tiny_space.world(24, noise=0.7))), shuffle=False)


def test_kendall_is_the_double_loop():
    draw = torch.Generator().manual_seed(0)
    for high in (3, 10):
        a, b = torch.randint(high, (2, 12), generator=draw).double()
        agree = ties_a = ties_b = 0
        for i, j in itertools.combinations(range(12), 2):
            one, other = (a[i] > a[j]).int() - (a[i] < a[j]).int(), (b[i] > b[j]).int() - (b[i] < b[j]).int()
            agree += int(one * other)
            ties_a += int(one == 0)
            ties_b += int(other == 0)
        assert kendall(a, b) == pytest.approx(agree / math.sqrt((66 - ties_a) * (66 - ties_b)))
    assert (kendall(a, a), kendall(a, -a)) == (pytest.approx(1), pytest.approx(-1))
    assert math.isnan(kendall(a, torch.zeros(12)))
    with pytest.raises(ValueError, match=r"\(n,\) each, got \(12,\) and \(3,\)"):
        kendall(a, a[:3])


def loop(model, reference, shards, query, of, n):
    """Reciprocal ranks and average precisions of every query, in the full and in the cut gallery."""
    tables = [Space(one, shards, draws=0).table() for one in (model, reference)]
    out = {"full": [], "cut": []}
    cosines = [
        (F.normalize(vectors(t, query).double(), dim=1) @ F.normalize(vectors(t, of).double(), dim=1).T)
        .float()
        .tolist()
        for t in tables
    ]
    for i, sample in enumerate(tables[0][query].sample.tolist()):
        scores, theirs = (rows[i] for rows in cosines)
        hit = [s == sample for s in tables[0][of].sample.tolist()]
        if any(hit):
            wrong = sorted((j for j, yes in enumerate(hit) if not yes), key=lambda j: -theirs[j])[:n]
            for gallery, listed in (
                ("full", range(len(hit))),
                ("cut", [j for j in range(len(hit)) if hit[j] or j in wrong]),
            ):
                order = sorted(listed, key=lambda j: (-scores[j], hit[j]))
                places = [place for place, j in enumerate(order, 1) if hit[j]]
                ap = sum(number / place for number, place in enumerate(places, 1)) / len(places)
                out[gallery].append((1 / places[0], ap))
    return out


@pytest.mark.parametrize("n", [3, 100])
def test_the_evaluator_is_the_plain_loop(shards, n):
    model, reference, rival = noisy(1), noisy(2), noisy(3, 1.5)
    space = Space(model, shards, draws=20)
    found = Gallery(reference, "theirs", {"rival": rival}, negatives=n).run(space)
    for query, of in (("image", "audio"), ("text", "image"), ("image", "text")):
        name = f"gallery/{query}_to_{of}"
        means = {}
        for other in (model, rival):
            values = loop(other, reference, shards, query, of, n)
            means[other] = {g: sum(rr for rr, _ in v) / len(v) for g, v in values.items()}
            if other is model:
                for g, some in values.items():
                    assert found.scores[f"{name}/{g}/mrr"] == pytest.approx(means[other][g], abs=1e-6)
                    assert found.scores[f"{name}/{g}/map"] == pytest.approx(
                        sum(ap for _, ap in some) / len(some), abs=1e-6
                    )
                    right = sum(rr == 1 for rr, _ in some) / len(some)
                    assert found.scores[f"{name}/{g}/recall@1"] == pytest.approx(right)
                    assert len(found.samples[f"{name}/{g}/mrr"][0]) == len(some)
                ranks = [torch.tensor([rr for rr, _ in values[g]]).double() for g in ("full", "cut")]
                middle = [torch.tensor([float((r < x).sum() + ((r == x).sum() + 1) / 2) for x in r]) for r in ranks]
                assert found.scores[f"{name}/spearman"] == pytest.approx(
                    float(torch.corrcoef(torch.stack(middle))[0, 1]), abs=1e-5
                )
        full, cut = (means[model][g] - means[rival][g] for g in ("full", "cut"))
        expected = math.copysign(1, full * cut)
        assert found.scores.get(f"{name}/kendall", expected) == expected
        low, high = found.intervals[f"{name}/spearman"]
        assert low <= found.scores[f"{name}/spearman"] <= high
    facts = found.protocol["gallery"]
    assert (facts["negatives"], facts["reference"]["name"], list(facts["models"])) == (n, "theirs", ["rival"])
    assert found.protocol["notes"] == []
    if n == 100:  # nothing is cut
        assert all(value == pytest.approx(1) for key, value in found.scores.items() if key.endswith("/spearman"))
    else:
        assert found.scores["gallery/image_to_audio/cut/mrr"] > found.scores["gallery/image_to_audio/full/mrr"]


def test_its_own_negatives_keep_the_ranks_up_to_n(shards):
    found = Gallery(negatives=5).run(Space(noisy(1), shards, draws=0))
    for key in ("image_to_audio", "text_to_image"):
        for k in (1, 5):
            assert found.scores[f"gallery/{key}/cut/recall@{k}"] == found.scores[f"gallery/{key}/full/recall@{k}"]
    assert "picked its negatives itself" in found.protocol["notes"][0]
    assert not any("kendall" in key for key in found.scores)


def test_a_constant_model_scores_nothing_and_composed_queries_are_cut(shards):
    model = tiny_space.model("pairwise", "symile")
    found = Gallery(noisy(2), negatives=4).run(Space(model, shards, draws=0))
    assert "gallery/audio+image_to_text/cut/map" in found.scores
    for name in ("image", "audio"):
        model.towers[name].encoder.gain.data.zero_()
    found = Gallery(noisy(2), negatives=4).run(Space(model, shards, draws=0))
    assert found.scores["gallery/image_to_audio/cut/recall@10"] == 0
    assert found.scores["gallery/image_to_audio/cut/mrr"] == 0


def test_what_cannot_be_cut_is_one_line(shards, tmp_path, capsys, monkeypatch):
    model = tiny_space.model()
    alone = type(model)({m: model.towers[m] for m in ("image", "text")}, tiny_space.D).eval()
    found = Gallery(alone, "alone").run(Space(noisy(1), shards, draws=0))
    assert set(found.protocol["notes"]) == {
        f"gallery: {one} is not measured, as alone does not embed it"
        for one in ("audio_to_image", "audio_to_text", "image_to_audio", "text_to_audio")
    }
    assert "gallery/image_to_text/cut/map" in found.scores
    table = Space(alone, shards, draws=0)
    other = table.of_model(tiny_space.model())
    whole = other.table()
    fewer = {m: rows._replace(values=vectors(whole, m)[1:], sample=rows.sample[1:]) for m, rows in whole.items()}
    other._tables["embedding", "test"] = type(whole)(fewer, whole.ids, whole.position, whole.labels)
    monkeypatch.setattr(table, "of_model", lambda model: other)
    with pytest.raises(ValueError, match=r"gallery: theirs reads 22 rows of image, and the model 23"):
        Gallery(other.model, "theirs").run(table)
    with pytest.raises(ValueError, match="1 negative of a query at least, got 0"):
        Gallery(negatives=0)
    save(model, tmp_path / "m")
    args = [
        "evaluate",
        str(tmp_path / "m"),
        *map(str, shards.urls),
        "--allow",
        "tiny_space",
        "--draws",
        "0",
        "--no-report",
    ]
    args += ["--with", "gallery"]
    for more, code, words in (
        (["--reference", str(tmp_path / "none")], 1, "--reference: no model folder"),
        (["--negatives", "0"], 2, "--negatives is 1 at least"),
        (["--rivals", str(tmp_path / "none")], 1, "--rivals: no model folder"),
    ):
        assert main([*args, *more]) == code
        assert words in capsys.readouterr().err
    assert main([*args, "--negatives", "4", "--reference", str(tmp_path / "m"), "--rivals", str(tmp_path / "m")]) == 0
    assert "cut galleries" in capsys.readouterr().out
