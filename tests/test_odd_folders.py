"""Folders whose names hold the marks of a pattern, spaces or comment signs: every command reads them, and no other."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper

import pytest
import tiny
import tiny_space
import torch
import yaml
from braceexpand import braceexpand
from test_commands_train import config
from tiny_data import png, write

from align.checkpoint import save
from align.commands import main
from align.commands.arguments import arguments
from align.curation import build
from align.data import Shards
from align.data.places.patterns import MOST, braces, count, escape, inside, typeable

NAMES = [
    "set[12]",
    "data?",
    "a{1,2}",
    "with space",
    "50%",
    "a#b",
    "*",
    "[12]",
    "a,b",
    "out:1",
    "quote'd",
    "#a",
    "pipe:x.tar",
]
USUAL = ("set[12]", "a{1,2}", "#a", "quote'd")
FEW = [name if name in USUAL else pytest.param(name, marks=pytest.mark.sweep) for name in NAMES]
ONE = [name if name == "set[12]" else pytest.param(name, marks=pytest.mark.sweep) for name in NAMES]
DECOYS = ["set1", "set2", "dataX", "a1", "a2", "1", "a", "b"]  # what the names would match as patterns
trust = ["--allow", "tiny_space"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Decoys with shards of one sample, and a model."""
    folder = tmp_path_factory.mktemp("home")
    for name in DECOYS:
        write(folder / name, 1)
        write(folder / name / "shards", 1)
        tiny_space.write_tar(folder / name / "test-000000.tar", {"decoy": next(iter(tiny_space.world().values()))})
    save(tiny_space.model("pairwise"), folder / "model")
    return folder


def said(capsys, *args) -> str:
    """What a command that must succeed prints."""
    capsys.readouterr()
    assert main([str(a) for a in args]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FEW)
def test_shards_commands(home, monkeypatch, capsys, name):
    monkeypatch.chdir(home)
    (home / name / "cat").mkdir(parents=True)
    for i in range(6):
        (home / name / "cat" / f"{i}.png").write_bytes(png(100 + i))
    out = f"{name}/shards"
    shown = said(capsys, "shards", "build", name, out)
    typed = shlex.split(shown.partition(": ")[0])[0]  # as a shell reads the pattern that is printed
    assert json.loads(said(capsys, "shards", "show", typed, "--json"))["samples"] == 6
    assert len(Shards(typed)) == len(Shards(f"{out}/train-*.tar")) == len(Shards(f"{out}/train-000000.tar")) == 6
    assert json.loads(said(capsys, "shards", "stats", out, "--json"))["samples"] == 6
    assert json.loads(said(capsys, "shards", "check", out, "--json", "--against", "1"))["samples"] == 6
    assert json.loads(said(capsys, "shards", "check", "1", "--json", "--against", out))["samples"] == 2
    parts = said(capsys, "shards", "split", out, f"{name}/parts", "--parts", "train=0.5,test=0.5", "--by", "label")
    assert len(shlex.split(parts.partition(": ")[0])) == 1
    assert "6 samples of 2 sets" in said(
        capsys, "shards", "merge", *sorted((home / name / "parts").glob("*.tar")), f"{name}/m"
    )
    assert "kept 6 of 6" in said(capsys, "shards", "filter", out, f"{name}/kept", "--where", "has_image")
    assert "6 samples" in said(capsys, "shards", "build", f"{name}/kept", f"{name}/again")


