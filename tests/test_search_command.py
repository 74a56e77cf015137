"""``align search`` and ``align.open_index`` on an index of the tiny space, as a user types them."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import tiny_space
import torch

import align
from align.checkpoint import save
from align.checkpoint.fingerprint import fingerprint
from align.commands import main
from align.commands.devices import Placing
from align.commands.groups import Weights
from align.commands.pairs import pairs
from align.commands.search import search
from align.commands.search_groups import Backing, Calibration, Correcting, Query
from align.search.local import LocalIndex
from align.search.open import find_index

trust = ["--allow", "tiny_space"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards/test-*.tar and model folders with an index: pairs, triple (Symile only), none (no terms)."""
    folder = tmp_path_factory.mktemp("asked")
    samples = list(tiny_space.world().items())
    for i in range(2):
        tiny_space.write_tar(folder / "shards" / f"test-{i:06d}.tar", dict(samples[12 * i : 12 * i + 12]))
    for name, kinds in {"pairs": ["pairwise"], "triple": ["symile"], "none": []}.items():
        save(tiny_space.model(*kinds), folder / name)
        assert main(["index", "build", str(folder / name), str(folder / "shards" / "test-*.tar"), *trust]) == 0
    for c in range(3):
        (folder / f"{c}.npy").write_bytes(tiny_space.npy(torch.eye(8)[c]))
    return folder


@pytest.fixture
def copy(place, tmp_path):
    """An index that a test may change, away from its model."""
    shutil.copytree(place / "pairs" / "index", tmp_path / "i")
    return tmp_path / "i"


def run(capsys, *args):
    """(exit code, stdout, stderr) of ``align search``."""
    capsys.readouterr()
    code = main(["search", *(str(a) for a in args), *trust])
    out, err = capsys.readouterr()
    return code, out, err


def ask(capsys, *args):
    code, out, err = run(capsys, *args, "--json")
    assert code == 0, err
    return json.loads(out)


def keys(said):
    return [hit["key"] for hit in said["hits"]]


def test_by_text(place, tmp_path, capsys):
    args = [place / "pairs", "ddd", "--of", "image", "--k", "4"]
    said = ask(capsys, *args, "--save", tmp_path / "found")
    assert [hit["rank"] for hit in said["hits"]] == [1, 2, 3, 4]
    assert said["hits"][0]["label"]["kind"] == "ddd"
    assert (said["how"], said["candidates"]) == ("objective", 23)
    assert len(said["files"]) == sum(1 for _ in (tmp_path / "found").iterdir()) == 16
    assert said["query"] == [{"modality": "text", "value": "ddd", "weight": 1}]
    code, table, _ = run(capsys, *args)
    assert code == 0
    assert all(hit["key"] in table and hit["captions"][0] in table for hit in said["hits"])


def test_an_index_a_run_and_a_model_with_in_are_one(place, capsys):
    found = [
        keys(ask(capsys, *where, "--of", "image"))
        for where in (
            [place / "pairs", "ddd"],
            [place / "pairs" / "index", "ddd"],
            [place / "pairs", "ddd", "--in", place / "pairs" / "index"],
            [place / "pairs" / "index", "ddd", "--model", place / "pairs"],
        )
    ]
    assert found[0] == found[1] == found[2] == found[3]


def test_parts_weights_and_minus_signs(place, capsys):
    asked = ["--text", "ccc", "--image", place / "0.npy", "--audio", place / "0.npy"]
    args = [place / "pairs", *asked, "--of", "text"]
    summed, by_cosine = ask(capsys, *args), ask(capsys, *args, "--how", "cosine")
    assert summed["how"] == "objective"
    assert by_cosine["hits"][0]["score"] <= 3 < summed["hits"][0]["score"]
    assert keys(ask(capsys, *args, "--how", "mip")) != keys(summed)
    both = ask(capsys, place / "pairs", "ccc ddd", "--of", "image")
    assert {hit["label"]["kind"] for hit in both["hits"][:6]} == {"ccc", "ddd"}
    less = ask(capsys, place / "pairs", "ccc ddd", "--minus-text", "ccc", "--of", "image")
    assert less["hits"][0]["label"]["kind"] == "ddd"
    assert list(less["hits"][0]["cosines"]) == ["text", "-text 2"]
    weighted = ask(
        capsys, place / "pairs", "ccc ddd", "--minus-text", "ccc", "--weights", "text=3,minus-text=0", "--of", "image"
    )
    assert keys(weighted) == keys(both)
    assert weighted["hits"][0]["score"] == pytest.approx(3 * both["hits"][0]["score"], rel=1e-5)
    minus = ask(capsys, place / "none", "--image", place / "0.npy", "--minus-audio", place / "1.npy", "--of", "image")
    for hit in minus["hits"]:
        assert hit["score"] == pytest.approx(hit["cosines"]["image"] - hit["cosines"]["-audio"], abs=1e-5)


