"""The recipes of images, on miniatures in the layout that each names."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from made_sets import about, alone, fails, flac, jpg, manifest, put, read, recipe, serve, texts
from PIL import Image

from align.preprocess import Image as Preprocess


def sentences(words):
    return [{"raw": f"{words} {k}.", "tokens": [words, str(k)], "imgid": 0, "sentid": k} for k in range(5)]


def test_flickr30k_has_karpathys_splits(tmp_path, capsys, monkeypatch):
    module, folder = recipe("flickr30k"), tmp_path / "flickr30k"
    assert "ask for the photographs at" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    images = []
    for i, split in enumerate(["train", "train", "val", "test"]):
        name = f"100{i}.jpg"
        images.append({"filename": name, "imgid": i, "split": split, "sentences": sentences(name), "sentids": []})
        put(folder / "flickr30k-images" / name, jpg(i))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pack:
        pack.writestr("dataset_flickr30k.json", json.dumps({"images": images, "dataset": "flickr30k"}))
    serve(monkeypatch, lambda url, path: put(path, archive.getvalue()))
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path)]) == 0
    assert {s: len(read(tmp_path / "out", s)) for s in ("train", "val", "test")} == {"train": 2, "val": 1, "test": 1}
    sample = read(tmp_path / "out", "test")["1003"]
    assert sample["image.jpg"] == jpg(3)
    assert texts(sample) == [f"1003.jpg {k}." for k in range(5)]
    assert about(sample) == {"group": 3, "file": "1003.jpg"}
    (folder / "flickr30k-images" / "1001.jpg").unlink()
    assert "1001.jpg; the list names it" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    put(folder / "dataset_flickr30k.json", {"images": [{"filename": "a.jpg"}]})
    assert "object 0 has no 'split' (str)" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)


def coco(folder):
    images = []
    for i, (split, where) in enumerate([("train", "train"), ("restval", "val"), ("val", "val"), ("test", "val")]):
        name = f"COCO_{where}2014_{i:012d}.jpg"
        image = {"filepath": f"{where}2014", "filename": name, "cocoid": 500 + i, "imgid": i, "split": split}
        images.append(image | {"sentences": sentences(split)})
        put(folder / f"{where}2014" / name, jpg(i))
    put(folder / "annotations" / "dataset_coco.json", {"images": images, "dataset": "coco"})
    for where in ("train", "val"):
        listed = [{"id": 7 + i, "file_name": f"{7 + i:012d}.jpg", "height": 8, "width": 12} for i in range(2)]
        lines = [{"image_id": 7 + k % 2, "id": k, "caption": f"{where} {k}\nand so on"} for k in range(10)]
        put(folder / "annotations" / f"captions_{where}2017.json", {"images": listed, "annotations": lines, "info": {}})
        for image in listed:
            put(folder / f"{where}2017" / image["file_name"], jpg(image["id"]))


def test_coco_captions_of_both_splits(tmp_path, capsys):
    coco(tmp_path / "coco")
    module = recipe("coco_captions")
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path)]) == 0
    assert all(len(read(tmp_path / "out", split)) == 1 for split in ("train", "restval", "val", "test"))
    sample = read(tmp_path / "out", "restval")["COCO_val2014_000000000001"]
    assert sample["image.jpg"] == jpg(1)
    assert texts(sample) == [f"restval {k}." for k in range(5)]
    assert about(sample)["group"] == 501
    assert module.main([str(tmp_path / "new"), "--source", str(tmp_path), "--splits", "2017"]) == 0
    val = read(tmp_path / "new", "val")
    assert set(val) == {"000000000007", "000000000008"}
    assert texts(val["000000000008"]) == [f"val {k} and so on" for k in (1, 3, 5, 7, 9)]
    (tmp_path / "coco" / "val2017" / "000000000007.jpg").unlink()
    error = fails(module, capsys, tmp_path / "new", "--source", tmp_path, "--splits", "2017")
    assert "unpack the zip again" in error


def test_coco_downloads_with_the_sums_that_loaders_list(tmp_path, monkeypatch):
    coco(tmp_path / "made")
    module = recipe("coco_captions")

    def make(url, path):
        with zipfile.ZipFile(path, "w") as pack:
            for file in (tmp_path / "made").rglob("*.*"):
                pack.write(file, file.relative_to(tmp_path / "made"))
            pack.write(tmp_path / "made" / "annotations" / "dataset_coco.json", "dataset_coco.json")

    asked = serve(monkeypatch, make)
    (tmp_path / "coco").mkdir()
    for more in ([], ["--splits", "2017"]):
        assert module.main([str(tmp_path / "out"), "--source", str(tmp_path), *more]) == 0
    (tmp_path / "some").mkdir()
    for more in (["--only", "test"], ["--splits", "2017", "--only", "val"]):
        assert module.main([str(tmp_path / "some"), "--source", str(tmp_path), *more]) == 0
    assert set(manifest(tmp_path / "some")["splits"]) == {"test", "val"}
    with pytest.raises(SystemExit, match="2"):
        module.main([str(tmp_path / "some"), "--splits", "2017", "--only", "test"])
    assert asked == {f"{module.URL}{name}": md5 for name, md5 in module.MD5.items()} | {module.KARPATHY: None}
    left = {p.name for p in (tmp_path / "coco").iterdir()}
    assert left == {"annotations", "train2014", "val2014", "train2017", "val2017"}


def test_conceptual_captions_takes_what_img2dataset_finished(tmp_path, capsys):
    module, folder = recipe("conceptual_captions"), tmp_path / "cc12m"
    assert "img2dataset" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    for shard in range(3):
        put(folder / f"{shard:05d}.tar", b"")
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for i in range(2 if shard else 4):
                key = f"{shard:05d}{i:04d}"
                about_it = {"url": f"http://a/{key}.jpg", "caption": "x", "key": key, "status": "success"}
                for suffix, content in [
                    ("jpg", jpg(i)),
                    ("json", json.dumps(about_it).encode()),
                    ("txt", b"" if (shard, i) == (1, 1) else f"caption  {key}".encode()),
                ]:
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        if shard < 2:
            put(
                folder / f"{shard:05d}_stats.json",
                {"count": 9, "successes": 2 if shard else 4, "failed_to_download": 1},
            )
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--set", "cc12m"]
    assert module.main(arguments) == 0
    said = capsys.readouterr().out
    assert "1 shards that were not finished" in said
    assert "1 images without a caption" in said
    train = read(tmp_path / "out", "train")
    assert set(train) == {*(f"00000000{i}" for i in range(4)), "000010000"}
    assert train["000000001"]["image.jpg"] == jpg(1)
    assert texts(train["000010000"]) == ["caption 000010000"]
    assert about(train["000010000"]) == {"url": "http://a/000010000.jpg"}
    whole = bytearray((folder / "00000.tar").read_bytes())
    whole[whole.index(b"000000002.json") + 20] ^= 1
    put(folder / "00000.tar", bytes(whole))  # a broken header inside the third of its four samples
    put(folder / "00001.tar", (folder / "00001.tar").read_bytes()[:900])  # cut in the first of two
    assert module.main([str(tmp_path / "less"), *arguments[1:]]) == 0
    assert set(read(tmp_path / "less", "train")) == {"000000000", "000000001", "000000003"}
    said = capsys.readouterr().out
    assert "3 samples that _stats.json counts and no shard has" in said
    assert "1 shard/header" in said
    assert "1 shard/truncated" in said
    put(folder / "00001.tar", b"<html>")
    assert "00001.tar is not a tar file" in fails(module, capsys, *arguments)


def cifar100(fine, records):
    """The archive's files: names a line, and records of (superclass, class, red, green, blue)."""
    names = {"fine": fine, "coarse": [f"kind_{i}" for i in range(20)]}
    files = {f"{which}_label_names.txt": "\n".join([*some, ""]).encode() for which, some in names.items()}
    for split, some in records.items():
        pixels = [bytes([kind, name]) + bytes([200] * 1024 + [i] * 1024 + [7] * 1024) for i, (kind, name) in some]
        files[f"{split}.bin"] = b"".join(pixels)
    return files


