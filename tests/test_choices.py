"""Two-alternative choice and odd one out: plain loops over drawn and judged sets of three rows."""

from __future__ import annotations

import json

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.embedding.tables import vectors
from align.evaluation import Choices, Space
from align.evaluation.choices.draw import draw_sets
from align.evaluation.choices.sets import Sets, judge
from align.evaluation.hits import by_label, by_sample
from align.evaluation.labels import class_places
from align.page.section import Bars

CLASSES = {"kind": tiny_space.classes}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "test-000000.tar"
    samples = tiny_space.world(24, noise=0.7)
    samples["0013"]["image.npy"] = samples["0007"]["image.npy"]  # a copy, of the same class
    return Shards(str(tiny_space.write_tar(path, samples)), shuffle=False)


def test_answers_are_the_plain_loop():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 40, 5, generator=draw)
    rows[1, :5] = rows[2, :5]  # ties
    rows[0, 5] = 0

    def cosine(a, b, i):
        return float((F.normalize(a[i].double(), dim=0) @ F.normalize(b[i].double(), dim=0)).float())

    for task, places in (("2afc", (1, 2)), ("odd", (0, 1, 2))):
        answer = torch.tensor([places[i % len(places)] for i in range(40)])
        found = judge(Sets(task, tuple(rows), answer, torch.arange(40))).tolist()
        for i, right in enumerate(answer.tolist()):
            xy, xz, yz = cosine(rows[0], rows[1], i), cosine(rows[0], rows[2], i), cosine(rows[1], rows[2], i)
            if task == "2afc":
                expected = xy > xz if right == 1 else xz > xy
            else:
                left = {0: yz, 1: xz, 2: xy}
                expected = all(left[right] > value for place, value in left.items() if place != right)
            assert found[i] == expected, (task, i)
        assert 0 < sum(found) < 40
        ties = [i for i in range(5) if task == "2afc" or right_is_tied(answer[i])]
        assert not any(found[i] for i in ties)
    nan = rows.clone()
    nan[1, :] = torch.nan
    assert not judge(Sets("2afc", tuple(nan), torch.ones(40).long(), torch.arange(40))).any()
    assert not judge(Sets("odd", tuple(nan), torch.zeros(40).long(), torch.arange(40))).any()


def right_is_tied(answer):
    """Rows 1 and 2 are equal: row 0 is odd, and an answer of 1 or 2 ties with the other."""
    return int(answer) != 0