def test_by_any_modality(place, capsys):
    """Through the function, whose options are named like words of Python."""
    file, index = str(place / "1.npy"), str(place / "pairs" / "index")
    trusted = Weights(allow="tiny_space")
    search(
        str(place / "pairs"),
        of="text",
        parts=Query(with_=f"audio={file},image={file}"),
        in_=index,
        json=True,
        calibration=Calibration(),
        backing=Backing(),
        placing=Placing(),
        hubs=Correcting(),
        weights=trusted,
    )
    said = json.loads(capsys.readouterr().out)
    assert {part["modality"] for part in said["query"]} == {"audio", "image"}
    assert said["hits"][0]["label"]["kind"] == "ccc"
    assert any("audio does not count" in note for note in said["notes"])
    assert pairs("a=b, c=d=e", "--with") == {"a": "b", "c": "d=e"}
    with pytest.raises(ValueError, match="--with 'depth': write NAME=FILE"):
        pairs("depth", "--with")


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ('label["kind"] == "ddd"', lambda label: label.get("kind") == "ddd"),
        ('label["kind"] in ["ddd", "eee"] and label["half"] > 0', lambda label: label.get("kind") == "eee"),
        ('not label["kind"] == "ddd"', lambda label: label and label["kind"] != "ddd"),
        ('{"label.half": {"lte": 0}}', lambda label: label.get("half") == 0),
        ('label["kind"] is None', lambda label: not label),
    ],
)
def test_filters(place, capsys, where, passes):
    said = ask(capsys, place / "pairs", "ddd", "--of", "image", "--where", where, "--k", "99")
    samples = {key: json.loads(members["json"]).get("label") or {} for key, members in tiny_space.world().items()}
    kept = [key for key, label in samples.items() if key != "0004" and passes(label)]  # 0004 has no image
    assert sorted(keys(said)) == kept
    assert said["candidates"] == len(kept)


def test_words(place, capsys):
    said = ask(capsys, place / "pairs", "--words", "ggg", "--of", "image")
    assert (said["how"], said["query"]) == ("text", [])
    found = {key for key, members in tiny_space.world().items() if b"ggg" in members["text.txt"]} - {"0004"}
    assert set(keys(said)) == found
    assert all(hit["cosines"] == {} for hit in said["hits"])
    mixed = ask(capsys, place / "pairs", "ggg", "--hybrid", "--of", "image")
    assert mixed["how"] == "hybrid"
    assert {hit["key"] for hit in mixed["hits"] if hit["text_rank"]} <= found
    assert mixed["hits"][0]["score"] == pytest.approx(2 / 61, abs=0.002)
    code, table, _ = run(capsys, place / "pairs", "ggg", "--hybrid", "--of", "image")
    assert (code, "words" in table.splitlines()[1]) == (0, True)


