"""The commands that use a model: evaluate, zeroshot, embed, search; by hand-made model and shards."""

import inspect
import json
import re
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Literal, get_type_hints

import pytest
import tiny_space
import torch
from PIL import Image as PILImage

import align
from align.checkpoint import save
from align.commands import commands, main
from align.commands.arguments import arguments
from align.commands.errors import Refused
from align.commands.groups import Limits, Reencoding, Tables
from align.commands.tables import lines, print_tables
from align.encoders import ImageCNN, Precomputed, TransformerText
from align.media.recode import Recode
from align.model import JointModel, Tower
from align.page.section import Bar, Bars, Curve, Gallery, Histogram, Matrix, Section, Table
from align.preprocess import Array, Image, Tokens
from align.values import TermInfo

trust = ["--allow", "tiny_space"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards/test-*.tar, and model folders: pairs, triple (Symile only), none (no terms)."""
    folder = tmp_path_factory.mktemp("use")
    samples = list(tiny_space.world().items())
    for i in range(2):
        tiny_space.write_tar(folder / "shards" / f"test-{i:06d}.tar", dict(samples[12 * i : 12 * i + 12]))
    save(tiny_space.model("pairwise"), folder / "pairs")
    save(tiny_space.model("symile"), folder / "triple")
    save(tiny_space.model(), folder / "none")
    for c in range(3):
        (folder / f"{c}.npy").write_bytes(tiny_space.npy(torch.eye(8)[c]))
    (folder / "broken.npy").write_bytes(b"not an array")
    return folder


@pytest.fixture(scope="module")
def indexed(place):
    assert main(["index", "build", str(place / "pairs"), str(place / "shards" / "test-*.tar"), *trust]) == 0
    return place


def run(capsys, *args):
    """(exit code, stdout, stderr) of a command."""
    capsys.readouterr()
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


# evaluate


def test_evaluate_writes_and_prints(place, tmp_path, capsys):
    shards = sorted((place / "shards").glob("*.tar"))
    code, out, _ = run(capsys, "evaluate", place / "pairs", *shards, "--out", tmp_path / "r", *trust)
    assert code == 0
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["protocol"]["shards"] == {"test-000000.tar": 12, "test-000001.tar": 12}
    assert results["protocol"]["model"] == json.loads((place / "pairs" / "model.json").read_text())["sha256"]
    assert "<html" in (tmp_path / "r" / "report.html").read_text()[:1000]
    assert "zero-shot" in out
    assert f"{results['zeroshot/kind/image/accuracy']:.3f}" in out
    assert f"{results['image_to_text/recall@1']:.3f} / {results['image_to_text/recall@10']:.3f}" in out
    assert "class/half/retrieval" in out


def test_evaluate_as_json(place, tmp_path, capsys):
    templates = '{kind: ["{}"]}'
    args = [
        "--out",
        tmp_path,
        "--json",
        "--no-report",
        "--templates",
        templates,
        "--hit",
        "label",
        "--attribute",
        "kind",
    ]
    code, out, _ = run(capsys, "evaluate", place / "pairs", place / "shards" / "test-*.tar", *args, *trust)
    assert code == 0
    results = json.loads(out)
    assert results["protocol"]["templates"] == {"kind": ["{}"], "half": ["{}", "a {}"]}
    assert results["image_to_audio/recall@1"] == results["class/kind/image_to_audio/recall@1"]
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("said", "means"), [("a {} x", ["a {} x"]), ('["a {}", "{}"]', ["a {}", "{}"])])
def test_templates_are_one_or_a_list(place, tmp_path, capsys, said, means):
    args = ["--out", tmp_path, "--json", "--no-report", "--templates", said, *trust]
    code, out, err = run(capsys, "evaluate", place / "pairs", place / "shards" / "test-*.tar", *args)
    assert code == 0, err
    assert json.loads(out)["protocol"]["templates"]["kind"] == means


def test_a_matrix_has_queries_as_rows_and_composed_ones_last():
    first = {("a+c", "b"): 1.0, ("a", "b"): 0.5, ("b", "a"): 0.25}
    metrics = {"recall@1": first, "recall@5": first, "recall@10": {("a", "b"): 0.75}}
    found = lines("Retrieval", Matrix("class/", "same class", "shared class", metrics, ["recall@1", "recall@10"]))
    assert found.title == "class/retrieval: recall@1 / recall@10 by shared class; rows ask, columns answer"
    assert found.head == ["", "a", "b"]
    assert found.rows == [["a", "", "0.500 / 0.750"], ["b", "0.250", ""], ["a+c", "", "1.000"]]


def test_blocks_of_a_section_are_told_apart():
    blocks = [Table(["a"], [["b"]], title="Pairs"), Gallery(["x"], {}, "CKA of rows"), Table(["a"], [["b"]])]
    assert [lines("Geometry", block).title for block in blocks] == [
        "geometry: pairs", "geometry: CKA of rows", "geometry",
    ]  # fmt: skip
    curve = Curve("audio: recall@1 of text", "strength", "recall@1", {"noise": [(0, 1.0)]})
    assert lines("Robustness", curve).title == "audio: recall@1 of text"


@pytest.mark.parametrize(
    ("edges", "says"), [([-0.822351, 0.952708], "-0.822 to 0.953"), ([0.0, 16384.0], "0 to 16,384")]
)
def test_the_ends_of_a_histogram_have_few_digits(edges, says):
    assert lines("x", Histogram("x", "cosine", edges, {"hits": [1.0]})).head == ["group", says]


def test_every_block_is_a_table(capsys):
    bars = Bars(
        "Attribute", "accuracy", [Bar("shape", "image", 0.5, 0.25, {"accuracy@5": 0.9})], {}, more=["accuracy@5"]
    )
    curve = Curve("Recall by noise", "noise", "recall", {"image": [(0, 0.5), (1, 0.25)], "text": [(1, 0.125)]})
    blocks = [bars, curve, Table(["name", "n"], [["[red]", 1200]]), Gallery(["0001"], {"0001": "a cone"})]
    print_tables([Section("Mine", "", blocks)])
    assert capsys.readouterr().out.splitlines() == [
        "mine",
        "attribute  modality  accuracy  accuracy@5  chance",
        "shape      image        0.500       0.900   0.250",
        "",
        "Recall by noise: recall",
        "noise  image   text",
        "    0  0.500       ",
        "    1  0.250  0.125",
        "",
        "mine",
        "name       n",
        "[red]  1,200",
        "",
        "mine",
        "sample        ",
        "0001    a cone",
    ]


# zeroshot


def label(capsys, place, model, *args):
    return run(capsys, "zeroshot", place / model, *args, "--modality", "image", "--classes", "bbb, ccc,ddd", *trust)


def test_zeroshot_labels_files(place, capsys):
    code, out, _ = label(capsys, place, "pairs", place / "1.npy", place / "0.npy", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["how"] == "objective"
    assert [row["class"] for row in said["files"]] == ["ccc", "bbb"]
    model = tiny_space.model("pairwise")
    prompts = torch.stack([model.embed(text=[c, f"a {c}"])["text"].mean(dim=0) for c in ("bbb", "ccc", "ddd")])
    shares = torch.softmax(10 * torch.nn.functional.normalize(prompts, dim=1)[:, 1], dim=0)
    assert list(said["files"][0]["probabilities"].values()) == pytest.approx(shares.tolist(), abs=1e-5)


def test_zeroshot_as_a_table(place, capsys):
    code, out, _ = label(capsys, place, "pairs", place / "2.npy", "--template", "a photo of a {}")
    assert code == 0
    line = next(line for line in out.splitlines() if "2.npy" in line)
    assert line.split()[1] == "ddd"


@pytest.mark.parametrize("model", ["triple", "none"])
def test_no_term_no_probability(place, capsys, model):
    code, out, _ = label(capsys, place, model, place / "1.npy", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["how"] == "cosine"
    assert said["files"][0]["class"] == "ccc"
    assert said["files"][0]["probabilities"] is None
    assert "not a probability" in label(capsys, place, model, place / "1.npy")[1]


@pytest.mark.parametrize("file", ["broken.npy", "nowhere.npy"])
def test_a_file_that_cannot_be_read_is_one_line(place, capsys, file):
    code, out, err = label(capsys, place, "pairs", place / "0.npy", place / file)
    assert code == 1
    assert out == ""
    assert file in err
    assert err.count("\n") == 1


def test_a_broken_picture_is_one_line(tmp_path, capsys):
    towers = {
        "image": Tower(Image(size=16), tiny_space.Colours()),
        "text": Tower(tiny_space.Bytes(context=32), tiny_space.Letters(), tiny_space.Pass),
    }
    model = JointModel(towers, 8)
    model.terms = [TermInfo(("image", "text"), "pairwise", 10.0)]
    save(model, tmp_path / "model")
    PILImage.effect_noise((40, 30), 50).convert("RGB").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    args = ["--modality", "image", "--classes", "bbb,ccc", *trust]
    assert run(capsys, "zeroshot", tmp_path / "model", tmp_path / "good.png", *args)[0] == 0
    code, _, err = run(capsys, "zeroshot", tmp_path / "model", tmp_path / "bad.png", *args)
    assert code == 1
    assert "bad.png" in err
    assert err.count("\n") == 1


def test_zeroshot_refuses(place, capsys):
    args = [place / "pairs", place / "0.npy", *trust]
    assert "no tower for 'imago'" in run(capsys, "zeroshot", *args, "--modality", "imago", "--classes", "a,b")[2]
    assert "--classes needs names" in run(capsys, "zeroshot", *args, "--modality", "image", "--classes", " , ")[2]
    assert "names 'a' twice" in run(capsys, "zeroshot", *args, "--modality", "image", "--classes", "a,a")[2]
    assert run(capsys, "zeroshot", *args, "--modality", "image")[0] == 2
    code, _, err = run(capsys, "zeroshot", *args, "--modality", "image", "--clases", "a")
    assert code == 2
    assert "did you mean --classes?" in err


def test_the_modality_follows_from_the_files(tmp_path, capsys):
    def text():
        return Tower(tiny_space.Bytes(context=32), tiny_space.Letters(), tiny_space.Pass)

    def image():
        return Tower(Image(size=16), tiny_space.Colours(), tiny_space.Pass)

    vectors = [Tower(Array([8]), Precomputed(8), tiny_space.Pass) for _ in range(2)]
    model = JointModel({"image": image(), "vector": vectors[0], "text": text()}, 8)
    model.terms = [TermInfo(("image", "text"), "pairwise", 10.0)]
    save(model, tmp_path / "two")
    save(JointModel({"image": image(), "a": vectors[0], "b": vectors[1], "text": text()}, 8), tmp_path / "three")
    PILImage.effect_noise((40, 30), 50).convert("RGB").save(tmp_path / "x.png")
    (tmp_path / "y.npy").write_bytes(tiny_space.npy(torch.eye(8)[1]))
    (tmp_path / "z.flac").write_bytes(b"fLaC")
    files, args = [tmp_path / "y.npy", tmp_path / "x.png"], ["--classes", "bbb,ccc", *trust]
    code, out, _ = run(capsys, "zeroshot", tmp_path / "two", *files, *args, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["how"] is None
    assert [(row["modality"], row["how"]) for row in said["files"]] == [("vector", "cosine"), ("image", "objective")]
    assert said["files"][0]["class"] == "ccc"
    table = run(capsys, "zeroshot", tmp_path / "two", *files, *args)[1]
    assert [line.split()[0].rpartition("/")[2] for line in table.splitlines() if ".npy" in line or ".png" in line] == [
        "y.npy",
        "x.png",
    ]
    code, _, err = run(capsys, "zeroshot", tmp_path / "three", tmp_path / "y.npy", *args)
    assert code == 1
    assert "y.npy: the towers a and b read .npy; name one with --modality" in err
    assert run(capsys, "zeroshot", tmp_path / "three", tmp_path / "y.npy", *args, "--modality", "b")[0] == 0
    code, _, err = run(capsys, "zeroshot", tmp_path / "two", tmp_path / "z.flac", *args)
    assert code == 1
    assert "z.flac: no tower reads .flac; image reads jpg" in err


def test_classify_says_what_the_command_says(place, capsys):
    said = json.loads(label(capsys, place, "pairs", place / "1.npy", place / "0.npy", "--json")[1])["files"]
    model = tiny_space.model("pairwise").eval()
    found = align.classify(model, ["bbb", "ccc", "ddd"], image=[place / "1.npy", place / "0.npy"])
    assert [one.label for one in found] == [row["class"] for row in said]
    for one, row in zip(found, said, strict=True):
        assert one.probabilities == pytest.approx(row["probabilities"])
        assert one.scores == pytest.approx(row["scores"])
    with pytest.warns(UserWarning, match="one class, 'b b'"):
        assert align.classify(model, {"b b": "b b", "b_b": "b_b", "c": "c"}, image=[place / "1.npy"])[0].label
    with pytest.raises(ValueError, match="zero-shot needs inputs"):
        align.classify(model, ["a", "b"])
    with pytest.raises(TypeError, match="classes is a list"):
        align.classify(model, "a,b", image=[place / "1.npy"])


# search


def test_embed_says_where_an_index_is_made(place, capsys):
    code, out, _ = run(capsys, "embed", "--help")
    assert code == 0
    assert "align index build makes an index for search" in " ".join(out.split())


# all of them


more = {
    "evaluate": [],
    "index build": [],
    "zeroshot": ["--modality", "image", "--classes", "a,b"],
    "search": ["--of", "image"],
}


@pytest.mark.parametrize("name", more)
def test_what_is_no_model_is_one_line(name, place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, says in (("empty", "is no model folder"), ("gone", "no model folder")):
        args = [place / "shards" / "test-*.tar"] if name in ("evaluate", "index build") else ["x"]
        says = "no index in" if (name, folder) == ("search", "empty") else says
        code, out, err = run(capsys, *name.split(), tmp_path / folder, *args, *more[name])
        assert (code, out) == (1, "")
        assert says in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["evaluate", "index build"])
def test_missing_shards_are_one_line(name, place, capsys):
    code, _, err = run(capsys, *name.split(), place / "pairs", place / "shards" / "train-*.tar", *trust)
    assert code == 1
    assert "no shard matches" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["evaluate", "zeroshot", "search"])
def test_a_command_imports_nothing_heavy_before_it_runs(name):
    code = f"import sys; import align.commands.{name}; assert not {{'torch', 'lightning', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_nothing_heavy():
    """All but train, whose options are the arguments of Lightning's and the library's classes."""
    code = (
        "import sys\nfrom align.commands import commands, main\n"
        "assert all(main([*name.split(), '--help']) == 0 for name in commands if name != 'train')\n"
        "assert not {'torch', 'lightning', 'numpy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["evaluate", "zeroshot", "search"])
def test_help_says_every_option(name, capsys):
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    function = getattr(import_module(f"align.commands.{name}"), name)
    hints = get_type_hints(function)
    groups = [
        hints[parameter] for parameter in inspect.signature(function).parameters if is_dataclass(hints[parameter])
    ]
    for described in (function, *groups):
        doc = inspect.getdoc(described) or ""
        for parameter in inspect.signature(described).parameters:
            if not is_dataclass(hints.get(parameter)):
                assert f"\n    {parameter}: " in doc
                assert parameter.strip("_").replace("_", "-") in out
    assert all(f"\n{str(inspect.getdoc(group)).splitlines()[0]}:\n" in out for group in groups)


# groups


@dataclass(frozen=True)
class Paint:
    """paint

    Nothing is painted without these.

    Args:
        colour_name: the colour
        coats: how many coats
        finish: matt or gloss
        with_: other pots
        dry: no water
    """

    colour_name: str | None = None
    coats: int = 2
    finish: Literal["matt", "gloss"] | None = None
    with_: str = ""
    dry: bool = False


def brush(wall: str, /, *, width: float = 1.5, paint: Paint) -> None:
    """Paint a wall

    Args:
        wall: the wall
        width: of the brush
        paint: no option
    """


def test_a_group_is_flat_options():
    given = ["w", "--colour-name", "#f00", "--coats=3", "--finish", "gloss", "--with", "x", "--dry", "--width", "2"]
    found = arguments(brush, "brush", given)
    assert found == (["w"], {"width": 2.0, "paint": Paint("#f00", 3, "gloss", "x", True)})
    assert arguments(brush, "brush", ["w"]) == (["w"], {"width": 1.5, "paint": Paint()})


def fence(post: str, board: str | None = None, /, *, nails: int = 4, paint: Paint) -> None:
    """Build a fence

    Args:
        post: the post
        board: the board
        nails: how many
        paint: no option
    """


@pytest.mark.parametrize(
    "given",
    [["p", "b", "--nails", "-3", "--dry"], ["p", "--nails", "-3", "b", "--dry"], ["--nails=-3", "p", "--dry", "b"]],
)
def test_positionals_and_options_stand_in_any_order(given):
    assert arguments(fence, "fence", given) == (["p", "b"], {"nails": -3, "paint": Paint(dry=True)})


def test_an_option_without_its_value_takes_no_positional():
    with pytest.raises(Refused, match="argument --nails: expected one argument"):
        arguments(fence, "fence", ["p", "b", "--nails"])
    assert arguments(fence, "fence", ["p", "--", "--b"])[0] == ["p", "--b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--coast", "3"], "no option --coast in `brush`; did you mean --coats?"),
        (["--widht", "3"], "no option --widht in `brush`; did you mean --width?"),
        (["--coats", "many"], "brush: --coats: expected int; got many (see brush --help)"),
        (["--finish", "satin"], "'matt', 'gloss'"),
        (["--paint", "red"], "no option --paint in `brush`"),
        (["--paint.coats", "3"], "no option --paint.coats in `brush`; did you mean --coats?"),
    ],
)
def test_a_wrong_option_of_a_group_is_one_line(given, message):
    with pytest.raises(Refused) as e:
        arguments(brush, "brush", ["w", *given])
    assert message in str(e.value)
    assert "\n" not in str(e.value)
    assert e.value.code == 2


def test_help_has_a_title_for_each_group(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        arguments(brush, "brush", ["--help"])
    head, _, below = capsys.readouterr().out.partition("\npaint:\n")
    assert "--width WIDTH" in head
    assert "\n  --coats" not in head
    assert [line.strip() for line in below.splitlines()] == [
        "Nothing is painted without these.",
        "",
        "--colour-name COLOUR_NAME",
        "the colour",
        "--coats COATS         how many coats (default: 2)",
        "--finish {matt,gloss}",
        "matt or gloss",
        "--with WITH           other pots",
        "--dry                 no water",
    ]


def test_the_groups_of_a_build(monkeypatch, capsys):
    """Each option is listed once, below the title of its group; a typo is answered from all groups."""
    monkeypatch.setenv("COLUMNS", "80")
    out = run(capsys, "shards", "build", "--help")[1]
    sections = re.split(r"\n(?=\S+:\n)", out)
    titles = [section.split(":")[0] for section in sections[1:]]
    assert titles == ["options", "tables", "re-encoding", "limits"]
    for group in (Tables, Reencoding, Limits):
        listed = next(s for s in sections if s.startswith(f"{str(inspect.getdoc(group)).splitlines()[0]}:"))
        flags = [f"--{field.name.replace('_', '-')}" for field in fields(group)]
        assert re.findall(r"^  (--[\w-]+)", listed, re.MULTILINE) == flags
    assert "did you mean --image-levels?" in run(capsys, "shards", "build", "a", "b", "--image-levles", "0,1")[2]
    assert "did you mean --per-shard?" in run(capsys, "shards", "build", "a", "b", "--per-shrad", "5")[2]


def test_settings_of_the_groups():
    anew = Reencoding(image_size=8, image_levels="0,4095").recode()
    assert anew == Recode(image_size=8, image_levels=(0.0, 4095.0))
    assert not Reencoding().recode()
    with pytest.raises(ValueError, match="--image-levels '0': write two numbers"):
        Reencoding(image_levels="0").recode()
    tables = Tables(columns="caption=text, file=image", literal="", separator=";").settings()
    assert tables == {
        "modalities": ["image", "video", "audio", "points", "text"],
        "columns": {"caption": "text", "file": "image"},
        "literal": [],
        "separator": ";",
    }


@pytest.mark.parametrize("args", [(), ("shards",), *(tuple(name.split()) for name in commands)])
def test_help_fits_a_terminal(args, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, *args, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    if args != ("train",):  # whose options are the library's constructors
        parsers = re.search(r"\(type: |null|Literal|default: (\[\])?\)|[A-Z]_ ", out)
        assert not parsers, "a reader's words, not the parser's"


# start-up


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    """A folder with a model of pictures and CLIP's tokens, its index, and a picture."""
    folder = tmp_path_factory.mktemp("worded")
    text = Tower(Tokens(8), TransformerText(49408, 8, width=8, depth=1, heads=1))
    save(JointModel({"image": Tower(Image(8), ImageCNN(8, widths=(8,))), "text": text}, 4), folder / "model")
    PILImage.new("RGB", (8, 8)).save(folder / "a.png")
    content = {"image.png": (folder / "a.png").read_bytes(), "text.txt": b"a cone"}
    tiny_space.write_tar(folder / "test-000000.tar", {"0": content})
    assert main(["index", "build", str(folder / "model"), str(folder / "test-000000.tar")]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["zeroshot", "model", "a.png", "--modality", "image", "--classes", "Café,dog"], marks=pytest.mark.sweep
        ),
        ["search", "model", "a cone", "--of", "image"],
    ],
    ids=lambda command: command[0],
)
def test_short_commands_import_little(worded, command):
    """Each of these costs as much as torch, or half."""
    code = (
        "import sys; from align.commands import main; code = main(sys.argv[1:]);"
        "heavy = {'open_clip', 'torchvision', 'timm', 'transformers', 'sympy', 'scipy', 'lightning'};"
        "print([m for m in sys.modules if m.partition('.')[0] in heavy or m == 'torch._dynamo'], file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=worded, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
