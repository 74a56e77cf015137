"""Zero-shot: classes counted alike, confidence, several classes a sample; scikit-learn and loops are the oracles."""

from __future__ import annotations

import json
import math
from importlib import import_module

import numpy as np
import pytest
import tiny_space
import torch

from align.data import Shards
from align.evaluation import Space, ZeroShot, class_prompts
from align.page.section import Bars, Confusions, Table

against_rest, answers, section = (
    import_module(f"align.evaluation.{name}") for name in ("against_rest", "answers", "zeroshot_section")
)
KINDS = tiny_space.classes


def space(tmp_path, change=None, terms=("pairwise",), n=24, **settings) -> Space:
    """A space of n samples. change: (i, members) -> the label of sample i."""
    samples = tiny_space.world(n, noise=0.6)
    for i, (_, members) in enumerate(samples.items()):
        if change is not None:
            members["json"] = json.dumps({"label": change(i, members)}).encode()
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", samples)
    return Space(tiny_space.model(*terms), Shards(str(path), shuffle=False), **settings)


def image_scores(made: Space, classes=KINDS, keep=lambda i: i != 5) -> tuple[torch.Tensor, list[int]]:
    """Scores (q, C) of images by a plain product at the trained scale, and the sample of each."""
    rows, prompts = made.table()["image"], class_prompts(made.model, classes)
    kept = [(v, s) for v, s in zip(rows.values, rows.sample.tolist(), strict=True) if keep(s)]
    return 10 * torch.stack([prompts @ v for v, _ in kept]), [s for _, s in kept]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_one_class_a_sample(tmp_path):
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix

    made = space(tmp_path)
    found = ZeroShot().run(made)
    scores, samples = image_scores(made)
    target, answer = [s % 6 for s in samples], scores.argmax(dim=1).tolist()
    prefix = "zeroshot/kind/image/"
    assert found.scores[prefix + "accuracy"] == pytest.approx(np.mean(np.equal(target, answer)))
    assert found.scores[prefix + "mean_per_class"] == pytest.approx(balanced_accuracy_score(target, answer))
    shares = torch.softmax(scores.double(), dim=1).amax(dim=1).tolist()
    error = 0.0
    for b in range(15):
        inside = [i for i, share in enumerate(shares) if b / 15 < share <= (b + 1) / 15]
        error += abs(sum(shares[i] - (target[i] == answer[i]) for i in inside)) / len(shares)
    assert found.scores[prefix + "ece"] == pytest.approx(error, abs=1e-6)
    assert prefix + "map" not in found.scores
    assert found.section is not None
    (confused,) = (b for b in found.section.details if isinstance(b, Confusions) and b.title == "kind from image")
    assert confused.names == KINDS
    assert confused.counts == confusion_matrix(target, answer).tolist()
    (table,) = (b for b in found.section.details if isinstance(b, Table) and b.head[0] == "kind from image")
    counts = np.array(confused.counts)
    assert table.head == ["kind from image", "samples", "recall", "precision", "taken for"]
    for c, (name, support, recall, precision, wrong) in enumerate(table.rows):
        assert (name, support) == (KINDS[c], counts[c].sum())
        assert recall.value == pytest.approx(counts[c, c] / counts[c].sum())
        assert recall.interval[0] < recall.value <= recall.interval[1]
        assert precision.value == pytest.approx(counts[c, c] / counts[:, c].sum())
        others = np.delete(counts[c], c)
        assert wrong == "" if not others.any() else wrong.endswith(f"({others.max()})")
    assert [b.metric for b in found.section.details if isinstance(b, Bars)] == ["recall of half", "recall of kind"]