def test_like(place, capsys):
    said = ask(capsys, place / "pairs", "--like", "0002", "--of", "image", "--k", "99")
    assert said["how"] == "cosine"
    assert len(said["hits"]) == 22
    assert "0002" not in keys(said)
    model = tiny_space.model("pairwise")
    world = tiny_space.world()
    rows = {key: x for key, x in world.items() if "image.npy" in x}
    table = model.embed(image=[x["image.npy"] for x in rows.values()])["image"]
    scores = dict(zip(rows, (table @ table[list(rows).index("0002")]).tolist(), strict=True))
    assert keys(said) == sorted(rows.keys() - {"0002"}, key=lambda key: -scores[key])
    by = ask(capsys, place / "pairs", "--like", "0002", "--by", "text", "--of", "image")
    assert by["how"] == "objective"
    code, _, err = run(capsys, place / "pairs", "--like", "0004", "--by", "image", "--of", "image")
    assert (code, "the sample has no row of 'image'; it has audio, text" in err) == (1, True)
    assert "no sample 'x'" in run(capsys, place / "pairs", "--like", "x", "--of", "image")[2]


def test_threshold_and_fold(place, capsys):
    every = ask(capsys, place / "pairs", "ddd", "--of", "image", "--k", "99")["hits"]
    least = every[5]["score"]
    assert len(ask(capsys, place / "pairs", "ddd", "--of", "image", "--k", "99", "--threshold", least)["hits"]) == 6
    code, out, _ = run(capsys, place / "pairs", "ddd", "--of", "image", "--threshold", "1e9")
    assert (code, out) == (0, "no hit among 23 samples with image\n")
    folded = ask(capsys, place / "pairs", "ddd", "--of", "image", "--k", "99", "--fold", "--near", "0.8")["hits"]
    numbers = [n for hit in folded for n in (hit["sample"], *hit["same"])]
    assert sorted(numbers) == sorted(hit["sample"] for hit in every)
    assert len(folded) < len(every)


def test_a_threshold_is_calibrated_and_kept(place, copy, capsys):
    shards = place / "shards" / "test-*.tar"
    args = ["--model", place / "pairs", "--of", "image"]
    found = ask(
        capsys, copy, *args, "--calibrate", shards, "--precision", "0.8", "--hit", "label", "--attribute", "kind"
    )
    assert (found["name"], found["stored"]) == ("text_to_image/objective", True)
    assert found["precision"] >= 0.8
    said = ask(capsys, copy, "ddd", *args, "--threshold", "calibrated", "--k", "99")
    plain = ask(capsys, copy, "ddd", *args, "--k", "99")
    assert keys(said) == [hit["key"] for hit in plain["hits"] if hit["score"] >= found["value"]]
    code, out, err = run(capsys, copy, *args, "--calibrate", shards, "--precision", "0.2", "--how", "cosine")
    assert code == 0, err
    assert re.match(r"text_to_image/cosine: \d\.\d+\nprecision [.\d]+, recall [.\d]+, \d+ pairs reach it", out)
    assert set(LocalIndex.open(copy).about["threshold"]) == {"text_to_image/objective", "text_to_image/cosine"}
    code, _, err = run(
        capsys, copy, *args[:2], "--image", place / "0.npy", "--of", "audio", "--threshold", "calibrated"
    )
    assert (code, "keeps no threshold for image_to_audio/cosine; it keeps text_to_image" in err) == (1, True)


def test_a_threshold_of_an_index_that_cannot_be_written_is_printed(place, copy, capsys, monkeypatch):
    opened = LocalIndex.open

    def refuse(folder, write=False):
        if write:
            raise PermissionError(f"{folder} cannot be written")
        return opened(folder)

    monkeypatch.setattr(LocalIndex, "open", refuse)
    args = [copy, "--model", place / "pairs", "--of", "image", "--calibrate", place / "shards" / "test-*.tar"]
    code, out, err = run(capsys, *args, "--precision", "0.2")
    assert code == 0, err
    assert "text_to_image/objective:" in out
    assert "not stored" in err
    assert "threshold" not in LocalIndex.open(copy).about


def refused(capsys, place, *args, code=2):
    found, out, err = run(capsys, *args, "--of", "image")
    assert (found, out, err.count("\n")) == (code, "", 1), err
    return err


