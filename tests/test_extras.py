"""The command that installs an extra: of the checkout, or of a distribution whose name is ours."""

import re
import tomllib
from pathlib import Path

import pytest

import align
from align import extras

root = Path(align.__file__).resolve().parent.parent
project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_checkout_is_installed_from_itself(monkeypatch, tmp_path):
    monkeypatch.chdir(root)
    assert extras.pip_install("remote") == "pip install -e '.[remote]'"
    monkeypatch.chdir(tmp_path)
    assert extras.pip_install("remote") == f"pip install -e '.[remote]' (in {root})"


@pytest.mark.parametrize("beside", [None, '[project]\nname = "some-web-shop"\n'])
def test_an_installed_copy_is_installed_by_its_name(monkeypatch, tmp_path, beside):
    """Also where a project keeps a copy of the package beside its own pyproject.toml."""
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "align" / "extras.py"))
    if beside:
        (tmp_path / "pyproject.toml").write_text(beside)
    assert extras.pip_install("recipes") == "pip install 'align-multimodal[recipes]'"


def test_the_distribution_is_the_projects():
    assert project["name"] == extras.DISTRIBUTION
    assert project["version"] == align.__version__
    assert project["scripts"] == {"align": "align.commands:main"}


def test_nobody_is_told_to_install_another_project():
    """No file of the repository names an extra of `align`, and each extra that one names is there."""
    folders = ("align", "datasets", "configs", "docs", "notebooks")
    files = [path for folder in folders for path in (root / folder).rglob("*.*")]
    files = [root / "README.md", *(p for p in files if p.suffix in (".py", ".pyi", ".yaml", ".md", ".ipynb"))]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    other = re.compile(r"\balign\[[a-z]|pip install ['\"]?align\b(?!-)")
    wrong = [str(path) for path, text in texts.items() if other.search(text)]
    assert wrong == []
    named = set(re.findall(r"pip_install\(['\"](\w+)['\"]\)", "".join(texts.values())))
    assert named >= {"parquet", "remote", "recipes"}
    assert named <= set(project["optional-dependencies"])


def test_a_part_is_looked_for_and_not_a_name_alone(tmp_path, monkeypatch):
    (tmp_path / "a_folder_here").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert extras.has_part("json", "loads")
    assert not extras.has_part("a_folder_here", "loads")
    assert not extras.has_part("no_such_module", "loads")
