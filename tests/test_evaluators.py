"""Evaluators: what a Space gives them, how they are picked, and one from outside on every page that there is."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_space
import torch
import torch.nn.functional as F
from torch import nn

import align
from align.commands import main
from align.data import Shards
from align.evaluation import Findings, Retrieval, Space, ZeroShot, evaluate, write_results
from align.evaluation.pick import known_evaluators, pick
from align.model import JointModel, Tower
from align.page.section import Matrix
from align.preprocess import Array
from align.values import Features

OUTSIDE = '''
"""An evaluator from outside: how near the modalities' means are, on one line a pair."""

from align.evaluation import Findings
from align.page.section import Section, Table


class MeanGap:
    name = "gap"

    def run(self, space):
        means = {m: rows.values.mean(dim=0) for m, rows in space.table().items() if m != "text"}
        gaps = {("audio", "image"): float((means["audio"] - means["image"]).norm())}
        scores = {f"gap/{a}_{b}": value for (a, b), value in gaps.items()}
        rows = [[a, b, value] for (a, b), value in gaps.items()]
        section = Section("Mean gap", "Distance of the means.", [Table(["one", "other", "gap"], rows, left=2)])
        return Findings(scores, {"gap of": list(means), "notes": ["gap: text is left out"]}, section)


class Needy:
    name = "needy"

    def __init__(self, k):
        pass

    def run(self, space):
        pass
