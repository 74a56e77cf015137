"""Bad sources of clip-hf, siglip-hf and hf-text: one line, exit code 1, nothing half written."""

import json
import re
import shutil
import sys
from pathlib import Path

import hf_models
import hf_tokenizers
import pytest
import torch
from safetensors.torch import load_file, save_file

from align.commands import main
from align.published import LAYOUTS, TRANSFORMERS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    made = {"clip-hf": hf_models.clip(root / "clip"), "siglip-hf": hf_models.siglip(root / "siglip")}
    return made | {"hf-text": hf_models.text(root / "bert", "bert")}


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """``refused(layout, source)`` is the one line of ``align import``, and of ``align zeroshot``, which agree."""
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))

    def run(*command):
        assert main(list(command)) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err

    def both(layout, source):
        line = run("import", layout, str(source), str(tmp_path / "out"))
        other = run("zeroshot", f"{layout}:{source}", "--classes", "cat,dog", str(tmp_path / "x.png"))
        assert line == other
        left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert left == []
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]
        return line

    return both


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "source")


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("named", ["clip-hf", "siglip-hf", "hf-text"])
@pytest.mark.parametrize("held", ["clip-hf", "siglip-hf", "hf-text"])
def test_another_layout_is_named(folders, refused, named, held):
    if named != held:
        line = refused(named, folders[held])
        assert f"holds no weights of the layout {named}; its names look like {held} (" in line


@pytest.mark.parametrize("layout", ["clip-hf", "siglip-hf", "hf-text"])
def test_a_truncated_file(folders, refused, tmp_path, layout):
    source = copied(folders[layout], tmp_path)
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "model.safetensors is damaged or no safetensors file" in refused(layout, source)


@pytest.mark.parametrize("layout", ["clip-hf", "siglip-hf", "hf-text"])
def test_a_hub_id_offline(refused, layout):
    line = refused(layout, "owner/none")
    assert "owner/none is not in the cache, and the hub cannot be reached: go online once, or give a folder" in line
    assert line == refused(layout, "hf-hub:owner/none")


@pytest.mark.parametrize("layout", ["clip-hf", "siglip-hf", "hf-text"])
def test_missing_and_unknown_names(folders, refused, tmp_path, layout):
    source = copied(folders[layout], tmp_path)
    tensors = load_file(source / "model.safetensors")
    lost = next(name for name in tensors if name.endswith(("layer_norm1.bias", "output.dense.bias")))
    part = lost.split(".")[0]
    tensors[f"{part}.odd"] = tensors.pop(lost)
    save_file(tensors, source / "model.safetensors")
    line = refused(layout, source)
    assert "1 missing: " in line
    assert lost.removeprefix("text_model.").removeprefix("vision_model.") in line
    assert "1 unknown: " in line
    assert "odd" in line


def test_a_legacy_file_is_read_as_tensors_only(folders, refused, tmp_path, capsys):
    source = copied(folders["clip-hf"], tmp_path)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save(tensors, source / "pytorch_model.bin")
    assert main(["import", "clip-hf", str(source), str(tmp_path / "legacy")]) == 0
    capsys.readouterr()
    torch.save({**tensors, "code": Evil()}, source / "pytorch_model.bin")
    assert "pytorch_model.bin is damaged or holds more than tensors" in refused("clip-hf", source)
    assert not (tmp_path / "ran").exists()


class Evil:
    def __reduce__(self):
        return exec, ("open('ran', 'w')",)


@pytest.mark.parametrize("layout", ["clip-hf", "siglip-hf"])
def test_an_image_processor_that_does_not_fit_the_encoder(folders, refused, tmp_path, layout):
    source = copied(folders[layout], tmp_path)
    stated = json.loads((source / "processor_config.json").read_text())
    picture = stated["image_processor"]
    for sides in ("size", "crop_size"):
        if picture.get(sides):
            picture[sides] = dict.fromkeys(picture[sides], 64)
    edit(source / "processor_config.json", image_processor=picture)
    assert "makes pictures of (64, 64) pixels, the model takes" in refused(layout, source)
    picture |= {"do_center_crop": False, "size": {"shortest_edge": 64}}
    edit(source / "processor_config.json", image_processor=picture)
    assert "makes pictures of any pixels, the model takes" in refused(layout, source)
    (source / "processor_config.json").unlink()
    assert "holds no image processor that transformers reads" in refused(layout, source)


