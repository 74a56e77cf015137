"""Class names, templates and lists on a command line: every form is understood or refused in one line."""

from __future__ import annotations

import json

import pytest
import tiny_space
import torch

from align.checkpoint import save
from align.commands import main
from align.commands.classes import read_captions, read_classes, read_templates
from align.commands.errors import Refused
from align.commands.named import split
from align.commands.pairs import mapping, pairs

FILES = {
    "names.txt": "\ufeffcube\n\n  traffic cone \r\ngreat white shark, white shark\n",
    "names.json": '["a, b", "c"]',
    "words.json": '{"shape": {"0": "cube", "1": "cone"}, "size": ["big", "small"]}',
    "one.txt": "cube,cone,torus\n",
    "classes.csv": "id,name\n0,cat\n1,dog\n",
    "map.yaml": "0: cat\n1: dog\n",
    "prompts.txt": "a {}\nthe {}, lit from above\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "noise.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder, two").mkdir()


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ('["great white shark, white shark", "cone"]', ["great white shark, white shark", "cone"]),
        ("[great white shark, cone]", ["great white shark", "cone"]),
        ("[0, 1]", ["0", "1"]),
        ('{"a": "x", "b": "y"}', {"a": "x", "b": "y"}),
        ('{"shape": ["a", "b"]}', {"shape": ["a", "b"]}),
        ('{"a": "x", "b": ["y", "z"], "c": ["v"]}', {"a": "x", "b": ["y", "z"], "c": ["v"]}),
        ('{"a": ["x"], "b": ["y", "z"]}', {"a": ["x"], "b": ["y", "z"]}),
        ("names.txt", ["cube", "traffic cone", "great white shark, white shark"]),
        ("names.json", ["a, b", "c"]),
        ("words.json", {"shape": {"0": "cube", "1": "cone"}, "size": ["big", "small"]}),
        ("cube, cone", ["cube", "cone"]),
        ("folder, two", ["folder", "two"]),  # a folder is called so
        ("cube\ncone, dark\n", ["cube", "cone, dark"]),
        (",".join(map(str, range(3000))), [str(i) for i in range(3000)]),
    ],
)
def test_classes_are_read_in_every_form(said, means):
    assert read_classes(said) == means


@pytest.mark.parametrize(
    ("said", "says", "code"),
    [
        ("cube", "'cube' is no file, and a single name leaves no choice", 2),
        ("gone.txt", "'gone.txt' is no file", 2),
        ('"cube","cone"', '"cube" has quotation marks, which belong to a list alone', 2),
        ("names.txt,one.txt", "'names.txt' is a file, one of several names", 2),
        ("", "needs names, two or more", 2),
        ("one.txt", "one.txt needs names, two or more", 1),
        ("noise.txt", "is no text in UTF-8 (byte 0)", 1),
        ("folder", "folder is a folder", 2),
        ("cube,cone,cube", "names 'cube' twice", 2),
        ('["a", "a"]', "names 'a' twice", 2),
        ('{"a": "x", "a": "y"}', "names 'a' twice", 2),
        ("{a: x, a: y}", "names 'a' twice", 2),
        ('["a", "b"', "begins like JSON and is none (line 1, column 10", 2),
        ('["a", ["b"]]', "a name is a word, not ['b']", 2),
        ("[yes, no]", "a name is a word, not True", 2),
        ('{"a": "x", "b": []}', "a name is a word, not []", 2),
        ('{"a": "x", "b": ["y", "y"]}', "names 'y' twice", 2),
        ('{"a": null, "b": "y"}', "a name is a word, not None", 2),
        ("[" * 5000, "--classes", 2),
        ("classes.csv", "classes.csv: a .csv has another form; it takes a file with one a line, or JSON", 1),
        ("map.yaml", "map.yaml: a .yaml has another form", 1),
        ('"cube","cone"', '"cube" has quotation marks', 2),
    ],
)
def test_other_forms_are_refused_in_one_line(said, says, code):
    with pytest.raises(Refused) as refused:
        read_classes(said)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.code == code
    if "no file" in says or "two or more" in says:
        assert 'a list ["a", "b"], a file with one name a line, or names with commas: a,b' in str(refused.value)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("a {}, lit from above", ["a {}, lit from above"]),
        ("{} on white", ["{} on white"]),
        ('["{}", "a {}"]', ["{}", "a {}"]),
        ('{shape: ["a {}"], size: "{} thing"}', {"shape": ["a {}"], "size": ["{} thing"]}),
        ("prompts.txt", ["a {}", "the {}, lit from above"]),
    ],
)
def test_templates_are_read_in_every_form(said, means):
    assert read_templates(said) == means


@pytest.mark.parametrize("said", ["a", "a {},the {}", '["a {}", "a"]', '["a {}", "a {}"]', "{shape: 3}", "names.txt"])
def test_templates_of_other_forms_are_refused(said):
    with pytest.raises(Refused, match="template"):
        read_templates(said)


