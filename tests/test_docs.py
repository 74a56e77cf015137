"""Every block of every page in docs/ runs, the blocks of a page one after the other, in one folder.

A page with ``bash`` blocks is read in a folder that holds the quickstart's run, its Python blocks between them. Other
pages have Python blocks alone, which run in an empty folder. Blocks of ``sh`` are not run: they need a network.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from few import few, only
from forked import run_script
from made_folder import make_folder
from quick import small_run
from written import Reader, environment, read_blocks, root, run, run_here

pages = sorted((root / "docs").glob("*.md"))
with_shell = [page for page in pages if read_blocks(page, "bash")]
most = [page for page in with_shell if page.stem != "training"]
alone = [page for page in pages if page not in with_shell and read_blocks(page, "python")]


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "page.py").write_text(code, encoding="utf-8")
    return run_script(folder / "page.py", env=environment())


def prepare(folder: Path) -> None:
    """Make a folder in which a page's commands are typed."""
    (folder / "runs").mkdir()
    moved = shutil.ignore_patterns("checkpoints*", "index")  # an index of the shards at their old place
    shutil.copytree(small_run(), folder / "runs" / "quickstart", ignore=moved)
    make_folder(folder / "photos")


def test_there_are_pages():
    assert alone
    assert with_shell
    assert all(read_blocks(page) for page in pages if "```" in page.read_text(encoding="utf-8"))


@pytest.mark.slow  # some pages import transformers
@pytest.mark.parametrize("page", few(alone, 3), ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path):
    """At its own lines, so that an error names the line of the page."""
    code = ""
    for block in read_blocks(page, "python"):
        code += "\n" * (block.line - 1 - code.count("\n")) + block.text
    done = run_code(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:].replace("page.py", page.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    only(most, "search"),
    ids=lambda page: page.stem,
)
def test_every_command_runs(page, tmp_path):
    """With the small run, whose scores are poor: nine of ten hits are never right."""
    prepare(tmp_path)
    with Reader(tmp_path) as reader:
        for block in read_blocks(page, "bash", "python"):
            reader.type(block._replace(text=block.text.replace("--precision 0.9", "--precision 0.03")))


@pytest.mark.sweep
def test_the_commands_for_own_data_run(tmp_path, real_data):
    """With few steps and few samples; the lines are the page's."""
    from PIL import Image

    for name in ("mnist", "fsdd"):
        real_data(name)
    for folder in ("configs", "datasets"):
        shutil.copytree(root / folder, tmp_path / folder)
    rows = ["image,text,label"]
    for i in range(30):
        Image.new("RGB", (256, 256), (8 * i, 0, 0)).save(tmp_path / f"{i}.jpg")
        rows.append(f"{i}.jpg,{'red' if i % 3 else ''},{'bright' if i > 14 else 'dark'}")
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    fewer = {"align train": " --trainer.max_steps 2 --data.workers 0", "python data": " --train 600 --test 60"}
    page = root / "docs" / "training.md"
    for line in (line.split("#")[0].strip() for block in read_blocks(page, "bash") for line in block.commands):
        typed = line + fewer.get(line[:11], "")
        assert (run_here(typed, tmp_path) if line.startswith("align") else run(typed, tmp_path)).strip()
    assert (tmp_path / "runs/digits/report.html").exists()


@pytest.mark.sweep
def test_fabric_on_two_processes(tmp_path):
    """The page's lines with two devices: each rank has half of every batch, and the model of both is one."""
    page = root / "docs" / "from-other-libraries.md"
    lines = next(block.text for block in read_blocks(page, "python") if "fabric" in block.text)
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
    done = run_code(code, tmp_path)
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
    assert "TypeError: Only PyTorch DataLoader" in run_code(code, tmp_path).stderr
