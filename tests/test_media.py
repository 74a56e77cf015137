"""A medium is a file: no suffix stands outside media and preprocess, and a package from outside brings a medium whole.

The package is tests/track_package: GPS tracks as JSON lines, a medium, a preprocess and an encoder.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import align
from align.commands import main
from align.media import ARRAY, CLOUD, MEDIA, PICTURE, Medium
from align.media.choice import load_media, medium_of, modality_of, with_named
from align.media.medium import Face
from align.page.faces import face_json, face_of

root = Path(align.__file__).parent
package = Path(__file__).parent / "track_package"
page = root.parent / "docs" / "new-modality.md"
SUFFIXES = {suffix for medium in MEDIA for suffix in (*medium.suffixes, *medium.files)}
HOLDERS = {
    "data/names.py",  # the default mapping of members that name no modality, and the suffix of captions
    "data/meta.py",  # CLIP_benchmark's labels of several classes, which are no member of a modality
    "data/places/benchmark.py",  # the files of CLIP_benchmark's layout
    "evaluation/suites/finding.py",  # one of them
    "evaluation/geometry/matrix.py",  # a matrix that the user names
    "evaluation/robustness/corruptions/picture.py",  # the name of a corruption
    "lit/loggers.py",  # a setting of W&B is "off"
    "bind/joining.py",  # the vectors of pseudo-pairs, which it writes
    "curation/members/regions.py",  # masks, which are no modality
    "evaluation/dense.py",  # the same
    "quickstart/scene_write.py",  # a recipe: it writes scenes of its own
    "serve/heat.py",  # the form of an answer
    "serve/openapi.py",  # the same
    "convert/hub/card.py",  # the picture of a card
    "convert/labelling/media.py",  # the suffixes that labelling tools show
    "search/ann/local.py",  # NumPy's own file of sample numbers
    "search/export.py",  # NumPy's own files, which are no members
    "quickstart/write.py",  # a recipe: it writes a world of its own
    "commands/quickstart.py",  # its message names the files that the recipe wrote
}


def literal_suffixes(text: str) -> Iterator[tuple[int, str]]:
    """(line, string) of a file's strings that are or end in a medium's suffix; docstrings and annotations may."""
    if not re.search(rf"[\"'.]({'|'.join(SUFFIXES)})[\"'}}]", text):
        return
    tree = ast.parse(text)
    passed: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            passed.add(id(node.body[0].value))  # pyright: ignore[reportAttributeAccessIssue]
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            passed |= {id(one) for one in ast.walk(part)} if part is not None else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            word = node.value
            if word.rpartition(".")[2] in SUFFIXES and " " not in word:
                yield node.lineno, word


def test_no_suffix_of_a_medium_stands_elsewhere():
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] not in ("media", "preprocess") and (lines := list(literal_suffixes(path.read_text()))):
            found[name] = lines
    assert {name: lines for name, lines in found.items() if name not in HOLDERS} == {}
    assert set(found) == HOLDERS


def test_a_planted_suffix_is_found():
    text = 'def f(x: Literal["png"]) -> None:\n    "jpg"\n    return x.suffix == ".flac" or x == "a.0.npy" or "a flac"'
    assert [word for _, word in literal_suffixes(text)] == [".flac", "a.0.npy"]


class Hands(Medium):
    name, modality, suffixes = "hands", "hands", ("npy", "hnd")

    def read(self, source: Any) -> Any:
        return source


def test_the_medium_of_a_suffix_and_a_modality():
    assert medium_of(MEDIA, "npy", "points") is CLOUD
    assert medium_of(MEDIA, "npy", "features") is medium_of(MEDIA, "npy") is ARRAY
    assert medium_of(MEDIA, "png", "depth") is PICTURE
    assert medium_of(MEDIA, "obj", "points") is None  # a file, and no member
    assert modality_of(MEDIA, "obj") == modality_of(MEDIA, "npy") == "points"
    hands = Hands()
    media = (*MEDIA, hands)
    assert medium_of(media, "npy", "hands") is hands
    assert medium_of(media, "npy", "features") is ARRAY
    assert medium_of(media, "npy", "points") is CLOUD
    feet = with_named(MEDIA, {"image": PICTURE, "feet": hands, "left": None})
    assert [medium.modality for medium in feet[len(MEDIA) :]] == ["feet"]
    assert medium_of(feet, "npy", "feet") is feet[-1]
    assert hands.modality == "hands"


def test_an_import_path_that_is_no_medium():
    assert isinstance(load_media(["test_media.Hands"])[0], Hands)
    for path, why in {
        "nowhere": "no medium nowhere",
        "json.loads": "is no medium",
        "json.no": "no medium json.no",
    }.items():
        with pytest.raises(ValueError, match=why):
            load_media([path])


class Odd(Hands):
    """Media that break the rules, one attribute at a time."""

    name = "odd"


class Dotted(Odd):
    suffixes = ("tar.gz",)


class Upper(Odd):
    suffixes = ("HND",)


class Nameless(Odd):
    name = None  # pyright: ignore[reportAssignmentType]


class Ours(Odd):
    name = "picture"


class Asking(Odd):
    def __init__(self, size: int):
        self.size = size


def test_a_medium_that_breaks_the_rules_is_refused_in_a_line(capsys, tmp_path):
    for name, why in {
        "Dotted": "has the suffix 'tar.gz'",
        "Upper": "has the suffix 'HND'",
        "Nameless": "is no medium: .* with a name",
        "Ours": "is called 'picture', as another medium is",
        "Asking": "cannot be built without arguments: .*'size'",
        "Odd,test_media.Odd": "is called 'odd', as another medium is",
        "Gone": "no medium test_media.Gone",
    }.items():
        (tmp_path / "a.tar").write_bytes(bytes(10240))
        assert main(["shards", "stats", str(tmp_path / "a.tar"), "--media", f"test_media.{name}"]) == 2
        said = capsys.readouterr().err
        assert re.search(f"--media: .*{why}", said)
        assert len(said.strip().splitlines()) == 1


def test_files_without_a_convert_are_refused_where_the_class_is_made():
    with pytest.raises(TypeError, match=r"Mute has files \(stl\) and no convert\(\)"):
        type("Mute", (Hands,), {"files": ("stl",)})


NAN = float("nan")


@pytest.mark.parametrize(
    "face",
    [
        Face("drawing", []),
        Face("drawing", [[]]),
        Face("drawing", [[(NAN, 1), (float("inf"), 2)]]),
        Face("drawing", [["x"]]),
        Face("drawing", [[(1, 2, 3)]]),
        Face("drawing", [[(0.0, 0.0)] * 100_001]),
        Face("text", "x" * 5_000_000),
        Face("text", b"bytes"),
        Face("text", 5),
        Face("picture", b"a type is missing"),
        Face("sound", b"x", {"type": "audio/wav", "seconds": NAN, "peaks": b""}),
        Face("cloud", b"four", {"radius": 1.0}),
        Face("cloud", bytes(9), {"radius": NAN}),
        Face("video", b"x"),  # pyright: ignore[reportArgumentType]
        "no face",
        AssertionError("a bug"),
        RecursionError("another"),
    ],
)
def test_a_face_that_no_page_can_draw_is_left_out(face):
    class Shown(Hands):
        def face(self, data: bytes, suffix: str) -> Any:
            if isinstance(face, Exception):
                raise face
            return face

    assert face_of("hands.hnd", b"x", (Shown(),)) is None


def test_points_of_a_drawing_that_are_not_finite_are_left_out():
    assert face_json(Face("drawing", [[(0, NAN), (1, 2), (3, 4)], []])) == {"k": "drawing", "d": [[(1, 2), (3, 4)]]}


def test_a_preprocess_names_its_medium():
    from align.preprocess import Array, Audio, Bytes, Image, Points, Preprocess

    assert [kind.medium.name for kind in (Image, Audio, Points, Bytes, Array) if kind.medium] == [
        "picture", "sound", "cloud", "words", "array",
    ]  # fmt: skip

    class Sketchy(Preprocess):
        suffixes = ("jpg",)

    class Unknown(Preprocess):
        suffixes = ("xyz",)

    class Larger(Image):
        pass

    assert (Sketchy.medium, Unknown.medium, Larger.medium) == (PICTURE, None, PICTURE)


def way(kind: str, i: int, T: int = 60) -> list[tuple[float, float, float]]:
    """(t, lat, lon) of a walk: a circle, or a line with a bend."""
    at = [k / (T - 1) for k in range(T)]
    size = 0.01 * (1 + i / 3)
    if kind == "circle":
        return [(5.0 * k, 47 + size * math.sin(7 * s + i), 8 + size * math.cos(7 * s + i)) for k, s in enumerate(at)]
    return [(5.0 * k, 47 + size * s, 8 + size * (s * s if i % 2 else s)) for k, s in enumerate(at)]


def text(points: list[tuple[float, float, float]], digits: int = 9) -> str:
    return "".join(f'{{"t": {t}, "lat": {lat:.{digits}f}, "lon": {lon:.{digits}f}}}\n' for t, lat, lon in points)


def metres(points: list[tuple[float, float, float]]) -> float:
    """The length of a way by a plain loop."""
    total = 0.0
    for (_, a, b), (_, c, d) in pairwise(points):
        east = (d - b) * 111_195.0 * math.cos(math.radians(points[0][1]))
        total += math.hypot(east, (c - a) * 111_195.0)
    return total


def write_sources(folder: Path) -> None:
    """A folder of classes, a broken file among them, and a table of the same tracks with captions."""
    for kind in ("circle", "line"):
        (folder / "walks" / kind).mkdir(parents=True)
        for i in range(6):
            (folder / "walks" / kind / f"{i}.track").write_text(text(way(kind, i)))
    (folder / "walks" / "circle" / "again.track").write_text(text(way("circle", 2), digits=6))
    (folder / "walks" / "line" / "broken.track").write_text('{"t": 0, "lat": 47}\n')
    far = way("line", 1)
    far[30] = (150.0, 47.5, 8.0)
    (folder / "walks" / "line" / "jump.track").write_text(text(far))
    with (folder / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["track", "caption", "label"])
        for kind in ("circle", "line"):
            rows.writerows([f"walks/{kind}/{i}.track", f"a {kind} of size {i}", kind] for i in range(6))


def use_shards(run: Callable[..., str], folder: Path) -> None:
    """Build from a folder and a table, check, show, count and filter. run: a command's stdout as text."""
    write_sources(folder)
    media = ["--media", "gps_track.Track"]
    run("shards", "build", "walks", "set", "--max-bad", "1", *media)
    run("shards", "build", "table.csv", "table", "--columns", "caption=text", *media)
    built = json.loads((folder / "set" / "manifest.json").read_text())
    assert built["splits"]["train"]["samples"] == 15  # the broken one is stored: a check names it
    checked = json.loads(run("shards", "check", "set", "--json", "--html", "check.html", *media, code=3))
    found = {finding["reason"]: finding for finding in checked["findings"]}
    assert (found["track/not-json"]["severity"], found["track/not-json"]["examples"][0]["key"]) == (
        "error", "line_broken",
    )  # fmt: skip
    assert found["track/jump"]["meaning"] == "a step of more than 100 metres a second"
    twins = {(e["key"], e["twin"][1]) for e in found["track/near-duplicate"]["examples"]}
    assert ("circle_again", "circle_2") in twins
    shown = json.loads(run("shards", "show", "table", "--json", *media))["examples"]["track"][0]
    expected = metres(way("circle", 0))
    assert shown["points"] == 60
    assert shown["metres"] == pytest.approx(expected, abs=0.1)
    drawn = run("shards", "show", "table", "--html", "look.html", *media)
    assert f"metres {shown['metres']:g}" in drawn
    assert any("\u2800" < c <= "\u28ff" for c in drawn)
    counted = json.loads(run("shards", "stats", "table", "--json", *media))["modalities"]["track"]
    every = [metres(way(kind, i)) for kind in ("circle", "line") for i in range(6)]
    assert counted["quantities"]["metres"]["max"] == pytest.approx(max(every), abs=0.1)
    assert counted["quantities"]["metres"]["sum"] == pytest.approx(sum(every), abs=1)
    middle = sorted(every)[6]
    run("shards", "filter", "table", "long", "--where", f"metres >= {middle - 1}", *media)
    kept = json.loads((folder / "long" / "manifest.json").read_text())["splits"]["train"]["samples"]
    assert kept == sum(metre >= middle - 1 for metre in every)


