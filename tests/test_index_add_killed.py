"""`align index add` killed by SIGKILL: the index is whole, as before or after, and the next run finishes the work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_space
from killed_add import TRUST, run
from written import environment

from align.checkpoint import save


@pytest.mark.slow
@pytest.mark.parametrize("moments", [14, pytest.param(0, marks=[pytest.mark.sweep, pytest.mark.timeout(3600)])])
def test_a_killed_addition_leaves_a_whole_index(tmp_path, moments):
    samples = list(tiny_space.world().items())
    for i in range(3):
        tiny_space.write_tar(tmp_path / "s" / f"test-{i:06d}.tar", dict(samples[4 * i : 4 * i + 4]))
    save(tiny_space.model("pairwise"), tmp_path / "model")
    shards = [tmp_path / "s" / f"test-{i:06d}.tar" for i in range(2)]
    code, told = run("index", "build", tmp_path / "model", *shards, "--out", tmp_path / "base", *TRUST)
    assert code == 0, told
    script = Path(__file__).parent / "killed_add.py"
    command = [sys.executable, str(script), str(tmp_path), str(moments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, tried, wrong = json.loads(done.stdout.splitlines()[-1])
    print(f"{number} moments, killed at {len(tried)}: {tried}")
    assert wrong == []
    assert len(tried) >= 10
    assert set(tried.values()) == {"before", "after"}
