"""align export --to onnx and torch-export: graphs equal to their towers, run by onnxruntime, and what is refused."""

import io
import json
import os
import random
import signal
import string
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from few import few
from installing import install
from PIL import Image as Pillow
from test_compiled import towers as small_towers
from test_encoders import cases
from test_formats import undescribed
from test_heads import every as every_head
from torch import nn

import align
from align import Features, JointModel, Tower
from align.commands import main
from align.convert.graphs import layout
from align.convert.graphs.graph import prepare, trace
from align.convert.graphs.onnx import compare, convert, write_onnx
from align.convert.graphs.programs import write_programs
from align.convert.graphs.rows import make_rows, name_inputs
from align.convert.graphs.steps import list_steps
from align.convert.graphs.tokenizer import make_tokenizer
from align.data import ShardWriter
from align.encoders import ImageCNN, PointNet, Regions, TransformerText
from align.heads import Identity, Linear
from align.preprocess import Array, Audio, Boxes, Bytes, Image, Points, Tokens
from align.preprocess.byte_pairs import clean_text

pytestmark = pytest.mark.usefixtures("tiny_clip")
root = Path(__file__).parent.parent


def graph_of(model, modality, tmp_path, rows=None):
    """Return a tower's largest difference from its graph, which is run on one row, on five, and on other lengths."""
    traced = trace(prepare(model), modality, rows)
    convert(traced, tmp_path / "graph.onnx")
    return compare(traced, tmp_path / "graph.onnx"), traced


def single(x):
    """Values in float32."""
    if isinstance(x, dict):
        return {name: single(part) for name, part in x.items()}
    return x.float() if x.is_floating_point() else x


exempt = {
    "HFVisionLanguage": "the rows of its pictures are chosen by the ids, so their number is read from the data",
}
"""Cases that are no graph; docs/export.md names them."""
usual = (
    "ImageCNN",
    "TransformerText",
    "PointNet",
    "TimmImage-vit",
)  # HFAudio-pe and WavLM, mended programs, take a while
each_encoder = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in usual else pytest.mark.sweep) for name in cases]
)


@each_encoder
def test_an_encoder_is_a_graph_of_any_number_of_rows(name, tmp_path):
    make, values = cases[name]
    torch.manual_seed(0)
    model = JointModel({"m": Tower(Array([1]), make())}, 8)
    rows = name_inputs(single(values(5)))
    if name in exempt:
        with pytest.raises(ValueError, match=r"^tower 'm' cannot be a graph: [^\n]+$"):
            graph_of(model, "m", tmp_path, rows)
        return
    assert graph_of(model, "m", tmp_path, rows)[0] < 1e-5


@pytest.mark.sweep
@every_head
def test_a_head_is_a_graph(make, tmp_path):
    torch.manual_seed(0)
    tower = Tower(Bytes(12), TransformerText(259, 12, width=12, depth=1, heads=2), lambda width, dim: make(width, dim))
    assert graph_of(JointModel({"m": tower}, 5), "m", tmp_path)[0] < 1e-5


class Bands(nn.Module):
    """An encoder that gives a front end's numbers as they are."""

    width = 60

    def forward(self, values):
        x = values["values"] if isinstance(values, dict) else values
        x = x.flatten(1)
        return Features(x[:, : self.width] + x.mean(1, keepdim=True))


