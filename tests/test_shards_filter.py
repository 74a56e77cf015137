"""Conditions over samples: what they say, and that they can do nothing else; filtered shards keep their bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_space
import torch
from test_shards_split import read
from tiny import made as tiny_model
from tiny import write as write_tiny
from tiny_data import members, npy, png, wav, write

from align.commands import main
from align.curation import filter_shards
from align.curation.cut.expression import Expression, Missing, Pair
from align.data import Shards, ShardWriter
from align.embedding import embed_batches, embed_shards
from align.evaluation import pairs as scored
from align.evaluation.pairs import best_scores, pair_scores
from align.values import Embeddings, Rows

VALUES = {"w": 300, "label": "cat", "tags": ["a", "b"], "d": {"size": {"x": 3}}, "none": None, "t": "A cat", "f": 0.5}
NUMBERS = {Pair("image", "text"): 0.3, Pair("image", "text", "cosine"): 0.1}


def get(name):
    if name not in VALUES:
        raise Missing(name)
    return VALUES[name]


@pytest.mark.parametrize(
    "text",
    [
        "w >= 256 and label == 'cat'",
        "100 < w <= 300 != 4",
        "label in ['cat', 'dog'] and 'c' not in tags",
        "not (w < 5) or nothing > 3",
        "len(tags) == 2 and tags[1] == 'b'",
        'd["size"]["x"] == 3',
        "none is None and label is not None",
        "w % 7 == 6 and w // 7 == 42 and w / 2 - 1 + 2 * 3 == 155",
        "-w < 0 and abs(-3) == 3 and min(w, 2) == 2 and max(1, 2) == 2 and round(f + 0.1) == 1",
        "lower(t) == 'a cat'",
        "score(image, text) > 0.2",
        "cosine(image, text) < 0.2 < score(image, text)",
        " w == 300 ",
        "'\\d' != t",
    ],
)
def test_what_is_true(text):
    assert Expression(text).why_not(get, NUMBERS) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("w > 5 and label == 'dog' and w > 400", "not label == 'dog'"),
        ("height > 5", "no height"),
        ("w > 5 and (height > 5 or w > 400)", "no height"),
        ("score(image, audio) > 0", "no score(image, audio)"),
        ("cosine(text, image) > 0", "no cosine(text, image)"),
        ("cosine(image, text) > 0.2", "not cosine(image, text) > 0.2"),
        ('d["colour"] == 3', 'no d["colour"]'),
        ("tags[2] == 'a'", "no tags[2]"),
        ("none > 3", "none > 3: '>' not supported between instances of 'NoneType' and 'int'"),
        ("w / 0 > 1", "w / 0 > 1: division by zero"),
        ("label * 1000000000 == 'x'", "label * 1000000000 == 'x': 'cat' is no number"),
        ("label + 'x' == 'catx'", "label + 'x' == 'catx': 'cat' is no number"),
        ("w and f", "w"),
    ],
)
def test_why_not(text, why):
    if text == "w and f":
        with pytest.raises(ValueError, match="'w' gives 300, not true or false; compare it with something"):
            Expression(text).why_not(get, {})
        return
    assert Expression(text).why_not(get, NUMBERS) == why


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch hacked')",
        "open('hacked', 'w')",
        "().__class__.__bases__[0].__subclasses__()",
        "label.upper() == 'CAT'",
        "label.__class__",
        "eval('1')",
        "exec('1')",
        "getattr(label, 'upper')",
        "[x for x in tags]",
        "(lambda: 1)()",
        "(x := 3) > 2",
        "f'{w}' == '3'",
        "9 ** 9 ** 9 > 1",
        "1 << 99999999 > 1",
        "len(*tags)",
        "len(x=tags)",
        "len()",
        "min(tags, key=len)",
        "tags[w] == 1",
        "tags[0:1] == 1",
        "1 if w else 2",
        "{1: 2}",
        "{1, 2}",
        "b'x' == w",
        "3j == w",
        "... == w",
        "~w",
        "w @ w",
        "w is 300",
        "score('image', text) > 1",
        "score(image) > 1",
        "cosine(image, 'text') > 1",
        "(score)(image, text).real > 1",
        "await w",
        "yield w",
        "import os",
        "w = 3",
        "w >",
        "",
        "w == 'a\0b'",
        "w > 1 or " * 300 + "w > 1",
        "(" * 300 + "w" + ")" * 300,
        "-" * 1500 + "w > 1",
        "-" * 100 + "w > 1",
    ],
)
def test_what_is_no_condition_is_one_line_and_runs_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"is not allowed in a condition|is no condition|at most 2000|nested|is for None"
    ) as e:
        Expression(text)
    assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


def test_names_and_pairs():
    found = Expression("a > 1 and score(image, text) > cosine(audio, text) or len(b) > 2")
    assert found.names == {"a", "b"}
    assert found.pairs == {Pair("image", "text", "score"), Pair("audio", "text", "cosine")}


# columns


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    folder = tmp_path_factory.mktemp("some")
    with ShardWriter(folder, per_shard=4) as writer:
        for i in range(10):
            content = {"image.png": png(i, 10 + i), "text.txt": f"{'word ' * (i + 1)}\nsecond".encode()}
            content["json"] = json.dumps({"label": ["cat", "dog"][i % 2], "group": i // 5, "stars": i}).encode()
            if i % 2:
                content |= {"audio.wav": wav(i, 800 * i), "points.npy": npy(i, 10 * i)}
            writer.write(f"k{i}", content)
    with ShardWriter(folder, "test") as writer:
        writer.write("t0", {"image.png": png(0, 50)})
    return folder


def kept(some, out, where, name="*", **options):
    filter_shards(f"{some}/{name}.tar", out, where, **options)
    found, all_ = read(f"{out}/*.tar"), read(f"{some}/*.tar")
    assert all(found[key] == all_[key] for key in found)  # every member, every byte
    return list(found)


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("width >= 17 and height < 20", "k7 k8 k9"),
        ("has_audio and seconds > 0.4", "k5 k7 k9"),
        ("sample_rate == 8000 and stars < 3", "k1"),
        ("points == 30 or points == 50", "k3 k5"),
        ("words <= 2", "k0 k1"),
        ("'second' in text and stars == 4", "k4"),
        ("label == 'cat' and group == 1", "k6 k8"),
        ("key in ['k3', 't0']", "t0 k3"),
        ("not has_text", "t0"),
        ("bytes_audio > 11000", "k7 k9"),
        ('json["stars"] > 8', "k9"),
        ("bytes_image / (width * height) > 3 and stars == 2", "k2"),
    ],
)
def test_columns(some, tmp_path, where, keys):
    assert kept(some, tmp_path, where) == keys.split()


def test_shards_keep_their_names_and_it_is_said_why(some, tmp_path):
    found = filter_shards(f"{some}/*.tar", tmp_path, "width > 12 and label == 'dog'")
    assert found == ({"train": 4}, {"not width > 12": 3, "not label == 'dog'": 3, "no label": 1})
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["train-000000.tar"]
    both = filter_shards(f"{some}/*.tar", tmp_path / "both", "width > 12", per_shard=3)[0]
    assert both == {"test": 1, "train": 7}
    assert [len(Shards(p)) for p in sorted((tmp_path / "both").glob("train-*.tar"))] == [3, 2, 2]
    assert filter_shards(f"{some}/*.tar", tmp_path / "one", "width > 12", split="all")[0] == {"all": 8}


def test_a_key_of_the_json_comes_first(tmp_path):
    with ShardWriter(tmp_path / "in") as writer:
        writer.write("a", {"image.png": png(0), "json": b'{"width": 3}'})
        writer.write("b", {"image.png": png(0)})
        writer.write("c", {"image.png": b"broken"})
    found = filter_shards(tmp_path / "in" / "*.tar", tmp_path / "out", "width == 12")
    assert found == ({"train": 1}, {"not width == 12": 1, "no readable image": 1})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("widht > 3", "no sample has 'widht': did you mean width"),
        ("has_imgae", "no modality 'imgae': did you mean has_image"),
        ("star > 3", "did you mean stars"),
        ("weight > 3", "no sample has 'weight': did you mean"),
        ("width > 1000", r"none of the 11 samples meets 'width > 1000': 11 not width > 1000"),
        ("score(image, text) > 0.1", "say which with --model RUN"),
        ("cosine(image, text) > 0.1", r"cosine\(image, text\) compares embeddings of a model; say which with --model"),
        ("width", "gives 50, not true or false"),
    ],
)
def test_conditions_that_keep_nothing(some, tmp_path, where, message):
    with pytest.raises(ValueError, match=message):
        filter_shards(f"{some}/*.tar", tmp_path / "out", where)
    assert not (tmp_path / "out").exists()


# scores


def test_nearest_by_a_loop():
    torch.manual_seed(0)
    a, b = torch.randn(5, 4), torch.randn(6, 4)
    own, other = torch.tensor([0, 0, 1, 3, -1]), torch.tensor([0, 1, 1, 2, -1, 3])
    rows = {"a": Rows(a, own), "b": Rows(b, other)}
    found = best_scores(Embeddings(rows, [*"wxyz"], torch.arange(4)), "a", "b")
    for sample in range(4):
        cosines = [
            float(a[i] @ b[j] / a[i].norm() / b[j].norm())
            for i in range(5)
            for j in range(6)
            if own[i] == other[j] == sample
        ]
        assert found[sample] == (pytest.approx(max(cosines), abs=1e-6) if cosines else None)
    assert found[2] is None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Shards with holes, a model in memory, and a folder with it."""
    from align.checkpoint import save

    folder = tmp_path_factory.mktemp("world")
    write_tiny(folder / "in")
    model, _ = tiny_model()
    save(model, folder / "model")
    return folder, model


