"""Files of weights: each form is read, by name or the part of one tower, and each kind of damage is one line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from align.encoders.pickles import read_pickle
from align.encoders.weights import checksum, find_weights, put_weights, read_weights

TENSORS = {"visual.a": torch.arange(6.0).view(2, 3), "visual.b": torch.ones(3), "text.a": torch.zeros(2)}


def written(folder, form):
    if form == "safetensors":
        save_file(TENSORS, folder / "model.safetensors")
        return folder / "model.safetensors"
    if form == "shards":
        parts = {f"model-0000{i}.safetensors": {name: TENSORS[name]} for i, name in enumerate(TENSORS)}
        for file, tensors in parts.items():
            save_file(tensors, folder / file)
        index = {"weight_map": {name: file for file, tensors in parts.items() for name in tensors}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder / "model.safetensors.index.json"
    content = {"plain": TENSORS, "nested": {"epoch": 3, "state_dict": TENSORS}}.get(form)
    if form == "parallel":
        content = {f"module.{name}": x for name, x in TENSORS.items()}
    path = folder / "pytorch_model.bin"
    torch.save(content or TENSORS, path, _use_new_zipfile_serialization=form != "old")
    return path


@pytest.mark.parametrize("form", ["safetensors", "shards", "plain", "nested", "parallel", "old"])
def test_every_form_is_read(tmp_path, form):
    path = written(tmp_path, form)
    assert find_weights(tmp_path) == path
    whole = read_weights(path)
    assert sorted(whole) == sorted(TENSORS)
    assert all(torch.equal(x, TENSORS[name]) for name, x in whole.items())
    assert sorted(read_weights(path, "visual.")) == ["a", "b"]
    if form != "shards":
        assert checksum(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_checksum_of_shards_is_that_of_all(tmp_path):
    path = written(tmp_path, "shards")
    before = checksum(path)
    save_file({"text.a": torch.ones(2)}, tmp_path / "model-00002.safetensors")
    assert checksum(path) != before


@pytest.mark.parametrize("form", ["safetensors", "shards", "plain", "old"])
def test_a_truncated_file_is_one_line(tmp_path, form):
    path = written(tmp_path, form)
    cut = sorted(tmp_path.glob("model-*"))[0] if form == "shards" else path
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged or") as caught:
        read_weights(path)
    assert str(cut) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_pickle_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "x.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"a": Evil()}, tmp_path / "y.pt")
    for name in ("x.pt", "y.pt"):
        with pytest.raises(ValueError, match="holds more than tensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_weights(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights in .*model\.safetensors"):
        find_weights(tmp_path)
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(ValueError, match="no tensors by name, but a list"):
        read_weights(tmp_path / "x.pt")
    (tmp_path / "x.index.json").write_text('{"weight_map": {"a": "../outside.safetensors"}}')
    with pytest.raises(FileNotFoundError, match="not beside it"):
        read_weights(tmp_path / "x.index.json")
    (tmp_path / "x.index.json").write_text("[]")
    with pytest.raises(ValueError, match="no index of weights"):
        read_weights(tmp_path / "x.index.json")


@pytest.mark.skipif(sys.platform == "darwin", reason="paths are UTF-8 there")
def test_a_path_that_is_no_utf8(tmp_path):
    for name in ("x.pt", "x.safetensors"):
        (save_file if name.endswith("s") else torch.save)({"a": torch.ones(2)}, tmp_path / name)
        odd = (tmp_path / name).rename(tmp_path / os.fsdecode(b"\xff" + name.encode()))
        assert torch.equal(read_weights(odd)["a"], torch.ones(2))


def test_compressed_tensors_are_refused(tmp_path):
    """Mapped from the disk, the compressed bytes would be the weights."""
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "x.pt")
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as whole,
        zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    for read in (read_weights, read_pickle):
        with pytest.raises(
            ValueError, match=r"y\.pt is damaged or .* is compressed, and torch stores parts as they are"
        ):
            read(tmp_path / "y.pt")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.ones(1).expand(10**9, 10**9), "too few for a (1000000000, 1000000000)"),
        (torch.ones(3, 0), "weights of no numbers (a (3, 0))"),
        (torch.ones(3, device="meta"), "no plain numbers (a is meta)"),
        (torch.eye(3).to_sparse(), "no plain numbers (a is sparse_coo)"),
        (torch.ones(3, dtype=torch.complex64), "no plain numbers (a is complex)"),
    ],
)
def test_tensors_that_a_file_cannot_hold(tmp_path, x, said, new):
    torch.save({"a": x}, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=re.escape(said)):
        read_weights(tmp_path / "x.pt")


def test_a_module_without_memory_gets_it_when_all_fits():
    with torch.device("meta"):
        module, huge = torch.nn.Linear(2, 3), torch.nn.Linear(10**9, 10**9)
    with pytest.raises(ValueError, match=r"weight \(3, 2\) instead of \(1000000000, 1000000000\)"):
        put_weights(huge, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "F")
    assert huge.weight.is_meta
    put_weights(module, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "F")
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 3), 2.0))


def test_every_name_is_checked():
    module = torch.nn.Linear(2, 3)
    put_weights(module, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "F")
    assert module.weight.sum() == 6
    with pytest.raises(ValueError, match="F does not fit the model: 1 missing: bias; 2 unknown: x, y"):
        put_weights(module, {"weight": torch.ones(3, 2), "x": torch.ones(1), "y": torch.ones(1)}, "F")
    with pytest.raises(ValueError, match=r"1 tensors of another shape: weight \(2, 3\) instead of \(3, 2\)"):
        put_weights(module, {"weight": torch.ones(2, 3), "bias": torch.zeros(3)}, "F")
    put_weights(module, {"weight": torch.zeros(3, 2), "old": torch.ones(1)}, "F", skip=["bias", "old"])
    assert module.weight.sum() == 0
    many = {f"k{i}": torch.ones(1) for i in range(30)}
    with pytest.raises(ValueError, match="and 18 more"):
        put_weights(module, many, "F", skip=["weight", "bias"])
    with pytest.raises(ValueError, match=r"x{200}…$"):
        put_weights(module, {"x" * 10**6: torch.ones(1)}, "F", skip=["weight", "bias"])
    with pytest.raises(ValueError, match="F has 1 tensors of whole numbers: weight uint8"):
        put_weights(module, {"weight": torch.ones(3, 2, dtype=torch.uint8), "bias": torch.zeros(3)}, "F")


def test_a_file_is_hashed_again_only_where_it_has_changed(tmp_path, monkeypatch):
    path, read = written(tmp_path, "safetensors"), []
    monkeypatch.setattr("align.encoders.weights.sha256", lambda file: read.append(file) or str(len(read)))
    assert checksum(path) == checksum(path) == "1"  # both towers of a checkpoint state it
    save_file({"text.a": torch.ones(3)}, path)
    assert checksum(path) == "2"
