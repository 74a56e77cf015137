"""The evaluator hubness against plain loops: counts, recalls, intervals, banks, and the input that it refuses."""

from __future__ import annotations

import json
import math
from itertools import permutations

import pytest
import tiny_space
import torch

from align.commands import main
from align.commands.tables import lines
from align.data import Shards
from align.evaluation import Hubness, Retrieval, Space
from align.evaluation.hits import by_sample
from align.evaluation.hubness.direction import measure
from align.evaluation.hubness.evaluator import NO_BANK, REPAIRS
from align.metrics import hub_bound
from align.page.section import Gallery, Histogram, Measured, Table
from align.scoring import score
from align.values import Embeddings, Rows

CHEAP = ("nnn", "qb_norm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hubs")
    tiny_space.write_tar(place / "test.tar", tiny_space.world(30, noise=0.6))
    train = {f"t{key}": sample for key, sample in tiny_space.world(40, seed=1, noise=0.6).items()}
    tiny_space.write_tar(place / "train.tar", train)
    tiny_space.write_tar(place / "mixed.tar", {**train, **dict(list(tiny_space.world(30, noise=0.6).items())[7:9])})
    sounds = {key: {m: x for m, x in one.items() if m != "text.txt"} for key, one in train.items()}
    tiny_space.write_tar(place / "mute.tar", sounds)
    tiny_space.write_tar(place / "namesakes.tar", tiny_space.world(30, seed=1, noise=0.6))
    return place


def read(path):
    return Shards(str(path), shuffle=False)


def space(folder, train: str | None = "train", kinds=("pairwise",), draws=0):
    given = None if train is None else read(folder / f"{train}.tar")
    return Space(tiny_space.model(*kinds), read(folder / "test.tar"), train=given, draws=draws)


def table_of(one, query, of, split="test"):
    """Scores of all rows of the query with all rows of the answer, as lists of floats."""
    asked = one.table(split=split)[query]
    asks = asked.values[asked.sample >= 0].double()
    how = "objective" if {query, of} == {"image", "text"} else "cosine"
    rows = one.table()[of].values.double()
    return score({query: asks}, rows, how, of=of, terms=one.model.terms).float().tolist()


def count_by_loop(table, k):
    return [sum(sum(other >= row[j] for other in row) <= k for row in table) for j in range(len(table[0]))]


def recall_by_loop(table, asks, answers, k):
    """The share of rows with fewer than k wrong answers as high as the best right one."""
    found = []
    for row, sample in zip(table, asks, strict=True):
        right = [s for s, owner in zip(row, answers, strict=True) if owner == sample]
        if right:
            wrong = sum(s >= max(right) for s, owner in zip(row, answers, strict=True) if owner != sample)
            found.append(wrong < k)
    return sum(found) / len(found)


def test_scores_are_those_of_loops(folder):
    one = space(folder)
    found = Hubness(k=4, nearest=6, repairs=CHEAP).run(one)
    sizes = dict(one.table().items())
    for query, of in permutations(("audio", "image", "text"), 2):
        bank = table_of(one, query, of, "train")
        raw = table_of(one, query, of)
        unit = 10.0 if {query, of} == {"image", "text"} else 1.0
        columns = list(zip(*bank, strict=True))
        nnn = [0.75 * sum(sorted(column, reverse=True)[:6]) / 6 for column in columns]
        soft = [math.log(sum(math.exp(20 / unit * s) for s in column)) * unit / 20 for column in columns]
        active = {j for row in bank for j, s in enumerate(row) if s == max(row)}
        tables = {
            "": raw,
            "nnn/": [[s - x for s, x in zip(row, nnn, strict=True)] for row in raw],
            "qb_norm/": [
                [s - x for s, x in zip(row, soft, strict=True)]
                if active & {j for j, s in enumerate(row) if s == max(row)}
                else row
                for row in raw
            ],
        }
        asks, answers = (sizes[m].sample.tolist() for m in (query, of))
        asks = [sample for sample in asks if sample >= 0]
        for prefix, table in tables.items():
            name = f"hubness/{query}_to_{of}/{prefix}"
            counts = count_by_loop(table, 4)
            mean = sum(counts) / len(counts)
            assert found.samples[f"{name}skewness"][0].tolist() == counts
            assert found.scores[f"{name}antihubs"] == pytest.approx(counts.count(0) / len(counts))
            moved = sum(abs(n - mean) for n in counts) / (2 * sum(counts))
            assert found.scores[f"{name}robin_hood"] == pytest.approx(moved)
            for k in (1, 5, 10):
                expected = recall_by_loop(table, asks, answers, k)
                assert found.scores[f"{name}recall@{k}"] == pytest.approx(expected), (name, k)


