"""The recipes of clouds, on miniatures in the layout that each names."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from made_sets import about, fails, manifest, points, put, read, recipe, serve, texts

from align.extras import pip_install
from align.preprocess import Points

CUBE = "8 12 0\n" + "\n".join(f"{x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 5)) + "\n"
FACES = ["013", "032", "467", "475", "045", "051", "237", "276", "026", "064", "157", "173"]
CUBE += "\n".join("3 " + " ".join(face) for face in FACES)


def turned(xyz):
    """y up -> z up, one point at a time."""
    return np.array([[x, -z, y] for x, y, z in xyz], np.float32)


def rows(seed, n=32):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3)).astype(np.float32)


def same(sample, expected):
    found = points(sample)
    return found.dtype == np.float16 and np.abs(found - expected).max() < 1e-3


def saved(path, value):
    """A .npy of objects, as np.save writes one: a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(value, dtype=object), allow_pickle=True)


def test_modelnet40_draws_points_from_princetons_meshes(tmp_path, monkeypatch, capsys):
    module = recipe("modelnet40")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pack:
        for name in ("night_stand", "bed"):
            for split, number in [("train", 1), ("train", 2), ("test", 3)]:
                head = "OFF" if number == 2 else "OFF\n"  # some of the set's files lack the line's end
                pack.writestr(f"ModelNet40/{name}/{split}/{name}_{number:04d}.off", head + CUBE)
    put(tmp_path / "ModelNet40.zip", archive.getvalue())
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--points", "500"]
    assert f"instead of {module.SHA256}" in fails(module, capsys, *arguments)
    serve(monkeypatch, lambda url, path: None)
    assert module.main(arguments) == 0
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    assert set(train) == {f"{name}_000{i}" for name in ("night_stand", "bed") for i in (1, 2)}
    assert set(test) == {"night_stand_0003", "bed_0003"}
    sample = train["night_stand_0002"]
    xyz = points(sample)
    assert xyz.shape == (500, 3)
    assert xyz.dtype == np.float32
    assert 4.5 < xyz[:, 2].max() <= 5  # its own units, and z as it was
    assert xyz[:, :2].max() <= 1
    assert about(sample) == {"label": {"object": "night stand"}, "group": 1}
    assert texts(sample) == ["night stand"]
    assert manifest(tmp_path / "out")["classes"] == {"object": ["bed", "night stand"]}
    assert sample["points.npy"] != train["night_stand_0001"]["points.npy"]
    again = [str(tmp_path / "again"), *arguments[1:]]
    assert module.main(again) == 0
    assert read(tmp_path / "again", "train") == train
    assert module.main([*again, "--seed", "1"]) == 0
    assert read(tmp_path / "again", "train") != train


def test_modelnet40_reads_resampled_clouds(tmp_path, capsys):
    module, folder = recipe("modelnet40"), tmp_path / "modelnet40_normal_resampled"
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--layout", "resampled"]
    assert "modelnet40_normal_resampled.zip and unpack it" in fails(module, capsys, *arguments)
    put(folder / "modelnet40_shape_names.txt", "airplane\nflower_pot\n")
    for split, model in [("train", "flower_pot_0001"), ("test", "airplane_0627")]:
        put(folder / f"modelnet40_{split}.txt", f"{model}\n")
        lines = [",".join(f"{v:.6f}" for v in [*xyz, 0, 0, 1]) for xyz in rows(len(model))]
        put(folder / model[:-5] / f"{model}.txt", "\n".join(lines))
    assert module.main(arguments) == 0
    sample = read(tmp_path / "out", "train")["flower_pot_0001"]
    assert same(sample, turned(rows(15)))
    assert about(sample) == {"label": {"object": "flower pot"}, "group": 1}
    put(folder / "airplane" / "airplane_0627.txt", "1,2\n3")
    assert "airplane_0627.txt" in fails(module, capsys, *arguments)


def test_modelnet40_reads_openshapes_test_split(tmp_path, capsys):
    module, folder = recipe("modelnet40"), tmp_path / "meta_data" / "modelnet40"
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--layout", "openshape"]
    assert "meta_data.zip" in fails(module, capsys, *arguments)
    put(folder / "test_split.json", [{"name": "a_1", "category": "tv_stand"}, {"name": "b_2", "category": "sofa"}])
    saved(folder / "test_pc.npy", [{"xyz": rows(i), "rgb": np.full((32, 3), 102)} for i in range(2)])
    assert module.main(arguments) == 0
    sample = read(tmp_path / "out", "test")["00001-b_2"]
    assert same(sample, np.hstack([turned(rows(1)), np.full((32, 3), 0.4)]))
    assert about(sample) == {"label": {"object": "sofa"}, "group": 0}
    saved(folder / "test_pc.npy", [{"xyz": rows(0), "rgb": rows(0)}])
    assert "1 clouds in test_pc.npy, 2 models" in fails(module, capsys, *arguments)