@pytest.mark.parametrize("name", ONE)
def test_commands_with_a_model(home, monkeypatch, capsys, name):
    monkeypatch.chdir(home)
    shards = home / name / "tests"
    tiny_space.write_tar(shards / "test-000000.tar", tiny_space.world())
    save(tiny_space.model("pairwise"), home / name / "model")
    n = len(tiny_space.world())
    assert main(["evaluate", f"{name}/model", f"{name}/tests", *trust]) == 1
    choices = capsys.readouterr().err.partition("name the shards in it: ")[2]
    typed = shlex.split(choices)
    assert len(typed) == 1
    said(capsys, "evaluate", f"{name}/model", *typed, "--no-report", *trust)
    results = json.loads((home / name / "model" / "results.json").read_text())
    assert results["protocol"]["shards"] == {"test-000000.tar": n}
    assert main(["search", f"{name}/model", "a", "--of", "image", *trust]) == 1
    made = shlex.split(capsys.readouterr().err.partition("with: align ")[2].replace("SHARDS", shlex.quote(typed[0])))
    assert f"{n} samples" in said(capsys, *made, *trust)
    query = home / "query.npy"
    query.write_bytes(tiny_space.npy(torch.eye(8)[0]))
    found = said(
        capsys, "search", f"{name}/model", "--image", query, "--of", "image", "--json", "--save", f"{name}/hits", *trust
    )
    hits = json.loads(found)["hits"]
    assert {hit["source"]["shard"] for hit in hits} == {str((shards / "test-000000.tar").resolve())}
    assert all(path.startswith(f"{name}/hits") for path in json.loads(found)["files"])


def test_a_name_that_is_no_utf8(home, monkeypatch):
    """As an old disk or archive has them: read, printed, and written into JSON and pages; no class is called so."""
    monkeypatch.chdir(home)
    name = os.fsdecode(b"caf\xe9")
    tiny_space.write_tar(home / name / "test-000000.tar", tiny_space.world())
    save(tiny_space.model("pairwise"), home / name / "model")
    (home / name / "pictures").mkdir()
    (home / name / "pictures" / f"{name}.png").write_bytes(png(1))
    (home / name / "pictures" / f"not{name}.ply").write_bytes(b"nothing")

    def run(*args: str) -> tuple[int, str]:
        stream = TextIOWrapper(BytesIO(), encoding="utf-8")
        with redirect_stdout(stream):
            code = main(list(args))
        stream.flush()
        return code, os.fsdecode(stream.buffer.getvalue())

    assert run("evaluate", f"{name}/model", f"{name}/*.tar", *trust)[0] == 0
    results = json.loads((home / name / "model/results.json").read_text(encoding="utf-8"))
    assert results["protocol"]["samples"] == len(tiny_space.world())
    assert run("index", "build", f"{name}/model", f"{name}/*.tar", *trust)[0] == 0
    assert "unchanged" in run("index", "build", f"{name}/model", f"{name}/*.tar", *trust)[1]
    assert run("index", "check", f"{name}/model/index")[0] == 0
    (home / name / "query.npy").write_bytes(tiny_space.npy(torch.eye(8)[0]))
    code, out = run("search", f"{name}/model", "--image", f"{name}/query.npy", "--of", "image", "--json", *trust)
    assert (code, json.loads(out)["query"][0]["value"]) == (0, f"{name}/query.npy")
    code, out = run("shards", "build", f"{name}/pictures", f"{name}/built", "--max-bad", "1")
    assert (code, f"{name}/built" in out) == (0, True)
    line = json.loads((home / name / "built/train-bad.jsonl").read_text(encoding="utf-8"))
    assert f"{name}/pictures/not{name}.ply" in line["detail"]
    (home / name / "pictures" / name).mkdir()
    (home / name / "pictures" / name / "1.png").write_bytes(png(1))
    with pytest.raises(ValueError, match="a class is called as its folder, whose name is no UTF-8; rename it"):
        build(home / name / "pictures", home / name / "classes")


def test_words_that_yaml_reads_as_nothing_are_words():
    def command(folder: str | None = None, /, *, out: str | None = None) -> None:
        """A command."""

    for word in ("#a/x", "null", "~", "&a", "---", ""):
        assert arguments(command, "command", [f"--out={word}", "--", word]) == ([word], {"out": word})


