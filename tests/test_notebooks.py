"""The notebooks run from top to bottom on the quickstart's model."""

import re
import shutil
from itertools import accumulate, pairwise
from pathlib import Path

import nbformat
import pytest
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


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Cells of each notebook, all executed in one kernel, whose imports take seconds. Each begins without names."""
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("books")
    (folder / "runs").mkdir()
    (folder / "runs" / "quickstart").symlink_to(small_run())
    for file in (books[0].parent / "shaken.py", books[0].parents[1] / "configs" / "bind.yaml"):
        shutil.copy(file, folder)
    read = [nbformat.read(book, as_version=4) for book in books]
    ends = [0, *accumulate(len(book.cells) + 1 for book in read)]
    for book in read:
        for cell in book.cells:  # fewer objects and steps than a reader has
            cell.source = cell.source.replace(
                "objects, tests, steps = 3000, 500, 400", "objects, tests, steps = 130, 24, 2"
            )
    forget = "get_ipython().run_line_magic('reset', '-f')"
    cells = [cell for book in read for cell in (nbformat.v4.new_code_cell(forget), *book.cells)]
    whole = nbformat.v4.new_notebook(cells=cells, metadata=read[0].metadata)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(whole, timeout=120, kernel_name="python3", resources=resources).execute()
    return {book.stem: whole.cells[i:j] for book, (i, j) in zip(books, pairwise(ends), strict=True)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jupyter_client's own
@pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the kernel's sockets close with the process
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("book", [book.stem for book in books])
def test_a_notebook_runs(book, executed):
    kinds = [key for cell in executed[book] for out in cell.get("outputs", []) for key in out.get("data", {})]
    assert "image/png" in kinds
    assert "text/html" in kinds  # the sound