def test_cifar100_reads_the_binary_version_alone(tmp_path, capsys, monkeypatch):
    module = recipe("cifar100")
    fine = [f"thing_{i}" for i in range(100)]
    fine[1] = "aquarium_fish"
    files = cifar100(fine, {"train": enumerate([(3, 99), (19, 1)]), "test": enumerate([(1, 1)])})

    def make(url, path):
        with tarfile.open(path, "w:gz") as pack:
            for name, content in files.items():
                member = tarfile.TarInfo(f"cifar-100-binary/{name}")
                member.size = len(content)
                pack.addfile(member, io.BytesIO(content))

    asked = serve(monkeypatch, make)
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path)]) == 0
    assert asked == {module.URL: module.MD5}
    train = read(tmp_path / "out", "train")
    assert list(train) == ["train-00000", "train-00001"]
    assert about(train["train-00000"]) == {"label": {"object": "thing 99", "kind": "kind 3"}, "group": 99}
    test = read(tmp_path / "out", "test")["test-00000"]
    assert texts(test) == ["a photo of an aquarium fish"]
    pixels = np.asarray(Image.open(io.BytesIO(train["train-00001"]["image.png"])))
    assert pixels.shape == (32, 32, 3)
    assert (pixels == [200, 1, 7]).all()
    stated = manifest(tmp_path / "out")["classes"]
    assert (len(stated["object"]), stated["object"][1], len(stated["kind"])) == (100, "aquarium fish", 20)
    put(tmp_path / "cifar100" / "test.bin", files["test.bin"][:-1])
    assert "no records of 3074 bytes" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    put(tmp_path / "cifar100" / "test.bin", bytes([20]) + files["test.bin"][1:])
    assert "labels 20 and 1" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    put(tmp_path / "cifar100" / "fine_label_names.txt", "a\nb\n")
    assert "2 names, not 100" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)


