"""docs/Dockerfile: its RUN lines in a fresh folder, as a user without rights, and then the server that it starts.

The image is not built. These things take another's place: the interpreter and the libraries are those of the tests
(FROM, and a .pth file in the new environment, with which pip installs align alone and asks no index), the folder
/srv/align is a fresh one, and the token and the index lie in other folders. Where the tests run as root, the user has
one right, to read the files of the tests' environment. He can write to the fresh folder alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

root = Path(__file__).parent.parent
ID = "10001"
HOME = "/srv/align"


def read_lines() -> list[tuple[str, str]]:
    """Return the instructions of the file, each with the text behind it."""
    text = re.sub(r"\\\n\s*", "", (root / "docs" / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def as_user() -> list[str]:
    """Return the words in front of a command that take root's rights from it."""
    if os.getuid():
        return []
    only = "-all,+dac_read_search"
    rights = ["--inh-caps", only, "--ambient-caps", only, "--bounding-set", only, "--no-new-privs"]
    return ["setpriv", "--reuid", ID, "--regid", ID, "--clear-groups", *rights]


def make_world(folder: Path) -> None:
    """Write a model and an index of twenty items."""
    path = root / "tests" / "benchmarks" / "serve_load.py"
    spec = importlib.util.spec_from_file_location("serve_load", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_index(str(module.make_model(folder / "model")), folder, 20)


def borrow(folder: Path) -> None:
    """Show the libraries of the tests in the new environment. An editable align of the tests is not among them."""
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")


@pytest.fixture
def open_folder():
    """A folder that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_no_line_needs_rights():
    lines = read_lines()
    names = [name for name, _ in lines]
    assert len((root / "docs" / "Dockerfile").read_text(encoding="utf-8").splitlines()) <= 20
    assert names.count("USER") == 1
    assert dict(lines)["USER"] == f"{ID}:{ID}"
    assert names.index("USER") < min(names.index("WORKDIR"), names.index("RUN"))  # so that the folder is the user's
    assert dict(lines)["WORKDIR"] == HOME
    for name, rest in lines:
        if name == "COPY":
            assert rest.startswith(f"--chown={ID}:{ID} ")
            assert all((root / source).exists() for source in rest.split()[1:-1])


@pytest.mark.sweep
def test_the_run_lines_work_as_a_user_without_rights(open_folder):
    home, data = open_folder / "home", open_folder / "data"
    home.mkdir()
    data.mkdir()
    make_world(data)
    (open_folder / "token").write_text("a-token\n")
    if not os.getuid():
        os.chown(home, int(ID), int(ID))
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (open_folder / "bin").mkdir()
    (open_folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    (open_folder / "bin" / "python").chmod(0o755)
    env = {"PATH": f"{open_folder}/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env |= {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0 is: no isolation
    lines = [(name, rest.replace(HOME, str(home))) for name, rest in read_lines()]
    ran = []
    for name, rest in lines:
        if name == "ENV":
            for one, value in (pair.split("=", 1) for pair in rest.split()):
                env[one] = value.replace("$PATH", env["PATH"])
        elif name == "COPY":
            *sources, into = rest.split()[1:]
            copy(sources, home / into)
        elif name == "RUN":
            done = subprocess.run([*as_user(), "sh", "-c", rest], cwd=home, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{rest}\n{done.stdout}\n{done.stderr}"
            ran.append(rest)
            if "-m venv" in rest:
                borrow(home)
    assert len(ran) == 3
    assert not (home / "source").exists()
    last = {name: json.loads(rest[rest.index("[") :]) for name, rest in lines if name in ("ENTRYPOINT", "CMD")}
    (check,) = [json.loads(rest[rest.index("[") :]) for name, rest in lines if name == "HEALTHCHECK"]
    command = [*last["ENTRYPOINT"], *last["CMD"], "--port", "0"]
    places = {"/run/secrets/align": str(open_folder / "token"), "/data/index": str(data / "index")}
    ask_server([*as_user(), *(places.get(word, word) for word in command)], [*as_user(), *check], home, env)
    if not os.getuid():
        tried = subprocess.run([*as_user(), "touch", str(data / "index" / "x")], capture_output=True, env=env)
        assert tried.returncode != 0


def copy(sources: list[str], into: Path) -> None:
    """Copy as COPY does: files into a folder, a folder as one. They belong to the user."""
    into.mkdir(parents=True, exist_ok=True)
    for name in sources:
        if (root / name).is_dir():
            shutil.copytree(root / name, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, into)
    if not os.getuid():
        for path in [into, *into.rglob("*")]:
            os.chown(path, int(ID), int(ID))


def ask_server(command: list[str], check: list[str], home: Path, env: dict[str, str]) -> None:
    """Start the server, look at its health, search with the token and without it, and end it."""
    with subprocess.Popen(
        command, cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), server.communicate()
            where = Path(f"/proc/{server.pid}/status").read_text()
            assert os.getuid() or re.search(rf"^Uid:\s+{ID}\s+{ID}\s", where, re.M)
            words = [word.replace("http://127.0.0.1:8000", url) for word in check]
            subprocess.run(words, cwd=home, env=env, check=True)
            body = json.dumps({"query": "a red cone", "of": "image", "k": 3}).encode()
            headers = {"Content-Type": "application/json", "Authorization": "Bearer a-token"}
            with urlopen(Request(f"{url}/v1/search", body, headers)) as answer:
                assert len(json.loads(answer.read())["hits"]) == 3
        finally:
            server.terminate()
            _, err = server.communicate(timeout=60)
        assert (server.returncode, err) == (143, "")
