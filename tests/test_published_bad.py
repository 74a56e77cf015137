"""Bad sources of every published layout: one line that says why, exit code 1, and nothing half written."""

import json
import os
import pickle
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from few import few
from published_sources import make_sources
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import align
from align.checkpoint.source import cached_folder
from align.commands import main
from align.encoders.weights import read_keys
from align.published import LAYOUTS, likely_layouts

TOKENS = {"open_clip", "clip-hf", "siglip-hf", "clap-hf", "pe-av", "hf-text", "laion-clap"}
NAMELESS = {"openshape", "ulip2", "uni3d"}  # their encoders name no file
FILES = {"efficientnet-lite", "imagebind", "laion-clap"} | NAMELESS
FOLDERS = [layout for layout in LAYOUTS if layout not in FILES]
RING = list(zip(LAYOUTS, [*list(LAYOUTS)[1:], *list(LAYOUTS)[:1]], strict=True))
"""Each layout and the next one. A sweep tries every pair."""
PAIRS = [
    pytest.param(named, held, marks=[] if (named, held) in RING else pytest.mark.sweep)
    for named in LAYOUTS
    for held in LAYOUTS
    if named != held
]


def long(*values):
    """Return parameters that only a sweep tries."""
    return [pytest.param(value, marks=pytest.mark.sweep) for value in values]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    pytest.importorskip("transformers")
    made = make_sources(tmp_path_factory.mktemp("sources"))
    assert set(made) == set(LAYOUTS)
    return made


@pytest.fixture(scope="module")
def models(sources, tmp_path_factory):
    """Model folder of a layout, imported once."""
    root = tmp_path_factory.mktemp("models")

    def get(layout):
        if not (root / layout).exists():
            align.checkpoint.save(load(layout, sources[layout].source, sources), root / layout)
        return root / layout

    return get


@pytest.fixture(autouse=True)
def _batch_norm_is_frozen():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*has batch normalisation")
        yield


def load(layout, source, sources):
    return align.published.load_published(layout, str(source), beside=sources[layout].beside)


@pytest.fixture
def refused(sources, tmp_path, capsys, monkeypatch):
    """``refused(layout, source)`` is the one line of ``align import``. The cache and the folder OUT stay empty."""
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))

    def run(layout, source):
        others = sources[layout].beside
        beside = ["--beside", ",".join(others)] if others else []
        assert main(["import", layout, str(source), str(tmp_path / "out"), *beside]) == 1
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert not [path for path in tmp_path.iterdir() if "out" in path.name]
        assert not (tmp_path / "cache").exists()
        return printed.err

    return run


@pytest.fixture
def copied(sources, tmp_path):
    """``copied(layout)`` is a source that may be damaged, and the file of its weights."""

    def copy(layout):
        source, weights = Path(sources[layout].source), sources[layout].weights
        place = tmp_path / "source"
        if source.is_file():
            place.mkdir()
            for beside in source.parent.glob("tokenizer*.json"):
                shutil.copy(beside, place)
            return Path(shutil.copy(source, place)), place / weights.name
        shutil.copytree(source, place)
        return place, place / weights.name

    return copy


def read(file):
    return load_file(file) if file.suffix == ".safetensors" else torch.load(file)


def write(tensors, file):
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)


def pick(tensors):
    """Return the name of a matrix in a block of an encoder."""
    apart = ("decoder", "classifier", "fc.", "head")
    names = (k for k in sorted(tensors) if tensors[k].ndim >= 2 and re.search(r"\.\d+\.", k))
    return next(k for k in names if not any(part in k for part in apart) and "_blocks.0." not in k)


def test_names_of_tensors_look_like_one_layout(sources):
    for layout, made in sources.items():
        assert likely_layouts(read_keys(made.weights)) == [layout]


@pytest.mark.parametrize(("named", "held"), PAIRS)
def test_another_layout_is_named(sources, refused, named, held):
    line = refused(named, sources[held].source)
    assert f"holds no weights of the layout {named}; its names look like {held} (" in line


@pytest.mark.parametrize("layout", few(LAYOUTS, 5))
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_truncated_file_of_weights(copied, refused, layout, share):
    source, weights = copied(layout)
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    assert f"{weights} is damaged or " in refused(layout, source)


