"""The evaluator of geometry: names, rows, pairs, intervals, another model, a given matrix, and bad input."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise

import numpy as np
import pytest
import tiny_space
import torch
import torch.nn.functional as F

import align
from align.commands import main
from align.commands.tables import lines
from align.data import Shards
from align.evaluation import Geometry, Space, evaluate
from align.evaluation.geometry import GivenMatrix, read_matrix
from align.evaluation.geometry.evaluator import FACTS
from align.evaluation.geometry.measured import Measured
from align.evaluation.geometry.parts import read_parts
from align.evaluation.geometry.single import measure_against
from align.model import JointModel
from align.page.section import Gallery, Histogram, Scatter, Table
from align.values import Embeddings, Rows

SINGLE = ("uniformity", "effective_rank", "isotropy", "depth")
PAIR = ("gap", "alignment", "cka", "separability", "knn", "knn_chance", "rsa", "rsa_p")


@pytest.fixture
def shards(tmp_path):
    return Shards(str(tiny_space.write_tar(tmp_path / "s" / "t.tar", tiny_space.world(30))), shuffle=False)


def measure(shards, model=None, draws=50, **settings):
    space = Space(model or tiny_space.model(), shards, draws=draws)
    return space, Geometry(**{"k": 3, "permutations": 19, **settings}).run(space)


def firsts(table: Embeddings, m: str) -> dict[int, torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for sample, row in zip(table[m].sample.tolist(), table[m].values, strict=True):
        if sample >= 0:
            found.setdefault(sample, F.normalize(row.double(), dim=0))
    return found


def altered(monkeypatch, change):
    """Let the space have a changed table."""
    real = Space.table
    monkeypatch.setattr(Space, "table", lambda self, *args, **settings: change(real(self, *args, **settings)))


def with_rows(table: Embeddings, m: str, values: torch.Tensor, sample: torch.Tensor) -> Embeddings:
    rows = {**table.rows, m: Rows(values, sample)}
    return Embeddings(rows, table.ids, table.position, table.labels, table.source)


def test_names_and_intervals(shards):
    _, found = measure(shards)
    pairs = ("audio+image", "audio+text", "image+text")
    expected = [f"geometry/{m}/{name}" for m in ("audio", "image", "text") for name in SINGLE]
    assert list(found.scores) == expected + [f"geometry/{pair}/{name}" for pair in pairs for name in PAIR]
    for name, value in found.scores.items():
        if name.endswith(("_p", "_chance")):
            assert name not in found.samples
            continue
        values, samples = found.samples[name]
        assert float(values.mean()) == pytest.approx(value, abs=1e-12)
        assert len(values) == len(samples)
        low, high = found.intervals[name]
        assert low <= value <= high
    assert found.protocol["geometry"]["counts"]["samples"] == {"audio+image": 28, "audio+text": 29, "image+text": 29}
    assert found.protocol["geometry"]["counts"]["rows"] == {"audio": 29, "image": 29, "text": 31}
    assert set(FACTS) < set(found.protocol["geometry"])
    _, quiet = measure(shards, draws=0)
    assert quiet.intervals == {}
    assert quiet.scores == found.scores
    assert json.loads(json.dumps(found.protocol)) == found.protocol


def test_pairs_are_the_first_rows_of_samples_that_have_both(shards):
    space, found = measure(shards)
    a, b = (firsts(space.table(), m) for m in ("image", "text"))
    both = sorted(set(a) & set(b))
    x, y = torch.stack([a[i] for i in both]), torch.stack([b[i] for i in both])
    assert found.samples["geometry/image+text/knn"][1].tolist() == both
    assert found.scores["geometry/image+text/gap"] == pytest.approx(float((x.mean(0) - y.mean(0)).norm()))
    assert found.scores["geometry/image+text/alignment"] == pytest.approx(float((x - y).square().sum(1).mean()))
    assert found.scores["geometry/image+text/knn_chance"] == pytest.approx(3 / (len(both) - 1))
    told = found.samples["geometry/image+text/separability"][1].tolist()
    assert told == [sample for sample in both for _ in range(2)]
    near = []
    for rows in (x, y):
        cosines = (rows @ rows.T).float().fill_diagonal_(-9)
        near.append([{j for j, v in enumerate(row) if sum(w >= v for w in row) <= 3} for row in cosines.tolist()])
    expected = sum(len(p & q) / 3 for p, q in zip(*near, strict=True)) / len(both)
    assert found.scores["geometry/image+text/knn"] == pytest.approx(expected)
    texts = F.normalize(space.table()["text"].values.double(), dim=1)  # all 31, the two captions of a sample too
    distances = [2 - 2 * float(p @ q) for i, p in enumerate(texts) for j, q in enumerate(texts) if i != j]
    expected = math.log(sum(math.exp(-2 * d) for d in distances) / len(distances))
    assert found.scores["geometry/text/uniformity"] == pytest.approx(expected, abs=1e-6)


def test_a_sample_of_rsa_is_seeded_and_stated(shards):
    from scipy.stats import spearmanr

    space, found = measure(shards, rows=12)
    values, samples = found.samples["geometry/audio+image/rsa"]
    assert len(values) == 12
    assert found.protocol["geometry"]["RSA samples at most"] == 12
    assert found.protocol["geometry"]["counts"]["RSA samples"]["audio+image"] == 12
    flat = []
    for m in ("audio", "image"):
        rows = firsts(space.table(), m)
        some = [rows[i] for i in samples.tolist()]
        flat.append([float(np.float32(1 - p @ q)) for i, p in enumerate(some) for q in some[:i]])
    assert found.scores["geometry/audio+image/rsa"] == pytest.approx(spearmanr(*flat).statistic, abs=1e-9)
    assert measure(shards, rows=12)[1].scores == found.scores


def test_section_has_every_score_once(shards):
    _, found = measure(shards)
    tables = [block for block in found.section.blocks if isinstance(block, Table)]
    cells = [cell for table in tables for row in table.rows for cell in row if isinstance(cell, tuple)]
    assert sorted(cell.value for cell in cells) == sorted(found.scores.values())
    assert {(cell.value, cell.interval) for cell in cells} == {
        (value, found.intervals.get(name)) for name, value in found.scores.items()
    }
    titles = [lines("Geometry", block).title for block in found.section.blocks]
    assert len(set(titles)) == len(titles)
    (scatter,) = [block for block in found.section.blocks if isinstance(block, Scatter)]
    assert {m: len(points) for m, points in scatter.groups.items()} == {"audio": 29, "image": 29, "text": 31}
    histograms = [block for block in found.section.blocks if isinstance(block, Histogram)]
    assert len(histograms) == 3
    for one in histograms:
        assert len(one.edges) == 41
        assert [sum(shares) for shares in one.shares.values()] == pytest.approx([1, 1])
        middles = [(a + b) / 2 for a, b in pairwise(one.edges)]
        mean = sum(m * s for m, s in zip(middles, one.shares["matching pairs"], strict=True))
        others = sum(m * s for m, s in zip(middles, one.shares["other pairs"], strict=True))
        assert others < mean - 0.3
        pair = one.title.removeprefix("Cosines of ").replace(" and ", "+")
        assert mean == pytest.approx(1 - found.scores[f"geometry/{pair}/alignment"] / 2, abs=0.05)


def test_prototypes_and_outliers(shards):
    space, found = measure(shards)
    table = space.table()
    shown = [block for block in found.section.blocks if isinstance(block, Gallery)]
    assert len(shown) == 9  # three modalities: each alone, by kind and by half
    rows = [(table.ids[s], row) for s, row in firsts(table, "audio").items()]
    depths = {key: 1 + sum(float(row @ other) for k, other in rows if k != key) / 28 for key, row in rows}
    order = sorted(depths, key=lambda key: -depths[key])
    assert list(shown[0].keys) == [*order[:3], *order[:-4:-1]]
    assert shown[0].captions[order[0]] == f"audio: prototype, depth {depths[order[0]]:.3f}"
    assert shown[0].captions[order[-1]] == f"audio: outlier, depth {depths[order[-1]]:.3f}"
    kinds = next(block for block in shown if any("of bbb" in text for text in block.captions.values()))
    inside = [(key, row) for key, row in rows if int(key) % 6 == 0]
    within = {key: sum(float(row @ other) for k, other in inside if k != key) for key, row in inside}
    best = max(within, key=lambda key: within[key])
    assert kinds.captions[best] == f"audio: prototype of bbb, depth {1 + within[best] / 4:.3f}"
    assert sum("outlier" in text for text in kinds.captions.values()) == 4


# another model


class Turned(torch.nn.Module):
    """A head that turns all rows, which changes no neighbour."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        q = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q
        self.turn = torch.nn.Buffer(q)

    def forward(self, features, tokens=False):
        return features.pooled @ self.turn