def test_drawn_sets_are_two_of_a_class_and_one_of_another(shards):
    table = Space(tiny_space.model(), shards, draws=0).table()
    rule = by_label(table, "kind", tiny_space.classes)
    known = (class_places(table.labels, "kind", tiny_space.classes) >= 0).any(dim=1)
    kinds = [(label or {}).get("kind") for label in table.labels]
    for trio in (("image", "image", "image"), ("text", "image", "audio"), ("audio", "text", "text")):
        drawn = draw_sets(table, trio, rule, known, 300, torch.Generator().manual_seed(1))
        samples = [table[m].sample[rows].tolist() for m, rows in zip(trio, drawn, strict=True)]
        assert len(samples[0]) == 300
        for x, y, z in zip(*samples, strict=True):
            assert kinds[x] is not None
            assert kinds[x] == kinds[y] != kinds[z] is not None
            assert x != y
            assert {x, y} != {7, 13} or trio[0] != trio[1]  # copies
        for column, m in zip(samples, trio, strict=True):
            usual = {s for s in table[m].sample.tolist() if kinds[s] is not None}
            assert set(column) == usual, m  # every row that may come does
    again = draw_sets(table, trio, rule, known, 300, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    own = draw_sets(table, ("image", "text", "text"), by_sample(), known, 50, torch.Generator(), itself=True)
    assert torch.equal(table["image"].sample[own.reference], table["text"].sample[own.alike])
    nothing = draw_sets(table, ("image", "text", "text"), by_sample(), known, 50, torch.Generator())
    assert len(nothing.reference) == 0
    lonely = draw_sets(table, trio, rule, torch.zeros(table.size, dtype=torch.bool), 50, torch.Generator())
    assert len(lonely.reference) == 0


def test_the_evaluator_measures_every_task(shards):
    space = Space(tiny_space.model(), shards, classes=CLASSES, draws=20)
    found = Choices(sets=200).run(space)
    trios = {"audio", "image", "text", "audio+image+text"}
    tasks = {f"{a}_to_{b}/2afc" for a in ("audio", "image", "text") for b in ("audio", "image", "text")}
    assert set(found.scores) == {f"choices/{name}/accuracy" for name in tasks | {f"{trio}/odd" for trio in trios}}
    for name, value in found.scores.items():
        assert value > (0.55 if "2afc" in name else 0.4), name
        low, high = found.intervals[name]
        assert low <= value <= high
    assert found.protocol["choices"]["sets"]["choices/audio+image+text/odd/accuracy"] == 200
    assert found.protocol["choices"]["chance"] == {"two-alternative choice": 0.5, "odd one out": 1 / 3}
    assert found.section is not None
    bars = [block for block in found.section.blocks if isinstance(block, Bars)]
    assert [{bar.chance for bar in block.bars} for block in bars] == [{0.5}, {1 / 3}]
    assert Choices(sets=200).run(space).scores == found.scores
    two = Choices(sets=20).run(Space(tiny_space.model(), shards, classes={**CLASSES, "half": ["0", "1"]}, draws=0))
    assert {name.split("/")[1] for name in two.scores} == {"kind", "half"}


def test_each_place_is_odd_as_often(shards):
    """A model that tells no text from another is wrong where two of three modalities decide by it."""
    space = Space(tiny_space.model(), shards, classes=CLASSES, draws=0)
    choices, table = Choices(sets=9), space.table()
    rule = by_label(table, "kind", tiny_space.classes)
    known = (class_places(table.labels, "kind", tiny_space.classes) >= 0).any(dim=1)
    sets = choices._draw_odd(table, ("audio", "image", "text"), rule, known, 0)
    assert sets.answer.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for m, rows in zip(("audio", "image", "text"), sets.rows, strict=True):
        assert all((vectors(table, m) == row).all(dim=1).any() for row in rows)


def test_a_constant_model_is_never_right_and_without_classes_rows_ask_for_theirs(shards):
    model = tiny_space.model()
    plain = Choices(sets=100).run(Space(model, shards, classes={}, draws=0))
    assert set(plain.scores) == {
        f"choices/{a}_to_{b}/2afc/accuracy"
        for a in ("audio", "image", "text")
        for b in ("audio", "image", "text")
        if a != b
    }
    assert plain.scores["choices/image_to_text/2afc/accuracy"] > 0.6
    for name in ("image", "audio", "text"):
        model.towers[name].encoder.gain.data.zero_()
    found = Choices(sets=30).run(Space(model, shards, classes=CLASSES, draws=0))
    assert set(found.scores.values()) == {0.0}


JUDGED = [
    {"reference": "image:0000", "a": "text:0006", "b": "text:0001", "answer": "a"},
    {"reference": "image:0001", "a": "text:0006", "b": "text:0001", "answer": "b"},
    {"reference": "image:0002", "a": "text:0002", "b": "audio:0001", "answer": "b"},
    {"a": "image:0000", "b": "image:0006", "c": "image:0001", "odd": "c"},
    {"a": "image:0001", "b": "image:0006", "c": "image:0000", "odd": "a"},
    {"a": "image:0001", "b": "text:0005", "c": "audio:0000", "odd": "b"},
    {"reference": "image:0004", "a": "text:0006", "b": "text:0001", "answer": "a"},  # no picture
]


def test_judgements_of_a_file_are_the_plain_loop(shards, tmp_path):
    path = tmp_path / "judged.jsonl"
    path.write_text("\n\n".join(map(json.dumps, JUDGED)))
    space = Space(tiny_space.model(), shards, draws=0)
    found = Choices(judgements=path).run(space)
    table, groups = space.table(), {}

    def row(item):
        m, key = item.split(":")
        return F.normalize(vectors(table, m)[table[m].sample.tolist().index(table.ids.index(key))].double(), dim=0)

    for one in JUDGED[:-1]:
        keys = ("reference", "a", "b") if "answer" in one else ("a", "b", "c")
        x, y, z = (row(one[key]) for key in keys)
        if "answer" in one:
            right = float(x @ y) > float(x @ z) if one["answer"] == "a" else float(x @ z) > float(x @ y)
            others = "+".join(sorted({one[key].split(":")[0] for key in ("a", "b")}))
            name = f"choices/judged/image_to_{others}/2afc/accuracy"
        else:
            left = {"a": float(y @ z), "b": float(x @ z), "c": float(x @ y)}
            right = all(left[one["odd"]] > value for key, value in left.items() if key != one["odd"])
            name = f"choices/judged/{'+'.join(sorted({one[key].split(':')[0] for key in keys}))}/odd/accuracy"
        groups.setdefault(name, []).append(right)
    assert found.scores == {name: pytest.approx(sum(some) / len(some)) for name, some in groups.items()}
    assert found.protocol["notes"] == ["choices: 1 judgements are left out, as a sample lacks a row of the modality"]
    assert found.protocol["choices"]["from"] == str(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"j:2: no judgement: '\{'; a line is"),
        ('{"reference": "image:0001"}', "no judgement"),
        ('{"a": "image:0000", "b": "image:0006", "c": "image:0001", "odd": "d"}', "j:2: odd is 'd'; it is a or b or c"),
        (json.dumps({**JUDGED[0], "answer": "reference"}), "answer is 'reference'; it is a or b$"),
        (json.dumps({**JUDGED[0], "a": "0001"}), "'0001' begins with no modality; there are audio, image, text"),
        (json.dumps({**JUDGED[0], "a": "text:x"}), "no sample has the key 'x' of 'text:x'; they are such as '0000'"),
    ],
)
def test_a_bad_judgement_is_named(shards, tmp_path, line, words):
    (tmp_path / "j").write_text(json.dumps(JUDGED[0]) + "\n" + line)
    with pytest.raises(ValueError, match=words):
        Choices(judgements=tmp_path / "j").run(Space(tiny_space.model(), shards, draws=0))


def test_files_and_options_that_cannot_be(shards, tmp_path, capsys):
    space = Space(tiny_space.model(), shards, draws=0)
    space.table().ids[3] = space.table().ids[2]
    for content, words in ((b"", "has no judgements"), (b"\xff", "no text in UTF-8")):
        (tmp_path / "j").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            Choices(judgements=tmp_path / "j").run(space)
    (tmp_path / "j").write_text(json.dumps(JUDGED[2]))
    with pytest.raises(ValueError, match="several samples have the key '0002'"):
        Choices(judgements=tmp_path / "j").run(space)
    with pytest.raises(ValueError, match="1 set at least"):
        Choices(sets=0)
    save(tiny_space.model(), tmp_path / "m")
    args = ["evaluate", str(tmp_path / "m"), *map(str, shards.urls), "--allow", "tiny_space", "--draws", "0"]
    args += ["--no-report", "--with", "choices"]
    assert main([*args, "--judgements", str(tmp_path / "none")]) == 1
    assert "--judgements: there is no file" in capsys.readouterr().err
    assert main([*args, "--sets", "5", "--judgements", str(tmp_path / "j")]) == 0
    assert "accuracy of two-alternative choice" in capsys.readouterr().out
