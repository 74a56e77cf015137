"""Rows 3, 4, 7, 8 and 9: checkpoints that are killed while they are written, find no room, rot, or are hostile."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import hostile_models
import pytest
from fake_hub import FakeHub
from forked import run_script
from test_checkpoint_sums import save
from written import environment

from align.checkpoint import drop_lost, read_index, save_state

tests = Path(__file__).parents[1]


def sweep(mode: str, folder: Path, every: int, **env: str) -> dict[str, list]:
    script = folder / "faults.py"
    script.write_text(f"import runpy\nrunpy.run_path({str(tests / 'save_faults.py')!r}, run_name='__main__')\n")
    work = folder / "work"
    work.mkdir()
    done = run_script(script, mode, str(work), str(every), env={**environment(), **env})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def enter(row, found: dict[str, list], **more) -> None:
    """Enter the number of faults and of those after which something was wrong."""
    wrong = [line for _, lines in found.values() for line in lines]
    row.measured(unreadable=len(wrong), faults=sum(n for n, _ in found.values()), **more)


# row 3


def test_killed_at_every_call_of_a_save(fault, tmp_path):
    row = fault("3", "SIGKILL at every sixth write, fsync and rename of a save", unreadable=0)
    enter(row, sweep("kill", tmp_path, 6))


@pytest.mark.sweep
@pytest.mark.parametrize("mode", ["kill", "strace"])
@pytest.mark.parametrize("disks", ["one disk", "run on another disk than $TMPDIR"])
def test_killed_everywhere(fault, tmp_path, mode, disks):
    if mode == "strace" and not shutil.which("strace"):
        pytest.skip("needs strace")
    row = fault("3", f"SIGKILL at every call of a save ({mode}), {disks}", unreadable=0)
    folder = tmp_path
    if disks != "one disk":
        folder = Path("/dev/shm") / f"align-{os.getpid()}-{mode}"
        folder.mkdir()
        assert folder.stat().st_dev != tmp_path.stat().st_dev
    try:
        enter(row, sweep(mode, folder, 1, TMPDIR=str(tmp_path)))
    finally:
        if folder != tmp_path:
            shutil.rmtree(folder)


# row 4


@pytest.mark.parametrize("error", ["ENOSPC", *(pytest.param(e, marks=pytest.mark.sweep) for e in ("EIO", "EDQUOT"))])
def test_an_error_at_every_call_of_a_save(fault, tmp_path, error):
    every = 8 if error == "ENOSPC" else 1
    row = fault("4", f"{error} at {'every' if every == 1 else 'every eighth'} call of a save", unreadable=0)
    enter(row, sweep(error, tmp_path, every))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who becomes another user")
def test_a_read_only_folder(fault, tmp_path):
    row = fault("4", "a folder that cannot be written", lost=0, said=True)
    run = tmp_path / "run"
    save(run, 2, 1.0)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for folder in (*tmp_path.parents, tmp_path, *(p for p in run.rglob("*") if p.is_dir())):
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(OSError, match="cannot be written: Permission denied; it needs") as caught:
            save(run, 4, 0.5)
    finally:
        os.seteuid(0)
    lost = sum(p.read_bytes() != content for p, content in before.items())
    row.measured(lost=lost, said=str(run / "checkpoints/step-00000004") in str(caught.value))


# row 7


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.sweep)])
def test_flips_and_cuts(fault, tmp_path, n):
    row = fault("7", f"{n} flipped bits and cuts in the newest checkpoint and the index", detected=n, continued=n)
    run, rng = tmp_path / "run", random.Random(n)
    save(run, 2, 1.0)
    save(run, 4, 2.0)
    save_state(run, {"step": 4, "monitor": "val/loss", "mode": "min", "value": 2.0, "validated": True})
    before, newest = read_index(run), run / "checkpoints/step-00000004"
    files = [p for p in newest.rglob("*") if p.is_file()] + [run / "checkpoints/index.json"]
    detected = continued = 0
    for _ in range(n):
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        if rng.random() < 0.25:
            path.write_bytes(content[: rng.randrange(len(content))])
        else:
            bad = bytearray(content)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
        known, lines = drop_lost(run)
        detected += len(lines) == 1 and str(path) in lines[0]
        index = path.name == "index.json"
        continued += known == (before if index else before | {"last": "step-00000002", "damaged": [newest.name]})
        path.write_bytes(content)
    assert drop_lost(run) == (before, [])
    row.measured(detected=detected, continued=continued)


# row 8


def test_a_newer_schema(fault, tmp_path):
    """Older ones stand in ``test_checkpoint_golden.py``."""
    row = fault("8", "a checkpoint of a newer align", refused=2)
    save(tmp_path, 2, 1.0)
    state = tmp_path / "checkpoints/step-00000002/training/state.json"
    state.write_text(state.read_text().replace('"schema": 3', '"schema": 4'))
    refused = 0
    (state.parent / "sums.json").unlink()  # another align's checksums may have another form
    from align.checkpoint import read_state
    from align.lit.resume import find

    for read in (lambda: find(tmp_path, fresh=False), lambda: read_state(state.parents[1])):
        with pytest.raises(ValueError, match=r"has schema 4; this align .* reads up to 3: upgrade align"):
            read()
        refused += 1
    row.measured(refused=refused)


# row 9


@pytest.mark.slow
def test_hostile_checkpoints(fault, tmp_path):
    """Each is loaded from a folder, and those of a model from a hub too, in a process that measures its memory."""
    cases = hostile_models.write(tmp_path / "owner")
    row = fault("9", f"{len(cases)} hostile checkpoints, local, hub and http", ran=0, loaded=0, grown=0)
    hub = FakeHub(tmp_path)
    env = {k: v for k, v in environment().items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.address, "NO_PROXY": "*"}
    env["HF_HUB_OFFLINE"] = "0"
    env |= {"ALIGN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{tests / 'faults'}"}
    try:
        words = [sys.executable, str(hostile_models.__file__), str(tmp_path), hub.address]  # it reads HF_ENDPOINT
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)
    finally:
        hub.close()
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"good", *(case for case, about in cases.items() if about["hub"])} == {
        asked.split("/")[4] for asked in hub.asked if asked.startswith("GET /api/models/owner/")
    }, hub.asked
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == sum(1 + bool(case["hub"]) for case in cases.values()) + 1, found
    loaded = [one for one in found if not one["refused"]]
    grown = [one for one in found if one["grown"] > max(2 * one["size"], 8 << 20)]
    assert not loaded, loaded
    assert not grown, grown
    row.measured(ran=sum((tmp_path / name).exists() for name in ("pwned",)), loaded=len(loaded), grown=len(grown))


if sys.platform != "linux":
    pytest.skip("kills and memory are measured on Linux", allow_module_level=True)