def h5_files(folder, save):
    for name, end, n in [
        ("main_split_nobg", "objectdataset.h5", (3, 2)),
        ("main_split", "objectdataset.h5", (3, 2)),
        ("main_split", "objectdataset_augmentedrot_scale75.h5", (5, 4)),
    ]:
        for part, count in zip(("training", "test"), n, strict=True):
            clouds = np.stack([rows(i + 10 * count) for i in range(count)])
            save(folder / name / f"{part}_{end}", clouds, np.arange(count) + 8)


def scanobjectnn(module, tmp_path):
    """Every variant of the miniature, as a reader of h5 gives it."""
    counts = {"2890": (0, 5), "581": (3, 2), "581_bg": (3, 2), "hardest": (5, 4)}
    for variant, (train, test) in counts.items():
        out = tmp_path / variant
        assert module.main([str(out), "--source", str(tmp_path), "--variant", variant]) == 0
        assert (len(read(out, "train")), len(read(out, "test"))) == (train, test)
    both = read(tmp_path / "2890", "test")
    assert list(both) == ["training-00000", "training-00001", "training-00002", "test-00000", "test-00001"]
    sample = both["test-00001"]
    assert same(sample, turned(rows(21)))
    assert about(sample) == {"label": {"object": "table"}, "group": 9}
    assert same(read(tmp_path / "hardest", "train")["training-00004"], turned(rows(54)))
    assert len(manifest(tmp_path / "hardest")["classes"]["object"]) == 15


def test_scanobjectnn_names_its_variants(tmp_path, monkeypatch, capsys):
    module, files = recipe("scanobjectnn"), {}
    assert "accept the terms at" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    h5_files(tmp_path / "h5_files", lambda path, data, label: put(path, b"") or files.update({path: (data, label)}))
    monkeypatch.setattr(module, "read_h5", files.__getitem__)
    scanobjectnn(module, tmp_path)
    monkeypatch.setattr(module, "read_h5", lambda path: (rows(0)[None], np.array([15])))
    assert "labels are 0 to 14" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)


def test_scanobjectnn_reads_h5(tmp_path, capsys):
    h5py = pytest.importorskip("h5py", reason="ScanObjectNN's files are HDF5")

    def save(path, data, label):
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = data, label.astype(np.uint8)
            file["mask"] = np.zeros(data.shape[:2], np.float32)

    module = recipe("scanobjectnn")
    h5_files(tmp_path / "h5_files", save)
    scanobjectnn(module, tmp_path)
    with h5py.File(tmp_path / "h5_files" / "main_split_nobg" / "test_objectdataset.h5", "w") as file:
        file["points"] = np.zeros(3)
    assert "no data and label; it has points" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)