def test_each_score_has_its_statistic_and_its_interval(tmp_path):
    made = space(tmp_path, draws=50)
    found = ZeroShot(specificity=0.8).run(made)
    assert set(found.samples) == {key for key in found.scores if not key.endswith("/chance")}
    for key, (values, sample) in found.samples.items():
        one = torch.ones(1, len(sample), dtype=torch.float64)
        statistic = found.statistics[key]
        assert float(statistic(values, one)) == pytest.approx(found.scores[key], abs=1e-6), key
        low, high = found.intervals[key]
        assert low <= found.scores[key] <= high or key.endswith("/ece"), key  # an ECE of few rows is biased upwards
    silent = ZeroShot().run(space(tmp_path / "silent", draws=0))
    assert not silent.intervals
    assert {k: v for k, v in found.scores.items() if "@spec" not in k} == pytest.approx(silent.scores)


def test_two_classes_are_set_against_each_other(tmp_path):
    from sklearn.metrics import average_precision_score, roc_auc_score

    made = space(tmp_path, lambda i, _: KINDS[i % 2 * 3], classes=[KINDS[0], KINDS[3]])
    found = ZeroShot(specificity=0.75).run(made)
    scores, samples = image_scores(made, [KINDS[0], KINDS[3]], lambda i: True)
    apart = (scores[:, 1] - scores[:, 0]).numpy()
    second = np.array([s % 2 for s in samples])
    assert found.scores["zeroshot/label/image/auroc"] == pytest.approx(roc_auc_score(second, apart), abs=1e-6)
    both = [average_precision_score(second, apart), average_precision_score(1 - second, -apart)]
    assert found.scores["zeroshot/label/image/map"] == pytest.approx(np.mean(both), abs=1e-6)
    assert 0 < found.scores["zeroshot/label/image/sensitivity@specificity0.75"] <= 1
    assert found.protocol["zeroshot"]["against the rest"] == {"label": "the class's score less the best other one"}


