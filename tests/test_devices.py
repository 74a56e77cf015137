"""Devices and precisions: a model in half precision stays the model of its file, and every command takes both."""

from __future__ import annotations

import importlib
import inspect
import json
import os
from dataclasses import is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import align
from align.checkpoint import save
from align.checkpoint.fingerprint import fingerprint
from align.commands import commands, main
from align.commands.devices import Computing, Placing, choose_device
from align.commands.process import count_cores
from align.data import ShardWriter
from align.data.columns.format import read_cache
from align.embedding.features import tower_weights
from align.files import read_json
from align.model import place as places
from align.preprocess import Bytes
from align.search import open_index
from align.search.local import LocalIndex
from align.values import Batch, Origin, Rows, TermInfo

ALLOW = ("--allow", "tiny,test_devices")
TRUST = ("tiny", "test_devices")


class Letters(torch.nn.Module):
    """Counts of the letters of a text, times a matrix."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.width = width
        self.net = torch.nn.Embedding(300, width)

    def forward(self, values):
        return align.Features(self.net(values).mean(1))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model with its shards, whose classes are the first letters of the texts."""
    folder = tmp_path_factory.mktemp("devices")
    torch.manual_seed(1)
    towers = {"image": align.Tower(tiny.Array((6,)), tiny.Dense()), "text": align.Tower(Bytes(context=16), Letters())}
    model = align.JointModel(towers, 4)
    model.towers["image"].mark_origin(Origin("hub/one", "a" * 64, "mit"))
    model.terms = [TermInfo(("image", "text"), "pairwise", 10.0)]
    save(model, folder / "model")
    draw = np.random.default_rng(0)
    with ShardWriter(folder / "shards", "test", per_shard=20) as writer:
        for i in range(24):
            members = {"image.npy": tiny.npy(draw.normal(size=6)), "text.txt": f"{'abc'[i % 3]} {i}".encode()}
            writer.write(f"{i:03d}", members | {"json": json.dumps({"label": "abc"[i % 3]}).encode()})
    np.save(folder / "one.npy", draw.normal(size=6).astype(np.float32))
    return folder


def load(place: Path, **options: Any) -> align.JointModel:
    return align.load(place / "model", allow=TRUST, **options)


GIVEN = {"image": list(np.random.default_rng(3).normal(size=(5, 6)).astype(np.float32)), "text": ["a", "bb", "a b c"]}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.bfloat16])
def test_a_model_in_half_precision_embeds_as_the_whole_one_nearly(place, dtype):
    whole, half = load(place), load(place, dtype=dtype)
    assert {p.dtype for p in half.parameters()} == {places.find_dtype(dtype)}
    wanted, found = whole.embed(**GIVEN), half.embed(**GIVEN)
    for m in GIVEN:
        assert (found[m].dtype, found[m].device.type) == (torch.float32, "cpu")
        assert torch.allclose(found[m].norm(dim=1), torch.ones(len(GIVEN[m])), atol=1e-6)  # units of float32
        assert float((found[m] * wanted[m]).sum(1).min()) > 0.999
        assert not torch.equal(found[m], wanted[m])


def test_float32_and_the_cpu_change_no_bit(place):
    plain, stated = load(place), load(place, device="cpu", dtype="float32")
    assert all(torch.equal(x, stated.state_dict()[name]) for name, x in plain.state_dict().items())
    wanted, found = plain.embed(**GIVEN), stated.embed(**GIVEN)
    assert all(torch.equal(found[m], wanted[m]) for m in GIVEN)


def test_preprocessing_stays_in_float32(place, monkeypatch):
    model, seen = load(place, dtype="bfloat16"), []
    tower = model.towers["image"]
    device, forward = tower.preprocess.device, tower.encoder.forward
    monkeypatch.setattr(tower.preprocess, "device", lambda x, g=None: seen.append(x.dtype) or device(x, g))
    monkeypatch.setattr(tower.encoder, "forward", lambda x: seen.append(x.dtype) or forward(x))
    model.embed(image=GIVEN["image"])
    assert seen == [torch.float32, torch.bfloat16]