def test_templates_of_captions_have_the_same_forms():
    assert read_captions("{}") == ["{}"]
    assert read_captions("a {}|the {}") == ["a {}", "the {}"]
    assert read_captions("") == [""]
    assert read_captions('["a {}", "the {}"]') == ["a {}", "the {}"]
    assert read_captions("prompts.txt") == ["a {}", "the {}, lit from above"]
    with pytest.raises(Refused, match="captions have no attributes"):
        read_captions('{"shape": "a {}"}')


def test_lists_and_pairs_understand_json():
    assert split('["image", "text"]') == split("[image, text]") == split("image, text") == ["image", "text"]
    assert split("a/{0,1}.tar,[b]x.tar") == ["a/{0,1}.tar", "[b]x.tar"]
    assert mapping('{"text": ["json:caption", "txt"]}') == mapping("text=json:caption|txt")
    assert pairs('{"train": 0.8, "val": 0.2}', "--parts") == {"train": "0.8", "val": "0.2"}
    for text, option in (("a=x,a=y", "--with"), ('{"a": "x", "a": "y"}', "--with")):
        with pytest.raises(ValueError, match="--with names 'a' twice"):
            pairs(text, option)
    with pytest.raises(ValueError, match="is no value; write NAME=FILE"):
        pairs('{"a": ["x"]}', "--with")
    for text in ('{"image": 1}', "[1, 2]"):
        with pytest.raises(ValueError, match="list"):
            split(text)


# through the commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, a file to label, and 24 samples with the classes bbb to ggg."""
    place = tmp_path_factory.mktemp("classes")
    save(tiny_space.model("pairwise"), place / "model")
    (place / "1.npy").write_bytes(tiny_space.npy(torch.eye(8)[1]))
    tiny_space.write_tar(place / "shards" / "test-000000.tar", tiny_space.world())
    return place


def run(capsys, *args):
    capsys.readouterr()
    code = main([*map(str, args), "--allow", "tiny_space"])
    return code, *capsys.readouterr()


def label(capsys, place, *args):
    return run(capsys, "zeroshot", place / "model", place / "1.npy", "--modality", "image", *args)


def test_zeroshot_asks_with_words_and_answers_with_labels(place, capsys):
    code, out, _ = label(capsys, place, "--classes", '{"one": "bbb", "two": "ccc"}', "--json")
    assert code == 0
    assert json.loads(out)["files"][0]["class"] == "two"


def test_zeroshot_merges_equal_prompts_and_says_so(place, capsys):
    code, out, _ = label(capsys, place, "--classes", "big_ccc,big ccc,BIG CCC,bbb", "--json")
    said = json.loads(out)
    assert code == 0
    assert list(said["files"][0]["scores"]) == ["big_ccc", "bbb"]
    assert said["files"][0]["class"] == "big_ccc"
    assert len(said["notes"]) == 2
    assert "'big_ccc' and 'big ccc' have the same prompts" in label(capsys, place, "--classes", "big_ccc,big ccc,b")[1]


@pytest.mark.parametrize(
    "args",
    [
        ("--classes", "cube"),
        ("--classes", '{"kind": ["a", "b"]}'),
        ("--classes", "a,b", "--template", "no place for a name"),
        ("--classes", "a,b", "--template", '{"kind": "a {}"}'),
    ],
)
def test_zeroshot_refuses_in_one_line(place, capsys, args):
    code, out, err = label(capsys, place, *args)
    assert code == 2
    assert out == ""
    assert err.startswith("align: --")
    assert err.count("\n") == 1


def evaluate(capsys, place, *args):
    shards, out = place / "shards" / "test-000000.tar", place / "out"
    code, said, err = run(capsys, "evaluate", place / "model", shards, "--out", out, "--no-report", *args)
    return code, said, err, json.loads((out / "results.json").read_text()) if code == 0 else {}


def test_evaluate_reads_classes_as_zeroshot_does(place, capsys):
    (place / "names.txt").write_text("bbb\nccc\n")
    found = [
        evaluate(capsys, place, "--classes", said, "--attribute", "kind")[3]
        for said in ("bbb,ccc", '["bbb", "ccc"]', str(place / "names.txt"), '{"kind": ["bbb", "ccc"]}')
    ]
    assert found[0]["protocol"]["classes"] == {"kind": ["bbb", "ccc"]}
    for one in found[1:]:
        assert {k: v for k, v in one.items() if k != "protocol"} == {
            k: v for k, v in found[0].items() if k != "protocol"
        }


def test_evaluate_refuses_in_one_line(place, capsys):
    for args, says, exits in (
        (["--classes", "bbb,ccc"], 'say which attribute these classes are of: {"half": …}', 1),
        (["--classes", '{"kind": ["bbb", "bbb"]}'], "kind names 'bbb' twice", 2),
        (["--classes", "bbb"], "a single name leaves no choice", 2),
        (["--classes", "bbb,ccc", "--attribute", "colour"], "no attribute 'colour'", 1),
        (["--attribute", "colour"], "no attribute 'colour'", 1),
    ):
        code, out, err, _ = evaluate(capsys, place, *args)
        assert (code, out) == (exits, "")
        assert says in err
        assert err.count("\n") == 1
