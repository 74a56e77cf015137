"""Shards out: deterministic, whole, described, and readable by everyone else."""

from __future__ import annotations

import hashlib
import json
import tarfile

import pytest
from tiny_data import members, write

from align.data import Shards, ShardWriter


def test_equal_input_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, 20)
    for path in sorted((tmp_path / "a").glob("*")):
        if not path.name.endswith(".index.json"):  # it knows the time of its shard
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_standard_library_reads_them(tmp_path):
    write(tmp_path, 20)
    with tarfile.open(tmp_path / "train-000001.tar") as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar}
        info = tar.getmember("00016.image.png")
    assert found == {f"{i:05d}.{name}": data for i in range(16, 20) for name, data in members(i).items()}
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
    assert (tmp_path / "train-000001.tar").stat().st_size % 10240 == 0


def test_webdataset_reads_them(tmp_path):
    import warnings

    pattern = write(tmp_path, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not close its files
        from webdataset import WebDataset

        found = list(WebDataset(pattern.replace("*", "000000"), shardshuffle=False))
    assert [s["__key__"] for s in found] == [f"{i:05d}" for i in range(5)]
    assert {k: v for k, v in found[2].items() if not k.startswith("__")} == members(2)


def test_the_index_written_is_the_one_a_scan_makes(tmp_path):
    write(tmp_path, 5, make=lambda i: {**members(i), "x" * 120 + ".npy": b"long"})
    index = tmp_path / "train-000000.tar.index.json"
    written = json.loads(index.read_text())
    index.unlink()
    assert len(Shards(tmp_path / "train-000000.tar")) == 5
    assert json.loads(index.read_text()) == written


def test_the_manifest(tmp_path):
    write(tmp_path, 20, make=lambda i: {k: v for k, v in members(i).items() if i % 2 or k[:5] != "audio"})
    write(tmp_path, 3, split="test")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["samples"] == 23
    assert manifest["modalities"] == {"audio": 13, "image": 23, "points": 23, "text": 23}
    assert manifest["splits"]["train"]["modalities"] == {"audio": 10, "image": 20, "points": 20, "text": 20}
    assert manifest["classes"] == {"shape": ["cone", "torus"], "size": ["0", "1", "2"]}
    assert list(manifest["shards"]) == ["test-000000.tar", "train-000000.tar", "train-000001.tar"]
    for name, said in manifest["shards"].items():
        data = (tmp_path / name).read_bytes()
        assert said["size"] == len(data)
        assert said["sha256"] == hashlib.sha256(data).hexdigest()
    assert [s["samples"] for s in manifest["shards"].values()] == [3, 16, 4]


def test_stated_classes_and_licence(tmp_path):
    with ShardWriter(tmp_path, classes={"digit": ["zero", "one"]}, licence="CC0-1.0") as writer:
        writer.write("a", {"json": b'{"label": {"digit": "one", "ink": ["red", "blue"]}}', "text.txt": b"x"})
    with ShardWriter(tmp_path, "test") as writer:
        writer.write("a", {"json": b'{"label": {"digit": "two"}}', "text.txt": b"x"})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["licence"] == "CC0-1.0"
    assert Shards(tmp_path / "train-*.tar").classes == {"ink": ["blue", "red"], "digit": ["zero", "one", "two"]}
    assert manifest["splits"]["train"]["classes"]["digit"] == ["zero", "one"]


def test_a_split_is_replaced_as_a_whole(tmp_path):
    write(tmp_path, 50)
    write(tmp_path, 3, split="train-easy")
    (tmp_path / "train-notes.tar").write_bytes(b"not ours")
    write(tmp_path, 20)
    names = sorted(path.name for path in tmp_path.glob("*.tar*"))
    shards = ["train-000000.tar", "train-000001.tar", "train-easy-000000.tar"]
    assert names == sorted([*shards, *(f"{name}.index.json" for name in shards), "train-notes.tar"])
    assert json.loads((tmp_path / "manifest.json").read_text())["samples"] == 23


def test_an_error_leaves_no_half_shard_and_no_manifest(tmp_path):
    def interrupted(i):
        if i == 3:
            raise KeyboardInterrupt
        return members(i)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 5, per_shard=2, make=interrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-000000.tar", "train-000000.tar.index.json"]


@pytest.mark.parametrize("key", ["", "../a", "/a", "a.b", "a\\b", "C:a", "a\0", "a/../b", "a\nb"])
def test_keys_that_could_do_harm(tmp_path, key):
    with ShardWriter(tmp_path) as writer, pytest.raises(ValueError, match=r"key .*: use a relative name"):
        writer.write(key, {"text.txt": b"x"})


def test_what_is_refused(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.write("dir/a", {"text.txt": b"x"})
        with pytest.raises(ValueError, match="is there already"):
            writer.write("dir/a", {"text.txt": b"x"})
        with pytest.raises(ValueError, match="no members"):
            writer.write("b", {})
        with pytest.raises(ValueError, match="lower case"):
            writer.write("b", {"Image.JPG": b"x"})
        with pytest.raises(TypeError, match="is a str; members are bytes"):
            writer.write("b", {"text.txt": "x"})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match="json/weight"):
            writer.write("b", {"json": b'{"weight": "much"}'})
    with pytest.raises(ValueError, match="is closed"):
        writer.write("c", {"text.txt": b"x"})
    with pytest.raises(ValueError, match="per_shard=0"):
        ShardWriter(tmp_path, per_shard=0)
    with pytest.raises(ValueError, match=r"split '\.\./x'"):
        ShardWriter(tmp_path, "../x")
    assert [s["__key__"] for s in Shards(tmp_path / "train-*.tar").samples(0)] == ["dir/a"]
