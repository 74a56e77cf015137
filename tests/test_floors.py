"""Imports point down; a planted violation is found. `import align` and `align --help` stay light."""

import subprocess
import sys
from pathlib import Path

import pytest
from floors import climbing, climbing_inside, floors, imported, large_rooms, lazy, light
from written import run_code

import align

root = Path(align.__file__).parent


def test_imports_point_down():
    assert climbing(root) == []


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("losses/x.py", "from align.lit import fit", "losses (floor 2) imports lit (floor 9)"),
        ("values.py", "def f():\n    import align.metrics", "values (floor 1) imports metrics (floor 1)"),
        ("scoring.py", "from align import model", "scoring (floor 4) imports model (floor 4)"),
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
    assert outside - light - own - set(sys.stdlib_module_names) == lazy.get(name, set())


def test_files_loads_its_library_with_the_first_request():
    modules = ["align.files.http", "align.files.pool", "align.files.retry", "align.files.fetch"]
    assert "urllib3" not in _loaded(f"import {', '.join(modules)}")


def _loaded(code: str) -> set[str]:
    code += "\nimport sys; print('\\n'.join(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {line.split(".")[0] for line in out.splitlines()}


def test_import_align_imports_no_library():
    before, after = _loaded(""), _loaded("import align")
    assert after - before - set(sys.stdlib_module_names) == {"align"}


def test_help_imports_neither_torch_nor_lightning():
    loaded = _loaded("from align.commands import main\nassert main(['--help']) == 0")
    assert not loaded & {"torch", "lightning", "numpy", "timm", "open_clip", "jinja2"}


def test_a_subcommands_help_imports_neither():
    loaded = _loaded("from align.commands import main\nassert main(['zeroshot', '--help']) == 0")
    assert not loaded & {"torch", "lightning"}


@pytest.mark.parametrize("folder", large_rooms(root), ids=lambda folder: str(folder.relative_to(root)))
def test_imports_point_down_inside_a_large_room(folder):
    assert climbing_inside(folder, ".".join(["align", *folder.relative_to(root).parts])) == []


@pytest.mark.parametrize(
    ("floors_of", "text", "found"),
    [
        ('(("low",), ("high",))', "from align.room.high import f", "low (floor 1) imports high (floor 2)"),
        ('(("low", "high"),)', "", "high (floor 1) imports low (floor 1)"),
        ('(("low",), ("high",))', "from align.room import f", "low imports align.room.f through the room"),
        ('(("low",),)', "", "'high' has no floor"),
        ('(("low",), ("high", "attic"))', "", "there is no 'attic'"),
    ],
)
def test_a_planted_violation_inside_a_room_is_found(tmp_path, floors_of, text, found):
    (tmp_path / "__init__.py").write_text(f"FLOORS = {floors_of}")
    (tmp_path / "low.py").write_text(text)
    (tmp_path / "high").mkdir()
    (tmp_path / "high" / "x.py").write_text("from align.room.low import g")
    wrong = climbing_inside(tmp_path, "align.room")
    assert len(wrong) == 1
    assert found in wrong[0]


def test_training_imports_no_line_of_curation(tmp_path):
    code = "import align.lit, align.commands.train, align.commands.config as c, sys\nc.make_parser()\n"
    code += "print([name for name in sys.modules if name.startswith('align.curation')])"
    (tmp_path / "code.py").write_text(code)
    assert run_code(tmp_path / "code.py").strip() == "[]"
