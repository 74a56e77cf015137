"""Shards: the same order for any ranks, strict indexes, and nothing lost without a count."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile

import pytest
from tiny_data import members, png, write

from align.data import Shards, ShardWriter
from align.data.archive.tar import header, sound
from align.data.names import split_name
from align.data.places.urls import braces


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards"), 50)


def keys(shards, epoch=0, **kwargs):
    return [sample["__key__"] for sample in shards.samples(epoch, **kwargs)]


def tar(path, files, *, format=tarfile.USTAR_FORMAT):
    """A foreign shard, as the standard library writes it."""
    with tarfile.open(path, "w", format=format) as out:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def test_samples_have_their_members_and_their_place(pattern):
    shards = Shards(pattern, shuffle=False)
    assert len(shards) == 50
    for i, sample in enumerate(shards.samples(0)):
        assert {k: v for k, v in sample.items() if not k.startswith("__")} == members(i)
        assert (sample["__key__"], sample["__index__"]) == (f"{i:05d}", i)
        assert sample["__url__"].endswith(f"train-{i // 16:06d}.tar")


def test_shuffled_every_sample_once_and_another_order_each_epoch(pattern):
    shards = Shards(pattern, seed=1)
    first, second = keys(shards, 0), keys(shards, 1)
    assert sorted(first) == sorted(second) == [f"{i:05d}" for i in range(50)]
    assert first != second
    assert first == keys(Shards(pattern, seed=1), 0) != keys(Shards(pattern, seed=2), 0)


def test_ranks_see_the_one_order(pattern):
    shards = Shards(pattern)
    whole = keys(shards, 2)
    for world in (1, 2, 3, 4):
        for start in (0, 7, 49, 50):
            for rank in range(world):
                found = list(shards.samples(2, rank=rank, world=world, start=start))
                assert [s["__key__"] for s in found] == whole[start + rank :: world]
                assert [s["__index__"] for s in found] == list(range(start + rank, 50, world))


def test_what_the_names_say(pattern):
    shards = Shards(pattern)
    assert shards.modalities == {"audio": 50, "image": 50, "points": 50, "text": 50}
    assert shards.classes == {"shape": ["cone", "torus"], "size": ["0", "1", "2"]}
    assert shards.manifest is not None
    assert shards.manifest["splits"]["train"]["samples"] == 50
    assert shards.report() == {}
    shards.count("image/odd", 2, where="here")
    assert shards.report() == {"image/odd": 2}
    assert shards.first("image/odd") == "here"


def test_classes_come_from_the_labels_where_no_manifest_is(pattern, tmp_path):
    shutil.copy(pattern.replace("*", "000000"), tmp_path / "a.tar")
    assert Shards(tmp_path / "a.tar").classes == {"shape": ["cone", "torus"], "size": ["0", "1", "2"]}
    assert Shards(tmp_path / "a.tar").manifest is None


def test_paths_globs_braces_and_lists(pattern):
    folder = pattern.removesuffix("train-*.tar")
    assert braces("{8..10}.{a,b}") == ["8.a", "8.b", "9.a", "9.b", "10.a", "10.b"]
    assert len(Shards(folder + "train-000000.tar")) == 16
    assert len(Shards(folder + "train-{000000..000001}.tar")) == 32
    assert len(Shards([folder + "train-000003.tar", pattern])) == 50  # each shard once
    for missing in ("train-{000000..000004}.tar", "val-*.tar", "train-9.tar"):
        with pytest.raises(FileNotFoundError, match=r"no shard .*(000004|val-\*|train-9)"):
            Shards(folder + missing)
    with pytest.raises(ValueError, match=r"is a folder; name the shards in it: .*/train-\*\.tar"):
        Shards(folder)
    with pytest.raises(ValueError, match="no shards are named"):
        Shards([])


@pytest.mark.parametrize(
    "url", ["pipe:cat x", "{pipe:touch x,b.tar}", "-", "file:/etc/passwd", "file:///etc/x.tar", "simplecache::file://x"]
)
def test_no_commands_and_no_files_by_url(url):
    with pytest.raises(ValueError, match=r"would run a command|would read a pipe|is not a URL that shards"):
        Shards(url)


def test_arguments_are_checked(pattern):
    with pytest.raises(ValueError, match="streams=0"):
        Shards(pattern, streams=0)
    with pytest.raises(ValueError, match=r"max_bad is a share from 0 to 1, not 2"):
        Shards(pattern, max_bad=2)
    with pytest.raises(ValueError, match="rank=2 of world=2"):
        next(Shards(pattern).samples(0, rank=2, world=2))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_foreign_shard_is_indexed_on_first_use(tmp_path, format):
    long = "folder-" + "x" * 120
    files = [(f"{long}/k{i}.{ext}", f"{ext} {i}".encode()) for i in range(5) for ext in ("jpg", "JSON", "a.b.jpg")]
    path = tar(tmp_path / "a.tar", files, format=tarfile.GNU_FORMAT if format == tarfile.USTAR_FORMAT else format)
    found = list(Shards(path, shuffle=False).samples(0))
    assert [s["__key__"] for s in found] == [f"{long}/k{i}" for i in range(5)]
    assert found[3]["json"] == b"JSON 3"
    index = tmp_path / "a.tar.index.json"
    assert index.is_file()
    before = index.stat().st_mtime_ns
    Shards(path)
    assert index.stat().st_mtime_ns == before
    assert Shards(path).ignored == {"a.b.jpg": 5}
    assert Shards(path).modalities == {"image": 5}


def test_the_index_is_trusted_only_while_size_and_time_agree(tmp_path):
    path = tar(tmp_path / "a.tar", [("a.txt", b"one"), ("b.txt", b"two")])
    assert keys(Shards(path, shuffle=False)) == ["a", "b"]
    tar(path, [("c.txt", b"one"), ("d.txt", b"two")])  # as large as before
    os.utime(path, ns=(1, 1))
    assert keys(Shards(path, shuffle=False)) == ["c", "d"]
    stored = json.loads((tmp_path / "a.tar.index.json").read_text())
    for broken in (
        {**stored, "offset": [0, 10**9]},
        {**stored, "offset": [[512, 0], [2048, 0]]},
        {**stored, "keys": {"c": 0, "d": 1}},
        {**stored, "first": [0]},
        {**stored, "name": [0, 7]},
        {"schema": 9},
        [],
        *({**stored, "keys": [key, "d"]} for key in ("../../up", "/etc/c", "x/../c", "C:c", "c\\c", "c\0", "", 7)),
        *({**stored, "names": [name]} for name in ("image.../../x.txt", "a/b.jpg", "\0.jpg", "", ".jpg", 7)),
    ):
        (tmp_path / "a.tar.index.json").write_text(json.dumps(broken))
        assert keys(Shards(path, shuffle=False)) == ["c", "d"]


def test_an_index_goes_into_the_cache_where_the_folder_is_read_only(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    path = tar(tmp_path / "data" / "a.tar", [("a.txt", b"one")])
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *a: False)
    assert keys(Shards(path)) == ["a"]
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["a.tar"]
    (stored,) = (tmp_path / "cache" / "index").iterdir()
    before = stored.stat().st_mtime_ns
    assert keys(Shards(path)) == ["a"]
    assert stored.stat().st_mtime_ns == before


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path):
    pattern = write(tmp_path, 4)
    path = tmp_path / "train-000000.tar"
    data, state = bytearray(path.read_bytes()), path.stat()
    at = data.index(png(2)) + 40
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    shards = Shards(pattern, shuffle=False)
    found = list(shards.samples(0))
    assert [s["__key__"] for s in found] == [f"{i:05d}" for i in range(4)]
    assert "image.png" not in found[2]
    assert "audio.wav" in found[2]
    assert shards.report() == {"image/checksum": 1}
    assert shards.first("image/checksum").endswith("train-000000.tar: 00002.image.png")


def test_a_sample_without_a_readable_member_moves_no_other(tmp_path):
    pattern = write(tmp_path, 4, make=lambda i: {"image.png": png(i)})
    path = tmp_path / "train-000000.tar"
    data, state = bytearray(path.read_bytes()), path.stat()
    data[data.index(png(1)) + 40] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    found = list(Shards(pattern, shuffle=False).samples(0))
    assert [(s["__key__"], s["__index__"]) for s in found] == [("00000", 0), ("00002", 2), ("00003", 3)]


@pytest.mark.parametrize("size", [100, 1 << 16, (1 << 16) + 1, 200_000])
def test_damage_after_the_index_was_written_is_seen_in_members_of_any_size(tmp_path, size):
    def said(at, value):
        with ShardWriter(tmp_path / str(at), "train") as writer:
            for i in range(3):
                writer.write(f"k{i}", {"blob.bin": bytes([i + 1]) * size})
        path = tmp_path / str(at) / "train-000000.tar"
        data, state = bytearray(path.read_bytes()), path.stat()
        place = data.index(b"k1.blob.bin") + at
        data[place] = value
        path.write_bytes(data)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        shards = Shards(str(tmp_path / str(at) / "train-*.tar"), shuffle=False)
        return [s.get("blob.bin") for s in shards.samples(0)], shards.report()

    whole = [bytes([i + 1]) * size for i in range(3)]
    headed, report = said(30, 7)
    assert report == {"shard/header": 1}
    assert headed == whole
    found, report = said(512 + size - 1, 99)
    assert found == [whole[0], whole[2]]
    assert report == {"blob/checksum": 1}


SAMPLES = [(f"k{i}.{ext}", f"{ext} of {i} ".encode() * 100) for i in range(10) for ext in ("jpg", "txt")]


def test_a_bad_header_is_not_the_end(tmp_path):
    path = tar(tmp_path / "a.tar", SAMPLES)
    data = bytearray(path.read_bytes())
    at = data.index(b"k4.txt\0")
    for damage in (b"\xff" * 40, bytes(512)):
        broken = bytearray(data)
        broken[at : at + len(damage)] = damage
        path.write_bytes(broken)
        shards = Shards(path, shuffle=False)
        assert keys(shards) == ["k0", "k1", "k2", "k3", "k6", "k7", "k8", "k9"]  # k5 may have begun in the gap
        assert shards.report() == {"sample/cut": 2, "shard/header": 1}
        assert sum(n for _, _, n in shards.lost) == 2
        (tmp_path / "a.tar.index.json").unlink()


@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
def test_a_hole_of_zeros_is_not_the_end_of_an_archive(tmp_path, blocks):
    """As a disk leaves them: members may vanish whole, and two blocks of zeros look like an end."""
    files = [(f"k{i}.{ext}", b"x") for i in range(20) for ext in ("jpg", "txt")]
    data = bytearray(tar(tmp_path / "a.tar", files).read_bytes())
    at = data.index(b"k5.jpg")
    data[at : at + 512 * blocks] = bytes(512 * blocks)
    (tmp_path / "a.tar").write_bytes(data)
    shards = Shards(tmp_path / "a.tar", shuffle=False)
    assert set(keys(shards)).isdisjoint({"k4", "k5"})
    assert all(set(s) >= {"jpg", "txt"} for s in shards.samples(0))
    assert shards.report()["shard/header"] == 1
    assert shards.report()["sample/cut"] >= 2


def test_a_cut_archive_gives_every_complete_sample_and_no_partial_one(tmp_path):
    whole = tar(tmp_path / "a.tar", SAMPLES).read_bytes()
    ends = [whole.index(f"k{i}.txt\0".encode()) + 512 + len(SAMPLES[1][1]) for i in range(10)]
    path = tmp_path / "cut.tar"
    for cut in [*range(512, ends[-1] + 1, 512), *range(412, ends[-1], 512), *range(515, ends[-1], 1024)]:
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends)
        try:
            shards = Shards(path, shuffle=False)
        except ValueError:  # not even one header
            assert complete == 0
            continue
        found = list(shards.samples(0))
        assert all(set(s) >= {"jpg", "txt"} for s in found)
        unsure = complete == 1 and len(found) == 0  # the only sample before the cut could have had more members
        assert len(found) == complete or unsure
        assert shards.report() != {}
        (tmp_path / "cut.tar.index.json").unlink(missing_ok=True)


def test_a_cut_in_the_next_header_takes_no_sample_with_holes(tmp_path):
    """What is left of the header names the next sample, so the last before it is whole although it has one member."""
    files = [("a.jpg", b"1"), ("a.txt", b"2"), ("b.txt", b"3"), ("c.jpg", b"4")]
    whole = tar(tmp_path / "whole.tar", files).read_bytes()
    for cut, expected in ((whole.index(b"c.jpg\0") + 60, ["a", "b"]), (whole.index(b"c.jpg\0"), ["a"])):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        assert (
            keys(Shards(tmp_path / "cut.tar", shuffle=False)) == expected
        )  # at a border nothing tells: b may have more
        (tmp_path / "cut.tar.index.json").unlink()


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_long_name_whose_first_hundred_bytes_end_with_a_slash_is_a_file(tmp_path, format):
    """The header that follows a long name holds its first 100 bytes: here they look like a folder's."""
    key = "d/" * 60 + "a"
    path = tar(tmp_path / "a.tar", [(f"{key}.jpg", b"picture"), (f"{key}.txt", b"text")], format=format)
    assert b"d/0000644" in path.read_bytes()  # the mode follows the name
    (sample,) = Shards(path).samples(0)
    assert (sample["__key__"], sample["jpg"], sample["txt"]) == (key, b"picture", b"text")
    data = path.read_bytes()
    if format == tarfile.GNU_FORMAT:  # as tars were before there were types
        old = bytearray(data)
        for at in range(0, len(old) - 512, 512):
            if old[at + 156] == ord("0") and sound(bytes(old[at : at + 512])):
                old[at + 156] = 0
                old[at + 148 : at + 156] = b"%06o\0 " % (sum(old[at : at + 148] + old[at + 156 : at + 512]) + 8 * 32)
        path.write_bytes(old)
        assert keys(Shards(path)) == [key]


