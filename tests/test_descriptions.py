"""Synonyms and descriptions: every prompt is in the mean of its class, and an unknown label is refused."""

from __future__ import annotations

import json

import pytest
import tiny_space
import torch
import torch.nn.functional as F

import align
from align.checkpoint import save
from align.commands import main
from align.commands.classes import read_descriptions
from align.commands.errors import Refused
from align.data import Shards
from align.evaluation import class_prompts, evaluate
from align.evaluation.classes import resolve_classes
from align.evaluation.descriptions import resolve_descriptions, state_descriptions
from align.evaluation.prompts import Texts, describe, equal_prompts

KINDS = tiny_space.classes


def mean(model, *prompts):
    return F.normalize(model.embed(text=list(prompts))["text"].mean(dim=0), dim=0)


def test_all_names_and_texts_are_in_one_mean(monkeypatch):
    model = tiny_space.model()
    names = describe(
        {"a": ["bbb", "c_c"], "b": "ddd", "c": ["eee", "fff"]}, {"b": ["a {} bee", "{} {}", "gg"], "c": ["{} h", "hh"]}
    )
    assert names[1:] == [Texts("b", ("a ddd bee", "ddd ddd", "gg")), Texts("c", ("eee h", "fff h", "hh"))]
    for block in (4096, 1):
        monkeypatch.setattr("align.evaluation.prompts.BLOCK", block)
        got = class_prompts(model, names, ["{}", "{} bee"])
        assert torch.allclose(got[0], mean(model, "bbb", "bbb bee", "c c", "c c bee"), atol=1e-6)
        assert torch.allclose(got[1], mean(model, "a ddd bee", "ddd ddd", "gg"), atol=1e-6)
        assert torch.allclose(got[2], mean(model, "eee h", "fff h", "hh"), atol=1e-6)


def test_the_same_names_in_another_order_are_one_class():
    model = tiny_space.model()
    assert equal_prompts(model, [["bb", "cc"], ["CC", "bb"], ["bb"], "bb", ["bb", "dd"]]) == [0, 0, 2, 2, 4]
    assert equal_prompts(model, [Texts("x", ("bb", "cc")), "bb", Texts("y", ("cc", "bb"))]) == [0, 1, 0]
    with pytest.raises(ValueError, match="the classes 'bb' and 'cc' have the same prompts"):
        class_prompts(model, [["bb", "cc"], ["cc", "bb"]])


@pytest.mark.parametrize(
    ("classes", "means"),
    [
        ({"kind": ["a", "b"]}, {"kind": {"a": "a", "b": "b"}}),
        ({"a": ["x", "y"], "b": "z"}, {"kind": {"a": ["x", "y"], "b": "z"}}),
        ({"a": ["x", "y"], "b": ["z"]}, {"kind": {"a": ["x", "y"], "b": "z"}}),
        ({"kind": {"a": ["x", "y"], "b": "z"}}, {"kind": {"a": ["x", "y"], "b": "z"}}),
    ],
)
def test_lists_are_synonyms_where_the_keys_are_labels(classes, means):
    assert resolve_classes({"kind": ["a", "b"]}, classes) == means


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({"a": [], "b": "x"}, "the class 'a' of kind has no name"),
        ({"a": ["x", "x"], "b": "y"}, "the class 'a' of kind has the name 'x' twice"),
        ({"colour": ["x", "y"]}, "the shards have no attribute 'colour'"),
    ],
)
def test_synonyms_that_do_not_fit_are_refused(classes, says):
    with pytest.raises(ValueError, match=says):
        resolve_classes({"kind": ["a", "b"]}, classes)


def test_descriptions_name_labels():
    classes = {"kind": {"cat": "cat", "dog": "dog"}, "size": {"big": "big"}}
    texts = {"cat": ["it purrs"]}
    assert resolve_descriptions(classes, None) == {}
    assert resolve_descriptions(classes, {"kind": texts}) == {"kind": texts}
    assert resolve_descriptions(classes, texts, "kind") == {"kind": texts}
    assert resolve_descriptions({"kind": classes["kind"]}, {"cat": "it purrs"}) == {"kind": texts}
    for given, says in [
        (texts, r"say which attribute these descriptions are of: .\"kind\": .* the attributes are kind, size"),
        ({"kind": {"catt": ["x"]}}, "descriptions of 'catt', which is no class of kind; did you mean 'cat'"),
        ({"kind": {"#": ["x"]}}, "which is no class of kind; there are cat, dog"),
        ({"colour": {"red": ["x"]}}, "descriptions for 'colour', but the attributes are kind, size"),
        ({"kind": {"cat": []}}, "the descriptions of 'cat' are a text or a list of texts"),
        ({"kind": {"cat": [3]}}, "the descriptions of 'cat' are a text or a list of texts"),
    ]:
        with pytest.raises(ValueError, match=says):
            resolve_descriptions(classes, given)


def test_a_protocol_counts_many_texts():
    few = {"kind": {"a": ["x"]}}
    assert state_descriptions(few) == few
    many = {"kind": {"a": ["x"] * 1001}}
    assert state_descriptions(many)["texts"] == {"kind": {"a": 1001}}
    assert len(state_descriptions(many)["sha256"]) == 64


