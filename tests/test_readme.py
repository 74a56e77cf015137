"""What the README says, runs: its scripts, its commands, its two lines, its tree of the house."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from quick import small_run

root = Path(__file__).parent.parent
text = (root / "README.md").read_text(encoding="utf-8")
scripts = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
commands = [
    line for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines() if line
]


def _env() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def _run(command: str | list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=_env(), shell=isinstance(command, str), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs").mkdir()
    shutil.copytree(small_run(), tmp_path / "runs" / "quickstart", ignore=shutil.ignore_patterns("checkpoints-*"))
    return tmp_path


def test_the_first_screen_has_the_two_lines():
    lines = [line for line in text.splitlines() if line.startswith("    python3 -m venv")]
    assert lines == [
        "    python3 -m venv .venv && . .venv/bin/activate && pip install -e . && align quickstart",
        '    python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[test]" && pytest',
    ]
    assert text.splitlines().index(lines[1]) < 25


def test_the_tree_is_the_house():
    tree = text.split("## The house")[1]
    named = {name.rstrip("/") for name in re.findall(r"^  (\S+?)\s", tree, flags=re.MULTILINE)}
    there = {p.name for p in (root / "align").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert named == there - {"__init__.py", "__pycache__"}


def test_the_scripts_are_short():
    for script in scripts[:3]:
        assert len([line for line in script.splitlines() if line.strip()]) <= 20


@pytest.mark.slow
@pytest.mark.parametrize("i", range(len(scripts)))
def test_a_script_runs(i, folder):
    (folder / "script.py").write_text(scripts[i])
    arguments = []
    if "image files" in scripts[i]:
        arguments = [
            "runs/quickstart",
            *(str(p) for p in sorted((folder / "runs/quickstart/examples").glob("*.image.png"))),
        ]
    elif "sys.argv" in scripts[i]:
        arguments = ["runs/quickstart", "a blue wooden cone"]
    out = _run([sys.executable, "script.py", *arguments], folder)
    assert out.strip()


@pytest.mark.slow
def test_the_own_loop_learns(folder):
    loop = next(script for script in scripts if "infonce(" in script)
    (folder / "script.py").write_text(loop)
    assert float(_run([sys.executable, "script.py"], folder).split()[-1]) < 1.5  # ln 64 = 4.16 at the start


@pytest.mark.slow
def test_the_quickstart_commands_run(folder):
    for command in (line for line in commands if "runs/quickstart" in line):
        assert _run(command, folder).strip()
    assert any((folder / "found").iterdir())


@pytest.mark.slow
def test_the_commands_for_own_data_run(tmp_path, real_data):
    """With few steps and few samples; the lines are the README's."""
    for name in ("mnist", "fsdd"):
        real_data(name)
    shutil.copytree(root / "configs", tmp_path / "configs")
    rows = ["image,text,label"]
    for i in range(30):
        Image.new("RGB", (256, 256), (8 * i, 0, 0)).save(tmp_path / f"{i}.jpg")
        rows.append(f"{i}.jpg,{'red' if i % 3 else ''},{'bright' if i > 14 else 'dark'}")
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    recipe = [sys.executable, str(root / "datasets" / "digits.py"), str(tmp_path / "shards/digits")]
    _run([*recipe, "--train", "600", "--test", "60"], tmp_path)
    for line in (line.split("#")[0].strip() for line in commands if "runs/quickstart" not in line):
        fewer = " --trainer.max_steps 2 --data.workers 0" if line.startswith("align train") else ""
        assert _run(line + fewer, tmp_path).strip()
    assert (tmp_path / "runs/digits/report.html").exists()