def test_a_wrong_command_line_is_one_line(place, capsys):
    pairs = place / "pairs"
    for args, says in (
        ([pairs, place / "0.npy"], "0.npy is a file: search by it with --image"),
        ([pairs], "nothing to search by"),
        ([pairs, "x", "--text", "y"], "once: as QUERY or as --text"),
        ([pairs, "x", "--off", "image"], "did you mean --of?"),
        ([pairs, "x", "--weights", "txt=2"], "--weights txt: the query has no such part; did you mean text?"),
        ([pairs, "x", "--weights", "text=much"], "--weights text=much: a weight is a number"),
        ([pairs, "x", "--where", "len(a) == 1"], "--where: an index cannot answer 'len(a)'"),
        ([pairs, "x", "--where", "a =="], "--where: 'a ==' is no condition"),
        ([pairs, "x", "--threshold", "high"], "--threshold is a number or calibrated; got 'high'"),
        ([pairs, "x", "--like", "0001"], "--like asks with the rows of a sample"),
        ([pairs, "--image", place / "0.npy", "--hybrid"], "--hybrid looks for the text of the query"),
        ([pairs, "x", "--precision", "0.9"], "--precision is of --calibrate"),
        ([pairs, "--calibrate", "s.tar"], "--calibrate needs --precision"),
        ([pairs, "x", "--calibrate", "s.tar", "--precision", "1"], "leave the query out"),
        ([pairs, "x", "--k", "0"], "--k must be at least 1"),
        ([pairs, "x", "--near", "2"], "--near is a cosine between 0 and 1"),
        ([pairs, "x", "--in", pairs / "index", "--model", pairs], "name the model once"),
    ):
        assert says in refused(capsys, place, *args)


def test_what_a_file_or_an_index_does_not_hold_is_one_line(place, tmp_path, capsys):
    pairs = place / "pairs"
    (tmp_path / "empty").mkdir()
    save(tiny_space.model("pairwise"), tmp_path / "fresh")
    for args, says in (
        ([tmp_path / "fresh", "x"], f"make one with: align index build {tmp_path / 'fresh'} SHARDS"),
        ([tmp_path / "empty", "x"], f"make one with: align index build MODEL SHARDS --out {tmp_path / 'empty'}"),
        ([tmp_path / "gone", "x"], f"no index at {tmp_path / 'gone'}: no model folder"),
        ([pairs, "x", "--in", tmp_path], f"make one with: align index build {pairs} SHARDS --out {tmp_path}"),
        ([pairs, "--with", f"ausio={place / '0.npy'}"], "no tower for 'ausio'; did you mean audio?"),
        ([pairs, "x", "--where", "kid == 1"], "no item has the key 'kid'"),
        ([pairs, "x", "--weights", "text=0"], "every part has weight 0"),
        ([pairs, "x", "--weights", "text=nan"], "a weight is a finite number"),
        ([pairs, "x", "--minus-text", "x"], "its parts cancel each other"),
        ([pairs, "--calibrate", place / "shards" / "test-*.tar", "--precision", "1.5"], "a precision is above 0"),
        ([place / "triple", "x", "--minus-audio", place / "0.npy", "--how", "mip"], "-audio alone would turn"),
    ):
        assert says in refused(capsys, place, *args, code=1)
    found, _, err = run(capsys, pairs, "x", "--of", "smell")
    assert (found, "the index has no 'smell'; it has audio, image, text" in err) == (1, True)


def test_another_models_index_is_refused_with_both_hashes(place, tmp_path, capsys):
    other = tiny_space.model("pairwise")
    with torch.no_grad():
        other.towers["image"].encoder.gain.add_(1)
    save(other, tmp_path / "other")
    index = place / "pairs" / "index"
    here, theirs = fingerprint(other)[:12], fingerprint(tiny_space.model("pairwise"))[:12]
    for args in ([tmp_path / "other", "x", "--in", index], [index, "x", "--model", tmp_path / "other"]):
        err = refused(capsys, place, *args, code=1)
        assert f"made by another model ({theirs}, this one is {here})" in err
        assert f"align index build MODEL SHARDS --out {index}" in err


