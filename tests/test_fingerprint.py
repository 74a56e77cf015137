"""A model's fingerprint: the checksum of its file, made once, and never that of earlier weights."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
import tiny_space
import torch
from safetensors.torch import load_file, save_file

import align.checkpoint.fingerprint as module
from align.checkpoint import load, save
from align.checkpoint.fingerprint import fingerprint
from align.commands import main
from align.files import read_json, write_json

trust = {"allow": ("tiny_space",)}


@pytest.fixture
def hashed(monkeypatch):
    """The names of the weight files, and "model" for a model in memory, in the order in which they are hashed."""
    calls = []
    file_digest, sha256 = hashlib.file_digest, hashlib.sha256

    def of_file(file, name):
        if str(file.name).endswith("model.safetensors"):
            calls.append("file")
        return file_digest(file, name)

    def of_bytes(content=b"", **more):
        calls.append("model")
        return sha256(content, **more)

    monkeypatch.setattr(hashlib, "file_digest", of_file)
    monkeypatch.setattr(module, "hashlib", SimpleNamespace(sha256=of_bytes))
    return calls


def anew(model) -> str:
    """The fingerprint of a model that nothing is remembered of."""
    module._known.pop(model, None)
    return fingerprint(model)


@pytest.fixture
def folder(tmp_path):
    return save(tiny_space.model("pairwise"), tmp_path / "model")


def test_a_loaded_model_is_hashed_once(folder, hashed):
    model = load(folder, **trust)
    assert fingerprint(model) == fingerprint(model) == read_json(folder / "model.json")["sha256"]
    assert hashed == ["file"]
    assert anew(model) == fingerprint(model) == read_json(folder / "model.json")["sha256"]
    assert hashed == ["file", "model"]


def test_a_query_hashes_the_weights_once(folder, tmp_path, hashed, capsys):
    tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", tiny_space.world())
    assert main(["index", "build", str(folder), str(tmp_path / "s" / "test-*.tar"), "--allow", "tiny_space"]) == 0
    assert hashed.count("file") == 1
    written, hashed[:] = list(hashed), []
    assert main(["search", str(folder), "ccc", "--of", "image", "--allow", "tiny_space"]) == 0
    assert hashed.count("file") == 1
    assert "model" not in [*written, *hashed]


def step(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()


def permute(model):
    weight = model.towers["image"].encoder.mix.data
    model.towers["image"].encoder.mix.data = weight.flip(0)


def swap_in_place(model):
    with torch.no_grad():
        model.towers["image"].encoder.mix.copy_(model.towers["image"].encoder.mix.flip(0))


def half(model):
    model.to(torch.float16)


CHANGES = {
    "a training step": step,
    "load_state_dict": lambda model: model.load_state_dict({k: x + 1 for k, x in model.state_dict().items()}),
    "in place": lambda model: model.towers["image"].encoder.gain.detach().add_(1),
    "through .data": lambda model: model.towers["image"].encoder.gain.data.add_(1),
    "through numpy": lambda model: model.towers["image"].encoder.gain.detach().numpy().__setitem__(0, 7.0),
    "other .data": lambda model: setattr(model.towers["image"].encoder.gain, "data", torch.full((1,), 3.0)),
    "an order of .data": permute,
    "an order in place": swap_in_place,
    "another dtype": half,
    "a buffer": lambda model: model.towers["text"].encoder.count.add_(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_hashed_anew(tmp_path, change):
    model = tiny_space.model("pairwise")
    model.towers["image"].encoder.mix = torch.nn.Parameter(torch.arange(6.0))
    model.towers["text"].encoder.register_buffer("count", torch.zeros((), dtype=torch.long))
    before = fingerprint(model)
    CHANGES[change](model)
    after = fingerprint(model)
    assert after != before
    assert after == anew(model)


def test_a_change_of_a_loaded_model_is_seen(folder):
    model = load(folder, **trust)
    before = fingerprint(model)
    step(model)
    assert fingerprint(model) != before
    assert fingerprint(model) == anew(model)


def test_weights_that_loading_casts_have_a_fingerprint_of_their_own(folder):
    """As a model that is saved again would have it."""
    path = folder / "model.safetensors"
    save_file({k: x.half() for k, x in load_file(path).items()}, path)
    stated = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(folder / "model.json", read_json(folder / "model.json") | {"sha256": stated})
    model = load(folder, **trust)
    assert fingerprint(model) == anew(model) != stated


@pytest.mark.parametrize("places", [(0, 1), (0, 512), (3, 1029), (1100, 1101)])
def test_weights_that_change_places_unseen_by_torch_change_the_fingerprint(places):
    model = tiny_space.model("pairwise")
    model.register_parameter("more", torch.nn.Parameter(torch.randn(1200)))
    before = fingerprint(model)
    values, (a, b) = model.get_parameter("more").detach().numpy(), places
    values[[a, b]] = values[[b, a]]
    assert fingerprint(model) == anew(model) != before