front_ends = {
    "log-mel": lambda: Audio(8000, 0.25, n_mels=16),
    "log-mel, windows": lambda: Audio(8000, 0.25, n_mels=16, windows=3),
    "clap": lambda: Audio(preset="clap", seconds=0.3),
    "clap-fusion": lambda: Audio(preset="clap-fusion", seconds=0.3),
    "whisper": lambda: Audio(preset="whisper", seconds=0.3),
    "ast": lambda: Audio(preset="ast", seconds=0.3),
    "pe-av": lambda: Audio(preset="pe-av", seconds=0.32),
    "imagebind-audio": lambda: Audio(preset="imagebind-audio", seconds=0.3),
    "wave": lambda: Audio(preset="wave", seconds=0.3),
    "laion-clap": lambda: Audio(preset="laion-clap", seconds=0.3),
    "laion-clap-fusion": lambda: Audio(preset="laion-clap-fusion", seconds=0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", few(front_ends, 3))
def test_a_front_end_is_part_of_the_graph(name, tmp_path):
    model = JointModel({"m": Tower(front_ends[name](), Bands(), Identity)}, Bands.width)
    difference, traced = graph_of(model, "m", tmp_path)
    assert difference < 1e-4
    assert ("length" in traced.shapes["values"][1]) == (name in ("log-mel", "clap", "laion-clap"))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    towers = {m: make() for m, make in small_towers.items()}
    towers["image"] = Tower(Image(24), ImageCNN(16, widths=(8,), stem=2))
    towers["text"] = Tower(Tokens(12), TransformerText(49408, 12, width=16, depth=1, heads=2))
    return JointModel(towers, 8)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "out"
    lines = write_onnx(model, folder, int8=True)
    return folder, lines


@pytest.mark.slow
def test_the_folder_says_what_its_graphs_read(model, exported):
    folder, lines = exported
    facts = json.loads((folder / "export.json").read_text())
    assert list(facts["towers"]) == model.modalities
    assert facts["dim"] == 8
    assert lines[-1] == f"4 graphs in {folder}, each run by onnxruntime and within 0.0001 of its tower"
    for m, tower in facts["towers"].items():
        session = onnxruntime.InferenceSession(folder / tower["graph"])
        stated = json.loads((folder / tower["preprocess"]).read_text())
        assert [(x.name, x.shape) for x in session.get_inputs()] == [(x["name"], x["shape"]) for x in stated["inputs"]]
        assert tower["difference"] < 1e-5
        for n in (1, 2, 7):
            rows = make_rows(model.towers[m].preprocess, n)
            (found,) = session.run(None, {name: x.numpy() for name, x in rows.items()})
            np.testing.assert_allclose(np.asarray(found), model.embed_values(m, rows["values"]), atol=1e-5)
    assert undescribed(folder, "A model for other programs") == []
    sizes = {name: (folder / name).stat().st_size for name in ("text.onnx", "text.int8.onnx")}
    assert sizes["text.int8.onnx"] < sizes["text.onnx"] / 3
    assert {x.name for x in folder.iterdir() if x.suffix == ".json"} == {
        "export.json",
        "tokenizer.json",
        *(f"{m}.json" for m in model.modalities),
    }


@pytest.mark.slow
def test_no_file_names_a_path_of_this_machine(exported):
    for file in exported[0].iterdir():
        assert b"/align/" not in file.read_bytes(), file.name
        assert os.fsencode(torch.__path__[0]) not in file.read_bytes(), file.name


@pytest.mark.slow
def test_the_example_embeds_without_torch_and_without_align(model, exported, tmp_path):
    lines = (root / "docs/embed_with_onnx.py").read_text().splitlines()
    assert len(lines) <= 40
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    python = make_venv(tmp_path / "venv")
    for size, samples in (((61, 40), 1501), ((20, 33), 2600)):
        Pillow.fromarray(pixels).resize(size, Pillow.Resampling.BICUBIC).save(tmp_path / "a.png")
        soundfile.write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, (samples, 2)), 8000)
        given = {"image": str(tmp_path / "a.png"), "audio": str(tmp_path / "a.wav"), "text": "A red CUBE, isn't it?"}
        command = [python, root / "docs/embed_with_onnx.py", exported[0], *given.values()]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]})
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        wanted = model.embed(**{m: [x] for m, x in given.items()})
        for m, x in wanted.items():
            np.testing.assert_allclose(found[m]["embedding"], x[0], atol=1e-4)


def make_venv(folder):
    """Return the Python of a new environment, which has neither torch nor align."""
    packages = ["onnxruntime", "numpy", "pillow", "soundfile", "tokenizers"]
    python = folder / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install(python, *packages)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 1
    return python


