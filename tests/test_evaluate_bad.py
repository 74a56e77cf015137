"""Wrong input of ``align evaluate``: one plain line each, the exit code, and nothing written."""

from __future__ import annotations

import pytest
import tiny_space
import torch

from align.checkpoint import save
from align.commands import main
from align.metrics.gain import graded_gains, hit_gains
from align.metrics.places import hit_places


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    save(tiny_space.model("pairwise"), folder / "model")
    tiny_space.write_tar(folder / "test.tar", tiny_space.world(12))
    return folder


@pytest.fixture
def run(place, tmp_path, monkeypatch, capsys):
    """(exit code, lines of stderr) of ``align evaluate model``, whose --out stays absent."""
    monkeypatch.chdir(place)
    out = tmp_path / "out"

    def command(*words):
        words = (*words, "--allow", "tiny_space", *(() if "--out" in words else ("--out", str(out))))
        code = main(["evaluate", "model", *words])
        assert not out.exists()
        return code, capsys.readouterr().err.splitlines()

    return command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--draws", "-1"], "--draws is a whole number from 0 to 1,000,000; got -1"),
        (["--batch", "0"], "--batch is a whole number from 1 to"),
        (["--workers", "-1"], "--workers is a whole number from 0 to"),
        (["--out", ""], "--out is empty"),
        (["--specificity", "a"], "--specificity: expected float or null; got a"),
        (["--ndcg", "5", "--with", "zeroshot"], "--ndcg is an option of the evaluator retrieval; add it: --with zero"),
        (["--folds", "fold"], "--folds is an option of the evaluator probe; add it: --with zeroshot,retrieval,probe"),
        (["--hub-k", "5"], "--hub-k is an option of the evaluator hubness"),
        (["--with", "probe", "--probe-seeds", "99999999999"], "1,000 at most, not 99,999,999,999"),
        (["--with", "geometry", "--permutations", "99999999999"], "--permutations 1,000,000 at most"),
    ],
)
def test_wrong_options_are_one_line(run, words, says):
    code, lines = run("test.tar", *words)
    assert code == 2
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.parametrize(
    ("option", "evaluator", "says"),
    [
        (
            "--train",
            "probe",
            "the probe would know its answers: 12 of 12 training samples have the key and the content",
        ),
        ("--train", "hubness", "the bank is from the test set: 12 of 12 training samples have the key and"),
        ("--distractors", "retrieval", "distractors would equal the answers: 12 of 12 distractors have the key and"),
    ],
)
def test_samples_of_the_test_set_elsewhere_are_refused(run, option, evaluator, says):
    code, lines = run("test.tar", option, "test.tar", "--with", evaluator)
    assert code == 1
    assert len(lines) == 1
    assert says in lines[0]
    assert "'0000' the first; give other shards with " + option in lines[0]


def test_options_of_evaluators_with_a_suite_are_refused(run):
    code, (line,) = run("--suite", "image", "--ndcg", "5")
    assert code == 2
    assert "--ndcg: the sets of a suite state their protocol" in line


def test_a_list_beyond_all_candidates_is_the_whole_ranking():
    scores, hits = torch.tensor([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]]), torch.tensor([[True, False, True]] * 2)
    places = hit_places(scores, hits)
    assert torch.equal(hit_gains(places, 10**12), hit_gains(places, 3))
    assert torch.equal(graded_gains(scores, hits.byte(), 10**12), graded_gains(scores, hits.byte(), 3))
    assert hit_gains(hit_places(scores, ~hits & hits), 5).tolist() == [0, 0]