def test_recall_as_it_is_is_retrievals(folder):
    one = space(folder, kinds=("pairwise", "symile"))
    ours, theirs = Hubness(repairs=()).run(one).scores, Retrieval().run(one).scores
    same = [key for key in ours if "recall" in key]
    assert len(same) == 18
    assert all(ours[key] == theirs[key.removeprefix("hubness/")] for key in same)


def test_every_score_has_values_and_an_interval(folder):
    one = space(folder, draws=60)
    found = Hubness(k=4).run(one)
    assert set(found.samples) == set(found.scores) == set(found.intervals)
    again = one.intervals(found.samples, found.statistics)
    for name, value in found.scores.items():
        values, sample = found.samples[name]
        assert len(values) == len(sample)
        assert found.intervals[name] == again[name]
        statistic = found.statistics.get(name)
        whole = torch.ones(1, len(values), dtype=torch.float64)
        made = values.double().mean() if statistic is None else statistic(values, whole)
        assert float(made) == pytest.approx(value)


def test_the_section_has_every_variant_and_the_hubs(folder):
    found = Hubness(k=4).run(space(folder, draws=20))
    assert found.section is not None
    titles = [lines("Hubness", block).title for block in found.section.blocks]
    assert len(set(titles)) == len(titles)
    table = found.section.blocks[0]
    assert isinstance(table, Table)
    assert len(table.rows) == 6 * (1 + len(REPAIRS))
    row = next(row for row in table.rows if row[:2] == ["image → text", "nnn"])
    name = "hubness/image_to_text/nnn/"
    assert row[2] == Measured(found.scores[f"{name}recall@1"], found.intervals[f"{name}recall@1"])
    for block in found.section.blocks[1:]:
        if isinstance(block, Histogram):
            assert all(sum(share) == pytest.approx(1) for share in block.shares.values())
            assert list(block.shares) == ["as it is", *REPAIRS]
    shown = found.section.blocks[-1]
    assert isinstance(shown, Gallery)
    counts, sample = found.samples["hubness/image_to_audio/skewness"]
    largest = int(sample[counts.argmax()])
    assert int(counts.max()) > hub_bound(counts)
    says = f"audio in {int(counts.max())} of 29 lists of image"
    assert f"{largest:04d}" in shown.keys
    assert says in shown.captions.values()


def test_a_bank_of_the_test_set_is_marked(folder):
    one = space(folder, train=None)
    found = Hubness(bank="test", repairs=CHEAP).run(one)
    assert found.section is not None
    assert "hubness/image_to_text/nnn-transductive/recall@1" in found.scores
    assert not any("/nnn/" in name for name in found.scores)
    assert found.protocol["hubness"]["bank"] == "test"
    assert "transductive: their bank is the test set itself" in found.section.note
    assert found.protocol["notes"][0].startswith("NNN takes all 29 rows of audio in its bank, fewer than 128")


def test_a_bank_from_the_test_set_is_refused(folder):
    with pytest.raises(ValueError, match="the bank is from the test set: 2 of 42 training samples have the key"):
        Hubness(repairs=CHEAP).run(space(folder, train="mixed"))
    with pytest.raises(ValueError, match=r"30 of 30 training samples have .*'0000' the first; give other shards"):
        Hubness(repairs=CHEAP).run(space(folder, train="test"))
    assert Hubness(repairs=CHEAP).run(space(folder, train="namesakes")).scores  # equal keys, other content


