"""docs/formats.md describes every file that the commands write, and a model's weights need nothing of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from quick import small_run
from written import root, run_here

PAGE = root / "docs" / "formats.md"
WORDS = {"N": r"\d", "MODALITY": "[a-z]+", "ARGUMENT": "[a-z_]+"}


def sections() -> dict[str, list[str]]:
    """Return heading -> the names in the first columns of its tables."""
    out: dict[str, list[str]] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| `"):
            out.setdefault(heading, []).extend(re.findall(r"`([^`]+)`", line.split("|")[1]))
    return out


def pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of a name of the page. A name with a slash at its end stands for all that is in the folder."""
    text = re.sub(r"N{2,}", lambda found: rf"\d{{{len(found[0])},}}", re.escape(name))
    text = re.sub(r"[A-Z]{2,}", lambda found: WORDS.get(found[0], "[^/]+"), text)
    return re.compile(text + ("[^/]+(/.*)?" if name.endswith("/") else ""))


def undescribed(folder: Path, *headings: str) -> list[str]:
    """Return the files of a folder that no name in these sections describes."""
    known = [pattern(name) for heading in headings for name in sections()[heading]]
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files
    return [file for file in files if not any(one.fullmatch(file) for one in known)]


def test_names_of_the_page_are_patterns():
    assert pattern("SET/SHARD.tar").fullmatch("toys/train-000000.tar")
    assert pattern("SPLIT-NNNNNN.tar").fullmatch("train-000012.tar")
    assert not pattern("SPLIT-NNNNNN.tar").fullmatch("train-12.tar")
    assert not pattern("model.json").fullmatch("model/json")
    assert pattern("shards/").fullmatch("shards/a/b.tar")
    assert not pattern("shards/").fullmatch("shards")


def test_a_file_without_a_line_is_found(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    assert undescribed(tmp_path, "A model") == []
    (tmp_path / "model.pkl").write_text("")
    assert undescribed(tmp_path, "A model") == ["model.pkl"]


def test_every_version_of_the_page_is_that_of_the_code():
    import align.checkpoint.sums
    import align.checkpoint.write
    import align.data.archive.index
    import align.data.columns.format
    import align.data.order_file
    import align.search.local.create

    page = PAGE.read_text(encoding="utf-8")
    lines = {line.split("|")[1].strip(): line.split("|")[2] for line in page.splitlines() if line.startswith("| `")}
    for name, version in {
        "`model.json`": align.checkpoint.write.schema,
        "`checkpoints/step-NNNNNNNN/training/sums.json`": align.checkpoint.sums.schema,
        "`checkpoints/step-NNNNNNNN/training/state.json`": align.checkpoint.sums.schema,
        "`SPLIT-NNNNNN.tar.index.json`": align.data.archive.index.SCHEMA,
        "`cache.json`": align.data.columns.format.schema,
        "`ORDER.safetensors`": align.data.order_file.SCHEMA,
        "`index.json`": align.search.local.create.SCHEMA,
    }.items():
        assert f"schema: {version}`" in lines[name], name


@pytest.mark.slow
def test_every_file_of_the_commands_is_described(tmp_path):
    """The quickstart's run, an evaluation, a cache, an order file, a soup, an index as arrays, a folder for the hub."""
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(small_run(), run)
    shutil.copytree(run / "model", tmp_path / "other")
    for command in (
        "align embed runs/quickstart 'runs/quickstart/shards/train-*.tar' --out cache --name toys --towers image,text",
        "align shards order cache --of image --out orders/near.safetensors --size 8",
        "align soup runs/quickstart other --weights 0.5,0.5 --out soup",
        "align index export runs/quickstart/index indexed --to numpy",
        "align embed runs/quickstart 'runs/quickstart/shards/test-*.tar' --to fiftyone --out fiftyone",
        "align embed runs/quickstart 'runs/quickstart/shards/test-*.tar' --to label-studio --out tasks",
        "align report runs/quickstart",
        "align export runs/quickstart hub --to hub --licence mit",
        "align evaluate runs/quickstart 'runs/quickstart/shards/test-*.tar' --with retrieval --out results",
    ):
        run_here(command, tmp_path)
    assert undescribed(run, "A run") == []
    assert undescribed(run / "model", "A model") == []
    checkpoint = undescribed(next((run / "checkpoints").glob("step-*")), "A model")
    assert [name for name in checkpoint if not name.startswith("training/")] == []
    training = [name for name in sections()["A run"] if "/training/" in name]
    parts = [f"checkpoints/step-00000001/{name}" for name in checkpoint]
    assert [name for name in parts if not any(pattern(one).fullmatch(name) for one in training)] == []
    assert undescribed(run / "shards", "Shards") == []
    assert undescribed(run / "index", "An index") == []
    assert undescribed(tmp_path / "cache", "A cache") == []
    assert undescribed(tmp_path / "orders", "Shards") == []
    assert undescribed(tmp_path / "soup", "A model") == []
    assert undescribed(tmp_path / "indexed", "An index") == []
    assert undescribed(tmp_path / "fiftyone", "Folders for labelling tools") == []
    assert undescribed(tmp_path / "tasks", "Folders for labelling tools") == []
    assert undescribed(tmp_path / "hub", "A model", "A model for the hub") == []
    assert undescribed(tmp_path / "results", "Results") == []
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in everything if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin")]
    assert not [
        path for path in everything if path.suffix != ".tar" and path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04")
    ]
    code = (
        "import sys\nfrom safetensors.torch import load_file\n"
        f"tensors = load_file({str(run / 'model' / 'model.safetensors')!r})\n"
        "assert any(name.startswith('towers.image.encoder.') for name in tensors)\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('align', 'lightning')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