def other_model(*modalities: str) -> JointModel:
    towers = {m: tower for m, tower in tiny_space.model().towers.items() if m in modalities}
    if "audio" in towers:
        towers["audio"].head = Turned(8, 8)
    return JointModel(towers, 8).eval()


def test_neighbours_in_another_model(shards):
    _, found = measure(shards, against=other_model("audio", "text"), against_name="turned")
    assert found.scores["geometry/audio/knn_against_turned"] == 1
    assert "geometry/image/knn_against_turned" not in found.scores
    assert "geometry: turned has no tower for image: it is not compared" in found.protocol["notes"]
    assert any("of the nearest rows of text tie with the next one" in note for note in found.protocol["notes"])
    assert 0 < found.scores["geometry/text/knn_against_turned"] < 1  # captions that tie are nobody's neighbours
    assert found.protocol["geometry"]["against"]["name"] == "turned"
    assert found.protocol["geometry"]["counts"]["samples"]["audio against turned"] == 29
    towers = tiny_space.model().towers
    with pytest.raises(ValueError, match="other embeds audio, and the model text: they share no modality to compare"):
        measure(shards, JointModel({"text": towers["text"]}, 8).eval(), against=other_model("audio"))


def test_samples_of_two_models_are_matched_by_position():
    """The other table has no sample of the first two positions."""
    values = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))

    def part(some):
        rows = Rows(values[some], torch.arange(len(some)))
        table = Embeddings({"image": rows}, [f"{i}" for i in some], torch.tensor(some), [], [])
        return read_parts(table)[0]["image"]

    found, later = Measured(), list(range(2, 20))
    measure_against(found, "image", part(list(range(20))), part(later), list(range(20)), later, "other", 3)
    assert found.scores == {"geometry/image/knn_against_other": 1}
    assert found.samples["geometry/image/knn_against_other"][1].tolist() == later