@pytest.mark.parametrize(
    "name", ["set[12]", *(pytest.param(x, marks=pytest.mark.sweep) for x in ("a{1,2}", "*", "data? with space#50%'d"))]
)
def test_train_reads_the_folder_that_is_named(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for decoy in DECOYS:
        tiny.write(tmp_path / decoy, samples=13)
    tiny.write(tmp_path / name)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    given = [
        "--data.train",
        inside(name, "train-*.tar"),
        "--data.val",
        f"{name}/train-*.tar",
        "--trainer.max_steps",
        "1",
    ]
    printed = said(capsys, "train", "--config", "config.yaml", "--run", f"{name}/run", *given)
    assert shlex.split(printed.partition("next: ")[2])[2] == f"{name}/run"
    assert main(["train", "--config", "config.yaml", "--run", "r", "--data.val", "#a/train-*.tar"]) == 2
    assert "YAML reads a comment there, and so nothing; write ./#a/train-*.tar" in capsys.readouterr().err
    state = json.loads(next((tmp_path / name / "run" / "checkpoints").glob("*/training/state.json")).read_text())
    assert state["order"]["samples"] == 48
    assert yaml.safe_load((tmp_path / name / "run" / "config.yaml").read_text())["data"]["val"] == f"{name}/train-*.tar"


@pytest.mark.sweep
def test_quickstart_in_a_folder_of_every_mark(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # no processes that import for longer than they work
    run = "qs[1]{a,b}? *#50%"
    args = ["--objects", "500", "--test", "20", "--steps", "2", "--workers", "0"]
    printed = said(capsys, "quickstart", run, *args)
    lines = [line.strip() for line in printed.splitlines() if re.match("  align (?!serve)", line)]
    assert len(lines) == 3
    for line in lines:
        words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
        assert main(words.stdout.split("\0")[1:-1]) == 0, line


def test_what_is_there_is_no_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, samples in {"x[12].tar": 2, "x1.tar": 3, "{x,y}.tar": 4, "y.tar": 5}.items():
        write(tmp_path / "made", samples)
        (tmp_path / "made" / "train-000000.tar").rename(tmp_path / name)
    assert len(Shards("x[12].tar")) == 2
    assert len(Shards("{x,y}.tar")) == 4
    assert len(Shards(["x[1].tar", "[xy].tar"])) == 8  # these are no files
    (tmp_path / "x[12].tar").unlink()
    assert len(Shards("x[12].tar")) == 3


@pytest.mark.parametrize("name", NAMES)
def test_an_escaped_path_matches_itself_alone(tmp_path, name):
    for one in {*NAMES, *DECOYS}:
        (tmp_path / one).mkdir()
        write(tmp_path / one, 1 + (one == name))
    assert len(Shards(inside(tmp_path / name))) == len(Shards(escape(tmp_path / name / "train-000000.tar"))) == 2
    assert braces(escape(name)) == [escape(name)]
    assert shlex.split(typeable(name)) == [inside(name)]


def test_names_are_counted_before_they_are_made():
    draw = random.Random(0)

    def made(depth: int) -> str:
        kind = draw.randrange(5 if depth else 2)
        if kind < 2:
            return draw.choice(["a", "b-", "", "x.tar", "0", ".."])
        if kind == 2:
            a, b = draw.choice([("0", "7"), ("08", "11"), ("3", "-2"), ("a", "f"), ("Z", "B"), ("5", "5")])
            return f"{{{a}..{b}{draw.choice(['', '..2', '..0', '..-3'])}}}"
        if kind == 3:
            return "{" + ",".join(made(depth - 1) for _ in range(draw.randint(1, 3))) + "}"
        return made(depth - 1) + made(depth - 1)

    seen = set()
    for _ in range(2000):
        pattern = made(4)
        expected = list(braceexpand(pattern, escape=False))
        assert count(pattern) == len(expected), pattern
        assert braces(pattern) == expected
        seen.add(len(expected))
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("pattern", "n"),
    [
        ("{0..100000000}.tar", "100,000,001"),
        ("{a,{0..100000000}}.tar", "100,000,002"),
        ("{000..999}/{000..999}-{a..c}.tar", "3,000,000"),
        ("{00000000..10000000..3}.tar", "3,333,334"),
        ("{0..99999999999999999999}", "10^18"),
    ],
)
def test_too_many_names_are_refused_by_their_number(tmp_path, pattern, n):
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{re.escape(n)} shards, more than {MOST:,}"):
        Shards(str(tmp_path / pattern))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
