"""A file of concepts: texts drawn from it, and rows of relatives, which are no negatives."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from align.files.concepts import find_ancestors, read_concepts
from align.losses import InfoNCE, Matryoshka, Relatives, SigLIP, Symile
from align.objective import Objective, Term
from align.preprocess import Bytes, ConceptTexts
from align.values import Embeddings, Rows

tree = {
    "Cone": {"synonyms": ["funnel"], "definitions": ["a circle drawn to a point"], "parents": ["round", "pointed"]},
    "ball": {"synonyms": ["sphere", "orb"], "parents": ["round"]},
    "cube": {"definitions": ["six squares"]},
    "round": {"synonyms": ["without corners"], "parents": ["solid"]},
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "concepts.json"
    file.write_text(json.dumps(tree))
    return str(file)


def test_ancestors_are_named_step_by_step(path):
    concepts = read_concepts(path)
    assert [find_ancestors(concepts, "Cone", up) for up in range(4)] == [
        ["Cone"], ["Cone", "round", "pointed"], ["Cone", "round", "pointed", "solid"],
        ["Cone", "round", "pointed", "solid"],
    ]  # fmt: skip
    assert find_ancestors(concepts, "torus", 2) == ["torus"]


def count(reader, text: str, n: int = 4000) -> dict[str, float]:
    found: dict[str, float] = {}
    for seed in range(n):
        drawn = reader.draw(text, torch.Generator().manual_seed(seed))
        found[drawn] = found.get(drawn, 0) + 1 / n
    return found


def test_training_reads_each_kind_of_text_as_often_as_asked(path):
    reader = ConceptTexts(path, Bytes(32), definitions=0.2, parents=0.5, up=1)
    expected = {
        "CONE": {"Cone": 0.15, "funnel": 0.15, "a circle drawn to a point": 0.2,
                 "round": 0.5 / 3, "without corners": 0.5 / 3, "pointed": 0.5 / 3},
        "ball": {"ball": 0.5 / 3, "sphere": 0.5 / 3, "orb": 0.5 / 3, "round": 0.25, "without corners": 0.25},
        "cube": {"cube": 0.8, "six squares": 0.2},
        "a red thing": {"a red thing": 1.0},
    }  # fmt: skip
    for text, shares in expected.items():
        found = count(reader, text)
        assert {*found} == {*shares}
        assert all(math.isclose(found[k], shares[k], abs_tol=0.03) for k in shares)
    deep = count(ConceptTexts(path, Bytes(32), definitions=0.0, parents=1.0, up=2), "ball", 200)
    assert {*deep} == {"round", "without corners", "solid"}


def test_a_row_is_that_of_the_drawn_text_and_draws_twice(path):
    reader, bare = ConceptTexts(path, Bytes(32)), Bytes(32)
    for text in (b"Cone", b"a red thing"):
        one, two = (torch.Generator().manual_seed(5) for _ in range(2))
        row = reader.row(text, one)
        two_draws = torch.Generator().manual_seed(5)
        torch.rand(2, generator=two, dtype=torch.float64)
        assert torch.equal(one.get_state(), two.get_state())
        assert torch.equal(row, bare.eval(reader.draw(text.decode(), two_draws)))
        assert torch.equal(reader.row(text), bare.row(text))
        kept = reader.keep(text)
        assert torch.equal(reader.finish(kept, torch.Generator().manual_seed(5)), row)
    assert torch.equal(reader.collate([row]), bare.collate([row]))
    assert (reader.context, reader.vocabulary) == (32, 259)
    again = pickle.loads(pickle.dumps(reader))
    assert torch.equal(again.row(b"Cone", torch.Generator().manual_seed(9)),
                       reader.row(b"Cone", torch.Generator().manual_seed(9)))  # fmt: skip


def test_a_model_folder_carries_the_file(path, tmp_path):
    import align
    from align.encoders import TransformerText
    from align.model import JointModel, Tower

    model = JointModel(
        {"text": Tower(ConceptTexts(path, Bytes(8)), TransformerText(context=8, width=8, depth=1, heads=1))}, 4
    )
    align.save(model, tmp_path / "model")
    (tmp_path / "concepts.json").unlink()
    again = align.load(tmp_path / "model")
    reader = again.preprocess["text"]
    assert reader._texts == model.preprocess["text"]._texts
    torch.testing.assert_close(again.embed(text=["cone"])["text"], model.eval().embed(text=["cone"])["text"])


names = ["Cone", "ball", "cube", "torus"]
labels = [
    {"shape": "Cone"},
    {"shape": ["cube", "ball"]},
    None,
    {"shape": "torus"},
    {"shape": "ball"},
    {"shape": "cube"},
]
owners = {"image": [0, 1, 1, 2, -1, 4, 5], "text": [0, 1, 2, 3, 4, 5]}


def table() -> Embeddings:
    draw = torch.Generator().manual_seed(4)
    rows = {m: Rows(F.normalize(torch.randn(len(o), 5, dtype=torch.float64, generator=draw), dim=1), torch.tensor(o))
            for m, o in owners.items()}  # fmt: skip
    return Embeddings(rows, [*"abcdef"], torch.arange(6), labels)


def concepts_of(sample: int, up: int) -> set[str]:
    found = labels[sample]["shape"] if sample >= 0 and labels[sample] else []
    above = {"Cone": ["round", "pointed"], "ball": ["round"], "cube": [], "torus": []}
    out = {*([found] if isinstance(found, str) else found)}
    return out | {p for c in out for p in above[c] if up}


@pytest.mark.parametrize("up", [0, 1])
@pytest.mark.parametrize("inner", [InfoNCE, SigLIP])
def test_relatives_are_no_negatives_as_in_the_loop(path, up, inner):
    loss = Relatives(inner(), path, "shape", up)
    made = Objective({"one": Term(loss, ["image", "text"])}, dim=5, batch=6).double()
    made.name_classes({"shape": names})
    frame = table()
    a, b = (frame[m].values for m in owners)
    logits = (loss.scale.detach() * a @ b.T).tolist()
    pair = {(i, j): (s == t and s >= 0) for i, s in enumerate(owners["image"]) for j, t in enumerate(owners["text"])}
    out = {(i, j) for (i, j), positive in pair.items()
           if not positive and concepts_of(owners["image"][i], up) & concepts_of(owners["text"][j], up)}  # fmt: skip
    assert len(out) > (6 if up else 2)
    assert len(out) < 20
    if inner is SigLIP:
        bias = float(loss.bias.detach())
        terms = [math.log1p(math.exp(-(logits[i][j] + bias) * (1 if p else -1))) for (i, j), p in pair.items()
                 if (i, j) not in out]  # fmt: skip
        expected = sum(terms) / 6.5
    else:
        sides = []
        for side, n in enumerate((7, 6)):
            costs = []
            for k in range(n):
                row = {x: logits[x[0]][x[1]] for x in pair if x[side] == k and x not in out}
                right = [v for x, v in row.items() if pair[x]]
                if right:
                    costs.append(math.log(sum(map(math.exp, row.values()))) - sum(right) / len(right))
            sides.append(sum(costs) / len(costs))
        expected = sum(sides) / 2
    assert float(made(frame)[0].detach()) == pytest.approx(expected, rel=1e-6)
    plain = Objective({"one": Term(inner(), ["image", "text"])}, dim=5, batch=6).double()
    assert float(made.eval()(frame)[0].detach()) == pytest.approx(float(plain(frame)[0].detach()), rel=1e-12)


def test_what_does_not_fit_is_one_line(path, tmp_path):
    def file(content: str) -> str:
        (tmp_path / "bad.json").write_text(content)
        return str(tmp_path / "bad.json")

    x, ids = torch.randn(3, 2), torch.arange(3)
    for wrong, words in (
        (lambda: read_concepts(file("[]")), "is no object of concepts"),
        (lambda: read_concepts(file('{"a": {"synonym": []}}')), "'a' has the keys synonyms, definitions, parents"),
        (lambda: read_concepts(file('{"a": {"parents": "b"}}')), "'a' has the keys"),
        (lambda: read_concepts(file('{"a": {"parents": ["b"]}, "b": {"parents": ["a"]}}')), "'a' is above itself"),
        (lambda: read_concepts(file('{"a": {}, "A": {}}')), "'A' and 'a' are one name in two cases"),
        (lambda: read_concepts(file("{")), "is not JSON"),
        (lambda: ConceptTexts(path, Bytes(8), 0.6, 0.6), "probabilities, 1 at most together; got 0.6 and 0.6"),
        (lambda: ConceptTexts(path, Bytes(8), -0.1), "probabilities, 1 at most"),
        (lambda: ConceptTexts(path, Bytes(8), up=0), "up is a number of steps, at least 1; got 0"),
        (lambda: Relatives(Symile(), path), "Relatives leaves pairs out of a loss that takes them by pairs"),
        (lambda: Relatives(InfoNCE(label_smoothing=0.1), path), "label_smoothing"),
        (lambda: Relatives(InfoNCE(), path, up=-1), "up is a number of steps, at least 0"),
        (lambda: Relatives(InfoNCE(), path)([x, x], [ids, ids]), "Relatives reads labels"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)
    Relatives(Matryoshka(InfoNCE(), [1, 2]), path)  # a wrapper around one of both