# a given matrix


def test_a_given_matrix_by_keys_and_by_order(shards, tmp_path):
    from scipy.stats import spearmanr

    space, plain = measure(shards)
    g = np.random.default_rng(0)
    values = g.random((30, 30))
    values = np.triu(values, 1) + np.triu(values, 1).T
    np.save(tmp_path / "m.npy", values)
    order = g.permutation(30)[:20]
    lines = [["", *(f"{i:04d}" for i in order)]]
    lines += [[f"{i:04d}", *map(repr, values[i, order].tolist())] for i in order]
    (tmp_path / "m.csv").write_text("\n".join(",".join(line) for line in lines))
    (tmp_path / "plain.csv").write_text("\n".join(",".join(map(repr, row.tolist())) for row in values))
    rows = firsts(space.table(), "audio")
    for name, kept in (("m.npy", range(30)), ("plain.csv", range(30)), ("m.csv", order.tolist())):
        _, found = measure(shards, matrix=read_matrix(tmp_path / name))
        some = [i for i in kept if i in rows]
        ours = [1 - float(rows[i] @ rows[j]) for n, i in enumerate(some) for j in some[:n]]
        given = [values[i, j] for n, i in enumerate(some) for j in some[:n]]
        assert found.scores["geometry/audio/rsa_given"] == pytest.approx(spearmanr(ours, given).statistic, abs=1e-6)
        assert 0 < found.scores["geometry/audio/rsa_given_p"] <= 1
        assert found.protocol["geometry"]["counts"]["RSA samples"]["audio and the given matrix"] == len(some)
        assert found.scores.items() > plain.scores.items()
    same = torch.stack([rows.get(i, torch.zeros(8, dtype=torch.float64)) for i in range(30)])
    _, found = measure(shards, matrix=GivenMatrix((1 - same @ same.T).float().fill_diagonal_(0)))
    assert found.scores["geometry/audio/rsa_given"] == pytest.approx(1)
    assert found.scores["geometry/audio/rsa_given_p"] == 0.05


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.npy", np.zeros((3, 4)), "has the shape (3, 4); dissimilarities of n samples are (n, n)"),
        ("m.npy", np.eye(4), "is not 0 on its diagonal"),
        ("m.npy", np.triu(np.ones((4, 4)), 1), "is not symmetric"),
        ("m.npy", np.full((4, 4), np.nan), "has numbers that are not finite"),
        ("m.npy", b"none", "is no .npy file of numbers"),
        ("m.npy", np.array([["a"]]), "is no .npy file of numbers"),
        ("m.txt", b"", "is no .npy and no .csv file of a matrix"),
        ("m.csv", b"0,1\n1", "row 2 is not 2 numbers"),
        ("m.csv", b"0,x\n1,0", "row 1 is not 2 numbers"),
        ("m.csv", b",a,b\na,0,1\nc,1,0", "the keys of its lines are not those of its first line"),
        ("m.csv", b",a,a\na,0,1\na,1,0", "has a key two times"),
        ("m.csv", b"", "has the shape"),
        ("", b"", "there is no file"),
    ],
)
def test_a_file_that_is_no_matrix_is_refused(tmp_path, name, content, says):
    path = tmp_path / (name or "absent.npy")
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif name:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        read_matrix(path)
    assert "\n" not in str(refused.value)


