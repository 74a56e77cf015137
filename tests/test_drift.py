"""Drift between two models: a rotation alone, no drift, and numbers against plain loops."""

from __future__ import annotations

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.embedding.tables import vectors
from align.evaluation import Drift, Space
from align.heads import Linear
from align.model import JointModel, Tower
from align.preprocess import Array, Bytes

D = tiny_space.D


def turned(seed: int, noise: float = 0.0, dim: int = D) -> JointModel:
    """The tiny model with a rotation behind each tower, noise on it, and coordinates of 0 for a larger dim."""
    draw = torch.Generator().manual_seed(seed)
    towers = {
        "image": Tower(Array([D]), tiny_space.Straight(), Linear),
        "text": Tower(Bytes(context=32), tiny_space.Letters(), Linear),
    }
    model = JointModel(towers, dim).eval()
    for tower in towers.values():
        rotation = torch.linalg.qr(torch.randn(dim, dim, generator=draw)).Q[:, :D]
        with torch.no_grad():
            tower.head.project.weight.copy_(rotation + noise * torch.randn(dim, D, generator=draw))
    return model


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "test-000000.tar"
    return Shards(str(tiny_space.write_tar(path, tiny_space.world(30, noise=0.7))), shuffle=False)


def test_no_drift_and_a_rotation_alone(shards):
    model = tiny_space.model()
    same = Drift(model, k=3).run(Space(model, shards, draws=0)).scores
    rotated = Drift(model, k=3).run(Space(turned(1), shards, draws=0)).scores
    larger = Drift(model, k=3).run(Space(turned(1, dim=D + 3), shards, draws=0))
    for name, scores in (("same", same), ("rotated", rotated), ("larger", larger.scores)):
        for m in ("image", "text"):
            assert 0 <= scores[f"drift/{m}/aligned_distance"] < 1e-6, name
            assert scores[f"drift/{m}/cka"] == pytest.approx(1, abs=1e-6)
        assert scores["drift/image/neighbours@3"] == pytest.approx(1)
    assert same["drift/image/cosine"] == pytest.approx(1)
    assert rotated["drift/image/cosine"] < 0.7
    assert "drift/image/cosine" not in larger.scores
    assert "drift/image/cosine is not measured: 8 coordinates before, 11 now" in larger.protocol["notes"]
    assert not any("audio" in name for name in rotated)  # the new model has no such tower


def test_the_numbers_are_the_plain_loop(shards):
    old, new, k = tiny_space.model(), turned(1, noise=0.3), 4
    space = Space(new, shards, draws=20)
    found = Drift(old, "before", k=k).run(space)
    tables = space.table(), space.of_model(old).table()
    for m in ("image", "text"):
        x, y = (F.normalize(vectors(table, m).double(), dim=1) for table in tables)
        n = len(x)
        cosines = [float(a @ b) for a, b in zip(x, y, strict=True)]
        assert found.scores[f"drift/{m}/cosine"] == pytest.approx(sum(cosines) / n)
        u, _, v = torch.linalg.svd(x.T @ y)
        distances = [float((a @ (u @ v) - b).square().sum()) for a, b in zip(x, y, strict=True)]
        aligned = found.scores[f"drift/{m}/aligned_distance"]
        assert aligned == pytest.approx(sum(distances) / n, abs=1e-6)
        draw = torch.Generator().manual_seed(0)
        for _ in range(20):  # no other rotation is nearer
            other = torch.linalg.qr(u @ v + 0.1 * torch.randn(D, D, generator=draw).double()).Q
            other = other * torch.sign((other * (u @ v)).sum(dim=0))
            assert float((x @ other - y).square().sum(dim=1).mean()) >= aligned - 1e-9
        kept = []
        for i in range(n if m == "image" else 0):
            near = [set(sorted((j for j in range(n) if j != i), key=lambda j: -float(z[i] @ z[j]))[:k]) for z in (x, y)]
            kept.append(len(near[0] & near[1]) / k)
        if kept:
            assert found.scores[f"drift/{m}/neighbours@{k}"] == pytest.approx(sum(kept) / n)
        values, sample = found.samples[f"drift/{m}/cosine"]
        assert values.tolist() == pytest.approx(cosines)
        assert sample.tolist() == tables[0][m].sample.tolist()
        low, high = found.intervals[f"drift/{m}/aligned_distance"]
        assert low <= aligned <= high
    assert found.protocol["drift"]["rows"] == {"image": 29, "text": 31}
    assert found.protocol["drift"]["old"]["name"] == "before"


def test_rows_meet_by_their_sample_and_few_rows_are_said(shards, monkeypatch):
    """A row that the earlier model could not read is left out, and the others still meet their own."""
    model = tiny_space.model()
    space = Space(model, shards, draws=0)
    other = space.of_model(tiny_space.model())
    whole = other.table()
    fewer = {m: rows._replace(values=vectors(whole, m)[2:], sample=rows.sample[2:]) for m, rows in whole.items()}
    few = {
        **fewer,
        "audio": whole["audio"]._replace(values=vectors(whole, "audio")[:3], sample=whole["audio"].sample[:3]),
    }
    other._tables["embedding", "test"] = type(whole)(few, whole.ids, whole.position, whole.labels)
    monkeypatch.setattr(space, "of_model", lambda model: other)
    found = Drift(other.model, k=40).run(space)
    assert found.scores["drift/image/cosine"] == pytest.approx(1)
    assert found.protocol["drift"]["rows"] == {"audio": 3, "image": 27, "text": 29}
    notes = found.protocol["notes"]
    assert "drift of audio is not measured: 3 rows, 4 are needed" in notes
    assert "drift/image/neighbours@40 is not measured: it needs 42 rows, there are 27" in notes
    other._tables["embedding", "test"] = type(whole)(
        {"image": whole["image"]._replace(values=vectors(whole, "image")[:6], sample=whole["image"].sample[:6])},
        whole.ids, whole.position, whole.labels,
    )  # fmt: skip
    notes = Drift(other.model, k=2).run(space).protocol["notes"]
    assert notes == ["drift/image/aligned_distance is of 6 rows in 8 dimensions, which a rotation fits closely"]


def test_what_cannot_be_compared_is_one_line(shards, tmp_path, capsys):
    space = Space(tiny_space.model(), shards, draws=0)
    alone = JointModel({"touch": Tower(Array([D]), tiny_space.Straight(), Linear)}, D)
    for evaluator, words in ((Drift(), "compares with an earlier model"), (Drift(alone), "share no modality")):
        with pytest.raises(ValueError, match=words):
            evaluator.run(space)
    with pytest.raises(ValueError, match="k >= 1, got 0"):
        Drift(k=0)
    save(turned(1), tmp_path / "new")
    save(turned(2), tmp_path / "old")
    args = ["evaluate", str(tmp_path / "new"), *map(str, shards.urls), "--allow", "tiny_space", "--draws", "0"]
    args += ["--no-report", "--with"]
    for more, code, words in (
        (["drift"], 2, "--with drift compares with an earlier model; name it: --old MODEL"),
        (["retrieval", "--old", "x"], 2, "--old is an option of the evaluator compatibility"),
        (["drift", "--old", str(tmp_path / "none")], 1, "--old: no model folder"),
    ):
        assert main([*args, *more]) == code
        assert words in capsys.readouterr().err
    assert main([*args, "drift,compatibility", "--old", str(tmp_path / "old")]) == 0
    assert "aligned_distance" in capsys.readouterr().out