def test_no_bank_is_a_note(folder):
    found = Hubness().run(space(folder, train=None))
    assert found.protocol["notes"] == [NO_BANK]
    assert "hubness/image_to_text/skewness" in found.scores
    assert not any(name.count("/") > 2 for name in found.scores)


def test_a_modality_that_the_bank_lacks_is_a_note(folder):
    found = Hubness(repairs=("nnn", "dual_bank")).run(space(folder, train="mute"))
    notes = found.protocol["notes"]
    assert "hubness of answers to text is not repaired: the bank has no row of text" in notes
    assert "hubness of text is not repaired by dual_bank: the bank has no row of text" in notes
    assert "hubness/text_to_image/recall@1" in found.scores
    assert "hubness/text_to_image/nnn/recall@1" not in found.scores
    assert "hubness/image_to_text/nnn/recall@1" in found.scores
    assert "hubness/image_to_text/dual_bank/recall@1" not in found.scores


def test_a_drawn_bank_is_the_same_each_time(folder):
    runs = [Hubness(repairs=("nnn",), bank_size=9).run(space(folder)) for _ in range(2)]
    assert runs[0].scores == runs[1].scores
    assert runs[0].protocol["hubness"]["directions"]["image_to_text"]["nnn"]["bank"] == 9
    assert runs[0].scores != Hubness(repairs=("nnn",)).run(space(folder)).scores


def test_a_constant_space_scores_nothing(folder):
    one = space(folder)
    for split in ("test", "train"):
        for rows in one.table(split=split).rows.values():
            assert isinstance(rows.values, torch.Tensor)
            rows.values.fill_(8**-0.5)
    found = Hubness().run(one).scores
    assert {value for name, value in found.items() if "recall" in name} == {0.0}
    assert {value for name, value in found.items() if name.endswith("antihubs")} == {1.0}
    assert {value for name, value in found.items() if name.endswith(("skewness", "hubs", "robin_hood"))} == {0.0, 1.0}
    assert {value for name, value in found.items() if name.endswith(("/skewness", "/hubs", "/robin_hood"))} == {0.0}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"repairs": ("nnm",)}, "no repair 'nnm'; there are nnn, inverted_softmax"),
        ({"bank": "val"}, "a bank is 'train' or 'test'; got 'val'"),
        ({"k": 0}, "k, nearest and steps of at least 1"),
        ({"sharpness": 0.0}, "a sharpness above 0"),
        ({"bank_size": -1}, "bank_size of at least 0"),
    ],
)
def test_bad_settings_are_one_line(settings, says):
    with pytest.raises(ValueError, match=says):
        Hubness(**settings)


def test_the_command(folder, tmp_path, capsys):
    from align.checkpoint import save

    save(tiny_space.model("pairwise"), tmp_path / "m")
    command = ["evaluate", str(tmp_path / "m"), str(folder / "test.tar"), "--with", "hubness", "--allow", "tiny_space"]
    options = ["--repairs", "nnn,sinkhorn", "--hub-k", "3", "--nnn-k", "20", "--draws", "20", "--json", "--no-report"]
    assert main([*command, "--train", str(folder / "train.tar"), *options]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["hubness/image_to_text/sinkhorn/recall@1"] <= 1
    assert "hubness/image_to_text/nnn/skewness" in results["intervals"]
    about = results["protocol"]["hubness"]
    assert about["k"] == 3
    assert about["directions"]["image_to_text"]["nnn"] == {"k": 20, "alpha": 0.75, "bank": 39}
    assert main([*command, "--repairs", "nnm"]) == 2
    assert "no repair 'nnm'" in capsys.readouterr().err


def test_a_hard_negative_asks_nothing_and_so_lists_nothing():
    rows = {"image": Rows(torch.eye(3), torch.tensor([0, 1, -1])), "text": Rows(torch.eye(3), torch.arange(3))}
    table = Embeddings(rows, ["a", "b", "c"], torch.arange(3), [None] * 3)
    found = measure(table, "image", "text", [(slice(0, 3), torch.eye(3))], by_sample(), {}, 1)
    assert found[""].counts.tolist() == [1, 1, 0]
    assert found[""].row.tolist() == [0, 1]
