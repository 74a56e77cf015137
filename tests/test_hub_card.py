"""A model for the hub: its card, the licence that it may state, and its way to a hub and back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from few import few

import align
from align.checkpoint.fingerprint import fingerprint
from align.commands import main
from align.convert.hub import write_hub
from align.convert.hub.card import strip_path
from align.convert.hub.licences import NAMES, choose_licence, conditions
from align.convert.hub.measured import read_results
from align.convert.hub.origin import read_training
from align.convert.hub.picture import draw_scores
from align.convert.hub.write import find_paths
from align.encoders import ImageCNN, TransformerText, Vector
from align.files import write_json
from align.heads import Linear
from align.model.inside import weights
from align.preprocess import Array, Bytes, Image
from align.values import Origin, TermInfo

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub client's own upload

SCORES = {
    "zeroshot/label/image/accuracy": 0.5,
    "zeroshot/label/image/ece": 0.1,
    "image_to_text/recall@1": 0.25,
    "text_to_track/recall@1": 0.75,
}
INTERVALS = {"zeroshot/label/image/accuracy": [0.4, 0.6], "text_to_track/recall@1": [0.5, 1.0]}


def origin(licence="mit", changed=False, source="owner/name"):
    return {"source": source, "sha256": 64 * "a", "licence": licence, "changed": changed}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    towers = {
        "image": align.Tower(Image(size=32), ImageCNN(width=8, widths=[8, 8]), Linear),
        "text": align.Tower(Bytes(context=8), TransformerText(context=8, width=8, depth=1, heads=1), Linear),
        "track": align.Tower(Array((6,)), Vector(6), Linear),
    }
    made = align.JointModel(towers, dim=4).eval()
    made.terms = [TermInfo(("image", "text"), "pairwise", 10.0)]
    return made


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """A run folder: a model, results of it, and the facts of its training."""
    folder = tmp_path_factory.mktemp("runs") / "toys"
    align.save(model, folder / "model")
    protocol = {"model": fingerprint(model), "shards": {"test-000000.tar": 20, "test-000001.tar": 5}}
    protocol |= {"hit rule": "sample: a row of the same sample", "templates": {"label": ["a {}"]}, "notes": ["a | b"]}
    protocol["command"] = "align evaluate /home/x/runs/toys '/home/x/s/test-*.tar' b/c --out ~/x/out"
    write_json(folder / "results.json", {**SCORES, "intervals": INTERVALS, "protocol": protocol})
    config = {
        "seed": 3,
        "data": {"batch": 64, "train": {"a": "toys/train-*.tar", "b": {"urls": ["hf://datasets/o/d/x.tar"]}}},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    write_json(folder / "environment.json", {"starts": [{"folder": str(folder.parent)}]})
    write_json(folder / "checkpoints" / "index.json", {"last": "step-00000040", "best": "step-00000040"})
    align.save(model, folder / "checkpoints" / "step-00000040")
    shards = {
        "train-000000.tar": {"samples": 30},
        "train-000001.tar": {"samples": 7},
        "test-000000.tar": {"samples": 9},
    }
    write_json(folder.parent / "toys" / "manifest.json", {"licence": "CC0-1.0", "shards": shards})
    return folder


def card_of(folder):
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md")


def test_the_card_says_what_is_known(model, run, tmp_path):
    lines = write_hub(model, tmp_path / "out", licence="Apache 2.0", run=run)
    card = card_of(tmp_path / "out")
    about, about_results = card.data.to_dict(), card.data.get("eval_results", [])
    assert about["license"] == "apache-2.0"
    assert about["library_name"] == "align"
    assert about["pipeline_tag"] == "zero-shot-image-classification"
    assert about["datasets"] == ["o/d"]
    assert {"image", "text", "track"} < set(about["tags"])
    shown = {
        r.metric_name: (r.metric_type, r.metric_value, (r.metric_args or {}).get("interval")) for r in about_results
    }
    assert shown == {
        name: (name.split("/")[-1], SCORES[name], INTERVALS.get(name)) for name in SCORES if not name.endswith("ece")
    }
    for words in (
        "| image | Image | ImageCNN |",
        f"| {sum(p.numel() for p in model.towers['image'].encoder.parameters()):,} |",
        "image-text (pairwise)",
        "| toys | 37 | CC0-1.0 |",
        "steps 40, batch 64, seed 3",
        "| zeroshot/label/image/accuracy | 0.5000 | 0.4000 to 0.6000 |",
        "| image_to_text/recall@1 | 0.2500 |  |",
        "1 more scores are in `results.json`",
        "- hit rule: sample: a row of the same sample",
        "- templates: label: 'a {}'",
        "test: 25 samples",
        "![Scores of the model](scores.png)",
        f"sha256 of the weights: {fingerprint(model)}",
    ):
        assert words in card.text, words
    assert json.loads((tmp_path / "out" / "results.json").read_text())["image_to_text/recall@1"] == 0.25
    command = json.loads((tmp_path / "out" / "results.json").read_text())["protocol"]["command"]
    assert command == "align evaluate toys 'test-*.tar' b/c --out out"
    assert lines[-1].endswith("README.md, config.yaml, model.json, model.safetensors, results.json, scores.png")
    assert str(tmp_path) not in card.content


def test_the_lines_of_the_card_load_the_model(model, run, tmp_path, monkeypatch):
    write_hub(model, tmp_path / "out", licence="mit", run=run, towers=["image", "text"])
    text = (tmp_path / "out" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    from PIL import Image as Picture

    Picture.new("RGB", (40, 40), "red").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    found: dict = {}
    with contextlib.redirect_stdout(out):
        exec(code, found)
    assert found["embeddings"]["text"].shape == (2, 4)
    assert torch.equal(found["embeddings"]["image"], model.embed(image=["photo.jpg"])["image"])
    assert out.getvalue().startswith("tensor([[")


def test_towers_that_stay_away_take_their_scores_with_them(model, run, tmp_path):
    write_hub(model, tmp_path / "out", licence="mit", run=run, towers=["image", "text"])
    assert align.load(tmp_path / "out").modalities == ["image", "text"]
    assert "track" not in (tmp_path / "out" / "README.md").read_text()
    assert "text_to_track/recall@1" not in json.loads((tmp_path / "out" / "results.json").read_text())


def test_a_model_that_shares_parts_stays_as_it_is(tmp_path):
    towers = {
        "image": align.Tower(Image(size=32), ImageCNN(width=8, widths=[8, 8]), Linear),
        "sketch": align.Tower(Image(size=32), None, Linear),
        "text": align.Tower(Bytes(context=8), TransformerText(context=8, width=8, depth=1, heads=1), Linear),
    }
    tied = {"text.head.project": "image.head.project"}
    made = align.JointModel(towers, dim=4, share={"sketch": "image"}, tied=tied).eval()
    rows = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    names, wanted = [*weights(made)], made.embed_values("sketch", rows)
    write_hub(made, tmp_path / "out", licence="mit", towers=["sketch", "text"])
    assert [*weights(made)] == names
    assert torch.equal(align.load(tmp_path / "out").embed_values("sketch", rows), wanted)
    align.save(made, tmp_path / "again")
    assert torch.equal(align.load(tmp_path / "again").embed_values("sketch", rows), wanted)


def test_a_tower_alone_has_no_scores(model, run, tmp_path):
    lines = write_hub(model, tmp_path / "out", licence="mit", run=run, towers=["track"])
    assert f"no scores: {run / 'results.json'} has none of these towers alone" in lines
    lines = write_hub(model, tmp_path / "named", licence="mit", results=run, towers=["track"])
    assert f"no scores: {run / 'results.json'} has none of these towers alone" in lines
    assert not (tmp_path / "out" / "scores.png").exists()
    assert not (tmp_path / "named" / "results.json").exists()
    assert "model-index" not in (tmp_path / "out" / "README.md").read_text()


def test_without_a_run_and_without_scores(model, tmp_path):
    lines = write_hub(model, tmp_path / "out", licence="mit")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.yaml",
        "model.json",
        "model.safetensors",
    ]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "model-index" not in text
    assert "scores.png" not in text
    assert "not made from the folder of a training run" in text
    assert lines[0] == "no scores: align evaluate writes them, and --results names their folder"


def test_results_of_another_model(model, run, tmp_path):
    other = tmp_path / "other"
    content = json.loads((run / "results.json").read_text())
    content["protocol"]["model"] = 64 * "b"
    write_json(other / "results.json", content)
    with pytest.raises(ValueError, match=r"is of another model .sha256 bbbbbbbbbbbb"):
        write_hub(model, tmp_path / "out", licence="mit", results=other)
    with pytest.raises(FileNotFoundError, match=r"no results.json in .*; align evaluate MODEL SHARDS --out"):
        write_hub(model, tmp_path / "out", licence="mit", results=tmp_path)
    write_json(other / "results.json", {"a": 1})
    with pytest.raises(ValueError, match="has no protocol"):
        read_results(other, fingerprint(model))
    assert not (tmp_path / "out").exists()
    moved = tmp_path / "run"  # a run whose results are of other weights: the card has no scores, and a line says so
    write_json(moved / "results.json", content)
    lines = write_hub(model, tmp_path / "out", licence="mit", run=moved)
    assert lines[0].startswith("no scores: ")
    assert "another model" in lines[0]


def test_the_picture_has_a_bar_for_each_score():
    from PIL import Image as Picture

    names = ["a", "b", "c"]
    data = draw_scores(names, {"a": 1.0, "b": 0.5, "c": -0.25}, {"b": (0.25, 0.95)})
    pixels = np.asarray(Picture.open(io.BytesIO(data)).convert("RGB")).astype(int)
    blue = abs(pixels - [0x4C, 0x78, 0xC9]).sum(-1) < 30
    rows = [20 + 44 * i + 22 + 11 for i in range(3)]  # beside the whiskers
    lengths = [int(blue[row].sum()) for row in rows]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=4)
    assert lengths[1] == pytest.approx(2 * lengths[2], abs=4)
    ink = abs(pixels - [0x14, 0x23, 0x3F]).sum(-1) < 10
    whisker = int(ink[20 + 44 + 22].sum())  # from 0.25 to 0.95
    assert whisker == pytest.approx(0.7 * lengths[0], abs=6)
    assert not ink[20 + 22].any()


def test_paths_of_this_machine_are_named(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"source": str(tmp_path / "model.json"), "x": "/no/such/file"}))
    assert find_paths(tmp_path) == [f"model.json names a path of this machine: {tmp_path / 'model.json'}"]


def test_a_path_with_a_space_is_one_of_this_machine(tmp_path):
    (tmp_path / "my run").mkdir()
    (tmp_path / "model.json").write_text(json.dumps({"source": str(tmp_path / "my run" / "model")}))
    assert find_paths(tmp_path) == [f"model.json names a path of this machine: {tmp_path / 'my'}"]


def test_a_long_word_of_a_tokenizer_is_no_path(tmp_path):
    """SentencePiece's table of characters is base64, with slashes and thousands of letters between them."""
    (tmp_path / "text.tokenizer.json").write_text(json.dumps({"map": f"/{'A' * 300}/{'B' * 5000}/c"}))
    assert find_paths(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("models/mine/model.safetensors", "model.safetensors"),
        ("../../mine/clip", "clip"),
        ("/home/x/clip", "clip"),
        ("owner/name-v1.5", "owner/name-v1.5"),
        ("hf-hub:owner/name", "hf-hub:owner/name"),
    ],
)
def test_a_source_is_shown_without_its_path(source, shown):
    assert strip_path(source) == shown