@pytest.mark.parametrize(
    ("said", "says", "code"),
    [
        ("gone.json", "'gone.json' is no file", 2),
        ('["a"]', "--descriptions holds no JSON object", 2),
        ('{"a": [], "b": ["x"]}', "'a' has '[]' for texts", 2),
        ('{"a": 3}', "'a' has '3' for texts", 2),
        ('{"a": ["x"], "a": ["y"]}', "names 'a' twice", 2),
        ("{}", "holds '{}'", 2),
        ("list.json", "list.json holds no JSON object", 1),
        ("bad.json", "bad.json: 'a' has", 1),
    ],
)
def test_other_forms_are_refused_in_one_line(tmp_path, monkeypatch, said, says, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text('["a"]')
    (tmp_path / "bad.json").write_text('{"a": [""]}')
    with pytest.raises(Refused) as refused:
        read_descriptions(said)
    assert says in str(refused.value)
    assert 'give {"label": ["text", ...]}' in str(refused.value) or "twice" in says
    assert "\n" not in str(refused.value)
    assert refused.value.code == code


def test_descriptions_are_read(tmp_path):
    (tmp_path / "d.json").write_text('{"a": ["x {}", "y"], "b": "z"}')
    assert read_descriptions(str(tmp_path / "d.json")) == {"a": ["x {}", "y"], "b": ["z"]}
    assert read_descriptions('{"kind": {"a": "x"}}') == {"kind": {"a": ["x"]}}


# through the doors


def test_evaluate_takes_them_and_says_so(tmp_path):
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", tiny_space.world())
    model = tiny_space.model("pairwise")
    shards = Shards(str(path), shuffle=False)
    plain = evaluate(model, shards, with_=["zeroshot"], draws=0)
    words = {"kind": {c: f"class {i}" for i, c in enumerate(KINDS)}}  # names that say nothing
    texts = {"kind": {c: [f"{c}", f"a {c}"] for c in KINDS}}
    told = evaluate(model, shards, with_=["zeroshot"], draws=0, classes=words, descriptions=texts)
    for m in ("image", "audio"):
        key = f"zeroshot/kind/{m}/accuracy"
        assert told.scores[key] == plain.scores[key]
    assert told.protocol["descriptions"] == texts
    assert "descriptions" not in plain.protocol
    synonyms = {"kind": {c: [c, f"a {c}"] for c in KINDS}}
    asked = evaluate(model, shards, with_=["zeroshot"], draws=0, classes=synonyms, templates=["{}"])
    assert asked.scores["zeroshot/kind/image/ece"] == pytest.approx(plain.scores["zeroshot/kind/image/ece"], abs=1e-6)
    assert asked.protocol["classes"] == synonyms


def test_classify_and_the_commands_take_them(tmp_path, capsys):
    model = tiny_space.model("pairwise")
    one = torch.eye(8)[1].numpy()
    (found,) = align.classify(
        model, {"x": ["ddd", "eee"], "y": "hhh"}, descriptions={"y": ["{} c", "ccc"]}, image=[one]
    )
    assert found.label == "y"
    with pytest.raises(ValueError, match="descriptions of '#', which is no class; there are x, y"):
        align.classify(model, ["x", "y"], descriptions={"#": ["c"]}, image=[one])
    save(model, tmp_path / "model")
    (tmp_path / "1.npy").write_bytes(tiny_space.npy(one))
    (tmp_path / "d.json").write_text('{"y": ["ccc"]}')
    tiny_space.write_tar(tmp_path / "test-000000.tar", tiny_space.world())

    def run(*args):
        code = main([*map(str, args), "--allow", "tiny_space"])
        return code, *capsys.readouterr()

    label = ["zeroshot", tmp_path / "model", tmp_path / "1.npy", "--modality", "image", "--json"]
    code, out, _ = run(*label, "--classes", '{"x": ["ddd", "eee"], "y": "hhh"}', "--descriptions", tmp_path / "d.json")
    assert code == 0
    assert json.loads(out)["files"][0]["class"] == "y"
    code, _, err = run(*label, "--classes", "x,z", "--descriptions", tmp_path / "d.json")
    assert (code, err) == (1, "align: descriptions of 'y', which is no class; there are x, z\n")
    code, _, err = run(*label, "--classes", "x,z", "--descriptions", '{"kind": {"x": "a"}}')
    assert (code, err.count("\n")) == (2, 1)
    command = ["evaluate", tmp_path / "model", tmp_path / "test-000000.tar", "--out", tmp_path / "r", "--no-report"]
    texts = {"kind": {"bbb": ["b {}"], "ccc": ["c"]}}
    code, out, _ = run(*command, "--descriptions", json.dumps(texts), "--specificity", "0.9", "--draws", 20)
    assert code == 0
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["protocol"]["descriptions"] == texts
    assert "zeroshot/half/image/sensitivity@specificity0.9" in results
    code, _, err = run(*command, "--specificity", "1.5")
    assert (code, err) == (2, "align: --specificity: a specificity lies between 0 and 1, such as 0.9; got 1.5\n")
    code, _, err = run(*command, "--descriptions", '{"kind": {"bb": "x"}}')
    assert (code, err) == (1, "align: descriptions of 'bb', which is no class of kind; did you mean 'bbb'?\n")