WNIDS = [f"n{i:08d}" for i in range(1000)]


def imagenet(folder, monkeypatch, module):
    """Two images of classes 5 and 1; the classes' numbers go down where their WordNet ids go up."""
    from scipy.io import savemat

    names = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
    kinds = [(name, "O") for name in [*names, "num_train_images"]]
    rows = [(1000 - i, wnid, "word", "gloss", 0, [], 0, 1300) for i, wnid in enumerate(WNIDS)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array([*rows, (1001, "n09999999", "animal", "all", 3, [1, 2, 3], 1, 0)], dtype=kinds)})
    folder.mkdir(parents=True)
    with tarfile.open(folder / module.DEVKIT[0], "w:gz") as tar:
        for name, content in [
            ("meta.mat", meta.getvalue()),
            ("ILSVRC2012_validation_ground_truth.txt", b"995\n999\n"),
        ]:
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with tarfile.open(folder / module.VAL[0], "w") as tar:
        for i in (2, 1):
            member = tarfile.TarInfo(f"ILSVRC2012_val_{i:08d}.JPEG")
            member.size = len(jpg(i))
            tar.addfile(member, io.BytesIO(jpg(i)))
    monkeypatch.setattr(module, "archive", lambda folder, name, md5: folder / name)


def test_imagenet_from_its_archives_and_from_folders(tmp_path, capsys, monkeypatch):
    from open_clip import IMAGENET_CLASSNAMES

    module = recipe("imagenet")
    assert "sign up at" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    put(tmp_path / "imagenet" / module.DEVKIT[0], b"cut")
    assert f"instead of {module.DEVKIT[1]}" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    imagenet(tmp_path / "a" / "imagenet", monkeypatch, module)
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path / "a")]) == 0
    val = read(tmp_path / "out", "val")
    first, second = val["ILSVRC2012_val_00000001"], val["ILSVRC2012_val_00000002"]
    assert first["image.jpeg"] == jpg(1)
    assert about(first) == {
        "label": {"object": IMAGENET_CLASSNAMES[5]},
        "group": 5,
        "wnid": WNIDS[5],
    }  # number 995 of 1,000
    assert about(second)["label"] == {"object": IMAGENET_CLASSNAMES[1]}
    assert texts(second) == ["a photo of a goldfish"]
    assert len(manifest(tmp_path / "out")["classes"]["object"]) == 998
    folder = tmp_path / "b" / "imagenet" / "val"
    for i, wnid in enumerate(WNIDS):
        (folder / wnid).mkdir(parents=True)
        if i in (5, 1):
            put(folder / wnid / f"ILSVRC2012_val_{1 if i == 5 else 2:08d}.JPEG", jpg(1 if i == 5 else 2))
    assert module.main([str(tmp_path / "again"), "--source", str(tmp_path / "b")]) == 0
    again = read(tmp_path / "again", "val")
    assert again == val
    (folder / WNIDS[0]).rmdir()
    assert "999 folders" in fails(module, capsys, tmp_path / "out", "--source", tmp_path / "b")