@pytest.mark.parametrize("parts", [{}, {"image.encoder": {"source": "o/m", "licence": "mit", "changed": False}}])
def test_a_licence_that_the_hub_has_not_is_said(parts):
    chosen = choose_licence(parts, "house rules")
    assert chosen.header() == {"license": "other", "license_name": "house-rules"}
    (line,) = chosen.lines
    assert line.startswith("house-rules is no licence that the hub knows, so the card's header says other")
    assert line.endswith("see that it keeps those of the parts") == bool(parts)


def test_no_run_no_facts(tmp_path):
    assert read_training(tmp_path, "best") is None


@pytest.mark.parametrize(
    ("parts", "stated", "name"),
    [
        ({}, "MIT", "mit"),
        ({"a": origin("Apache-2.0")}, None, "apache-2.0"),
        ({"a": origin("mit"), "b": origin("cc-by-nc-4.0")}, None, "cc-by-nc-4.0"),
        ({"a": origin("cc-by-nc-4.0")}, "cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ({"a": origin("CC-BY-NC-SA 4.0, its head mit", changed=True)}, None, "cc-by-nc-sa-4.0"),
        ({"a": origin("unstated")}, "mit", "mit"),
        ({"a": origin("apple-amlr")}, "apple-amlr", "apple-amlr"),
        ({"a": origin("dinov3-license", changed=True)}, None, "dinov3"),
        ({}, "a-licence-of-ours", "a-licence-of-ours"),
        ({"a": origin("cc-by-nd-4.0")}, "cc-by-nd-4.0", "cc-by-nd-4.0"),
    ],
)
def test_a_licence_that_fits(parts, stated, name):
    assert choose_licence(parts, stated).name == name


@pytest.mark.parametrize(
    ("parts", "stated", "says"),
    [
        ({}, None, "no licence is known of this model: state it, as in --licence apache-2.0"),
        ({"a": origin("unstated")}, None, r"no licence is known of a \(owner/name\)"),
        ({"a": origin("mit + unstated")}, None, r"no licence is known of a \(owner/name\)"),
        (
            {"a": origin("cc-by-nc-4.0")},
            "apache-2.0",
            "allows more than cc-by-nc-4.0, the licence of a: it lacks no commercial use",
        ),
        ({"a": origin("cc-by-nc-sa-4.0")}, "cc-by-nc-4.0", "it lacks that what is made of it stays under cc-by-nc-sa"),
        ({"a": origin("apple-amlr")}, "mit", "it lacks the conditions of apple-amlr"),
        (
            {"a": origin("gpl-3.0"), "b": origin("cc-by-nc-4.0")},
            None,
            "none of these keeps the conditions of the others",
        ),
        ({"a": origin("cc-by-nd-4.0", changed=True)}, "cc-by-nd-4.0", "lets nobody pass on a changed version"),
        ({}, "other", "names no licence"),
        ({}, "", "names no licence"),
        ({}, "apache-20", "did you mean apache-2.0?"),
    ],
)
def test_a_licence_that_does_not_fit(parts, stated, says):
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        choose_licence(parts, stated)


def test_doubts_about_a_licence_are_said(tmp_path):
    assert choose_licence({"a": origin("unstated")}, "mit").lines == (
        "no licence is known of a (owner/name): see that mit fits it",
    )
    assert "see that it keeps those of the parts" in choose_licence({"a": origin("mit")}, "our-own").lines[0]
    assert choose_licence({}, "our-own").header() == {"license": "other", "license_name": "our-own"}
    assert all(name == name.lower() for name in NAMES)
    assert [name for name in sorted(NAMES) if not conditions(name)][:2] == ["afl-3.0", "apache-2.0"]


def test_parts_stand_in_the_card(tmp_path):
    encoder = Vector(6)
    encoder.origin = Origin("owner/name", 64 * "c", "mit")
    tower = align.Tower(Array((6,)), encoder, Linear)
    lines = write_hub(align.JointModel({"track": tower}, dim=4), tmp_path / "out")
    card = card_of(tmp_path / "out")
    assert card.data.get("license") == "mit"
    assert card.data.get("base_model") == ["owner/name"]
    assert card.data.get("pipeline_tag") == "feature-extraction"
    assert "| track.encoder | owner/name | mit | no | cccccccccccc |" in card.text
    assert lines[0] == "licence mit, after the licences of the parts"
    assert 'align.load("out")' in card.text
    encoder.origin = Origin("/home/x/y.pt", 64 * "c", "unstated")
    write_hub(
        align.JointModel({"track": align.Tower(Array((6,)), encoder, Linear)}, dim=4), tmp_path / "b", licence="mit"
    )
    text = card_of(tmp_path / "b").text
    assert "| track.encoder | y.pt | unstated |" in text
    assert json.loads((tmp_path / "b" / "model.json").read_text())["parts"]["track.encoder"]["source"] == "y.pt"
    assert "No licence is stated for track.encoder." in text


def export(capsys, *arguments):
    code = main(["export", *map(str, arguments), "--to", "hub"])
    return code, *capsys.readouterr()


def test_no_licence_is_one_line_and_leaves_nothing(run, tmp_path, capsys):
    code, out, err = export(capsys, run, tmp_path / "out")
    assert (code, out) == (1, "")
    assert err == "align: no licence is known of this model: state it, as in --licence apache-2.0\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--private", "--licence", "mit"], 2, "--private is for --push owner/name"),
        (
            ["--push", "owner", "--licence", "mit"],
            1,
            "--push 'owner' is no name on the hub: it has the form owner/name",
        ),
        (["--push", "a b/c", "--licence", "mit"], 1, "--push 'a b/c' is no name on the hub: Repo id must use"),
        (["--push", "owner/x", "--licence", "mit"], 1, "HF_HUB_OFFLINE is set"),
        (["--towers", "", "--licence", "mit"], 1, "--towers names none; write --towers image,text"),
        (["--towers", "smell", "--licence", "mit"], 1, "no tower 'smell'"),
        (["--to", "onnx", "--licence", "mit"], 2, "--licence belongs to --to hub, not to --to onnx"),
    ],
)
def test_options_that_do_not_fit(run, tmp_path, capsys, monkeypatch, arguments, code, says):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rest = [] if "--to" in arguments else ["--to", "hub"]
    assert main(["export", str(run), str(tmp_path / "out"), *rest, *arguments]) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine that this process may write to. Repeated requests do not wait."""
    made = FakeHub(tmp_path / "hub")
    made.token = "secret"
    monkeypatch.setenv("HF_ENDPOINT", made.address)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.address)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    yield made
    made.close()


def sent(hub):
    return [line.split("/")[-1][:6] for line in hub.asked if line.startswith("PUT")]


def test_a_push_is_one_commit_of_the_folder(hub, run, tmp_path, capsys):
    code, out, err = export(capsys, run, tmp_path / "out", "--licence", "mit", "--push", "owner/toys", "--private")
    assert code == 0, err
    names = ["README.md", "config.yaml", "model.json", "model.safetensors", "results.json", "scores.png"]
    assert hub.commits == [names]
    assert hub.private == {"owner/toys"}
    for name in names:
        assert (tmp_path / "hub" / "owner" / "toys" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert out.splitlines()[-1] == f'uploaded to {hub.address}/owner/toys; load it with align.load("owner/toys")'
    assert 'align.load("owner/toys")' in (tmp_path / "out" / "README.md").read_text()
    assert "POST /api/validate-yaml" in hub.asked


def test_what_a_new_model_has_not_goes(hub, run, tmp_path, model):
    write_hub(model, tmp_path / "a", licence="mit", run=run, to="owner/toys")
    before = sent(hub)
    (tmp_path / "hub" / "owner" / "toys" / "notes.txt").write_text("of the owner")
    write_hub(model, tmp_path / "b", licence="mit", to="owner/toys")
    there = sorted(path.name for path in (tmp_path / "hub" / "owner" / "toys").iterdir())
    assert there == ["README.md", "config.yaml", "model.json", "model.safetensors", "notes.txt"]
    assert sent(hub) == before  # the weights are on the hub already


@pytest.mark.parametrize(
    ("path", "fault", "says"),
    few(
        [
            ("/api/repos/create", 401, "owner/toys cannot be written: log in with hf auth login"),
            ("/commit/", 403, "owner/toys cannot be written: log in with hf auth login"),
            ("/lfs/", 500, "the upload to owner/toys failed: the hub answered 500"),
            ("/lfs/", "reset", "the upload to owner/toys failed: Server disconnected"),
            ("/preupload/", 503, "the upload to owner/toys failed: the hub answered 503"),
            ("/commit/", "reset", "the upload to owner/toys failed: Server disconnected"),
            ("/commit/", 500, "the upload to owner/toys failed: the hub answered 500"),
        ],
        3,
    ),
)
def test_a_failed_upload_leaves_nothing_and_goes_on(hub, run, tmp_path, capsys, path, fault, says):
    arguments = [run, tmp_path / "out", "--licence", "mit", "--push", "owner/toys"]
    hub.faults[path] = (fault, 99)
    code, _, err = export(capsys, *arguments)
    assert code == 1
    assert says in err.splitlines()[-1]
    assert "Traceback" not in err
    assert hub.commits == []
    assert not [p for p in tmp_path.iterdir() if p.name != "hub"]
    before = sent(hub)
    hub.faults.clear()
    hub.asked.clear()
    code, _, err = export(capsys, *arguments)
    assert code == 0, err
    assert len(hub.commits) == 1
    assert (tmp_path / "out" / "README.md").is_file()
    if path == "/commit/":
        assert len(before) == 2
        assert sent(hub) == []  # both large files were there


def test_a_public_repository_is_not_taken_for_a_private_one(hub, run, tmp_path, capsys):
    (tmp_path / "hub" / "owner" / "toys").mkdir(parents=True)
    code, _, err = export(capsys, run, tmp_path / "out", "--licence", "mit", "--push", "owner/toys", "--private")
    assert code == 1
    assert "owner/toys is there already and is public" in err
    assert hub.commits == []
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_comes_back_from_the_hub(hub, run, model, tmp_path):
    write_hub(model, tmp_path / "out", licence="mit", run=run, to="owner/toys")
    code = (
        "import align, json\nmodel = align.load('owner/toys')\n"
        "import numpy as np\nrow = np.arange(6, dtype=np.float32)\n"
        "print(json.dumps(model.embed(track=[row])['track'].tolist()))"
    )
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.embed(track=[np.arange(6, dtype=np.float32)])["track"]
    assert json.loads(done.stdout) == expected.tolist()
    assert not [path for path in Path(tmp_path / "home").rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
