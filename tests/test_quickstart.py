"""`align quickstart` from its command: everything it promises is there, and its printed commands run."""

from __future__ import annotations

import json
import shlex

import pytest
from quick import small_run

from align.commands import main


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
def test_it_prints_three_commands_that_work(capsys, tmp_path, monkeypatch):
    run = small_run()
    capsys.readouterr()
    assert main(["quickstart", str(run), "--objects", "600", "--test", "60", "--steps", "12", "--workers", "0"]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  align ")]
    assert len(printed) == 3
    monkeypatch.chdir(tmp_path)
    for line in printed:
        words = shlex.split(line)[1:]
        if words[-1].endswith("*.image.png"):
            words[-1:] = sorted(str(p) for p in (run / "examples").glob("*.image.png"))
        assert main(words) == 0
        assert capsys.readouterr().out.strip()


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