def test_a_matrix_of_other_samples_is_refused(shards):
    with pytest.raises(ValueError, match="it is 5 x 5, and the evaluation has 30 samples; give a"):
        measure(shards, matrix=GivenMatrix(torch.zeros(5, 5), source="it"))
    with pytest.raises(ValueError, match="no sample has one of its keys, such as 'a'"):
        measure(shards, matrix=GivenMatrix(torch.zeros(4, 4), list("abcd")))
    _, found = measure(shards, matrix=GivenMatrix(torch.zeros(4, 4), ["0000", "0001", "x", "y"], "m.csv"))
    assert "geometry of audio and m.csv: 2 samples have both, and it needs 4" in found.protocol["notes"]


# bad input


def test_rows_that_are_not_finite_are_left_out_and_said(shards, monkeypatch):
    _, good = measure(shards)

    def spoil(table):
        values = table["image"].values.clone()
        values[2, 1], values[7, 0] = math.nan, math.inf
        return with_rows(table, "image", values, table["image"].sample)

    altered(monkeypatch, spoil)
    _, found = measure(shards)
    assert "geometry: 2 of 29 rows of image are not finite: they are left out" in found.protocol["notes"]
    assert found.protocol["geometry"]["counts"]["rows"]["image"] == 27
    assert all(math.isfinite(value) for value in found.scores.values())
    assert found.scores["geometry/audio+text/cka"] == good.scores["geometry/audio+text/cka"]