def test_values_follow_the_model(place):
    model = load(place)
    model.to("meta")
    moved: Any = model._on_device({"a": torch.zeros(2), "b": torch.zeros(1, dtype=torch.long)})
    assert {x.device.type for x in moved.values()} == {"meta"}
    alone: Any = model._on_device(torch.zeros(2))
    assert alone.device.type == "meta"


def test_a_cast_model_is_the_model_of_its_file(place, tmp_path):
    whole, half = load(place), load(place, dtype="bfloat16")
    assert fingerprint(half) == fingerprint(whole) == read_json(place / "model" / "model.json")["sha256"]
    for kind in ("features", "embedding"):
        assert tower_weights(half.towers["image"], kind) == tower_weights(whole.towers["image"], kind)
    tower = half.towers["image"]
    assert tower.read_origin(tower.encoder.state_dict()) == Origin("hub/one", "a" * 64, "mit")
    save(half, tmp_path / "half")  # the file has other weights than the published ones
    assert read_json(tmp_path / "half" / "model.json")["parts"]["image.encoder"]["changed"]
    assert {x.dtype for x in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}
    before = fingerprint(half), tower_weights(half.towers["image"])
    half.towers["image"].encoder.net[0].weight.data[0, 0] += 1
    assert fingerprint(half) != before[0]
    assert tower_weights(half.towers["image"]) != before[1]


def test_a_cast_model_that_moves_is_the_same(place):
    half = load(place, dtype="bfloat16")
    for p in half.parameters():
        p.data = p.data.clone()  # other memory, as on another device
    assert fingerprint(half) == fingerprint(load(place))


