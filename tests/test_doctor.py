"""`align doctor` names what is missing or broken in a line each, and a crash or a hang of a library is such a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from align.commands.doctor import examine as examined
from align.commands.doctor import machine, packages
from align.commands.doctor.examine import examine
from align.commands.doctor.packages import PARTS, judge, judge_python, read_requirements
from align.commands.doctor.probe import Answer, Probe, ask
from align.commands.doctor.told import tell
from align.media import MEDIA
from align.media.samples import list_trials

root = Path(__file__).parent.parent


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A module `fragile` that a probe can import, with functions that do not return well."""
    (tmp_path / "fragile.py").write_text(
        "import os, signal, sys, time\n"
        "def crash(): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "def leave(): os._exit(7)\n"
        "def stop(): sys.exit('no licence')\n"
        "def hang(): time.sleep(60)\n"
        "def fail(): raise RuntimeError('built for CUDA 13.2\\nand more')\n"
        "def speak(): print('hello'); return 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_a_crash_and_a_hang_are_answers(library, capfd):
    probes = [Probe(f"fragile:{name}") for name in ("speak", "crash", "leave", "fail", "stop")]
    start = time.monotonic()
    found = list(ask([*probes, Probe("fragile:hang", patience=1), Probe("fragile:speak")]))
    assert time.monotonic() - start < 30  # the hang would take a minute
    assert found[0] == found[-1] == Answer(5)
    assert [answer.error for answer in found[1:-1]] == [
        "it ends the process with SIGSEGV",
        "it ends the process with exit code 7",
        "RuntimeError: built for CUDA 13.2",
        "SystemExit: no licence",
        "no answer within 1 s",
    ]
    assert capfd.readouterr().out == ""


def test_an_attribute_counts_and_not_a_folder(tmp_path, monkeypatch):
    """As of the folder datasets/, which is importable wherever one stands."""
    (tmp_path / "transformers_").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    probe = "align.commands.doctor.probe:import_attribute"
    (answer,) = ask([Probe(probe, ("transformers_", "AutoModel"))])
    assert "no attribute 'AutoModel'" in answer.error


@pytest.mark.parametrize(
    ("need", "version", "error", "state", "says"),
    [
        ("numpy>=1.26,<3", "2.4.6", "", "ok", ""),
        ("numpy>=1.26,<3", "3.0.1", "", "outside", "numpy 3.0.1 is outside of the supported <3,>=1.26"),
        ("numpy>=1.26,<3", None, "ImportError: x", "missing", "numpy is missing"),
        ("torch>=2.11", "2.11.0+cu130", "", "ok", ""),
        ("torch>=2.11", "2.9.1+cpu", "", "denied", "torch 2.9.1+cpu is never to be used: a crafted file of weights"),
        ("lightning>=2.6,!=2.6.2", "2.6.3", "", "denied", "malicious"),
        ("pillow>=12.2", "12.1.1", "", "denied", "CVE-2026-40192"),
        ("torchaudio>=2.11", "2.11.0", "RuntimeError: CUDA 13.0 != 13.2", "broken", "does not import beside torch"),
    ],
)
def test_a_package_is_judged(monkeypatch, need, version, error, state, says):
    def find(name):
        if version is None:
            raise packages.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(packages.metadata, "version", find)
    found = judge(Requirement(need), Answer(error=error))
    assert found.state == state
    assert says in found.problem


def test_python_is_judged(monkeypatch):
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.14.0")
    assert judge_python(">=3.11,<3.14").problem == "Python 3.14.0 is outside of the supported >=3.11,<3.14"


def test_every_requirement_has_its_part():
    _, needs = read_requirements()
    assert {need.name for listed in needs.values() for need in listed} == set(PARTS)
    assert {"", "hf", "serve", "search", "parquet", "remote", "recipes"} <= set(needs)
    assert "test" not in needs


def test_every_format_is_tried():
    tried = {(trial.medium, trial.suffix) for trial in list_trials()}
    assert tried == {(medium.name, suffix) for medium in MEDIA for suffix in (*medium.suffixes, *medium.files)}
    for trial in list_trials():
        trial.run()


def test_a_wrong_decoder_is_seen(monkeypatch):
    from align.media.picture import Picture

    monkeypatch.setattr(Picture, "read", lambda self, data: __import__("numpy").zeros((32, 32, 3), "uint8"))
    with pytest.raises(ValueError, match="another content"):
        list_trials()[0].run()


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Few packages, so that an examination takes seconds: one is broken, one is missing."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "torchaudio.py").write_text("raise RuntimeError('13.0 is not 13.2')")
    monkeypatch.syspath_prepend(tmp_path / "here")
    monkeypatch.setitem(PARTS, "torchaudio", ("torchaudio", "functional"))
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "x").write_bytes(b"x" * 3000)
    needs = {"": ["numpy>=1", "torchaudio>=2.11"], "fancy": ["align-nobody-has>=3", "numpy>=1"]}
    asked = {extra: [Requirement(text) for text in listed] for extra, listed in needs.items()}
    monkeypatch.setattr(examined, "read_requirements", lambda: (">=3.11", asked))
    monkeypatch.setattr(examined, "_list_trials", lambda: [("picture", "jpg", "simplejpeg")])
    monkeypatch.setattr(examined, "HUB_SECONDS", 2)