@pytest.mark.parametrize("which", ["depth_bfx", "depth"])
def test_sunrgbd_turns_depth_into_an_image(tmp_path, capsys, which):
    from scipy.io import savemat

    module, folder = recipe("sunrgbd"), tmp_path / "sunrgbd"
    views = {
        "SUNRGBD/kv1/NYUdata/NYU0003": ("train", "home_office"),
        "SUNRGBD/kv2/kinect2data/000065_2014-05-16": ("train", "idk"),
        "SUNRGBD/xtion/sun3ddata/a/b/c": ("test", "corridor"),
        "SUNRGBD/realsense/lg/x": ("test", "furniture_store"),
    }
    millimetres = np.array([[0, 1, 999], [5000, 10000, 60000]], np.uint16)
    turned = (millimetres << 3) | (millimetres >> 13)  # what read3dPoints undoes
    for i, (view, (_, room)) in enumerate(views.items()):
        put(folder / view / "image" / f"{i}.jpg", jpg(i))
        put(folder / view / "scene.txt", room)
        for name, values in [("depth_bfx", turned), ("depth", turned * 0 + (2000 << 3))]:
            out = io.BytesIO()
            Image.fromarray(values).save(out, "PNG")
            put(folder / view / name / f"{i}.png", out.getvalue())
    split = folder / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
    split.parent.mkdir(parents=True)
    cells = {}
    for name in ("train", "test"):
        paths = [f"/n/fs/sun3d/data/{view}" for view, (where, _) in views.items() if where == name]
        cells[f"all{name}"] = np.array(paths, dtype=object)[None]
    savemat(split, cells)
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--depth", which]
    assert module.main(arguments) == 0
    assert "1 train views are of kinds that are not classified" in capsys.readouterr().out
    (sample,) = read(tmp_path / "out", "train").values()
    assert about(sample) == {"label": {"scene": "home office"}, "group": 10, "view": "SUNRGBD/kv1/NYUdata/NYU0003"}
    assert texts(sample) == ["a home office"]
    assert sample["image.jpg"] == jpg(0)
    grey = np.asarray(Image.open(io.BytesIO(sample["depth.png"])))
    seen = Preprocess(size=4).decode(sample["depth.png"])  # as a tower for depth reads it
    if which == "depth_bfx":
        assert grey.tolist() == [[0, 7, 6547], [32768, 65535, 65535]]  # 6,553.5 a metre, at most ten
        assert seen[0, 1].tolist() == [128, 255, 255]
    else:
        assert (grey == 13107).all()
    assert seen.shape == (3, 2, 3)
    classes = manifest(tmp_path / "out")["classes"]["scene"]
    assert len(classes) == 19
    assert "furniture store" in classes
    assert module.main([*arguments, "--scenes", "all"]) == 0
    assert len(read(tmp_path / "out", "train")) == 2
    put(split, b"MATLAB")
    assert fails(module, capsys, *arguments)
    savemat(split, {"alltrain": cells["alltrain"]})
    assert "no alltrain and alltest" in fails(module, capsys, *arguments)


def test_symile_m3_reads_the_hubs_tables(tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    module, folder = recipe("symile_m3"), tmp_path / "symile-m3" / "symile-m3-2-xs"
    assert "download that variant" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    folder.mkdir(parents=True)
    for split in ("train", "val", "test"):
        for part in range(2):
            row = {
                "lang": "el",
                "audio": {"bytes": flac(part), "path": "common_voice_el_1.flac" if part else None},
                "image": {"bytes": jpg(part), "path": None if part else "n02_1.JPEG"},
                "text": "θόλος_gown",
                "cls": "dome",
                "cls_id": 538,
                "target_text": "θόλος",
            }
            parquet.write_table(pyarrow.Table.from_pylist([row] * 2), folder / f"{split}-{part:05d}-of-00002.parquet")
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path)]) == 0
    test = read(tmp_path / "out", "test")
    assert list(test) == [f"test-{i:08d}" for i in range(4)]
    assert alone(tmp_path / "out")
    assert test["test-00000002"]["audio.flac"] == flac(1)
    assert test["test-00000002"]["image.jpeg"] == jpg(1)
    assert texts(test["test-00000000"]) == ["θόλος gown"]
    assert about(test["test-00000000"]) == {"label": {"object": "dome", "language": "Greek"}}
    (folder / "val-00001-of-00002.parquet").unlink()
    assert "1 of 2 tables of the val split" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1")
    assert "is not Parquet" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
