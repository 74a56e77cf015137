"""Every Python block of every page in docs/ runs, the blocks of a page one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

root = Path(__file__).parent.parent
pages = sorted((root / "docs").glob("*.md"))


def blocks(page: Path) -> list[tuple[int, str]]:
    """(line, code) of each Python block."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(1)) + 1, found.group(1))
        for found in re.finditer(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    ]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "page.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "page.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=560)


def test_there_are_pages():
    assert pages
    assert all(blocks(page) for page in pages if "```python" in page.read_text(encoding="utf-8"))


@pytest.mark.slow  # each page is a process that imports torch, and some Lightning
@pytest.mark.parametrize("page", [page for page in pages if blocks(page)], ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path):
    """At its own lines, so that an error names the line of the page."""
    code = ""
    for line, block in blocks(page):
        code += "\n" * (line - 1 - code.count("\n")) + block
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:].replace("page.py", page.name)


@pytest.mark.sweep
def test_fabric_on_two_processes(tmp_path):
    """The page's lines with two devices: each rank has half of every batch, and the model of both is one."""
    page = root / "docs" / "from-other-libraries.md"
    lines = next(code for _, code in blocks(page) if "fabric" in code)
    for_two = lines.replace("devices=1", 'devices=2, strategy="ddp"')
    assert for_two != lines
    start, rest = for_two.split("fabric = Fabric")
    code = (
        "import os\nimport torch\nfrom align.losses import InfoNCE\ntorch.manual_seed(0)\n"
        + start.replace('with ShardWriter("shards", "train") as writer:', 'if True:\n  import contextlib\nwith ('
          'ShardWriter("shards", "train") if "LOCAL_RANK" not in os.environ else contextlib.nullcontext()) as writer:')
        .replace("for i in range(32)", 'for i in range(32 if "LOCAL_RANK" not in os.environ else 0)')
        + "fabric = Fabric" + rest
        + "    open(f'ids-{fabric.global_rank}', 'a').write(' '.join(batch.ids) + '\\n')\n"
        + "trained = [p.detach() for part in (model, objective) for p in part.parameters()]\n"
        + "torch.save(trained, f'model-{fabric.global_rank}')\n"
    )  # fmt: skip
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = [(tmp_path / f"ids-{rank}").read_text().split("\n")[:-1] for rank in (0, 1)]
    assert [len(line.split()) for line in seen[0] + seen[1]] == [4] * 8
    assert len({key for lines in seen for line in lines for key in line.split()}) == 32
    import torch

    first, second = (torch.load(tmp_path / f"model-{rank}", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_fabric_refuses_a_loader_itself(tmp_path):
    """What the page says of setup_dataloaders: it is Fabric's word, and not a run that goes on."""
    code = (
        "from lightning.fabric import Fabric\nfrom align.data import Loader\n"
        "Fabric(accelerator='cpu', devices=1).setup_dataloaders(object.__new__(Loader))\n"
    )
    assert "TypeError: Only PyTorch DataLoader" in run(code, tmp_path).stderr