@pytest.mark.slow
def test_programs_equal_their_towers(model, tmp_path):
    lines = write_programs(model, tmp_path / "out", towers=["points", "text"])
    assert lines[-1].startswith("2 programs in ")
    program = torch.export.load(tmp_path / "out/points.pt2").module()
    rows = make_rows(model.towers["points"].preprocess, 4)["values"]
    torch.testing.assert_close(program(rows), model.embed_values("points", rows))
    short = rows[:, :20]
    torch.testing.assert_close(program(short), model.embed_values("points", short))
    assert json.loads((tmp_path / "out/export.json").read_text())["format"] == "torch-export"
    assert (tmp_path / "out/tokenizer.json").is_file()
    assert undescribed(tmp_path / "out", "A model for other programs") == []
    with zipfile.ZipFile(tmp_path / "out/points.pt2") as parts:
        assert not any(parts.read(name)[:2] in (b"PK", b"\x80\x02") for name in parts.namelist())  # torch.save's
        assert not any(b"encoders/pointnet.py" in parts.read(name) for name in parts.namelist())


odd = [
    "",
    "a",
    " ",
    "Hello, World!",
    "don't you'll we've I'M",
    "naïve café",
    "ΟΔΥΣΣΕΥΣ ΑΣ Σ.",
    "İstanbul",
    "日本語の文",
]
odd += [
    "😀👍🏽",
    "123456 7.5%",
    "<start_of_text> hi",
    "x<end_of_text>",
    "a\tb\nc  d",
    "&amp; &lt;b&gt;",
    "“a” ‘x’",
    "ﬁne",
]
odd += [
    "ＡＢＣ",
    "e\u0301te\u0301",
    "a_b__c",
    "!!!???",
    "'s 't",
    "\u00a0nbsp",
    "العربية",
    "हिन्दी",
    "x" * 300,
    "w " * 100,
]
odd += ["ß STRASSE", "\u2028", "٣٤ Ⅷ ½", "a\u200db", "\ufeffb", "\x00\x01", " <END_OF_TEXT>", "ΑΣ'Σ"]


@pytest.mark.parametrize(
    "preprocess",
    [Tokens(), Tokens(16, clean="canonicalize"), Tokens(clean="whitespace"), Bytes(), Bytes(20, lower=False)],
    ids=repr,
)
def test_tokenizer_json_has_our_ids(preprocess):
    draw = random.Random(0)
    letters = string.printable + "äöüßéñçøåÆŒΣςσжЖ日本한글😀½²\u0301'’“<>&;_"
    texts = odd + ["".join(draw.choice(letters) for _ in range(draw.randint(1, 60))) for _ in range(500)]
    tokenizer = make_tokenizer(preprocess)
    for text in texts:
        given = clean_text(text, "whitespace") if isinstance(preprocess, Tokens) else text
        assert tokenizer.encode(given).ids == preprocess.eval(text).tolist(), text
        if text.strip():  # the steps of text.json before the tokenizer, from a text as it comes
            steps = [step["step"] for step in list_steps(preprocess)]
            mended = text.strip() if steps[0] == "strip" else clean_text(text, "whitespace")
            assert steps[1:] == ["tokenize"]
            assert tokenizer.encode(mended).ids == preprocess.row(text).tolist(), text
    if isinstance(preprocess, Tokens):  # ASCII without & needs no cleaning before it
        assert tokenizer.encode("  A red  Cube ").ids == preprocess.eval("  A red  Cube ").tolist()


class Eigen(nn.Module):
    """An encoder with an operator that ONNX lacks."""

    def forward(self, x):
        return torch.linalg.eigvalsh(x @ x.mT)


class Odd(nn.Module):
    width = 3

    def __init__(self):
        super().__init__()
        self.inner = Eigen()

    def forward(self, values):
        return Features(self.inner(values))


class Reads(Odd):
    """An encoder whose sizes are read from the data."""

    def forward(self, values):
        return Features(values[:, : int(values.sum())].mean(2))