def block(kind: str) -> str:
    """The first block of a kind in the page about a medium of one's own."""
    return page.read_text(encoding="utf-8").partition(f"```{kind}\n")[2].partition("```")[0]


def test_the_page_shows_the_packages_own_files():
    shown = re.findall(r"`(gps_track/\w+\.py)`:\n\n```py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert [name for name, _ in shown] == [f"gps_track/{name}.py" for name in ("medium", "preprocess", "encoder")]
    for name, text in shown:
        assert text == (package / name).read_text(encoding="utf-8")


def use_model(run: Callable[..., str], folder: Path) -> None:
    """The page's commands with its config: shards, training, evaluation, search; a model brings its media itself."""
    (folder / "config.yaml").write_text(block("yaml"))
    for line in block("sh").splitlines():
        program, *args = shlex.split(line)
        assert program == "align"
        run(*args, *(["--trainer.logger", "false"] if args[0] == "train" else []))
    scores = json.loads((folder / "run" / "results.json").read_text())
    assert "track_to_text/recall@1" in scores
    hits = json.loads(run(*args, "--json", "--how", "cosine"))["hits"]
    assert hits[0]["captions"] == ["a circle of size 3"]
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)


def lines_drawn(page: Path, profile: Path, anchor: str = "") -> int:
    """The polylines of a page in a browser, which complains of nothing."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium here")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    flags += [f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri() + anchor]
    done = subprocess.run([chromium, *flags], capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    drawings = done.stdout.split('class="drawing"')[1:]
    return sum('<polyline points="0,' in drawing.partition("</svg>")[0] for drawing in drawings)


@pytest.fixture
def here(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """The command line in this process, with the package on the path; the working folder is empty."""
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.chdir(tmp_path)

    def run(*args: str, code: int = 0) -> str:
        capsys.readouterr()
        found, (out, err) = main(list(args)), capsys.readouterr()
        assert found == code, err
        return out

    return run


def test_shards_of_a_medium_from_outside(here, tmp_path):
    use_shards(here, tmp_path)


@pytest.mark.slow
def test_a_model_of_a_medium_from_outside(here, tmp_path):
    write_sources(tmp_path)
    use_model(here, tmp_path)
    assert lines_drawn(tmp_path / "look.html", tmp_path / "profile") == 12
    assert lines_drawn(tmp_path / "run" / "report.html", tmp_path / "profile", "#text_to_track") > 12


@pytest.mark.sweep
def test_an_installed_package_with_a_medium(tmp_path):
    """As a user has it: in an environment of its own, which sees this one's packages."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", package], check=True)
    work = tmp_path / "work"
    work.mkdir()
    env = {**os.environ, "PYTHONPATH": str(root.parent)}

    def run(*args: str, code: int = 0) -> str:
        done = subprocess.run([python, "-m", "align", *args], cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout

    use_shards(run, work)
    use_model(run, work)
    for page, anchor in {"check.html": "", "look.html": "", "run/report.html": "#track_to_text"}.items():
        assert lines_drawn(work / page, tmp_path / "profile", anchor)