@pytest.mark.parametrize("resampled", [1 << 17, 0])
def test_several_classes_a_sample(tmp_path, monkeypatch, resampled):
    """An empty class, holes and negative scores. Above the limit the intervals are those of influences."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    monkeypatch.setattr(against_rest, "RESAMPLED", resampled)
    monkeypatch.setattr(against_rest, "CELLS", 50)  # two classes at a time, and some rows
    pick = {i: [KINDS[i % 6], KINDS[(i * i) % 5]] for i in range(24)} | {7: None}
    made = space(tmp_path, lambda i, _: pick[i], classes=[*KINDS, "hhh"], terms=(), n=24)
    found = ZeroShot(specificity=0.7).run(made)
    names = [*KINDS, "hhh"]
    scores, samples = image_scores(made, names, lambda i: i != 7)
    members = np.array([[c in (pick[s] or ()) for c in names] for s in samples])
    aps = [average_precision_score(members[:, c], scores[:, c]) for c in range(7) if members[:, c].any()]
    areas = [roc_auc_score(members[:, c], scores[:, c]) for c in range(7) if members[:, c].any()]
    prefix = "zeroshot/label/image/"
    assert len(aps) == 6
    assert found.scores[prefix + "map"] == pytest.approx(np.mean(aps), abs=1e-6)
    assert found.scores[prefix + "auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert prefix + "mean_per_class" not in found.scores
    assert any(note.startswith("label: samples have several of its classes") for note in found.protocol["notes"])
    for key in ("map", "auroc", "sensitivity@specificity0.7"):
        values, sample = found.samples[prefix + key]
        assert values.shape == ((23 - 1, 2, 7) if resampled else (23 - 1,))
        assert sample.tolist() == samples
        if not resampled:
            assert float(values.double().mean()) == pytest.approx(found.scores[prefix + key], abs=1e-6)
        low, high = found.intervals[prefix + key]
        assert low < found.scores[prefix + key] < high
    assert found.section is not None
    assert not any(isinstance(b, Confusions) for b in found.section.details)
    table = next(b for b in found.section.details if isinstance(b, Table) and b.head[0] == "label from image")
    assert table.head[1:] == ["samples", "average precision", "AUROC", "sensitivity@specificity0.7"]
    assert [row[1] for row in table.rows] == members.sum(axis=0).tolist()
    assert table.rows[2][2] == pytest.approx(aps[2], abs=1e-6)
    assert table.rows[6][2:] == ["", "", ""]


@pytest.mark.parametrize("several", [False, True])
def test_a_constant_space_scores_nothing(tmp_path, several):
    made = space(tmp_path, lambda i, _: [KINDS[i % 6], KINDS[0]] if several else KINDS[i % 6])
    for rows in made.table().values():
        rows.values[:] = torch.ones(8) / math.sqrt(8)
    with torch.no_grad():
        found = ZeroShot(specificity=0.9).run(made)
    scores = {key.rpartition("/")[2]: value for key, value in found.scores.items() if "/image/" in key}
    assert scores["accuracy"] == scores["accuracy@5"] == 0 or several
    if several:
        assert scores["auroc"] == 0.5
        shares = [1.0] + [len([i for i in range(24) if i % 6 == c and i != 4]) / 23 for c in range(1, 6)]
        assert scores["map"] == pytest.approx(np.mean(shares))
    else:
        assert scores["mean_per_class"] == 0
        assert scores["sensitivity@specificity0.9"] == 0
        (table,) = (b for b in found.section.details if isinstance(b, Table) and b.head[0] == "label from image")
        assert [row[2].value for row in table.rows] == [0] * 6


def test_no_scale_no_calibration(tmp_path):
    found = ZeroShot().run(space(tmp_path))
    assert "zeroshot/kind/image/ece" in found.scores
    assert "zeroshot/kind/audio/ece" not in found.scores
    assert found.protocol["zeroshot"]["rule"] == {"image": "objective", "audio": "cosine"}
    note = found.protocol["notes"][-1]
    assert note.startswith("ece of audio is not measured: no trained term joins it with text alone")


def test_blocks_change_nothing(tmp_path, monkeypatch):
    made = space(tmp_path, draws=0)
    whole = ZeroShot(specificity=0.8).run(made)
    monkeypatch.setattr(answers, "cells", 14)
    monkeypatch.setattr(against_rest, "CELLS", 30)
    monkeypatch.setattr(against_rest, "ROWS", 4)
    parts = ZeroShot(specificity=0.8).run(made)
    assert parts.scores == pytest.approx(whole.scores, abs=1e-12)


def test_ties_have_no_answer_and_are_counted():
    table = torch.eye(3, dtype=torch.bool)
    query = {"image": torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])}
    each = torch.arange(3)
    found = answers.answer(query, each, torch.eye(3), table, each, terms=(), text="text")
    assert found.answer.tolist() == [0, -1, 2]
    assert found.rank.tolist() == [1, 2, 1]
    assert found.confidence is None
    assert found.support.tolist() == [1, 1, 1]


def test_many_classes_are_listed_by_their_recall(tmp_path, monkeypatch):
    monkeypatch.setattr(section, "DRAWN", 5)
    monkeypatch.setattr(section, "LISTED", 4)
    found = ZeroShot().run(space(tmp_path))
    assert found.section is not None
    blocks = {b.head[0]: b for b in found.section.details if isinstance(b, Table) and "samples" in b.head[:2]}
    table = blocks["kind from image, 4 of 6 classes"]
    recalls = [row[2].value for row in table.rows]
    assert recalls == sorted(recalls)
    assert not any(b.title.startswith("kind") for b in found.section.details if isinstance(b, Confusions))
    largest = next(b for b in found.section.details if isinstance(b, Table) and b.head[0] == "kind from image")
    assert largest.head[1:] == ["taken for", "samples", "share of the class"]
    wrong = [row[2] for row in largest.rows]
    assert wrong == sorted(wrong, reverse=True)
    prefix = "zeroshot/kind/image/"
    values, _ = found.samples[prefix + "accuracy"]
    assert sum(wrong) == int((values == 0).sum())


def test_a_specificity_outside_is_refused():
    for bad in (0.0, 1.0, 7.0):
        with pytest.raises(ValueError, match="a specificity lies between 0 and 1"):
            ZeroShot(specificity=bad)