@pytest.mark.parametrize("layout", few(FOLDERS, 4))
@pytest.mark.parametrize("content", [b'{"a": ', b"[1]", *long(b"\xff\xfe\x00", b"", b"null")])
def test_a_damaged_file_beside_the_weights(copied, refused, layout, content):
    source, _ = copied(layout)
    for file in sorted(source.glob("*.json")):
        if file.name == "generation_config.json":
            continue
        whole = file.read_bytes()
        file.write_bytes(content)
        assert str(source) in refused(layout, source)
        file.write_bytes(whole)


@pytest.mark.parametrize("layout", few(LAYOUTS, 5))
def test_missing_and_unknown_names_and_other_shapes_are_listed(copied, refused, layout):
    source, weights = copied(layout)
    whole = read(weights)
    name = pick(whole)
    renamed = layout in ("efficientnet-lite", "ast", "laion-clap")
    end = "weight" if renamed else ".".join(name.split(".")[-2:])
    without = {k: x for k, x in whole.items() if k != name}
    for tensors in (without, whole | {f"{name}.odd": torch.ones(2)}, whole | {name: torch.ones(3, 5)}):
        write(tensors, weights)
        assert end in refused(layout, source)


@pytest.mark.parametrize("layout", few(LAYOUTS, 5))
@pytest.mark.parametrize("odd", [float("nan"), *long(float("inf"))])
def test_weights_that_mean_nothing(copied, refused, layout, odd):
    source, weights = copied(layout)
    whole = read(weights)
    name = pick(whole)
    x = whole[name].clone()
    x.view(-1)[0] = odd
    write(whole | {name: x}, weights)
    assert "holds NaN or infinite weights, in towers." in refused(layout, source)


@pytest.mark.parametrize("layout", few(LAYOUTS, 5))
@pytest.mark.parametrize("dtype", [torch.int8, *long(torch.float8_e4m3fn)])
def test_quantised_weights(copied, refused, layout, dtype):
    source, weights = copied(layout)
    whole = read(weights)
    name = pick(whole)
    write(whole | {name: whole[name].to(dtype)}, weights)
    assert f"holds quantised weights ({name} is {str(dtype)[6:]})" in refused(layout, source)


@pytest.mark.parametrize("layout", ["open_clip", "clip-hf", "siglip-hf", "clap-hf", "pe-av", "laion-clap", "ulip2"])
def test_a_temperature_that_is_none(copied, refused, layout):
    source, weights = copied(layout)
    whole = read(weights)
    name = next(k for k in whole if "logit_scale" in k and not k.endswith("_t"))
    for odd, reason in ((torch.ones(2), "another shape"), (torch.tensor(float("nan")), "NaN or infinite")):
        write(whole | {name: odd}, weights)
        assert reason in refused(layout, source)