@pytest.mark.parametrize("layout", ["clip-hf", "siglip-hf", "hf-text"])
def test_a_tokenizer_that_does_not_fit_the_text_tower(folders, refused, tmp_path, layout):
    source = copied(folders[layout], tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.txt"):
        (source / name).unlink(missing_ok=True)
    assert "holds no tokenizer that transformers reads" in refused(layout, source)
    tokens = hf_tokenizers.clip(tmp_path / "tokens") if layout != "clip-hf" else larger_clip(tmp_path / "tokens")
    for path in tokens.iterdir():
        shutil.copy(path, source / path.name)
    line = refused(layout, source)
    assert "HFTokens gives vocabulary " in line
    assert "takes at most " in line


def larger_clip(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(hf_tokenizers.clip(folder)))
    tokenizer.add_tokens(["zzzz"])
    tokenizer.save_pretrained(folder)
    return folder


def test_a_config_that_is_none(folders, refused, tmp_path):
    source = copied(folders["hf-text"], tmp_path)
    edit(source / "config.json", model_type="bertt")
    assert "transformers has no model_type 'bertt'; did you mean 'bert'?" in refused("hf-text", source)
    (source / "config.json").write_text("{")
    assert "config.json is damaged" in refused("hf-text", source)
    (source / "config.json").unlink()
    assert "has no config.json: it is no model as transformers saves it" in refused("hf-text", source)
    assert "no file or folder" in refused("hf-text", "./none")


def test_the_extra_is_named_where_it_is_absent(folders, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "needs transformers; pip install" in refused("clip-hf", folders["clip-hf"])
    for layout in TRANSFORMERS:  # before anything is downloaded
        assert "needs transformers; pip install" in refused(layout, "owner/name")


def test_every_list_of_layouts_is_whole(capsys):
    root = Path(__file__).parent.parent
    assert main(["import", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    listed = shown.split("positional arguments: layout ")[1].split(" source ")[0]
    assert re.split(r", | or ", listed) == list(LAYOUTS)
    page = (root / "docs" / "published-models.md").read_text(encoding="utf-8")
    table = page.split("| layout |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert [name for row in rows for name in re.findall("`(.+?)`", row)] == list(LAYOUTS)
    page += (root / "docs" / "ported-towers.md").read_text(encoding="utf-8")
    assert all(f"align import {name} " in page for name in LAYOUTS)


def test_a_model_that_forgot_its_source_or_its_layout(capsys):
    """As who types the library's own name would."""
    for name, says in (("open_clip", "is open_clip:SOURCE"), ("ViT-B-32", "and no LAYOUT:SOURCE")):
        assert main(["zeroshot", name, "--classes", "cat,dog", "x.png"]) == 1
        assert says in capsys.readouterr().err


def test_zeroshot_with_a_model_of_texts_alone(folders, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))
    assert main(["zeroshot", f"hf-text:{folders['hf-text']}", "--classes", "cat,dog", "x.png"]) == 1
    assert "has no tower beside text" in capsys.readouterr().err


def test_the_index_of_a_published_model_has_a_folder_of_its_own(folders, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))
    model = f"clip-hf:{folders['clip-hf']}"
    assert main(["search", model, "a cat", "--of", "image"]) == 1
    said = capsys.readouterr().err
    assert f"align index build {model} SHARDS --out FOLDER, and name FOLDER in place of the model" in said


def test_layout_and_source_may_come_as_one_word(folders, tmp_path, capsys):
    source = str(folders["hf-text"])
    assert main(["import", "hf-text", source, str(tmp_path / "two")]) == 0
    assert main(["import", f"hf-text:{source}", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "model.json").read_text() == (tmp_path / "two" / "model.json").read_text()
    capsys.readouterr()
    assert main(["import", "hf-text", source]) == 2
    assert capsys.readouterr().err.startswith("align: OUT is needed")
