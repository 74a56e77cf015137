"""Runs of every older schema of checkpoints go on to the losses and embeddings that they were to have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from golden import checkpoints

from align.checkpoint import find_damage, read_state
from align.commands import main

golden = Path(__file__).parent / "golden" / "checkpoints"
schemas = sorted(golden.glob("schema-*"))


def test_there_is_a_run_of_each_older_schema():
    assert [path.name for path in schemas] == ["schema-1", "schema-2"]
    for i, path in enumerate(schemas, start=1):
        state = json.loads((path / "checkpoints/step-00000004/training/state.json").read_text())
        assert state["schema"] == i
        assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 100 * 1024


@pytest.mark.parametrize("schema", schemas, ids=lambda path: path.name)
def test_it_goes_on_to_the_stored_losses_and_evaluates_to_the_stored_outputs(schema, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoints.prepare(tmp_path)
    run = shutil.copytree(schema, tmp_path / "run")
    expected = json.loads((run / "expected.json").read_text())
    last = run / "checkpoints" / "step-00000004"
    assert find_damage(last) is None
    assert read_state(last)["planned"] == 8
    outputs = checkpoints.embed(last)
    assert outputs.keys() == expected["outputs"].keys()
    for m, rows in outputs.items():  # another kind of CPU rounds the last digit otherwise
        assert [pytest.approx(row, abs=1e-6) for row in rows] == expected["outputs"][m]
    assert main([*checkpoints.RUN, "run"]) == 0
    assert "continuing at step 4" in capsys.readouterr().err
    assert checkpoints.losses(run) == pytest.approx(expected["losses"], abs=1e-5)
    assert read_state(run / "checkpoints" / "step-00000008")["schema"] == 3
    assert find_damage(run / "checkpoints" / "step-00000008") is None


@pytest.mark.parametrize("schema", schemas, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["model.safetensors", "training/state.json", "training/optimizer.safetensors"])
def test_a_cut_in_it_is_found_without_sums(schema, name, tmp_path):
    folder = shutil.copytree(schema / "checkpoints/step-00000004", tmp_path / "step-00000004")
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    assert f"{folder / name} is" in (find_damage(folder) or "")