def test_names_of_devices_and_precisions_are_checked_before_a_file_is_read(tmp_path):
    for device, message in (
        ("gpu", "there is no device 'gpu'; this machine has cpu"),
        ("cuda", "this machine has no device 'cuda'; it has cpu"),
        ("cuda:1", "this machine has no device 'cuda:1'; it has cpu"),
        ("mps", "this machine has no device 'mps'; it has cpu"),
        ("meta", "this machine has no device 'meta'; it has cpu"),
        ("cpu:3", "this machine has no device 'cpu:3'; it has cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            align.load(tmp_path / "nowhere", device=device)
    for dtype in ("float64", "bf16", torch.int8):
        with pytest.raises(ValueError, match=r"a model runs in float32, bfloat16, float16; '.*' is none of them"):
            align.load(tmp_path / "nowhere", dtype=dtype)


@pytest.fixture
def machine(monkeypatch):
    """A function that gives this machine so many CUDA GPUs, and mps or not."""

    def have(gpus: int, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    have(0)
    return have


def test_the_default_is_cuda_then_mps_then_the_cpu(machine, monkeypatch):
    assert str(choose_device()) == "cpu"
    machine(0, mps=True)
    assert (str(choose_device()), places.list_devices()) == ("mps", ["cpu", "mps"])
    machine(2, mps=True)
    assert str(choose_device()) == "cuda"
    assert str(choose_device("mps")) == "mps"
    assert str(choose_device("cuda:1")) == "cuda:1"
    with pytest.raises(ValueError, match="this machine has no device 'cuda:2'; it has cpu, cuda:0, cuda:1, mps"):
        choose_device("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert str(choose_device()) == str(choose_device("cuda")) == "cuda:1"
    assert str(choose_device("cuda:0")) == "cuda:0"


class Fake:
    """A float64 tensor that notes what is asked of it."""

    dtype = torch.float64

    def __init__(self, said=()):
        self.said = said

    def float(self):
        return Fake((*self.said, "float"))

    def to(self, device):
        return (*self.said, str(device))


def test_mps_gets_no_float64():
    fake: Any = Fake()
    assert places.move(fake, torch.device("mps")) == ("float", "mps")
    assert places.move(fake, torch.device("cpu")) == ("cpu",)
    seen = []
    batch = Batch(
        {"image": Rows(torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.long))}, ["a"], torch.zeros(1)
    )
    to = torch.Tensor.to
    torch.Tensor.to = lambda self, *args, **kwargs: seen.append(self.dtype) or self  # pyright: ignore
    try:
        batch.to("mps")
        batch.to(torch.device("cpu"))
    finally:
        torch.Tensor.to = to
    assert torch.float64 not in seen[: len(seen) // 2]
    assert torch.float64 in seen[len(seen) // 2 :]


def groups(name: str) -> set[Any]:
    module, function = commands[name].split(":")
    hints = get_type_hints(getattr(importlib.import_module(f"align.commands.{module}"), function))
    return {hint for hint in hints.values() if is_dataclass(hint)}


def test_every_command_that_runs_a_model_takes_a_device_and_a_precision():
    from align.commands.groups import Weights

    with_weights = {name for name in commands if Weights in groups(name)} - {"export"}  # which writes float32, on a CPU
    assert with_weights >= {"embed", "zeroshot", "evaluate", "index build", "index add", "search", "serve", "soup"}
    assert "shards filter" in with_weights
    assert all({Placing, Computing} & groups(name) for name in with_weights)
    assert [*inspect.signature(Placing).parameters] == ["device", "dtype"]


def run(capsys, *args: Any, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main([*map(str, args), *ALLOW]) == code
    return capsys.readouterr()


def test_evaluate_states_both(place, tmp_path, capsys):
    shards, out = place / "shards" / "test-*.tar", tmp_path / "e"
    options = ("--with", "retrieval", "--draws", "0", "--no-report")
    run(capsys, "evaluate", place / "model", shards, "--out", out, *options, "--dtype", "bfloat16", "--device", "cpu")
    about = read_json(out / "results.json")["protocol"]
    assert (about["device"], about["precision"]) == ("cpu", "bfloat16")
    assert about["model"] == read_json(place / "model" / "model.json")["sha256"]
    assert not about["parts"]["image.encoder"]["changed"]
    run(capsys, "evaluate", place / "model", shards, "--out", out, *options)
    about = read_json(out / "results.json")["protocol"]
    assert (about["device"], about["precision"]) == ("cpu", "float32")


def test_zeroshot_labels_in_half_precision(place, capsys):
    given = ("zeroshot", place / "model", place / "one.npy", "--modality", "image", "--classes", "a,b,c", "--json")
    rows = [json.loads(run(capsys, *given, *more)[0])["files"][0] for more in ((), ("--dtype", "bfloat16"))]
    assert rows[0]["scores"] != rows[1]["scores"]
    assert all(rows[1]["scores"][name] == pytest.approx(x, abs=0.3) for name, x in rows[0]["scores"].items())


def test_a_cache_states_the_precision_and_is_of_one(place, tmp_path, capsys):
    shards, out = place / "shards" / "test-*.tar", tmp_path / "c"
    given = ("embed", place / "model", shards, "--out", out)
    run(capsys, *given, "--name", "half", "--dtype", "bfloat16")
    run(capsys, *given, "--name", "whole")
    run(capsys, *given, "--name", "wide", "--dtype", "float32")
    run(capsys, *given, "--name", "both", "--dtype", "bfloat16", "--stored", "float32")
    sets = read_json(out / "cache.json")["sets"]
    assert {name: (s["computed"], s["columns"]["text"]["dtype"]) for name, s in sets.items()} == {
        "half": ("bfloat16", "float16"),
        "whole": ("float32", "float16"),
        "wide": ("float32", "float32"),
        "both": ("bfloat16", "float32"),
    }
    infos = read_cache(out).sets
    assert infos["half"].sha256 == infos["whole"].sha256
    assert infos["half"].columns["image"].weights == infos["whole"].columns["image"].weights
    _, said = run(capsys, *given, "--name", "half", code=1)
    assert "has the set 'half' with computed in bfloat16, not float32" in said
    old = read_json(out / "cache.json")  # of an align that had no such entry
    del old["sets"]["whole"]["computed"]
    (out / "cache.json").write_text(json.dumps(old))
    assert "is there already" in run(capsys, *given, "--name", "whole")[1]


def test_an_index_says_where_its_precision_is_not_the_model_s(place, tmp_path, capsys):
    shards, out = place / "shards" / "test-*.tar", tmp_path / "i"
    build = ("index", "build", place / "model", shards, "--out", out)
    run(capsys, *build, "--dtype", "bfloat16")
    with LocalIndex.open(out) as index:
        assert index.about["model"]["dtype"] == "bfloat16"
    ask = ("search", out, "a 3", "--of", "image", "--json")
    assert "the index was made in bfloat16 and is asked in float32" in run(capsys, *ask)[1]
    assert "made in" not in run(capsys, *ask, "--dtype", "bfloat16")[1]
    with ShardWriter(tmp_path / "more", "more") as writer:
        writer.write("new", {"image.npy": tiny.npy(np.ones(6)), "text.txt": b"c 9"})
    said = run(capsys, "index", "add", out, tmp_path / "more" / "more-*.tar")[1]
    assert f"{out} has rows made in bfloat16; new ones are made in float32" in said
    with LocalIndex.open(out) as index:
        assert index.about["model"]["dtype"] == "bfloat16 and float32"
    assert "made in bfloat16 and float32 and is asked in bfloat16" in run(capsys, *ask, "--dtype", "bfloat16")[1]
    searcher: Any = open_index(out, allow=TRUST, dtype="bfloat16", device="cpu")
    assert places.name_dtype(searcher.model) == "bfloat16"
    searcher.index.close()


def test_the_server_loads_in_the_precision(place, monkeypatch):
    from align.serve import loading

    def stub(model, searcher, limits, **more):
        return SimpleNamespace(model=model, decoders=SimpleNamespace(start=lambda: None), **more)

    monkeypatch.setattr(loading, "Loaded", stub)  # without its processes
    chosen = loading.Place(str(place / "model"), allow=TRUST, device="cpu", dtype="bfloat16")
    loaded: Any = chosen.open(None)  # pyright: ignore[reportArgumentType]
    assert places.name_dtype(loaded.model) == "bfloat16"
    assert loaded.sha256 == read_json(place / "model" / "model.json")["sha256"]


@pytest.mark.parametrize("command", ["evaluate", "embed", "zeroshot", "index build", "search", "serve"])
def test_a_device_that_is_not_there_is_one_line(place, tmp_path, capsys, command):
    more = {
        "evaluate": [place / "shards" / "test-*.tar", "--out", tmp_path / "o"],
        "embed": [place / "shards" / "test-*.tar", "--out", tmp_path / "o"],
        "zeroshot": [place / "one.npy", "--classes", "a,b"],
        "index build": [place / "shards" / "test-*.tar", "--out", tmp_path / "o"],
        "search": ["a", "--of", "image"],
        "serve": ["--port", "0"],
    }[command]
    if command == "search":
        run(capsys, "index", "build", place / "model", place / "shards" / "test-*.tar")
    _, said = run(capsys, *command.split(), place / "model", *more, "--device", "cuda:9", code=2)
    assert said.strip() == "align: --device: this machine has no device 'cuda:9'; it has cpu"
    _, said = run(capsys, *command.split(), place / "model", *more, "--dtype", "float8", code=2)
    assert said.count("\n") == 1
    assert "--dtype" in said


def test_cores_are_counted_where_the_system_tells_no_affinity(monkeypatch):
    assert count_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert count_cores() == os.cpu_count()
