"""A class against the rest, calibration and means over classes: scikit-learn and plain loops are the oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from align.metrics import (
    auroc,
    average_precision,
    calibration_error,
    mean_per_class,
    sensitivity_at,
)
from align.metrics.binary import count_above, macro, precision_area, roc_area, sensitivity_of
from align.metrics.by_class import count_confusions, weighted_mean_per_class
from align.metrics.calibration import weighted_calibration_error
from align.metrics.influence import precision_influence, roc_influence, sensitivity_influence
from align.metrics.intervals import draw_weights


def rows(seed: int, ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, half of them negative, of 3 to 60 rows, and positives: at least one, and not all."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=rng.integers(3, 60))
    positive = rng.random(len(scores)) < rng.uniform(0.1, 0.9)
    positive[:2] = True, False
    return torch.tensor(np.round(2 * scores) / 2 if ties else scores), torch.tensor(positive)


@pytest.mark.parametrize("ties", [False, True])
def test_scikit_learn_has_the_same_areas(ties):
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    for seed in range(25):
        scores, positive = rows(seed, ties)
        s, y = scores.numpy(), positive.numpy()
        assert average_precision(scores, positive) == pytest.approx(average_precision_score(y, s), abs=1e-12)
        assert auroc(scores, positive) == pytest.approx(roc_auc_score(y, s), abs=1e-12)
        fpr, tpr, _ = roc_curve(y, s, drop_intermediate=False)
        for specificity in (0.5, 0.8, 0.95):
            expected = max(t for f, t in zip(fpr, tpr, strict=True) if 1 - f >= specificity)
            assert sensitivity_at(scores, positive, specificity) == pytest.approx(expected, abs=1e-12)
        drawn = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (len(s), 3))).double()
        drawn[:2] += 1
        counts = count_above(scores, positive, drawn)
        for draw in range(3):
            w = drawn[:, draw].numpy()
            assert precision_area(counts)[draw] == pytest.approx(average_precision_score(y, s, sample_weight=w))
            assert roc_area(counts)[draw] == pytest.approx(roc_auc_score(y, s, sample_weight=w))


def test_a_sensitivity_counts_thresholds_by_hand():
    scores = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    positive = torch.tensor([True, True, False, True, False, False])
    assert sensitivity_at(scores, positive, 0.9) == pytest.approx(2 / 3)  # from the third row a negative is in
    assert sensitivity_at(scores, positive, 2 / 3) == 1
    assert sensitivity_at(-scores, positive, 0.5) == 0
    ten = torch.arange(20.0)
    assert sensitivity_at(ten, torch.arange(20) == 18, 0.95) == 0  # 18 of 19 is below .95
    assert sensitivity_at(torch.arange(21.0), torch.arange(21) == 19, 0.95) == 1  # 19 of 20 is .95
    for bad in (0, 1, -0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match="a specificity lies between 0 and 1"):
            sensitivity_at(scores, positive, bad)


def test_scores_that_say_nothing_and_classes_without_rows():
    flat, positive = torch.zeros(8), torch.arange(8) < 3
    assert average_precision(flat, positive) == 3 / 8
    assert auroc(flat, positive) == 0.5
    assert sensitivity_at(flat, positive, 0.9) == 0
    for empty in (torch.zeros(8, dtype=torch.bool), torch.zeros(0, dtype=torch.bool)):
        scores = torch.randn(len(empty))
        assert all(math.isnan(x) for x in (average_precision(scores, empty), auroc(scores, empty)))
        assert math.isnan(sensitivity_at(scores, empty, 0.9))
    every = torch.ones(4, dtype=torch.bool)
    assert average_precision(torch.randn(4), every) == 1
    assert math.isnan(auroc(torch.randn(4), every))
    with pytest.raises(ValueError, match="a score is NaN"):
        auroc(torch.tensor([0.0, math.nan]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"takes scores \(q,\)"):
        auroc(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool))


@pytest.mark.parametrize("ties", [False, True])
def test_influences_are_slopes_of_the_weights(ties):
    """The mean of the values is the score, and each value a difference quotient of it."""
    for seed in range(12):
        scores, positive = rows(seed, ties)
        q, counts, step = len(scores), count_above(scores, positive), 1e-6
        moved = torch.ones(q, 2 * q, dtype=torch.float64)
        moved[:, :q] += step * torch.eye(q)
        moved[:, q:] -= step * torch.eye(q)
        for measure, influence in ((precision_area, precision_influence), (roc_area, roc_influence)):
            values, score = influence(counts, positive), measure(counts)[0]
            assert values.mean() == pytest.approx(float(score), abs=1e-12)
            up, down = measure(count_above(scores, positive, moved)).split(q)
            assert torch.allclose(values - score, q * (up - down) / (2 * step), atol=1e-6)
        values = sensitivity_influence(0.8)(counts, positive)
        assert values.mean() == pytest.approx(sensitivity_at(scores, positive, 0.8), abs=1e-12)


def test_the_bootstrap_of_a_mean_over_classes_draws_rows_again():
    """Each draw is the score of a table in which a row stands as many times as it was drawn."""
    generator = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(14, 4, generator=generator)).round()
    members = torch.rand(14, 4, generator=generator) < 0.3
    members[:, 2] = False  # an empty class
    sample = torch.arange(14) // 2
    (weights,) = draw_weights(sample, 9, generator)
    for measure, alone in (
        (precision_area, average_precision),
        (roc_area, auroc),
        (sensitivity_of(0.7), lambda s, y: sensitivity_at(s, y, 0.7)),
    ):
        got = macro(measure)(torch.stack([scores, members.float()], dim=1), weights)
        for value, w in zip(got, weights, strict=True):
            again = torch.arange(14).repeat_interleave(w.long())
            expected = [alone(scores[again, c], members[again, c]) for c in range(4)]
            assert float(value) == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_calibration_by_a_plain_loop():
    generator = torch.Generator().manual_seed(1)
    confidence = torch.rand(200, generator=generator).double()
    confidence[:4] = torch.tensor([0.0, 1.0, 1 / 3, 0.2])  # edges belong to the lower bin
    right = torch.rand(200, generator=generator) < confidence
    (weights,) = draw_weights(torch.arange(200), 5, generator)
    weights = torch.cat([torch.ones(1, 200).double(), weights])
    got = weighted_calibration_error(torch.stack([confidence, right.double()], dim=1), weights)
    for value, w in zip(got, weights.tolist(), strict=True):
        error = 0.0
        for b in range(15):
            inside = [i for i, c in enumerate(confidence.tolist()) if (c > b / 15 or b == 0) and c <= (b + 1) / 15]
            n = sum(w[i] for i in inside)
            if n:
                sure = sum(w[i] * float(confidence[i]) for i in inside) / n
                share = sum(w[i] * float(right[i]) for i in inside) / n
                error += n / sum(w) * abs(sure - share)
        assert float(value) == pytest.approx(error, abs=1e-12)
    assert calibration_error(confidence, right) == float(got[0])
    at_edge = calibration_error(torch.tensor([0.5, 0.25, 0.75]), torch.tensor([1, 0, 1]), bins=2)
    assert at_edge == pytest.approx(
        (0.25 + 0.25) / 3
    )  # 0.5 belongs to the lower bin; in the upper one: (0.25 + 0.75) / 3
    assert calibration_error(torch.full((4,), 0.75), torch.tensor([1, 1, 1, 0])) == 0
    assert calibration_error(torch.tensor([0.75, 0.25]), torch.tensor([0, 1]), bins=1) == 0
    with pytest.raises(ValueError, match="a calibration error takes"):
        calibration_error(torch.zeros(2, 2), torch.zeros(2))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classes_count_alike_and_confusions_are_scikit_learns():
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix

    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, 6, (80,), generator=generator)
    target[target == 4] = 0  # a class without a row
    answer = torch.where(
        torch.rand(80, generator=generator) < 0.6, target, torch.randint(0, 6, (80,), generator=generator)
    )
    right = answer == target
    assert mean_per_class(right, target) == pytest.approx(balanced_accuracy_score(target, answer), abs=1e-12)
    (weights,) = draw_weights(torch.arange(80), 4, generator)
    got = weighted_mean_per_class(torch.stack([right.float(), target.float()], dim=1), weights)
    for value, w in zip(got, weights, strict=True):
        again = torch.arange(80).repeat_interleave(w.long())
        recalls = [float(right[again][target[again] == c].double().mean()) for c in set(target[again].tolist())]
        assert float(value) == pytest.approx(sum(recalls) / len(recalls), abs=1e-12)
    counts = torch.zeros(6, 6, dtype=torch.int64)
    for c, a, n in count_confusions(answer, target).tolist():
        counts[c, a] = n
    assert counts.tolist() == confusion_matrix(target, answer, labels=range(6)).tolist()
    n = count_confusions(answer, target)[:, 2].tolist()
    assert n == sorted(n, reverse=True)
    assert count_confusions(torch.tensor([-1, 1, 1]), torch.tensor([0, 0, 0])).tolist() == [[0, 1, 2]]
