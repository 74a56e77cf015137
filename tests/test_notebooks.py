"""The notebooks run from top to bottom on the quickstart's model."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from few import only
from quick import small_run

books = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_four():
    assert [book.stem for book in books] == ["bind_a_modality", "demo", "retrieval", "zero_shot"]


def test_a_modality_of_ones_own_is_a_file_of_fifty_lines():
    assert len((books[0].parent / "shaken.py").read_text(encoding="utf-8").splitlines()) <= 50


def test_a_command_of_a_notebook_that_fails_ends_it():
    for book in books:
        cells = nbformat.read(book, as_version=4).cells
        lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
        calls = [line for line in lines if re.match(r"(assert )?main\(", line)]
        assert all(line.startswith("assert ") and line.endswith(" == 0") for line in calls), book


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jupyter_client's own
@pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the kernel's sockets close with the process
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("book", only(books, "retrieval"), ids=lambda p: p.stem)
def test_a_notebook_runs(book, tmp_path):
    from nbclient import NotebookClient

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(small_run())
    for file in (book, book.parent / "shaken.py", book.parents[1] / "configs" / "bind.yaml"):
        shutil.copy(file, tmp_path)
    read = nbformat.read(tmp_path / book.name, as_version=4)
    for cell in read.cells:  # fewer objects and steps than a reader has
        cell.source = cell.source.replace(
            "objects, tests, steps = 3000, 500, 400", "objects, tests, steps = 130, 24, 2"
        )
    NotebookClient(read, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [key for cell in read.cells for out in cell.get("outputs", []) for key in out.get("data", {})]
    assert "image/png" in kinds
    assert "text/html" in kinds  # the sound
