"""Files of an item: from a shard by its index, from a server, from a folder; and one line where they are gone."""

import os

import pytest
import tiny_space
from web import serving

from align.search.item import Hit, Item
from align.search.members import list_members, read_members
from align.search.save import safe_name, save_hits

SAMPLES = {
    "a": {"image.0.npy": b"one", "image.1.npy": b"second", "text.txt": b"words", "odd.pkl": b"\x80"},
    "b": {"jpg": b"foreign", "json": b"{}"},
}


def item(shard, key):
    return Item(key, {"shard": str(shard), "key": key})


@pytest.fixture
def shard(tmp_path):
    return tiny_space.write_tar(tmp_path / "s" / "x.tar", SAMPLES)


def test_members_of_a_shard_by_key(shard):
    plain = {name: data for name, data in SAMPLES["a"].items() if name != "odd.pkl"}  # no pickle is ever handed over
    assert read_members(item(shard, "a")) == plain
    assert list_members(item(shard, "a")) == {name: len(data) for name, data in plain.items()}
    assert read_members(item(shard, "b"), ["jpg"]) == {"jpg": b"foreign"}
    with pytest.raises(ValueError, match=r"'b' has no member 'png'; it has jpg, json"):
        read_members(item(shard, "b"), ["png"])


def test_a_shard_that_is_gone_or_has_changed(shard):
    assert read_members(item(shard, "a"))
    tiny_space.write_tar(shard, {"a": {"jpg": b"another one"}})  # its index is made anew
    os.utime(shard, ns=(1, 1))
    assert read_members(item(shard, "a")) == {"jpg": b"another one"}
    with pytest.raises(ValueError, match="has changed: it has no sample 'b' now"):
        read_members(item(shard, "b"))
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"the shard .*x\.tar is gone"):
        list_members(item(shard, "a"))
    with pytest.raises(ValueError, match="from a command"):
        read_members(item("pipe:cat x.tar", "a"))


def test_a_damaged_member(shard):
    read_members(item(shard, "a"))
    state = shard.stat()
    data = bytearray(shard.read_bytes())
    data[data.index(b"words")] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert read_members(item(shard, "a"), ["image.0.npy"])
    with pytest.raises(ValueError, match=r"member 'text\.txt' of 'a' is damaged"):
        read_members(item(shard, "a"))


def test_members_of_a_remote_shard(shard):
    with serving(shard.parent) as web:
        remote = item(f"{web.url}/x.tar", "a")
        assert list_members(remote)["image.1.npy"] == len(b"second")
        assert read_members(remote, ["image.1.npy", "text.txt"]) == {"image.1.npy": b"second", "text.txt": b"words"}
        with pytest.raises(ValueError, match="no sample 'c' now"):
            read_members(item(f"{web.url}/x.tar", "c"))


def test_members_of_a_folder(tmp_path):
    paths = {"image.npy": tmp_path / "é x.npy", "points.obj": tmp_path / "é x.obj"}
    for path in paths.values():
        path.write_bytes(path.suffix.encode())
    whole = Item("é x", {"file": str(paths["image.npy"]), "members": {m: str(p) for m, p in paths.items()}})
    assert read_members(whole) == {"image.npy": b".npy", "points.obj": b".obj"}
    assert list_members(whole) == {"image.npy": 4, "points.obj": 4}
    paths["points.obj"].unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.obj is gone since it was indexed; align index add"):
        read_members(whole)


def test_found_samples_are_saved_under_safe_names(tmp_path, shard):
    hits = [Hit(2, 0.5, 7, item(shard, "b"), {}), Hit(1, 0.9, 3, item(shard, "a"), {})]
    tiny_space.write_tar(tmp_path / "odd.tar", {"../../up/x": {"jpg": b"no"}, "c d/é": {"jpg": b"yes"}})
    hits.append(Hit(3, 0.1, 9, item(tmp_path / "odd.tar", "c d/é"), {}))
    paths = save_hits(hits, tmp_path / "out")
    assert [path.name for path in paths[:2]] == ["02-b.jpg", "02-b.json"]
    assert paths[-1].name == "03-c_d_.jpg"
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert paths[-1].read_bytes() == b"yes"
    with pytest.raises(ValueError, match="no sample"):
        save_hits([Hit(1, 0.1, 9, item(tmp_path / "odd.tar", "../../up/x"), {})], tmp_path / "out")
    assert safe_name("../x/é y") == "_x_y"
