"""New folders for other programs: what they may not replace or lie in, and what a kill leaves beside them."""

from __future__ import annotations

import pytest
import torch
from test_sentence_transformers_folder import ours

from align import save
from align.commands import main
from align.convert.graphs.onnx import write_onnx
from align.convert.graphs.programs import write_programs
from align.convert.hub import write_hub
from align.convert.sentences import write_sentence_transformers
from align.files import atomic_folder, atomic_write
from align.files.fresh import check_fresh, find_owner, fresh_folder
from align.search.export import export_index
from align.search.item import Item
from align.search.memory import MemoryIndex

LEFT = ".out.0123456789ab.tmp"


def write_card(model, out):
    return write_hub(model, out, licence="mit")


@pytest.mark.parametrize("write", [write_card, write_sentence_transformers, write_onnx, write_programs])
def test_a_folder_with_files_stays_as_it_is(tmp_path, write):
    """From Python too: the writers replace no folder."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="out is there and is not empty; name a new folder"):
        write(ours(), out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("to", ["hub", "sentence-transformers", "onnx", "torch-export", "open_clip"])
def test_no_export_lies_in_a_model(tmp_path, capsys, to):
    """RUN/model and a checkpoint are replaced as a whole, with all that is in them."""
    save(ours(), tmp_path / "model")
    there = sorted(path.name for path in (tmp_path / "model").iterdir())
    out = tmp_path / "model" / "deep" / "out"
    assert main(["export", str(tmp_path / "model"), str(out), "--to", to]) == 1
    said = capsys.readouterr().err
    assert f"{out} lies in {tmp_path / 'model'}, which is replaced as a whole" in said
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == there


def test_a_link_into_a_model_is_in_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    assert find_owner(tmp_path / "link" / "out") == tmp_path / "model"
    assert find_owner(tmp_path / "model") is None
    check_fresh(tmp_path / "out")


@pytest.mark.parametrize("name", [".", "..", "a/.."])
def test_a_folder_has_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="has no name of its own"), fresh_folder(name):
        pass


def index_of(rows=3):
    index = MemoryIndex()
    items = [Item(str(i), {"file": f"{i}.png"}) for i in range(rows)]
    index.add("image", torch.eye(4)[:rows], torch.arange(rows), items)
    return index


@pytest.mark.parametrize(
    "write", [lambda out: write_card(ours(), out), lambda out: export_index(index_of(), out, "numpy")]
)
def test_leftovers_of_a_killed_writer_go(tmp_path, write):
    (tmp_path / LEFT).mkdir()
    (tmp_path / ".other.0123456789ab.tmp").mkdir()
    write(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".other.0123456789ab.tmp"}


def test_an_index_is_not_exported_into_an_index(tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="which is replaced as a whole when it is written again"):
        export_index(index_of(), tmp_path / "index" / "out", "numpy")
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["index.json"]


def test_an_error_names_the_file_that_was_asked_for():
    for writing in (atomic_folder, atomic_write):
        with pytest.raises(OSError, match="/proc/out") as caught, writing("/proc/out"):
            pass
        assert caught.value.filename == "/proc/out"
