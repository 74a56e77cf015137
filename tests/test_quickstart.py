"""`align quickstart` from its command: everything it promises is there, and its printed commands run."""

from __future__ import annotations

import json
import shutil
import socket
import sys

import pytest
import torch
from quick import SMALL, small_run
from written import Reader

import align
from align.commands import main
from align.commands.quickstart import update_index
from align.embedding import fingerprint
from align.search.local import LocalIndex


@pytest.mark.slow
def test_everything_is_there():
    run = small_run()
    for name in ("results.json", "report.html", "model/model.safetensors", "metrics.csv", "shards/manifest.json"):
        assert (run / name).is_file(), name
    results = json.loads((run / "results.json").read_text())
    for key in ("zeroshot/shape/image/accuracy", "zeroshot/material/audio/accuracy", "image_to_text/recall@10"):
        assert 0 <= results[key] <= 1
    pairs = [k for k in results if k.endswith("/recall@10") and k.count("/") == 1]
    assert len(pairs) == 12  # all ordered pairs of four modalities
    protocol = results["protocol"]
    assert {
        "version",
        "command",
        "seed",
        "model",
        "shards",
        "classes",
        "templates",
        "hit rule",
        "tie rule",
    } <= protocol.keys()
    assert "group" in protocol["hit rule"]
    page = (run / "report.html").read_text()
    assert page.count("<svg") >= 1
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_it_prints_commands_that_work(capsys, tmp_path):
    run = small_run()
    capsys.readouterr()
    assert main(["quickstart", str(run), *SMALL]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  align ")]
    assert [line.split()[1] for line in printed] == ["serve", "search", "search", "zeroshot"]
    with Reader(tmp_path) as reader:
        for line in printed[1:]:  # the pages serve: a test of docs/ does, and the README's
            assert reader.enter(line).strip()
    assert any((tmp_path / "found").iterdir())


@pytest.mark.slow
def test_a_demo_makes_the_index_and_answers(tmp_path):
    """On a run whose index is gone, on one of another model, and again, when nothing is embedded."""
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(small_run(), run)
    shutil.rmtree(run / "index")
    with Reader(tmp_path) as reader:
        assert reader.enter("align demo") == "it answers"
        page = reader.enter("curl -s http://127.0.0.1:8000/")
    assert "<html" in page
    made = sorted((path.name, path.stat().st_mtime_ns) for path in (run / "index").rglob("*"))
    update_index(run, align.load(run))
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (run / "index").rglob("*")) == made
    other = align.load(run)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    update_index(run, other)
    with LocalIndex.open(run / "index") as index:
        assert index.about["model"]["sha256"] == fingerprint(other)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda run: run.write_text("x"), "is a file; name a folder"),
        (lambda run: _finish(run), "is no run of `align quickstart`; to serve it: align index build"),
    ],
)
def test_a_demo_of_something_else_is_refused(tmp_path, capsys, make, says):
    make(tmp_path / "run")
    assert main(["demo", str(tmp_path / "run"), "--port", "0"]) == 1
    assert says in capsys.readouterr().err


def _finish(run):
    (run / "model").mkdir(parents=True)
    (run / "results.json").write_text("{}")


def test_a_demo_looks_at_its_port_before_it_trains(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["demo", str(tmp_path / "run"), "--port", str(taken.getsockname()[1])]) == 1
    assert "is in use" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_demo_without_the_extra_says_so_before_it_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    assert main(["demo", str(tmp_path / "run")]) == 1
    assert "align serve needs uvicorn: pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.sweep
def test_the_scores_that_the_readme_promises(tmp_path):
    """The whole quickstart: four minutes on two cores."""
    assert main(["quickstart", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["zeroshot/shape/image/accuracy"] >= 0.90
    assert results["zeroshot/shape/points/accuracy"] >= 0.90
    assert results["zeroshot/material/audio/accuracy"] >= 0.90
    for a in ("image", "points", "text"):
        for b in {"image", "points", "text"} - {a}:
            assert results[f"{a}_to_{b}/recall@10"] >= 0.8, (a, b)
