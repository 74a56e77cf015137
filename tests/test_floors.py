"""Imports point down; a planted violation is found. `import align` and `align --help` stay light."""

import subprocess
import sys
from pathlib import Path

import pytest
from floors import climbing, floors, imported, light

import align

root = Path(align.__file__).parent


def test_imports_point_down():
    assert climbing(root) == []


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("losses/x.py", "from align.lit import fit", "losses (floor 2) imports lit (floor 6)"),
        ("values.py", "def f():\n    import align.metrics", "values (floor 1) imports metrics (floor 1)"),
        ("scoring.py", "from align import model", "scoring (floor 3) imports model (floor 3)"),
        ("model.py", "import lightning.pytorch", "model imports lightning.pytorch"),
        ("heads.py", "from .values import Rows", "relative import"),
        ("cellar.py", "", "not in the house plan"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, text, found):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    wrong = climbing(tmp_path)
    assert len(wrong) == 1
    assert found in wrong[0]


@pytest.mark.parametrize("name", [name for name, floor in floors.items() if floor == 1])
def test_the_ground_floor_needs_torch_and_the_standard_library_only(name):
    paths = [*root.glob(f"{name}.py"), *root.glob(f"{name}/*.py")]
    assert paths
    own = {"align"} if (root / name).is_dir() else set()
    outside = {n.split(".")[0] for path in paths for _, n in imported(path)}
    assert outside - light - own - set(sys.stdlib_module_names) == set()


def _loaded(code: str) -> set[str]:
    code += "\nimport sys; print('\\n'.join(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {line.split(".")[0] for line in out.splitlines()}


def test_import_align_imports_no_library():
    before, after = _loaded(""), _loaded("import align")
    assert after - before - set(sys.stdlib_module_names) == {"align"}


def test_help_imports_neither_torch_nor_lightning():
    loaded = _loaded("from align.commands import main\nassert main(['--help']) == 0")
    assert not loaded & {"torch", "lightning", "numpy", "timm", "open_clip"}


def test_a_subcommands_help_imports_neither():
    loaded = _loaded("from align.commands import main\nassert main(['zeroshot', '--help']) == 0")
    assert not loaded & {"torch", "lightning"}