'''


@pytest.fixture
def folder(tmp_path):
    samples = tiny_space.world()
    tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", samples)
    tiny_space.write_tar(tmp_path / "s" / "train-000000.tar", dict(list(tiny_space.world(seed=1).items())[:7]))
    return tmp_path / "s"


@pytest.fixture
def shards(folder):
    return Shards(str(folder / "test-*.tar"), shuffle=False)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The import path of a package that knows align, and that align does not know."""
    (tmp_path / "lib" / "outsiders").mkdir(parents=True)
    (tmp_path / "lib" / "outsiders" / "__init__.py").write_text("")
    (tmp_path / "lib" / "outsiders" / "gap.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    yield "outsiders.gap.MeanGap"
    for name in [name for name in sys.modules if name.split(".")[0] == "outsiders"]:
        del sys.modules[name]


# the space


def test_a_table_is_computed_once(shards):
    read = []
    space = Space(tiny_space.model("pairwise"), shards, batch=24, progress=lambda *x: read.append(x))
    table = space.table()
    both = [ZeroShot().run(space), Retrieval().run(space)]
    assert space.table() is table
    assert read == [(24, 24)]
    assert all(found.scores for found in both)


def test_features_are_the_encoders(shards):
    """The tiny encoder passes its values on, so its features are the numbers in the shard, not normalised."""
    features = Space(tiny_space.model(), shards).table("features")
    stored = [sample["image.npy"] for sample in shards.samples(0) if "image.npy" in sample]
    assert features["image"].values.shape == (23, 8)
    for row, content in zip(features["image"].values, stored, strict=True):
        assert np.allclose(row.numpy(), np.frombuffer(content[-32:], np.float32))


class Halves(nn.Module):
    """An encoder that gives the nonzero ones of four pairs of numbers as tokens, cut to the longest of its batch."""

    def __init__(self, width: int = 2):
        super().__init__()
        self.width, self.gain = width, nn.Parameter(torch.ones(1))

    def forward(self, values):
        tokens = values.unflatten(1, (4, 2)) * self.gain
        mask = tokens.abs().sum(dim=-1) > 0
        longest = int(mask.sum(dim=1).max()) if len(mask) else 1
        return Features(tokens.sum(dim=1), tokens[:, :longest], mask[:, :longest])


class Both(nn.Module):
    """A head that changes nothing, tokens included."""

    def __init__(self, width: int, dim: int):
        super().__init__()

    def forward(self, features, tokens=False):
        return (features.pooled, features.tokens) if tokens else features.pooled


def test_tokens_of_batches_of_several_lengths(tmp_path):
    arrays = [np.zeros(8, np.float32) for _ in range(6)]
    for i, array in enumerate(arrays):
        array[: 2 * (1 + i % 4)] = 1 + i
    world = {f"{i}": {"image.npy": tiny_space.npy(x), "text.txt": b"b"} for i, x in enumerate(arrays)}
    tiny_space.write_tar(tmp_path / "t.tar", world)
    towers = {"image": Tower(Array([8]), Halves(), Both), "text": tiny_space.model().towers["text"]}
    towers["text"].encoder.width = 8
    model = JointModel({"image": towers["image"]}, 2).eval()
    rows = Space(model, Shards(str(tmp_path / "t.tar"), shuffle=False), batch=1).table("tokens")["image"]
    assert rows.tokens is not None
    assert rows.mask is not None
    assert rows.mask.sum(dim=1).tolist() == [1, 2, 3, 4, 1, 2]
    for i, array in enumerate(arrays):
        n = 1 + i % 4
        expected = F.normalize(torch.from_numpy(array).view(4, 2), dim=-1)[:n]
        assert torch.allclose(rows.tokens[i, :n], expected, atol=1e-6)
        assert not rows.mask[i, n:].any()
    with pytest.raises(ValueError, match="no tower gives tokens"):
        Space(tiny_space.model(), Shards(str(tmp_path / "t.tar"), shuffle=False)).table("tokens")


def test_the_train_split(folder, shards):
    train = Shards(str(folder / "train-*.tar"), shuffle=False)
    space = Space(tiny_space.model(), shards, train=train)
    assert space.table(split="train").ids == [f"{i:04d}" for i in range(7)]
    assert space.table().size == 24
    with pytest.raises(ValueError, match="--train"):
        Space(tiny_space.model(), shards).table(split="train")


@pytest.mark.parametrize("query", ["image", ("audio", "image")])
def test_scores_come_in_blocks(shards, monkeypatch, query):
    monkeypatch.setattr(sys.modules["align.evaluation.blocks"], "cells", 60)  # two queries a block
    space = Space(tiny_space.model("pairwise", "symile"), shards)
    table = space.table()
    blocks = list(space.scores(query, "text"))
    assert len(blocks) > 5
    got = torch.cat([scores for _, scores in blocks])
    assert [row for rows, _ in blocks for row in range(rows.start, rows.stop)] == list(range(len(got)))
    image, audio, text = (table[m].values for m in ("image", "audio", "text"))
    if query == "image":
        expected = 10 * image @ text.T
    else:
        have = [i for i in range(24) if i not in (3, 4)]
        i, a = ([table[m].sample.tolist().index(s) for s in have] for m in ("image", "audio"))
        expected = 10 * image[i] @ text.T + 20 * (image[i] * audio[a]) @ text.T
    assert torch.allclose(got, expected, atol=1e-5)


def test_an_altered_space(shards):
    """A change between decode and eval: a plain loop over the same draws gives the same rows, for any batch."""

    def noise(x, generator):
        return x + torch.randn(x.shape, generator=generator)

    space = Space(tiny_space.model(), shards)
    one = space.altered({"image": noise})
    two = Space(tiny_space.model(), shards, batch=5, workers=1).altered({"image": noise})
    assert torch.allclose(one.table()["image"].values, two.table()["image"].values, atol=1e-6)
    assert one.table()["text"].values.equal(space.table()["text"].values)
    assert one.hit.text == space.hit.text
    assert one.table()["image"].content.equal(space.table()["image"].content)
    moved = (one.table("features")["image"].values - space.table("features")["image"].values).flatten()
    assert moved.std().item() == pytest.approx(1, abs=0.2)
    assert len(moved.unique()) == len(moved)  # each row has draws of its own
    plain = space.altered({"image": lambda x, generator: -x}).altered({"image": lambda x, generator: x + 1})
    stored = space.table("features")["image"].values
    assert torch.allclose(plain.table("features")["image"].values, 1 - stored, atol=1e-6)
    with pytest.raises(ValueError, match="no tower for 'depth'"):
        space.altered({"depth": noise})


def test_samples_average_to_their_score(shards):
    results = evaluate(tiny_space.model("pairwise", "symile"), shards, ks=(1, 5))
    kept = {k for k in results.scores if k.rpartition("/")[2] in ("accuracy", "accuracy@5", "recall@1", "recall@5")}
    assert kept <= set(results.samples)
    for score, (values, samples) in ((score, results.samples[score]) for score in sorted(kept)):
        assert float(values.double().mean()) == pytest.approx(results.scores[score], abs=1e-12), score
        assert values.shape == samples.shape
    table, right = results.embeddings, []
    prompts = align.evaluation.class_prompts(tiny_space.model(), tiny_space.classes)
    values, samples = results.samples["zeroshot/kind/image/accuracy"]
    for row, sample in zip(table["image"].values, table["image"].sample.tolist(), strict=True):
        if sample != 5:
            right.append((sample, float(int((prompts @ row).argmax()) == sample % 6)))
    assert list(zip(samples.tolist(), values.tolist(), strict=True)) == right
    _, samples = results.samples["image_to_text/recall@1"]
    assert samples.tolist() == [i for i in range(24) if i != 4]


# picking


def test_names_paths_and_evaluators(outside):
    mine = Retrieval()
    found = pick(["zeroshot", mine, outside])
    assert [one.name for one in found] == ["zeroshot", "retrieval", "gap"]
    assert found[1] is mine


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (["zero-shot"], "no evaluator 'zero-shot'; did you mean 'zeroshot'?"),
        (["#"], f"there are {', '.join(known_evaluators())} ("),
        ([], "needs an evaluator"),
        (["zeroshot", "retrieval", "zeroshot"], "'zeroshot' comes twice"),
        (["outsiders.gap.MeanGab"], "outsiders.gap has MeanGap, Needy"),
        (["outsiders.gab.MeanGap"], "there is no module 'outsiders.gab'"),
        (["outsiders.gap.Needy"], "cannot be built without arguments"),
        (["align.evaluation.evaluate"], "is no evaluator"),
    ],
)
def test_what_is_no_evaluator_is_refused(wanted, says, outside):
    with pytest.raises(ValueError, match="evaluator") as refused:
        pick(wanted)
    assert says in str(refused.value)


class Again:
    name = "again"

    def __init__(self, **found):
        self.found = Findings(**found)

    def run(self, space):
        return self.found


def test_two_evaluators_cannot_state_one_name(shards):
    for mine in (
        Again(scores={"protocol": 1.0}),
        Again(scores={"image_to_text/recall@1": 2.0}),
        Again(scores={}, protocol={"model": "x"}),
    ):
        with pytest.raises(ValueError, match="evaluator 'again' states"):
            evaluate(tiny_space.model(), shards, with_=["retrieval", mine])
    with pytest.raises(ValueError, match="nothing could be measured; nothing there"):
        evaluate(tiny_space.model(), shards, with_=[Again(scores={}, protocol={"notes": ["nothing there"]})])


def test_each_evaluator_alone_has_the_numbers_of_both(shards):
    both = evaluate(tiny_space.model("pairwise"), shards)
    one, other = (evaluate(tiny_space.model("pairwise"), shards, with_=[name]) for name in ("zeroshot", "retrieval"))
    assert list(both.scores.items()) == [*one.scores.items(), *other.scores.items()]
    assert {"scored", "same prompts", "equal answers"} < set(both.protocol)
    assert list(both.protocol)[-2:] == ["intervals", "notes"]
    assert other.protocol["scored"] == both.protocol["scored"]
    assert [section.title for section in both.sections] == ["Zero-shot", "Retrieval"]


# sections


def test_sections_have_the_numbers_of_results(shards):
    results = evaluate(tiny_space.model("pairwise", "symile"), shards)
    zero, retrieved = results.sections
    for bar in zero.blocks[0].bars:
        base = f"zeroshot/{bar.row}/{bar.column}/"
        assert {"accuracy": bar.value, "chance": bar.chance, **bar.more} == {
            k.removeprefix(base): v for k, v in results.scores.items() if k.startswith(base)
        }
    matrices = [block for block in retrieved.blocks if isinstance(block, Matrix)]
    assert [m.name for m in matrices] == ["", "class/half/", "class/kind/", "class/"]
    assert [(m.rule, m.hit) for m in matrices][:2] == [("sample", "same object"), ("shared class", "same half")]
    told = {
        f"{m.name}{query}_to_{of}/{metric}": value
        for m in matrices
        for metric, cells in m.metrics.items()
        for (query, of), value in cells.items()
    }
    assert told == {k: v for k, v in results.scores.items() if not k.startswith("zeroshot/")}
    ways = [results.scores[f"{a}_to_{b}/recall@10"] for a in results.embeddings for b in results.embeddings if a != b]
    (tile,) = retrieved.tiles
    assert tile.value == pytest.approx(sum(ways) / 6)
    assert tile.note.startswith(f"lowest {min(ways):.3f}, ")
    best = max((bar.value, bar.column) for bar in zero.blocks[0].bars if bar.row == "half")
    assert zero.tiles[0].value == best[0]
    assert zero.tiles[0].name == f"half from {best[1].replace('+', ' + ')}"


# from outside


def test_an_evaluator_from_outside_is_in_results_terminal_and_report(folder, tmp_path, capsys, outside):
    align.save(tiny_space.model("pairwise"), tmp_path / "model")
    args = [str(tmp_path / "model"), str(folder / "test-*.tar"), "--out", str(tmp_path / "r"), "--allow", "tiny_space"]
    assert main(["evaluate", *args, "--with", f"retrieval,{outside}"]) == 0
    out = capsys.readouterr().out
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    value = f"{results['gap/audio_image']:.3f}"
    assert list(results)[-3:] == ["gap/audio_image", "intervals", "protocol"]
    assert not any(key.startswith("zeroshot/") for key in results)
    assert results["protocol"]["gap of"] == ["audio", "image"]
    assert results["protocol"]["notes"][-1] == "gap: text is left out"
    assert f"mean gap\none    other    gap\naudio  image  {value}\n" in out
    assert "gap: text is left out" in out
    page = (tmp_path / "r" / "report.html").read_text()
    assert 'id="mean-gap"' in page
    assert value in page.split('id="mean-gap"')[1]
    assert main(["evaluate", *args, "--with", "retreival"]) == 2
    assert capsys.readouterr().err == (
        "align: --with: no evaluator 'retreival'; did you mean 'retrieval'? "
        "(one of your own: its import path, my.module.MyEvaluator)\n"
    )


def test_training_shards_are_in_the_protocol(folder, shards, tmp_path):
    class Counting:
        name = "counting"

        def run(self, space):
            return Findings({"counting/train": float(space.table(split="train").size)})

    results = evaluate(tiny_space.model(), shards, with_=[Counting()], train=Shards(str(folder / "train-*.tar")))
    assert results.scores == {"counting/train": 7.0}
    assert results.protocol["train"] == {"shards": {"train-000000.tar": 7}, "bad": {}}
    assert json.loads(write_results(results, tmp_path).read_text())["counting/train"] == 7


def test_the_evaluator_of_the_page_shows_samples(folder, tmp_path, monkeypatch, capsys):
    """Its number by a plain loop; its Gallery on the report has the samples of the shards, as captioned."""
    doc = (Path(__file__).parent.parent / "docs" / "new-evaluator.md").read_text()
    (tmp_path / "pages_near.py").write_text(doc.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    align.save(tiny_space.model("pairwise"), tmp_path / "model")
    args = [str(tmp_path / "model"), str(folder / "test-*.tar"), "--out", str(tmp_path / "r"), "--allow", "tiny_space"]
    assert main(["evaluate", *args, "--with", "pages_near.Near"]) == 0
    del sys.modules["pages_near"]
    table = Space(tiny_space.model(), Shards(str(folder / "test-*.tar"), shuffle=False)).table()
    cosines = {
        table.ids[i]: float(x @ y)
        for i, x in zip(table["image"].sample.tolist(), table["image"].values, strict=True)
        for j, y in zip(table["text"].sample.tolist(), table["text"].values, strict=True)
        if i == j
    }
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["near/image"] == pytest.approx(sum(cosines.values()) / len(cosines), abs=1e-6)
    page = (tmp_path / "r" / "report.html").read_text()
    found = re.search(r'id="cards-data">(.*?)</script>', page)
    assert found is not None
    (cards,) = json.loads(found.group(1))["groups"]
    assert len(cards) == 6
    assert [cards[0]["key"], *cards[0]["detail"].split()] in map(str.split, capsys.readouterr().out.splitlines())
    assert max(cosines[card["key"]] for card in cards) <= sorted(cosines.values())[5] + 1e-6
    for card in cards:
        text = {name: face for name, face, _ in card["faces"]}["text.txt"]
        assert text == {"k": "text", "d": tiny_space.world()[card["key"]]["text.txt"].decode()}
        assert card["detail"] == f"cosine {cosines[card['key']]:.2f}"


class Says:
    name = "says"

    def __init__(self, found):
        self.found = found

    def run(self, space):
        return self.found


def test_findings_that_are_none_are_refused_by_the_evaluators_name(shards):
    model = tiny_space.model("pairwise")
    for found, why in [
        (None, "'says' returned NoneType; .* returns Findings"),
        (Findings({"x": torch.tensor(0.5)}), "the score 'x' is of type Tensor, not a float"),
        (Findings({"x": "high"}), "the score 'x' is of type str"),
    ]:
        with pytest.raises(ValueError, match=why):
            evaluate(model, shards, with_=[Says(found)])
    with pytest.raises(ValueError, match="is no import path"):
        pick([".odd.Says"])


def test_a_score_that_is_no_number_is_left_out_and_said(shards):
    found = Findings({"x": 0.5, "y": float("nan"), "z": float("inf")}, {"notes": ["one"]})
    results = evaluate(tiny_space.model("pairwise"), shards, with_=[Says(found)])
    assert results.scores == {"x": 0.5}
    assert results.protocol["notes"] == ["one", "y is nan: it is left out", "z is inf: it is left out"]