@pytest.mark.slow
def test_an_examination(few, monkeypatch):
    found = examine()
    (problem,) = found.problems
    assert problem.startswith("torchaudio 2.11")
    assert problem.endswith("RuntimeError: 13.0 is not 13.2; pip install 'torchaudio>=2.11'")
    assert [(e.name, list(e.absent)) for e in found.extras] == [("fancy", ["align-nobody-has"])]
    assert found.media == {"picture": ["jpg"]}
    assert found.cache["bytes"] == 3000
    assert found.hub["state"] == "offline"
    assert not found.as_data()["ok"]
    text = "\n".join(tell(found))
    assert "extra fancy      lacks align-nobody-has: pip install" in text
    assert "HF_HUB_OFFLINE is set" in text
    assert text.index("problem: torchaudio") > text.index("hub ")


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_a_problem(few, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", "/proc/1/cache")
    problems = [line for line in examine().problems if "cache" in line]
    assert len(problems) == 1
    assert "ALIGN_CACHE=FOLDER names another" in problems[0]


@pytest.mark.sweep
def test_a_hub_that_does_not_answer_is_bounded(monkeypatch):
    import socket

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        probe = Probe("align.commands.doctor.machine:look_at_hub", patience=machine.HUB_SECONDS)
        (answer,) = ask([probe])
    assert answer.error or answer.value["state"] == "unreachable"


def test_the_time_of_a_walk_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"x")
    monkeypatch.setattr(machine, "WALK_SECONDS", -1)
    assert machine._size(tmp_path) == (0, False)


@pytest.mark.sweep
def test_the_command(tmp_path):
    """All packages, as a user sees it: a sound installation, then one whose torchaudio is broken.

    By default the test of the page on it runs the sound one.
    """
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "ALIGN_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "align", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=root, timeout=300)
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert (done.returncode, found["ok"]) == (0, True)
    assert {p["state"] for p in found["packages"]} == {"ok"}
    assert {m.name for m in MEDIA} == set(found["media"])
    (tmp_path / "bad" / "torchaudio").mkdir(parents=True)
    (tmp_path / "bad" / "torchaudio" / "__init__.py").write_text("raise RuntimeError('CUDA 13.0 is not 13.2')")
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "bad"), str(root)])
    done = subprocess.run(command[:-1], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
    assert done.returncode == 1
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem: ")]
    assert len(problems) >= 1
    assert "torchaudio" in problems[0]
    assert "CUDA 13.0 is not 13.2" in problems[0]
    assert "Traceback" not in done.stdout + done.stderr