def test_links_in_place_of_members_are_counted(tmp_path):
    """tar writes a second name of a file as a link: the sample is there, without that member."""
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        for name, kind in (("a.jpg", tarfile.REGTYPE), ("b.jpg", tarfile.LNKTYPE), ("b.txt", tarfile.CONTTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "a.jpg" * (kind == tarfile.LNKTYPE), 3
            out.addfile(info, io.BytesIO(b"one") if kind != tarfile.LNKTYPE else None)
        for name, kind in (("folder.jpg", tarfile.DIRTYPE), ("c.txt", tarfile.SYMTYPE), ("d.txt", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            out.addfile(info)
    shards = Shards(tmp_path / "a.tar", shuffle=False)
    assert [(s["__key__"], {k for k in s if k[:2] != "__"}) for s in shards.samples(0)] == [
        ("a", {"jpg"}),
        ("b", {"txt"}),
    ]
    assert shards.report() == {"shard/no-file": 3}
    assert sum(n for _, _, n in shards.lost) == 3


def test_a_broken_extended_header_gives_no_member_a_wrong_name(tmp_path):
    """The short name in the header after it is no name: the samples on both sides of it are left out."""
    files = [(f"{'x' * 98}{i}.{ext}", b"1") for i in range(4) for ext in ("jpg", "txt")]
    whole = tar(tmp_path / "a.tar", files, format=tarfile.PAX_FORMAT).read_bytes()
    at = whole.index(b" path=" + files[2][0].encode())
    for damage in (b"~", b"9"):  # no length; another length
        data = bytearray(whole)
        data[at - 1 : at] = damage
        (tmp_path / "a.tar").write_bytes(data)
        shards = Shards(tmp_path / "a.tar", shuffle=False)
        assert keys(shards) == [f"{'x' * 98}{i}" for i in (2, 3)]
        assert shards.report() == {"sample/cut": 2, "shard/header": 1, "shard/unsafe-name": 1}


def test_a_block_that_is_no_header_of_any_tar(tmp_path):
    """A byte is missing: the shifted block's sum happens to be right, but not where its magic stands."""
    whole = tar(tmp_path / "a.tar", [("00.jpg", b"1"), ("01.jpg", b""), ("02.jpg", b"1")]).read_bytes()
    at = whole.index(b"01.jpg")
    (tmp_path / "a.tar").write_bytes(whole[:at] + whole[at + 1 :])
    assert tarfile.TarInfo.frombuf(whole[at + 1 : at + 513], "utf-8", "strict").name == "1.jpg"
    assert not sound(whole[at + 1 : at + 513])
    assert keys(Shards(tmp_path / "a.tar", shuffle=False)) == []


def test_samples_without_a_trace_are_counted_by_the_index_from_before(tmp_path):
    path = tar(tmp_path / "a.tar", SAMPLES)
    assert len(Shards(path)) == 10
    whole = path.read_bytes()
    at = whole.index(b"k3.txt\0")
    for damaged in (whole[: at + 600], whole[:at] + whole[at + 1 :]):  # cut; a byte is missing, and no header is found
        path.write_bytes(whole)
        os.utime(path, ns=(1, 1))
        Shards(path)
        path.write_bytes(damaged)
        shards = Shards(path, shuffle=False)
        assert keys(shards) == ["k0", "k1", "k2"]
        assert (shards.report()["sample/cut"], shards.report()["sample/lost"]) == (1, 6)
        assert sum(n for _, _, n in shards.lost) == 7


def test_a_sample_cut_in_its_first_member_is_counted(tmp_path):
    whole = tar(tmp_path / "whole.tar", SAMPLES).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: whole.index(b"k3.jpg\0") + 700])
    shards = Shards(tmp_path / "cut.tar", shuffle=False)
    assert keys(shards) == ["k0", "k1", "k2"]
    assert shards.report() == {"sample/cut": 1, "shard/truncated": 1}


def test_the_checksum_of_a_header():
    """As the standard library judges it, for one flipped bit anywhere but in the two bytes that end the field."""
    good = header("folder/k1.image.jpg", 12345)
    assert sound(good)
    for at in range(len(good)):
        if at not in (154, 155):
            bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
            assert not sound(bad), at
    assert not sound(bytes(512))
    old = bytearray(header("x" * 90, 1))
    old[:90] = b"\xe9" * 90  # names in Latin-1; some writers summed signed bytes
    signed = 8 * 32 + sum(b - 256 if b > 127 else b for b in old[:148] + old[156:])
    old[148:156] = b"%06o\0 " % signed
    assert sound(bytes(old))


@pytest.mark.parametrize(
    "name",
    [
        *("../a.jpg", "x/../../a.jpg", "/a.jpg", "c:a.jpg", "C:\\a.jpg", "a\\b.jpg", "a\0b.jpg", "x\n.jpg"),
        *("a.b\\c.jpg", "a.\0b.jpg", "a.x\n.jpg", "a.\udcff.jpg", "a.\u202egpj.txt"),
        *("a.__key__", "a.__url__", "a.__index__"),
    ],
)
def test_names_that_could_leave_a_folder(name):
    assert split_name(name) is None


def test_members_with_names_that_no_file_has_or_that_a_sample_has_itself(tmp_path):
    names = ["a.jpg", "a.__key__", "a.__index__", "a.im\udcffage.jpg", "b.__url__", "c.jpg"]
    shards = Shards(tar(tmp_path / "a.tar", [(name, b"x") for name in names]), shuffle=False)
    assert [(s["__key__"], s["__index__"], len(s)) for s in shards.samples(0)] == [("a", 0, 4), ("c", 1, 4)]
    assert shards.report() == {"shard/unsafe-name": 4}
    assert (tmp_path / "a.tar.index.json").is_file()


def test_odd_archives(tmp_path):
    (tmp_path / "empty.tar").write_bytes(b"")
    assert len(Shards(tmp_path / "empty.tar")) == 0
    assert Shards(tmp_path / "empty.tar").report() == {"shard/no-end": 1}
    for name, content in {"a.tar": b"no tar at all" * 1000, "b.tar": b"short"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a tar file"):
            Shards(tmp_path / name)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz"):
        pass
    with pytest.raises(ValueError, match=r"c\.tar\.gz is compressed with gzip: unpack it first"):
        Shards(tmp_path / "c.tar.gz")
    both = tar(tmp_path / "x.tar", SAMPLES[:4]).read_bytes() + tar(tmp_path / "y.tar", SAMPLES[4:]).read_bytes()
    (tmp_path / "two.tar").write_bytes(both)
    assert keys(Shards(tmp_path / "two.tar", shuffle=False)) == [f"k{i}" for i in range(10)]


def test_members_that_are_apart_repeated_or_unsafe(tmp_path):
    names = [
        "a.jpg",
        "b.jpg",
        "a.txt",
        "b.jpg",
        "../up.jpg",
        "/etc/x.jpg",
        "C:\\x.jpg",
        ".hidden",
        "README",
        "__meta__",
    ]
    path = tar(tmp_path / "a.tar", [(name, f"{i}".encode()) for i, name in enumerate(names)])
    shards = Shards(path, shuffle=False)
    found = {s["__key__"]: s for s in shards.samples(0)}
    assert set(found) == {"a", "b"}
    assert found["a"]["txt"] == b"2"
    assert found["b"]["jpg"] == b"1"
    assert shards.report() == {
        "shard/duplicate-member": 1,
        "shard/not-adjacent": 2,
        "shard/other-file": 2,
        "shard/unsafe-name": 3,
    }


def test_pickles_are_never_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/pwned",)

    code = pickle.dumps(Evil())
    names = ["a.pkl", "a.image.pkl", "a.pyd", "a.pth", "a.text.txt"]
    shards = Shards(tar(tmp_path / "a.tar", [(name, code) for name in names]))
    (sample,) = shards.samples(0)
    assert [name for name in sample if not name.startswith("__")] == ["text.txt"]
    assert set(shards.ignored) == {"pkl", "image.pkl", "pyd", "pth"}
    assert shards.modalities == {"text": 1}
    with ShardWriter(tmp_path / "out") as writer, pytest.raises(ValueError, match="never read"):
        writer.write("a", {"image.pkl": b""})
    assert not (tmp_path / "pwned").exists()


def test_no_file_stays_open(tmp_path):
    def opened():
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return {os.readlink(link) for link in links if os.path.exists(link) and str(tmp_path) in os.readlink(link)}

    pattern = write(tmp_path, 20)
    shards = Shards(pattern)
    list(shards.samples(0))
    assert any(name.endswith(".tar") for name in opened())
    shards.close()
    assert not any(name.endswith(".tar") for name in opened())
    copy = pickle.loads(pickle.dumps(shards))
    assert keys(copy) == keys(shards)
    del shards, copy
    assert not any(name.endswith(".tar") for name in opened())