def test_open_index(place, copy, tmp_path):
    with pytest.raises(ValueError, match="is not align's; to trust it"):
        align.open_index(place / "pairs" / "index")  # the model's classes are not allowed
    index = align.open_index(place / "pairs" / "index", allow=["tiny_space"])
    found = index.search({"text": "ddd", "audio": place / "2.npy"}, of="image", k=10, where={"label.kind": "ddd"})
    assert {hit.item.label["kind"] for hit in found.hits} == {"ddd"}
    assert find_index(place / "pairs") == place / "pairs" / "index"
    assert align.open_index(place / "pairs", allow=["tiny_space"]).index.count() == 24
    given = align.open_index(copy, tiny_space.model("pairwise"))
    assert [h.item.key for h in given.search({"text": "ddd"}, of="image").hits]
    shutil.move(place / "pairs", tmp_path / "moved")  # a run that is moved with its index
    try:
        assert align.open_index(tmp_path / "moved" / "index", allow=["tiny_space"]).index.count() == 24
        with pytest.raises(FileNotFoundError, match=r"the model of .* is gone: .*pairs; name it: --model MODEL"):
            align.open_index(copy, allow=["tiny_space"])
    finally:
        shutil.move(tmp_path / "moved", place / "pairs")
    with pytest.raises(FileNotFoundError, match="no index in"):
        align.open_index(tmp_path)


def test_a_backend_and_an_explanation(place, capsys):
    """The inverted index answers as the dense product does, and a score is the sum of the dimensions that it names."""
    index, cube = place / "none" / "index", place / "1.npy"
    plain = ask(capsys, index, "--image", cube, "--of", "audio", "--k", "5")
    fast = ask(capsys, index, "--image", cube, "--of", "audio", "--k", "5", "--backend", "inverted", "--explain", "8")
    keep = [(hit["sample"], hit["score"]) for hit in plain["hits"]]
    assert [(hit["sample"], hit["score"]) for hit in fast["hits"]] == keep
    assert "because" not in plain["hits"][0]
    for hit in fast["hits"]:
        assert sum(share["value"] for share in hit["because"]) == pytest.approx(hit["score"], abs=1e-5)
    bits = ask(capsys, index, "--image", cube, "--of", "audio", "--backend", "hamming")
    assert bits["hits"][0]["score"] <= 1
    code, out, _ = run(capsys, index, "--image", cube, "--of", "audio", "--explain", "2")
    assert code == 0
    assert "because" in out
    assert "dimension" in out
    assert run(capsys, index, "--image", cube, "--of", "audio", "--explain", "0")[0] == 2
    code, _, err = run(capsys, index, "--like", "k1", "--of", "audio", "--explain", "2")
    assert (code, "--explain says a match with the parts of a query" in err) == (2, True)


def test_a_change_is_added_to_a_file(place, capsys):
    """--from and --to ask by the cosines of the file and both texts, with the weights of a direction."""
    args = [place / "pairs", "--image", place / "0.npy", "--from", "a bbb", "--to", "a ddd", "--of", "image"]
    said = ask(capsys, *args, "--direction", "1.5", "--balance", "0.2")
    assert said["how"] == "cosine"
    assert [(part["modality"], part["value"]) for part in said["query"][1:]] == [("text", "a ddd"), ("text", "a bbb")]
    assert [part["weight"] for part in said["query"]] == pytest.approx([0.8, 1.5, -1.3])
    assert said["hits"][0]["label"]["kind"] == "ddd"
    for hit in said["hits"]:
        image, after, before = hit["cosines"].values()
        assert hit["score"] == pytest.approx(0.8 * image + 1.5 * after - 1.3 * before, abs=1e-5)
    kept = ask(capsys, *args, "--direction", "0", "--balance", "0")
    assert keys(kept) == keys(ask(capsys, *args[:3], "--of", "image", "--how", "cosine"))
    for change, says in (
        (["--to", "a ddd"], "a change goes from a text to a text; give both"),
        (["--balance", "0.3", "--image", "x"], "--direction and --balance are of the change"),
        (["--from", "a", "--to", "b"], "a change is added to a file"),
        (["--from", "a", "--to", "b", "--image", "x", "--balance", "7"], "balance is 0, the reference alone, to 1"),
    ):
        code, _, err = run(capsys, place / "pairs", "--of", "image", *change)
        assert code == 2
        assert says in err
