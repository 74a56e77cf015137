"""TIFF and AVIF wherever pictures are read: build, its options, check, show, stats, filter, pages, a model's input."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tiffs import tiff
from tiny_data import png, written_anew
from tiny_space import Colours, Pass

from align.commands import main
from align.curation import Recode, build
from align.curation.check import diagnose
from align.curation.look import describe, sketch
from align.data import Shards
from align.model import JointModel, Tower
from align.page.faces import face_of
from align.preprocess import Image
from align.values import BadSample


def scene(seed: int, side: int = 96) -> np.ndarray:
    """(side, side, 3) uint8: smooth, and different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Pil.fromarray(coarse).resize((side, side), Pil.Resampling.BICUBIC))


def saved(array: np.ndarray, kind: str, **options) -> bytes:
    out = io.BytesIO()
    Pil.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def twelve(seed: int) -> bytes:
    """A grey TIFF of 16 bits whose values are below 4096."""
    return tiff(scene(seed)[..., 0].astype(np.uint16) * 16)


@pytest.fixture
def folder(tmp_path):
    files = {
        "leaf/a.tif": saved(scene(0), "TIFF", compression="tiff_lzw"),
        "leaf/b.tiff": saved(scene(1), "TIFF", save_all=True, append_images=[Pil.fromarray(scene(2))]),
        "leaf/c.avif": saved(scene(3), "AVIF"),
        "cell/d.tif": twelve(4),
        "cell/e.tif": tiff(scene(5)[..., 0].astype(np.float32) / 7),
        "cell/f.jpg": saved(scene(0), "JPEG"),  # looks like a.tif
    }
    for name, data in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "in"


def members(folder: Path) -> dict[str, bytes]:
    shards = Shards(folder / "*.tar", shuffle=False)
    out = {}
    for i in range(len(shards)):
        sample, _ = shards.read(i)
        out |= {f"{sample['__key__']}.{name}": data for name, data in sample.items() if name.startswith("image")}
    return out


def test_a_folder_is_built_byte_for_byte_and_checked(folder, tmp_path):
    out = tmp_path / "out"
    assert build(folder, out) == {"train": 6, "left out": 0, "noted": 2}
    found = members(out)
    for path in folder.rglob("*.*"):
        key = f"{path.parent.name}_{path.stem}.image{path.suffix}"
        assert found[key] == path.read_bytes()
    lines = [json.loads(line) for line in (out / "train-bad.jsonl").read_text().splitlines()]
    assert {(line["key"], line["reason"]) for line in lines} == {
        ("cell_d", "image/low-range"),
        ("cell_e", "image/own-range"),
    }
    checked = {f.reason: [e.place.key for e in f.examples] for f in diagnose(out / "*.tar").findings}
    assert checked["image/low-range"] == ["cell_d"]
    assert checked["image/own-range"] == ["cell_e"]
    assert checked["image/pages"] == ["leaf_b"]
    assert checked["image/near-duplicate"] == ["leaf_a"]
    assert not {reason for reason in checked if reason.endswith(("suffix", "format", "truncated"))}


def test_written_anew(folder, tmp_path):
    assert build(folder, tmp_path / "out", recode=Recode(image_size=32))["train"] == 6
    for name, data in members(tmp_path / "out").items():
        image = Pil.open(io.BytesIO(data))
        kind = {"c": "WEBP", "f": "JPEG"}.get(name.partition("_")[2][0], "PNG")  # what is small stays small
        assert (image.format, image.size, image.mode) == (kind, (32, 32), "RGB"), name
    scaled = {"image_levels": (0, 4095)}
    again = {f.reason: f.count for f in diagnose(tmp_path / "out" / "*.tar").findings}
    assert again["image/low-range"] == 1  # 8 bits now: only the build's list says it
    assert "noted" not in build(folder, tmp_path / "levels", recode=Recode(**scaled))
    found = members(tmp_path / "levels")
    assert np.array_equal(np.asarray(Pil.open(io.BytesIO(found["cell_d.image.png"])))[..., 0], scene(4)[..., 0])
    assert found["leaf_a.image.tif"] == (folder / "leaf" / "a.tif").read_bytes()  # of 8 bits: as it is
    with pytest.raises(ValueError, match="values of black and white"):
        Recode(image_levels=(5, 5))
    cut = (folder / "leaf" / "a.tif").read_bytes()[:-30]
    with pytest.raises(BadSample, match="image/truncated"):
        written_anew(Recode(image_size=32), "image.tif", cut)


