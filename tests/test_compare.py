"""Comparison: sign flips and Holm beside SciPy and by hand, pairs by key, and the command on files."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from align.commands import main
from align.evaluation.compare import compare, read_evaluated
from align.evaluation.samples import write_samples
from align.files import write_json
from align.metrics.paired import binomial, holm, sign_flip
from align.seeds import generator


def test_few_samples_are_counted_in_full():
    x = torch.tensor([0.3, -0.1, 0.7, 0.2, 0.0])
    signs = list(itertools.product([-1, 1], repeat=4))
    total = sum(
        abs(sum(s * v for s, v in zip(sign, [0.3, -0.1, 0.7, 0.2], strict=True))) >= 1.1 - 1e-9 for sign in signs
    )
    assert sign_flip(x, generator=generator("s")) == total / 16


def test_sign_flips_are_scipys_permutation_test():
    from scipy.stats import permutation_test

    x = torch.randn(60, generator=generator("x")).double() + 0.25
    theirs = permutation_test(
        (x.numpy(),),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        n_resamples=20000,
        vectorized=True,
        rng=0,
    )
    assert sign_flip(x, draws=20000, generator=generator("s")) == pytest.approx(theirs.pvalue, abs=0.01)


@pytest.mark.parametrize(("hits", "n"), [(9, 10), (5, 10), (0, 3), (400, 1000), (20_100, 40_000)])
def test_right_or_wrong_is_the_exact_binomial_test(hits, n):
    from scipy.stats import binomtest

    assert binomial(hits, n) == pytest.approx(binomtest(hits, n).pvalue, rel=1e-9)
    x = torch.cat([torch.ones(hits), -torch.ones(n - hits), torch.zeros(7)])
    assert sign_flip(x, generator=generator("s")) == binomial(hits, n)


def test_holm_is_statsmodels_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_random_flips_count_both_sides_and_the_data_themselves():
    x = torch.linspace(-1, 1.4, 12).double()
    exact, drawn = (sign_flip(x, draws=draws, generator=generator("s")) for draws in (4096, 4095))
    assert exact > 0.2
    assert drawn == pytest.approx(exact, abs=0.03)
    assert sign_flip(torch.linspace(1, 2, 40), draws=99, generator=generator("s")) == 1 / 100


def test_no_difference_is_no_evidence():
    assert sign_flip(torch.zeros(9), generator=generator("s")) == 1.0


def write(folder, samples, ids, statistics=None, **protocol):
    folder.mkdir(parents=True)
    write_samples(folder, samples, ids, statistics)
    scores = {name: float(value.double().mean()) for name, (value, _) in samples.items() if value.ndim == 1}
    write_json(folder / "results.json", {**scores, "intervals": {}, "protocol": {"hit rule": "sample", **protocol}})
    return str(folder)


def queries(right, sample):
    return torch.tensor(right, dtype=torch.float32), torch.tensor(sample)


def test_pairs_are_found_by_key_whatever_the_order(tmp_path):
    a = write(tmp_path / "a", {"x/recall@1": queries([1, 0, 1, 0], [0, 1, 2, 3])}, ["p", "q", "r", "only a"])
    b = write(tmp_path / "b", {"x/recall@1": queries([1, 1, 1], [2, 0, 1])}, ["r", "q", "p"])
    (found,) = compare([read_evaluated(a), read_evaluated(b)])
    (row,) = found.differences
    assert (row.samples, row.first, row.second) == (3, pytest.approx(2 / 3), 1.0)
    assert row.p == 1.0  # one sample differs: a coin
    assert found.notes == ["3 samples at least are in both, of 4"]


def test_a_score_that_few_samples_have_is_no_sample_left_out(tmp_path):
    asked = {"x/recall@1": queries([1, 0, 1], [0, 1, 2]), "y/recall@1": queries([1], [2])}
    runs = [read_evaluated(write(tmp_path / name, asked, ["p", "q", "r"])) for name in "ab"]
    assert compare(runs)[0].notes == []


def test_captions_of_a_sample_flip_together(tmp_path):
    """Five captions of each of six images, all better by .2: six coins, not thirty."""
    sample = torch.arange(6).repeat_interleave(5)
    low = torch.rand(30, generator=generator("x"))
    ids = [str(i) for i in range(6)]
    a = write(tmp_path / "a", {"t/map": (low, sample)}, ids)
    b = write(tmp_path / "b", {"t/map": (low + 0.2, sample)}, ids)
    (found,) = compare([read_evaluated(a), read_evaluated(b)])
    assert found.differences[0].p == pytest.approx(2 / 2**6)
    assert found.differences[0].difference == pytest.approx(0.2, abs=1e-6)
    assert found.differences[0].interval == pytest.approx((0.2, 0.2), abs=1e-6)


def test_the_correction_is_over_all_differences_of_a_call(tmp_path):
    ids = [str(i) for i in range(12)]
    ones, zeros = queries([1] * 12, range(12)), queries([0] * 12, range(12))
    a = write(tmp_path / "a", {"x/recall@1": zeros, "y/recall@1": zeros}, ids)
    b = write(tmp_path / "b", {"x/recall@1": ones, "y/recall@1": zeros}, ids)
    c = write(tmp_path / "c", {"x/recall@1": zeros, "y/recall@1": ones}, ids)
    one, two = compare([read_evaluated(path) for path in (a, b, c)])
    p = 2 / 2**12
    assert [row.p for row in (*one.differences, *two.differences)] == [p, 1.0, 1.0, p]
    assert [row.corrected for row in (*one.differences, *two.differences)] == [4 * p, 1.0, 1.0, 4 * p]
    (alone,) = compare([read_evaluated(a), read_evaluated(b)], scores=["x/*"])
    assert [row.corrected for row in alone.differences] == [p]


def test_notes_name_what_differs_and_what_is_not_tested(tmp_path):
    ids = ["p", "q"]
    both = {"x/recall@1": queries([1, 0], [0, 1]), "x/auroc": queries([1, 0], [0, 1])}
    other = {"x/auroc": lambda values, weights: values}
    a = write(tmp_path / "a", both, ids, other)
    b = write(tmp_path / "b", both | {"z/recall@1": queries([1, 0], [0, 1])}, ids, other, **{"hit rule": "group"})
    (found,) = compare([read_evaluated(a), read_evaluated(b)])
    assert [row.score for row in found.differences] == ["x/recall@1"]
    assert found.notes == [
        "the protocols differ in hit rule: the differences come from it too",
        "not tested, since they are no means over samples: x/auroc",
        "1 scores are in one of the two alone, such as z/recall@1",
    ]


def test_the_command(tmp_path, capsys):
    ids = [str(i) for i in range(12)]
    a = write(tmp_path / "a", {"x/recall@1": queries([0] * 12, range(12))}, ids)
    b = write(tmp_path / "b", {"x/recall@1": queries([1] * 12, range(12))}, ids)
    assert main(["compare", a, b, "--out", str(tmp_path / "out")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("x/recall@1"))
    assert line.endswith(b[-8:])
    assert "0.00049" in line
    (found,) = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["differences"][0] == {
        "score": "x/recall@1",
        "first": 0.0,
        "second": 1.0,
        "interval": [1.0, 1.0],
        "p": 2 / 2**12,
        "corrected": 2 / 2**12,
        "samples": 12,
        "difference": 1.0,
    }
    assert "x/recall@1" in (tmp_path / "out" / "compare.html").read_text()
    assert main(["compare", a, b, "--json", "--scores", "x/*"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["second"] == b


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["a"], 2, "align compare takes two folders or more; got 1"),
        (["a", "none"], 1, "none has no results.json; align evaluate MODEL SHARDS --out"),
        (["a", "b", "--scores", "y*"], 1, "fits 'y*'; they share x/recall@1"),
        (["a", "c"], 1, "have no sample in common, by key"),
        (["a", "d"], 1, "is no file of samples that align evaluate wrote"),
        (["a", "b", "--flips", "0"], 2, "--draws and --flips are at least 1"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, words, code, says):
    monkeypatch.chdir(tmp_path)
    for name, keys in (("a", ["p", "q"]), ("b", ["p", "q"]), ("c", ["r", "s"]), ("d", ["p", "q"])):
        write(tmp_path / name, {"x/recall@1": queries([1, 0], [0, 1])}, keys)
    (tmp_path / "d" / "samples.safetensors").write_bytes(b"\0" * 40)
    assert main(["compare", *words]) == code
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert says in err[0]


@pytest.mark.parametrize(
    ("ids", "value", "sample", "says"),
    [
        ('["a"]', [1.0, 0.0], [0, 1], "is of samples that are not among its 1 keys"),
        ('["a", "b"]', [1.0, 0.0], [0, -1], "is of samples that are not among its 2 keys"),
        ('["a", "b"]', [1.0, 0.0], [0.0, 1.0], "is of samples that are not among"),
        ('["a", "b"]', [1.0], [0, 1], "have the shapes (1,) and (2,)"),
        ('["a", "b"]', [[1.0], [0.0]], [0, 1], "have the shapes (2, 1) and (2,)"),
        ('["a", "b"]', [1.0, float("nan")], [0, 1], "has values that are no numbers"),
        ('[["a"], "b"]', [1.0, 0.0], [0, 1], "its keys are no list of words"),
        ('["a", "b"]', [1.0, 1.0], [0, 1], "are not of one evaluation: x is 0.5, and 1 by the samples"),
    ],
)
def test_damaged_samples_are_refused_in_one_line(tmp_path, capsys, ids, value, sample, says):
    from safetensors.torch import save

    good = write(tmp_path / "good", {"x": queries([1, 0], range(2))}, ["a", "b"])
    bad = write(tmp_path / "bad", {"x": queries([1, 0], range(2))}, ["a", "b"])
    keys = torch.tensor(list(ids.encode()), dtype=torch.uint8)
    tensors = {"keys": keys, "s": torch.tensor(sample), "v": torch.tensor(value)}
    (tmp_path / "bad" / "samples.safetensors").write_bytes(save(tensors, {"scores": '{"x": ["v", "s", true]}'}))
    assert main(["compare", good, bad]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