def test_scores_are_those_of_the_embeddings(world):
    folder, model = world
    shards = Shards(folder / "in" / "*.tar", shuffle=False)
    model.train()
    found = pair_scores(model, shards, [Pair("image", "audio"), Pair("image", "text")], batch=7)
    assert model.training
    embeddings = embed_shards(model, shards)
    for pair, values in found.items():
        expected: list[float | None] = [None] * len(shards)
        for position, value in zip(
            embeddings.position.tolist(), best_scores(embeddings, pair.a, pair.b, model.terms), strict=True
        ):
            expected[position] = value
        assert values == pytest.approx(expected, abs=1e-9)
        assert None in values
    with pytest.raises(ValueError, match=r"score\(image, smell\): the model has no tower for 'smell'; it embeds"):
        pair_scores(model, shards, [Pair("image", "smell")])


def test_filter_by_a_score_as_typed(world, tmp_path, capsys):
    folder, model = world
    shards = Shards(folder / "in" / "*.tar", shuffle=False)
    scores = pair_scores(model, shards, [Pair("image", "audio")])[Pair("image", "audio")]
    there = sorted(value for value in scores if value is not None)
    middle = (there[len(there) // 2] + there[len(there) // 2 - 1]) / 2
    wanted = [i for i, value in enumerate(scores) if value is not None and value > middle]
    where = f"score(image, audio) > {middle!r}"
    arguments = ["shards", "filter", str(folder / "in"), str(tmp_path / "out"), "--where", where]
    code = main([*arguments, "--model", str(folder / "model"), "--allow", "tiny"])
    out, error = capsys.readouterr()
    assert (code, error) == (0, "")
    assert list(read(tmp_path / "out" / "*.tar")) == [f"train{i:04d}" for i in wanted]
    assert f"kept {len(wanted)} of 48" in out
    assert f"{48 - len(there):>7}  no score(image, audio)" in out
    assert main(arguments) == 1
    assert "--model RUN" in capsys.readouterr().err


@pytest.mark.parametrize("most", [0.3, 0.6])
def test_cosine_and_score_in_one_condition(tmp_path, monkeypatch, capsys, most):
    """By a loop over the embeddings. A term with scale 10 joins image and text, so that score() is 10 x cosine."""
    from align.checkpoint import save

    model = tiny_space.model("pairwise")
    save(model, tmp_path / "model")
    tiny_space.write_tar(tmp_path / "in" / "test-000000.tar", tiny_space.world())
    shards = Shards(tmp_path / "in" / "*.tar", shuffle=False)
    embeddings = embed_shards(model, shards)
    images, texts = embeddings["image"], embeddings["text"]
    wanted = []
    for sample, key in enumerate(embeddings.ids):
        cosines = [
            float(images.values[i] @ texts.values[j] / images.values[i].norm() / texts.values[j].norm())
            for i in range(images.n)
            for j in range(texts.n)
            if images.sample[i] == texts.sample[j] == sample
        ]
        if cosines and max(cosines) > most:
            wanted.append(key)
    assert 0 < len(wanted) < len(embeddings.ids)
    calls = []
    monkeypatch.setattr(scored, "embed_batches", lambda *a, **k: calls.append(1) or embed_batches(*a, **k))
    where = f"{most} < cosine(image, text) < 1.01 and score(image, text) > {10 * most}"
    arguments = ["shards", "filter", str(tmp_path / "in"), str(tmp_path / "out"), "--where", where]
    assert main([*arguments, "--model", str(tmp_path / "model"), "--allow", "tiny_space"]) == 0
    assert list(read(tmp_path / "out" / "*.tar")) == wanted
    assert len(calls) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "score(image, text): by objective"
    assert not said[1].startswith("cosine")


def test_what_is_wrong_is_one_line(some, tmp_path, capsys):
    for where, message in (
        ("open('x')", "\"open('x')\" is not allowed in a condition"),
        ("width >", "is no condition"),
        ("widht > 3", "did you mean width?"),
    ):
        assert main(["shards", "filter", f"{some}/*.tar", str(tmp_path / "out"), "--where", where]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(["shards", "filter", f"{some}/*.tar", str(tmp_path / "out")]) == 2
    assert Path(write(tmp_path / "in", 3, make=members)).parent.is_dir()