def test_modalities_with_few_rows_get_a_note(shards, monkeypatch):
    def cut(table):
        few = with_rows(table, "image", table["image"].values[:0], table["image"].sample[:0])
        return with_rows(few, "audio", table["audio"].values[:5], table["audio"].sample[:5])

    altered(monkeypatch, cut)
    _, found = measure(shards)
    assert "geometry of image is not measured: it has 0 rows, and needs 4" in found.protocol["notes"]
    assert {name.split("/")[1] for name in found.scores} == {"audio", "text", "audio+text"}
    assert found.protocol["geometry"]["counts"]["k"]["audio+text"] == 3
    monkeypatch.undo()
    altered(monkeypatch, lambda table: with_rows(table, "image", table["image"].values[:5], torch.full((5,), -1)))
    _, found = measure(shards)  # hard negatives are rows of no sample
    assert "geometry of image is not measured: it has 0 rows, and needs 4" in found.protocol["notes"]
    monkeypatch.undo()

    def split(table):
        early = with_rows(table, "image", table["image"].values[:6], table["image"].sample[:6])
        return with_rows(early, "audio", table["audio"].values[-6:], table["audio"].sample[-6:])

    altered(monkeypatch, split)
    _, found = measure(shards)
    assert "geometry of audio+image is not measured: 0 samples have both, and it needs 4" in found.protocol["notes"]


def test_a_constant_space(shards, monkeypatch):
    def flatten(table):
        for m in ("audio", "image"):
            table = with_rows(table, m, torch.full_like(table[m].values, 0.3), table[m].sample)
        return table

    altered(monkeypatch, flatten)
    _, found = measure(shards)
    pair = {name: found.scores[f"geometry/audio+image/{name}"] for name in PAIR}
    assert pair | {"knn_chance": 0} == {**dict.fromkeys(PAIR, 0), "rsa_p": 1}
    single = [found.scores[f"geometry/audio/{name}"] for name in SINGLE]
    assert single == pytest.approx([0, 1, 0, 2], abs=1e-5)


def test_settings_are_checked():
    for settings in ({"k": 0}, {"rows": 3}, {"rows": 2001}, {"permutations": 0}):
        with pytest.raises(ValueError, match="geometry takes k >= 1"):
            Geometry(**settings)


# the command


def test_the_command(shards, tmp_path, capsys):
    align.save(tiny_space.model("pairwise"), tmp_path / "model")
    align.save(tiny_space.model(), tmp_path / "other one")
    args = ["evaluate", str(tmp_path / "model"), str(tmp_path / "s" / "t.tar"), "--with", "geometry", "--draws", "20"]
    args += ["--allow", "tiny_space", "--no-report", "--json", "--permutations", "19"]
    np.save(tmp_path / "m.npy", 1 - np.eye(30))
    more = ["--mutual-k", "3", "--against", str(tmp_path / "other one"), "--rsa-matrix", str(tmp_path / "m.npy")]
    assert main([*args, *more]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["geometry/audio/knn_against_other_one"] == 1
    assert results["geometry/audio/rsa_given"] == 0  # all dissimilarities of the matrix are the same
    assert results["geometry/audio/rsa_given_p"] == 1
    assert results["protocol"]["geometry"]["k"] == 3
    assert "geometry/image+text/cka" in results["intervals"]
    for options, code, says in (
        (["--rsa-matrix", str(tmp_path / "none.npy")], 1, "align: --rsa-matrix: there is no file"),
        (["--against", str(tmp_path / "none")], 1, "align: --against: "),
        (["--mutual-k", "0"], 2, "align: --mutual-k and --permutations are 1 at least"),
    ):
        assert main([*args, *options]) == code
        error = capsys.readouterr().err
        assert error.startswith(says)
        assert error.count("\n") == 1


def test_the_evaluator_by_name(shards):
    results = evaluate(tiny_space.model(), shards, with_=["geometry"], draws=10)
    assert all(name.startswith("geometry/") for name in results.scores)
    assert set(results.intervals) == set(results.samples)


def test_equal_rows_are_one_prototype(shards, monkeypatch):
    def repeat(table):
        return with_rows(table, "audio", table["audio"].values[[0] * 12 + list(range(1, 18))], table["audio"].sample)

    altered(monkeypatch, repeat)
    space, found = measure(shards)
    table = space.table()
    (alone, *_) = [block for block in found.section.blocks if isinstance(block, Gallery)]
    same = {table.ids[int(sample)] for sample in table["audio"].sample[:12]}
    assert len(alone.keys) == 6
    assert set(alone.keys[:1]) == same & set(alone.keys)  # twelve equal rows are the deepest, and one prototype