def test_the_commands(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["shards", "build", "in", "out"]) == 0
    said = capsys.readouterr().out
    assert "noted: 2 members, written; see out/train-bad.jsonl, and `align shards check` for what to do" in said
    assert main(["shards", "check", "out", "--html", "check.html"]) == 0
    said = capsys.readouterr().out
    assert "image/low-range" in said
    assert "image/png" in (tmp_path / "check.html").read_text() or "image/jpeg" in (tmp_path / "check.html").read_text()
    assert main(["shards", "build", "in", "levels", "--image-levels", "0,4095"]) == 0
    assert "noted" not in capsys.readouterr().out
    assert main(["shards", "build", "in", "no", "--image-levels", "4095"]) == 1
    assert "--image-levels '4095': write two numbers, as in --image-levels 0,4095" in capsys.readouterr().err
    assert main(["shards", "stats", "out", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)["modalities"]["image"]
    assert stats["unreadable"] == 0
    assert stats["kinds"]["mode"] == {"RGB": 4, "I;16": 1, "F": 1}
    assert main(["shards", "filter", "out", "wide", "--where", "width >= 96 and height == 96"]) == 0
    assert len(members(tmp_path / "wide")) == 6


def test_shown():
    for suffix, data in (("tif", twelve(1)), ("avif", saved(scene(1), "AVIF")), ("tiff", saved(scene(1), "TIFF"))):
        assert describe(f"image.{suffix}", data)["width"] == 96
        assert sketch(f"image.{suffix}", data)
        face = face_of(f"image.{suffix}", data)
        assert face is not None
        assert face.more["type"] == ("image/avif" if suffix == "avif" else "image/jpeg")
        assert Pil.open(io.BytesIO(face.data)).format == ("AVIF" if suffix == "avif" else "JPEG")
    misnamed = face_of("image.png", saved(scene(1), "TIFF"))
    assert misnamed is not None
    assert misnamed.more["type"] == "image/jpeg"  # a browser goes by the content
    assert face_of("image.tif", b"II\x2a\x00") is None


def test_a_models_input(tmp_path):
    model = JointModel({"image": Tower(Image(32, levels=(0, 4095)), Colours(), Pass)}, 8).eval()
    path = tmp_path / "x.tif"
    path.write_bytes(twelve(3))
    eight = saved(scene(3)[..., 0], "PNG")
    with torch.no_grad():
        a, b = model.embed(image=[path, twelve(3)])["image"], model.embed(image=[eight])["image"]
    assert torch.allclose(a, b.expand(2, -1), atol=1e-6)


def test_a_build_leaves_out_what_is_no_picture_that_is_read(tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for name, content in (("1.png", b""), ("2.jpg", heic), ("3.wav", b""), ("4.png", png(1))):
        (tmp_path / "in" / "a" / name).write_bytes(content)
    assert build(tmp_path / "in", tmp_path / "out", max_bad=1)["bad"] == 3
    lines = [json.loads(line) for line in (tmp_path / "out/train-bad.jsonl").read_text().splitlines()]
    assert {(line["key"], line["reason"]) for line in lines} == {
        ("a_1", "image/empty"),
        ("a_2", "image/format"),
        ("a_3", "audio/empty"),
    }
    assert "an HEIC picture" in lines[1]["detail"]