@pytest.mark.parametrize("layout", ["open_clip", "hf-text", "ast", "timm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(copied, tmp_path, layout, dtype):
    source, weights = copied(layout)
    whole = {k: x.to(dtype) if x.is_floating_point() else x for k, x in read(weights).items()}
    write(whole, weights)
    model = align.published.load_published(layout, str(source))
    write({k: x.float() if x.is_floating_point() else x for k, x in whole.items()}, weights)
    state = align.published.load_published(layout, str(source)).state_dict()
    assert {x.dtype for x in model.parameters()} == {torch.float32}
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


WIDTHS = {  # layout -> a tensor that states the width of the tower, and a shape of another width
    "imagebind": ("modality_heads.audio.2.weight", lambda shape: (shape[0], 768_000)),
    "laion-clap": ("audio_branch.patch_embed.proj.weight", lambda shape: (64_000, *shape[1:])),
    "openshape": ("ppat.cls_token", lambda shape: (640_000,)),
    "ulip2": ("point_encoder.cls_token", lambda shape: (1, 1, 640_000)),
    "uni3d": ("point_encoder.trans2embed.weight", lambda shape: (shape[0], 64_000)),
    "ebind": ("projectors.audio.net.0.weight", lambda shape: (64_000, shape[1])),
}


@pytest.mark.parametrize("layout", WIDTHS)
def test_a_size_that_one_tensor_states_costs_no_memory(copied, refused, layout):
    """A model of that size would take more memory than there is."""
    source, weights = copied(layout)
    name, change = WIDTHS[layout]
    whole = read(weights)
    write(whole | {name: torch.ones(change(whole[name].shape))}, weights)
    assert "another shape" in refused(layout, source)


def test_a_name_with_line_ends_is_said_in_one_line(copied, refused):
    source, weights = copied("ulip2")
    write(read(weights) | {"point_encoder.a\n\x1b[31mred": torch.ones(2)}, weights)
    assert "1 unknown: point_encoder.a \\x1b[31mred\n" in refused("ulip2", source)


class Evil:
    def __reduce__(self):
        return exec, ("open('ran', 'w')",)


@pytest.mark.parametrize("layout", few(LAYOUTS, 5))
@pytest.mark.parametrize(
    "content",
    [{"code": Evil()}, {"state_dict": {}}, *long([1, 2], {1: torch.ones(2)})],
    ids=["code", "empty", "list", "1"],
)
def test_pickles_run_no_code_and_hold_tensors_by_name(copied, refused, tmp_path, monkeypatch, layout, content):
    monkeypatch.chdir(tmp_path)
    source, weights = copied(layout)
    if "code" in content:
        content = {**{name: torch.zeros(()) for name in read(weights)}, **content}
    weights.unlink()
    legacy = "open_clip_pytorch_model.bin" if layout == "open_clip" else "pytorch_model.bin"
    weights = weights if weights.suffix in (".pth", ".pt") else source / legacy
    torch.save(content, weights)
    assert f"{weights} " in refused(layout, source)
    weights.write_bytes(b"PK\x03\x04" + bytes(4_000))  # begins as a file of torch and is cut
    assert "failed finding central directory.)" in refused(layout, source)
    weights.write_bytes(pickle.dumps(Evil()))
    assert "is damaged or holds more than tensors" in refused(layout, source)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("layout", [layout for layout in FOLDERS if layout != "open_clip"])
@pytest.mark.parametrize("index", [{"a": "../x.safetensors"}, {}, *long({"a": "/etc/passwd"}, ["a"], {"a": 5})])
def test_an_index_names_files_beside_it_alone(copied, refused, layout, index):
    source, weights = copied(layout)
    weights.unlink()
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "model.safetensors" in refused(layout, source)


@pytest.mark.parametrize("layout", few(FOLDERS, 4))
def test_code_that_a_folder_names_is_not_run(copied, sources, tmp_path, monkeypatch, layout):
    monkeypatch.chdir(tmp_path)
    source, _ = copied(layout)
    (source / "evil.py").write_text("open('ran', 'w')\n")
    autos = ("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoProcessor", "AutoFeatureExtractor")
    named = {"auto_map": dict.fromkeys(autos, "evil.X") | {"AutoTokenizer": ["evil.X", "evil.X"]}}
    named |= {"trust_remote_code": True, "_attn_implementation": "owner/kernel"}
    for file in source.glob("*config.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | named))
    load(layout, source, sources)
    assert not (tmp_path / "ran").exists()


def hostile(config, sources, evil):
    """Yield configs of a model folder that ask for other files, or for the hub."""
    for name, tower in config["towers"].items():
        for key, values in {"encoder": ("pretrained", "name"), "preprocess": ("tokenizer",)}.items():
            arguments = (tower[key] or {}).get("init_args", {})  # a shared encoder stands at its lender
            if values[0] not in arguments:
                continue
            changes = [
                {values[0]: x} for x in (str(evil), "hf-hub:owner/name", "/etc/passwd", sources["hf-text"].source)
            ]
            if key == "encoder":
                changes += [{"name": x, "config": None} for x in ("hf-hub:owner/name", f"local-dir:{evil.parent}")]
                changes += [{"name": "hf-hub:owner/name", "pretrained": True}]
            for change in changes:
                if "config" in arguments or "config" not in change or change["name"].startswith(("hf-hub", "local")):
                    given = {k: x for k, x in change.items() if k in arguments}
                    if not given:
                        continue
                    towers = {**config["towers"], name: {**tower, key: {**tower[key], "init_args": arguments | given}}}
                    yield {**config, "towers": towers}


@pytest.mark.parametrize("layout", few(LAYOUTS, 5))
@pytest.mark.parametrize("all_ways", [False, *long(True)])
def test_a_model_folder_asks_for_nothing_outside_of_it(sources, models, tmp_path, monkeypatch, layout, all_ways):
    def unreachable(*_):
        raise AssertionError("asked the hub")

    monkeypatch.setattr("align.files.hub._ask", unreachable)
    folder = shutil.copytree(models(layout), tmp_path / "model")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    torch.save({"code": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "test_vit").mkdir()  # a folder with the name of an architecture is another thing
    monkeypatch.chdir(tmp_path)
    assert align.load(folder).modalities
    tried = list(hostile(config["model"], sources, tmp_path / "evil.pt"))
    assert len(tried) >= 7 or layout in NAMELESS
    some = max(1, len(tried) // 4)
    for model in tried if all_ways else tried[::some]:  # four of them, or five
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"model": model}))
        with pytest.raises(ValueError, match=r"a model folder is read alone|describes no model|is no name on the hub"):
            align.load(folder)
    assert not (tmp_path / "ran").exists()


def test_timms_arguments_name_no_weights(models, tmp_path):
    folder = shutil.copytree(models("timm"), tmp_path / "model")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for key in ("checkpoint_path", "pretrained", "pretrained_cfg", "cache_dir"):
        config["model"]["towers"]["image"]["encoder"]["init_args"]["arguments"] = {key: "evil.pt"}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(ValueError, match=f"{key} is no argument of timm's architectures"):
            align.load(folder)


def test_parts_of_a_sentence_model_lie_in_its_folder(copied, refused):
    source, _ = copied("hf-text")
    for parts, reason in (
        ([{"type": "x.Transformer", "path": "../.."}], "names the part ../.., which is not beside it"),
        ([{"type": "x.Transformer", "path": "/etc"}], "names the part /etc, which is not beside it"),
        ({"type": "x"}, "is no list of parts with a type and a path"),
        ([1], "is no list of parts with a type and a path"),
    ):
        (source / "modules.json").write_text(json.dumps(parts))
        assert reason in refused("hf-text", source)


@pytest.mark.parametrize("name", ["with space", "a:b@c", "ünï—名", "-dash"])
@pytest.mark.parametrize(
    "layout", ["open_clip", "timm", *(pytest.param(x, marks=pytest.mark.sweep) for x in ("ast", "efficientnet-lite"))]
)
def test_names_of_sources(copied, tmp_path, monkeypatch, layout, name):
    source, _ = copied(layout)
    moved = source.rename(tmp_path / f"{name}{source.suffix}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    end = os.sep if moved.is_dir() else ""
    for said in (f"{moved}{end}", moved.name, f"~/{moved.name}"):
        assert align.published.load_published(layout, said).modalities


def test_a_full_disk_leaves_nothing(sources, refused, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    assert "model.safetensors cannot be written: No space left on device" in refused("timm", sources["timm"].source)


def test_what_stands_at_out_is_not_lost(sources, models, tmp_path, capsys):
    folder = shutil.copytree(models("timm"), tmp_path / "model")
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "file").write_text("mine")
    for out in ("model", "other", "file"):
        assert main(["import", "timm", sources["timm"].source, str(tmp_path / out)]) == 1
    said = capsys.readouterr().err
    assert "holds notes.txt beside a model, which would be lost; name a new folder" in said
    assert said.count("is there and is no model folder; name a new one") == 2
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    (tmp_path / "link").symlink_to(folder)
    assert main(["import", "hf-text", sources["hf-text"].source, str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert align.load(folder).modalities == ["text"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "model", "other"]


def test_what_a_killed_import_left_in_the_cache_is_removed(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))
    place = cached_folder("timm", sources["timm"].source)
    old, new = (place.with_name(f".{place.name}.{mark}.tmp") for mark in ("a", "b"))
    for left in (old, new):
        left.mkdir(parents=True)
        (left / "model.safetensors").write_text("half")
    for path in (old / "model.safetensors", old):
        os.utime(path, (0, 0))
    assert align.load(f"timm:{sources['timm'].source}").modalities == ["image"]
    assert sorted(path.name for path in place.parent.iterdir()) == [new.name, place.name]