@pytest.mark.parametrize(
    ("kind", "says"),
    [(Odd, r"encoder.inner \(Eigen\): ONNX has no operator aten.\w+"), (Reads, r"encoder \(Reads\): ")],
)
def test_a_tower_that_is_no_graph_is_named_with_its_module(kind, says, tmp_path):
    model = JointModel({"m": Tower(Array([3, 4]), kind(), Identity)}, 3)
    with pytest.raises(ValueError, match=rf"^tower 'm' cannot be a graph: {says}[^\n]*$"):
        write_onnx(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "LARGEST", -1.0)
    model = JointModel({"m": Tower(Points(16), PointNet(8, hidden=(8,)))}, 4)
    with pytest.raises(ValueError, match=r"^tower 'm': its graph's embeddings differ from the tower's by "):
        write_onnx(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sweep
def test_the_recall_of_the_graphs_on_shards(tmp_path, capsys):
    torch.manual_seed(1)
    towers = {"image": Tower(Image(16), ImageCNN(16, widths=(8,), stem=2), Linear)}
    towers["text"] = Tower(Bytes(12), TransformerText(259, 12, width=8, depth=1, heads=1), Linear)
    model = JointModel(towers, 8).eval()
    align.save(model, tmp_path / "model")
    pictures, texts = [], [f"thing {i}" for i in range(6)]
    for name in ("a", "b"):
        with ShardWriter(tmp_path / name) as writer:
            for text in texts[len(pictures) : len(pictures) + 3]:
                file = io.BytesIO()
                noise = np.random.default_rng(len(pictures)).integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Pillow.fromarray(noise).save(file, "png")
                writer.write(text.replace(" ", ""), {"image.png": file.getvalue(), "text.txt": text.encode()})
                pictures.append(file.getvalue())
    command = ["export", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "onnx", "--check"]
    patterns = f"{tmp_path}/a/*.tar,{tmp_path}/b/*.tar"
    assert main([*command, patterns, "--towers", "text"]) == 1
    said = "--check measures recall between two modalities; of text, the shards have text alone"
    assert capsys.readouterr().err == f"align: {said}\n"
    assert main([*command, patterns, "--int8"]) == 0
    table = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if "recall@" in line}
    rows = model.embed(image=pictures, text=texts)
    scores = rows["image"] @ rows["text"].T
    for name, asked in (("image_to_text", scores), ("text_to_image", scores.T)):
        hits = [int(asked[i].argmax()) == i for i in range(6)]
        wanted = sum(hits) / 6
        found = [float(x) for x in table[f"{name}/recall@1"]]
        assert found[:2] == pytest.approx([wanted, wanted], abs=1e-4)
        assert found[3] == pytest.approx(found[0] - found[2], abs=1.01e-4)


@pytest.mark.parametrize("to", few(["torch-export", "onnx"], 1))
def test_a_full_disk_is_one_line_and_leaves_nothing(to, tmp_path):
    """The limit of a file's size ends a write as a full disk does: without a file's name."""
    model = JointModel({"image": Tower(Image(16), ImageCNN(16, widths=(64,), stem=2), Linear)}, 4)
    align.save(model, tmp_path / "model")
    code = f"""
import resource, signal
from align.commands import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
raise SystemExit(main(["export", "model", "out", "--to", {to!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "align: File too large: out\n")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_signal_leaves_nothing(tmp_path, monkeypatch, capsys):
    model = JointModel({"image": Tower(Image(16), ImageCNN(16, widths=(8,), stem=2))}, 4)
    align.save(model, tmp_path / "model")
    (tmp_path / ".out.0123456789ab.tmp").mkdir()  # of a killed export
    monkeypatch.setattr("align.convert.graphs.programs.trace", lambda *_: signal.raise_signal(signal.SIGTERM))
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "model"), str(out), "--to", "torch-export"]) == 143
    assert capsys.readouterr().err == f"align: stopped by SIGTERM: {out} is not written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_towers_that_are_named(tmp_path):
    towers = {"image": Tower(Image(16), ImageCNN(16, widths=(8,), stem=2))}
    towers["region"] = Tower(Boxes("image"), Regions("image"), Identity)
    model = JointModel(towers, 4)
    with pytest.raises(ValueError, match=r"^tower 'region' reads the tokens of 'image', so it has no graph"):
        write_onnx(model, tmp_path / "out", towers=["region"])
    with pytest.raises(ValueError, match=r"^no tower for 'sound', the model has image, region$"):
        write_programs(model, tmp_path / "out", towers=["sound"])
    lines = write_programs(model.to(torch.bfloat16), tmp_path / "out", towers=["image", "image"])
    assert lines[-1].startswith("1 program in ")
    assert len(lines) == 2
    lines = write_programs(model, tmp_path / "all")
    assert lines[0] == "region is left out: its rows are made of the tokens of image"
    assert model.towers["image"].dtype == torch.bfloat16  # the model is as it was
