"""Intervals: Wilson's and the bootstrap beside SciPy's, queries of one sample together, and the file of samples."""

from __future__ import annotations

import json
import math

import pytest
import tiny_space
import torch

from align.data import Shards
from align.evaluation import Findings, evaluate, write_results
from align.evaluation.samples import intervals, proportion, read_samples, write_samples
from align.metrics.intervals import bootstrap, draw_weights, percentiles, weighted_mean, wilson
from align.seeds import generator


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (8, 10), (5, 5), (37, 400), (1, 1)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilson_is_scipys(hits, n, level):
    from scipy.stats import binomtest

    theirs = binomtest(hits, n).proportion_ci(level, method="wilson")
    assert wilson(hits, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_of_a_mean_is_scipys():
    from scipy.stats import bootstrap as theirs

    x = torch.rand(300, generator=generator("x")).double() ** 3
    ours = bootstrap(x, torch.arange(300), draws=4000, generator=generator("b"))
    found = theirs((x.numpy(),), lambda x, axis: x.mean(axis), n_resamples=4000, method="percentile", rng=1)
    width = found.confidence_interval.high - found.confidence_interval.low
    assert ours == pytest.approx(tuple(found.confidence_interval), abs=0.05 * width)


def test_the_bootstrap_of_any_statistic_is_scipys():
    from scipy.stats import bootstrap as theirs

    x = torch.rand(101, generator=generator("x")).double() ** 2

    def weighted_median(values, weights):  # the lowest value with half of the weight at or below it
        order = values.argsort()
        below = weights[:, order].cumsum(1) >= weights.sum(1, keepdim=True) / 2
        return values[order][below.double().argmax(1)]

    ours = bootstrap(x, torch.arange(101), weighted_median, draws=4000, generator=generator("b"))
    found = theirs(
        (x.numpy(),), lambda x, axis: __import__("numpy").median(x, axis), n_resamples=4000, rng=1, method="percentile"
    ).confidence_interval
    assert ours == pytest.approx((found.low, found.high), abs=0.1 * (found.high - found.low))


def test_queries_of_a_sample_are_drawn_together():
    sample = torch.tensor([0, 0, 0, 3, 3, 7])
    for weights in draw_weights(sample, 50, generator("w")):
        assert weights.shape == (50, 6)
        assert torch.equal(weights[:, 0], weights[:, 1])
        assert torch.equal(weights[:, 3], weights[:, 4])
        assert torch.equal(weights[:, [0, 3, 5]].sum(1), torch.full((50,), 3.0).double())


def test_five_equal_captions_of_a_sample_are_one_unit():
    """Queries that are copies of one another do not narrow the interval; as units of their own they would."""
    x = torch.rand(60, generator=generator("x")).double()
    five, sample = x.repeat_interleave(5), torch.arange(60).repeat_interleave(5)
    one = intervals({"s": (x, torch.arange(60))}, {}, draws=1000, seed=0)["s"]
    together = intervals({"s": (five, sample)}, {}, draws=1000, seed=0)["s"]
    assert together == pytest.approx(one, abs=1e-12)
    apart = intervals({"s": (five, torch.arange(300))}, {}, draws=1000, seed=0)["s"]
    assert apart[1] - apart[0] < 0.6 * (one[1] - one[0])


def test_means_computed_together_are_those_computed_alone():
    sample = torch.tensor([0, 1, 1, 2, 4, 4, 4, 5])
    values = {f"s{i}": (torch.rand(8, generator=generator("v", i)), sample) for i in range(3)}
    both = intervals(values, {}, draws=500, seed=3)
    for name, (value, _) in values.items():
        alone = bootstrap(value, sample, draws=500, generator=generator("bootstrap", 3))
        assert both[name] == pytest.approx(alone, abs=1e-12)


def test_an_accuracy_has_wilsons_interval_where_each_sample_asks_one_time():
    right = torch.tensor([1.0, 0, 1, 1])
    found = intervals({"a": (right, torch.arange(4))}, {"a": proportion}, draws=10, seed=0)
    assert found["a"] == wilson(3, 4)
    several = intervals({"a": (right, torch.tensor([0, 0, 1, 1]))}, {"a": proportion}, draws=400, seed=0)
    assert several["a"] == (0.5, 1.0)  # two samples, of .5 and 1


def test_what_is_no_number_has_no_interval():
    assert all(map(math.isnan, percentiles(torch.tensor([math.nan, math.inf]), 0.95)))
    nothing = torch.zeros(0, dtype=torch.long)
    assert intervals({"s": (torch.zeros(0), nothing)}, {}, draws=10, seed=0) == {}
    assert intervals({"s": (torch.ones(2), torch.arange(2))}, {}, draws=0, seed=0) == {}


def test_most_intervals_hold_the_true_value():
    """Of 200 sets of 40 drawn from a mean of .3, about 95 % of the intervals hold it, and not all."""
    held = 0
    for i in range(200):
        x = (torch.rand(40, generator=generator("draw", i)) < 0.3).double()
        low, high = bootstrap(x, torch.arange(40), draws=300, generator=generator("boot", i))
        held += low <= 0.3 <= high
    assert 176 <= held <= 198


def test_a_file_of_samples_comes_back(tmp_path):
    one, other = torch.tensor([0, 2]), torch.tensor([1, 1, 2])
    samples = {
        "a/recall@1": (torch.tensor([1.0, 0.0]), one),
        "b/map": (torch.tensor([0.5, 0.25, 1.0]), other),
        "b/auroc": (torch.rand(3, 4), other),
    }
    path = write_samples(tmp_path, samples, ["k0", "ключ", "k0"], {"b/auroc": lambda v, w: v, "a/recall@1": proportion})
    stored = read_samples(path)
    assert stored.ids == ["k0", "ключ", "k0"]
    assert stored.means == {"a/recall@1", "b/map"}
    for name, (value, sample) in samples.items():
        assert torch.equal(stored.values[name][0], value)
        assert torch.equal(stored.values[name][1], sample)


def test_another_file_is_no_file_of_samples(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.safetensors is no file of samples"):
        read_samples(tmp_path / "x.safetensors")


def test_every_score_of_the_first_evaluators_has_an_interval_around_it(tmp_path):
    tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", tiny_space.world())
    shards = Shards(str(tmp_path / "s" / "test-*.tar"), shuffle=False)
    results = evaluate(tiny_space.model("pairwise"), shards, draws=200)
    scored = {name for name in results.scores if name.split("/")[-1].split("@")[0] in ("accuracy", "recall")}
    assert scored <= set(results.intervals)
    for name, (low, high) in results.intervals.items():
        assert low <= results.scores[name] <= high
    again = evaluate(tiny_space.model("pairwise"), shards, draws=200, batch=7)
    assert again.intervals == results.intervals
    assert evaluate(tiny_space.model("pairwise"), shards, draws=0).intervals == {}
    path = write_results(results, tmp_path / "out")
    stored = read_samples(path.with_name("samples.safetensors"))
    assert stored.ids == results.embeddings.ids
    for name in stored.means:
        assert float(stored.values[name][0].double().mean()) == pytest.approx(results.scores[name], abs=1e-6)
    assert results.protocol["without intervals"] == ["chance"]
    assert {name.rpartition("/")[2] for name in results.scores.keys() - results.intervals.keys()} == {"chance"}
    assert json.loads(path.read_text())["protocol"]["intervals"] == (
        "95%, bootstrap over samples, 200 draws; accuracies: Wilson"
    )


class Wide:
    """An evaluator that has its own interval for one score, none for another, and one for a score that it lacks."""

    name = "wide"

    def run(self, space):
        values = (torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
        scores = {"wide/a": 0.5, "wide/b": 0.5, "wide/c": 7.0}
        return Findings(
            scores,
            samples={"wide/a": values, "wide/b": values},
            intervals={"wide/a": (-1.0, 2.0), "wide/gone": (0.0, 1.0)},
        )


def test_an_evaluators_interval_stays(tmp_path):
    tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", tiny_space.world())
    shards = Shards(str(tmp_path / "s" / "test-*.tar"), shuffle=False)
    found = evaluate(tiny_space.model("pairwise"), shards, with_=[Wide()]).intervals
    assert found == {"wide/a": (-1.0, 2.0), "wide/b": (0.0, 1.0)}
    assert weighted_mean(torch.tensor([0.0, 1.0]), torch.ones(1, 2).double()).tolist() == [0.5]
