"""An editable install shows `align` alone: the repository's other folders have names that other packages have.

A wheel holds every file of `align`, also those that are not Python. `.ci/run` uses it away from the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from installed import tracked

root = Path(__file__).resolve().parent.parent
marks = {"datasets": "digits.py", "tests": "conftest.py", "configs": "digits.yaml", "notebooks": "retrieval.ipynb"}


def found(python: str | Path, folder: Path) -> dict[str, list[str]]:
    """Name -> the folders that an import of it would read, in a process that begins in ``folder``."""
    code = "from importlib.util import find_spec\n"
    code += f"for name in {list(marks)!r}:\n    spec = find_spec(name)\n"
    code += "    print(name, *(spec.submodule_search_locations or [] if spec else []), sep='\\t')"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}


def test_our_folders_are_no_packages_of_this_environment(tmp_path):
    """A checkout that was installed before this held shows them: ``pip install -e .`` again."""
    places = found(sys.executable, tmp_path)
    assert list(places) == list(marks)
    assert {n: at for n, folders in places.items() for at in folders if (Path(at) / marks[n]).exists()} == {}


def test_the_check_sees_them_where_the_root_is_on_the_path():
    places = found(sys.executable, root)
    del places["datasets"]  # Hugging Face's, where it is installed: a whole package goes before a folder
    assert all((Path(folders[0]) / marks[name]).exists() for name, folders in places.items())


@pytest.mark.sweep
def test_transformers_works_beside_an_editable_install(tmp_path):
    """In an environment of its own: `transformers.Trainer` imports Hugging Face's `datasets` where there is one."""
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python, "-e", root, "transformers"]
    subprocess.run(install, check=True)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import align.losses; from transformers import Trainer; print(align.__file__, Trainer.__name__)"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(root / "align" / "__init__.py"), "Trainer"]
    assert found(python, tmp_path) == {name: [] for name in marks}
    recipe = subprocess.run([python, root / "datasets" / "digits.py", "--help"], cwd=tmp_path, env=env, check=True)
    assert recipe.returncode == 0


@pytest.mark.sweep
def test_wheel_and_sdist_hold_every_file(tmp_path):
    """The build fetches hatchling."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "build"], check=True)
    subprocess.run([python, "-m", "build", "--outdir", tmp_path, root], check=True, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    kit = {"page.html", "macros.html", "blocks/matrix.html", "page.css", "cloud.js"}
    wanted = {
        "align/py.typed",
        "align/__init__.pyi",
        "align/quickstart/config.yaml",
        *(f"align/page/kit/{f}" for f in kit),
    }
    assert wanted <= tracked(root)
    assert tracked(root) - set(zipfile.ZipFile(wheel).namelist()) == set()
    assert tracked(root) - packed == set()