def test_scanobjectnn_says_that_it_needs_h5py(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    h5_files(tmp_path / "h5_files", lambda path, data, label: put(path, b""))
    error = fails(recipe("scanobjectnn"), capsys, tmp_path / "out", "--source", tmp_path)
    assert f"needs h5py; {pip_install('recipes')}" in error


def test_scanobjectnn_reads_openshapes_file(tmp_path, capsys):
    module, path = recipe("scanobjectnn"), tmp_path / "meta_data" / "scanobjectnn" / "xyz_label.npy"
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--variant", "openshape"]
    assert "meta_data.zip" in fails(module, capsys, *arguments)
    saved(path, {"xyz": np.stack([rows(0), rows(1)]), "label": np.array([14, 0])})
    assert module.main(arguments) == 0
    sample = read(tmp_path / "out", "test")["00001"]
    assert same(sample, turned(rows(1)))
    assert texts(sample) == ["bag"]
    saved(path, {"xyz": 1})
    assert "no xyz and label" in fails(module, capsys, *arguments)


MERGED = "objaverse-processed/merged_for_training_final/Objaverse"


def lvis(i):
    more = {"dataset": "Objaverse", "group": "000-001", "id": f"u{i}", "text": ["a wheel"], "blip_caption": "wheel"}
    feature = {"original": np.zeros((1, 4), np.float16), "prompt_avg": np.float32(0)}
    return {"xyz": rows(i), "rgb": rows(i + 50) / 2 + 0.5, "text_feat": [feature], **more}


@pytest.mark.parametrize(("layout", "root"), [("openshape", ""), ("uni3d", "test_datasets"), ("uni3d", "uni3d_data")])
def test_objaverse_lvis_in_both_layouts(tmp_path, capsys, layout, root):
    module = recipe("objaverse_lvis")
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--layout", layout]
    assert ("meta_data.zip" if layout == "openshape" else "test_datasets.zip") in fails(module, capsys, *arguments)
    names = ["Ferris_wheel", "CD_player", "Bible"]
    if layout == "openshape":
        listed = [
            {"uid": f"u{i}", "category": name, "group": "000-001", "data_path": f"/mnt/data/{MERGED}/000-001/u{i}.npy"}
            for i, name in enumerate(names)
        ]
        put(tmp_path / "meta_data" / "split" / "lvis.json", listed)
        folder = tmp_path / MERGED / "000-001"
    else:
        root = tmp_path / root / "objaverse_lvis"
        put(root / "lvis_testset.txt", "".join(f"{5 - i},{n},u{i},/000-001/u{i}.npy\n" for i, n in enumerate(names)))
        folder = root / "000-001"
    for i in range(2):
        saved(folder / f"u{i}.npy", lvis(i))
    assert module.main(arguments) == 0
    assert "1 models are listed but not there" in capsys.readouterr().out
    test = read(tmp_path / "out", "test")
    assert set(test) == {"u0", "u1"}
    assert same(test["u1"], np.hstack([turned(rows(1)), rows(51) / 2 + 0.5]))
    assert Points(points=16).decode(test["u1"]["points.npy"]).shape == (32, 6)  # with its colours
    assert about(test["u0"]) == {"label": {"object": "Ferris wheel"}, "group": 2, "uid": "u0"}
    assert manifest(tmp_path / "out")["classes"]["object"] == ["Bible", "CD player", "Ferris wheel"]


class Harm:
    """What a pickle can hold: a call."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_npy_of_objects_runs_nothing(tmp_path):
    load = __import__("npy_objects").load_objects
    path = tmp_path / "a.npy"
    for value in (Harm(tmp_path / "harm"), {"xyz": Harm(tmp_path / "harm")}, [Harm(tmp_path / "harm")]):
        saved(path, value)
        with pytest.raises(ValueError, match="only numpy arrays are built"):
            load(path)
    assert not (tmp_path / "harm").exists()
    saved(path, {"a": np.arange(3.0)})
    header = path.read_bytes()[: path.read_bytes().index(b"\n") + 1]
    for protocol in (3, 4):  # np.save has used both
        path.write_bytes(header + pickle.dumps(np.array({"a": np.arange(3.0)}, dtype=object), protocol))
        assert load(path)["a"].tolist() == [0, 1, 2]
        if protocol == 3:  # as numpy 1 called the module
            path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
            assert load(path)["a"].tolist() == [0, 1, 2]
    for damage in (path.read_bytes()[:150], b"", b"\x93NUMPY\x01\x00", b"PK"):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"a\.npy is not a \.npy of dicts"):
            load(path)
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match="not objects"):
        load(path)


def test_shapenet55_has_point_berts_splits(tmp_path, capsys):
    module, folder = recipe("shapenet55"), tmp_path / "ShapeNet55-34"
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path)]
    assert "links the archive" in fails(module, capsys, *arguments)
    for i, (split, name) in enumerate([("train", "02747177-1a0b.npy"), ("test", "03759954-109f-b.npy")]):
        put(folder / "ShapeNet-55" / f"{split}.txt", f"{name}\n")
        put(folder / "shapenet_pc" / name, b"")
        np.save(folder / "shapenet_pc" / name, rows(i))
    assert module.main(arguments) == 0
    sample = read(tmp_path / "out", "train")["02747177-1a0b"]
    assert same(sample, turned(rows(0)))
    assert about(sample) == {"label": {"object": "trash bin"}, "group": 1, "synset": "02747177", "model": "1a0b"}
    assert len(manifest(tmp_path / "out")["classes"]["object"]) == len(module.CLASSES) == 55
    saved(folder / "shapenet_pc" / "02747177-1a0b.npy", {"xyz": 1})
    assert "is not numeric" in fails(module, capsys, *arguments)
    put(folder / "ShapeNet-55" / "train.txt", "01234567-a.npy\n")
    assert "none of the 55 classes" in fails(module, capsys, *arguments)
