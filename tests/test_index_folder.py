"""An index of a folder of files: what is a sample, what is left out and why, and what is found again."""

import io
import json
import os
from collections import Counter

import pytest
import tiny_space
import torch
from PIL import Image as Picture
from served import tone
from torch import nn

from align.data import TooManyBad
from align.media import MEDIA
from align.model import JointModel, Tower
from align.preprocess import Audio, Bytes, Image, Points
from align.search.building import Options, Work, add_to_index, build_index
from align.search.building.folder import ALONE, BROKEN, HIDDEN, LINKED, OUTSIDE, REFUSED, UNNAMED, UNREAD, Wanted, scan
from align.search.local import LocalIndex
from align.search.members import read_members
from align.search.where import parse
from align.values import Features

EVERY = Work(max_bad=1)


class Centre(nn.Module):
    """An encoder of clouds: the largest coordinates, then zeros."""

    def __init__(self, width: int = tiny_space.D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        return Features(nn.functional.pad(values[..., :3].amax(dim=1), (0, self.width - 3)) * self.gain)


def model(*without: str) -> JointModel:
    towers = {
        "image": Tower(Image(size=4), tiny_space.Colours(), tiny_space.Pass),
        "points": Tower(Points(points=16, color=False), Centre(), tiny_space.Pass),
        "text": Tower(Bytes(context=32), tiny_space.Letters(), tiny_space.Pass),
    }
    return JointModel({m: tower for m, tower in towers.items() if m not in without}, tiny_space.D).eval()


def picture(*colour: int) -> bytes:
    file = io.BytesIO()
    Picture.new("RGB", (5, 5), colour).save(file, "PNG")
    return file.getvalue()


MESH = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
FILES = {
    "one.png": picture(255, 0, 0),
    "one.txt": b"a bbb\nccc",
    "one.json": b'{"label": "red", "year": 2001, "camera": {"iso": 100}}',
    "cats/one.PNG": picture(0, 255, 0),
    "cats/deep/two.off": MESH.encode(),
    "cats/deep/two.png": picture(0, 0, 255),
    "cats/notes.txt": b"a text without a partner",
    "cats/odd.json": b"{}",
    "cats/paper.pdf": b"%PDF",
    "Makefile": b"all:",
    ".hidden.png": picture(1, 1, 1),
    ".git/x.png": picture(1, 1, 1),
    "é.png": picture(9, 9, 9),
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "my photos"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def build(folder, out, made=None, work=EVERY, **options):
    return build_index(made or model(), folder, out, source="m", options=Options(**options), work=work)


def contents(out):
    """(key -> item, modality -> key -> its rows in the order of the disk)"""
    with LocalIndex.open(out) as index:
        numbers = index.numbers().tolist()
        items = dict(zip(numbers, index.items(numbers), strict=True))
        rows = {}
        for m in index.modalities:
            stored = index.rows(m, numbers)
            for value, number in zip(stored.values, stored.sample.tolist(), strict=True):
                rows.setdefault(m, {}).setdefault(items[number].key, []).append(value)
        return {item.key: item for item in items.values()}, rows


def test_files_of_one_stem_are_one_sample(folder, tmp_path):
    report = build(folder, tmp_path / "i")
    items, rows = contents(tmp_path / "i")
    assert set(items) == {"one", "cats/one", "cats/deep/two", "é"}
    one = items["one"]
    assert one.captions == ["a bbb", "ccc"]
    assert (one.label, one.json["year"], one.json["camera"]) == ("red", 2001, {"iso": 100})
    files = {"image.png": "one.png", "text.txt": "one.txt", "json": "one.json"}
    assert one.source == {
        "file": str(folder / "one.png"),
        "members": {member: str(folder / name) for member, name in files.items()},
    }
    assert read_members(one)["image.png"] == FILES["one.png"]
    assert set(rows["image"]) == set(items)
    assert len(rows["text"]["one"]) == 2
    assert set(rows["text"]) == {"one"}
    assert rows["image"]["cats/one"][0].tolist() == pytest.approx(
        model().embed(image=[folder / "cats/one.PNG"])["image"][0].tolist(), abs=1e-6
    )
    assert items["cats/deep/two"].source["members"]["points.off"].endswith("two.off")  # the original
    assert set(rows["points"]) == {"cats/deep/two"}
    assert (report.samples, report.made, len(report.changes.new)) == (4, "built", 4)
    assert items["cats/one"].label is None


def test_what_is_left_out_is_counted_by_suffix_and_reason(folder, tmp_path):
    (folder / "out.png").symlink_to("/etc/hostname")
    (folder / "gone.png").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "same.png").symlink_to(folder / "one.png")
    bad = os.fsencode(folder) + b"/\xff.png"
    with open(bad, "wb") as file:
        file.write(picture(1, 2, 3))
    os.mkfifo(folder / "pipe.png")
    report = build(folder, tmp_path / "i")
    assert report.left == Counter(
        {
            (".txt", ALONE): 1,
            (".json", ALONE): 1,
            (".pdf", UNREAD): 1,
            ("", UNREAD): 1,
            (".png", HIDDEN): 1,
            ("", HIDDEN): 1,
            (".png", OUTSIDE): 1,
            (".png", BROKEN): 1,
            ("", LINKED): 1,
            (".png", UNNAMED): 1,
            (".png", "no regular file"): 1,
        }
    )
    assert "same" in contents(tmp_path / "i")[0]


def test_a_folder_that_may_not_be_read_is_counted(folder, tmp_path, monkeypatch):
    real = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = build(folder, tmp_path / "i")
    assert report.left["", REFUSED] == 1
    assert "cats/deep/two" not in contents(tmp_path / "i")[0]


def test_every_file_is_in_a_sample_or_counted(folder, tmp_path):
    found = scan(folder, Wanted({"image": ("png",)}, ()))
    assert not found.samples
    assert found.left.total() == sum(not name.startswith(".git") for name in FILES) + 1  # a hidden folder counts as one


def test_a_folder_of_pictures_with_an_archive_is_a_folder_of_pictures(folder, tmp_path):
    tiny_space.write_tar(folder / "backup.tar", tiny_space.world(2))
    (folder / "song.wma").write_bytes(b"x")
    report = build(folder, tmp_path / "i")
    assert report.left[".tar", UNREAD] == report.left[".wma", UNREAD] == 1
    assert "ffmpeg" in report.advice
    tiny_space.write_tar(tmp_path / "shards" / "a.tar", tiny_space.world(2))
    with pytest.raises(ValueError, match="is a folder; name the shards in it"):
        build(tmp_path / "shards", tmp_path / "j")


def test_texts_alone_when_text_is_asked_for(folder, tmp_path):
    build(folder, tmp_path / "i", modalities=["text"])
    items, rows = contents(tmp_path / "i")
    assert set(items) == {"one", "cats/notes"}
    assert set(rows) == {"text"}
    assert items["cats/notes"].captions == ["a text without a partner"]
    assert "image.png" in items["one"].source["members"]  # a page shows it all the same


def test_captions_come_in_without_a_text_tower(folder, tmp_path):
    build(folder, tmp_path / "i", model("text", "points"))
    items, rows = contents(tmp_path / "i")
    assert set(rows) == {"image"}
    assert items["one"].captions == ["a bbb", "ccc"]
    with LocalIndex.open(tmp_path / "i") as index:
        assert index.find_text("bbb", 5)[1].tolist() == index.numbers(None, parse({"key": "one"})).tolist()


def test_folder_names_are_labels_only_when_asked_for(folder, tmp_path):
    (folder / "cats" / "one.json").write_text('{"label": "stated"}')
    (folder / "cats" / "three.png").write_bytes(picture(3, 3, 3))
    (folder / "cats" / "three.json").write_text("{broken")
    build(folder, tmp_path / "i", labels=True)
    items, _ = contents(tmp_path / "i")
    labels = {key: item.label for key, item in items.items()}
    assert labels == {
        "one": "red",
        "é": None,
        "cats/one": "stated",
        "cats/deep/two": "cats",
        "cats/three": None,  # its json cannot be read, and no label is made up
    }
    with LocalIndex.open(tmp_path / "i") as index:
        assert index.count(None, parse({"label": "cats"})) == 1
        assert index.count(None, parse({"folder": "cats"})) == 3
        assert index.count(None, parse({"camera.iso": {"gt": 50}})) == 1


def test_several_files_of_one_modality_are_rows(folder, tmp_path):
    (folder / "one.webp").write_bytes(FILES["cats/one.PNG"])
    (folder / "x.depth.png").write_bytes(picture(7, 7, 7))
    (folder / "x.image.png").write_bytes(picture(8, 8, 8))
    build(folder, tmp_path / "i", model("text"))
    items, rows = contents(tmp_path / "i")
    assert len(rows["image"]["one"]) == 2
    assert {"image.0.png", "image.1.webp"} <= set(items["one"].source["members"])
    assert {"x", "x.depth"} <= set(items)  # depth is no tower of this model, so it belongs to the stem


def test_a_second_build_finds_what_changed(folder, tmp_path):
    build(folder, tmp_path / "i")
    _, rows = contents(tmp_path / "i")
    with LocalIndex.open(tmp_path / "i") as index:
        numbers = {item.key: n for n in index.numbers().tolist() for item in index.items([n])}
    report = build(folder, tmp_path / "i")
    assert (report.made, report.filled) == ("unchanged", (0, 0, 0))
    os.utime(folder / "é.png", ns=(1, 1))  # written again with the same content
    (folder / "one.png").write_bytes(picture(200, 200, 0))
    (folder / "cats" / "deep" / "two.off").unlink()
    (folder / "cats" / "one.PNG").unlink()
    (folder / "new.png").write_bytes(picture(5, 5, 5))
    report = add_to_index(model(), folder, tmp_path / "i", work=EVERY)
    changes = report.changes
    assert report.made == "refreshed"
    assert (len(changes.new), len(changes.changed), len(changes.same), len(changes.gone)) == (1, 2, 1, 1)
    items, now = contents(tmp_path / "i")
    assert set(items) == {"one", "cats/deep/two", "é", "new"}
    assert not torch.equal(now["image"]["one"][0], rows["image"]["one"][0])
    assert torch.equal(now["image"]["é"][0], rows["image"]["é"][0])
    with LocalIndex.open(tmp_path / "i") as index:
        assert index.items([numbers["é"]])[0].key == "é"
        marks = index.sources()
    assert marks[str(folder / "é.png")]["files"]["image.png"][2] == 1
    assert add_to_index(model(), folder, tmp_path / "i", work=EVERY).made == "unchanged"


def test_deleted_samples_stay_deleted_until_their_file_changes(folder, tmp_path):
    build(folder, tmp_path / "i")
    with LocalIndex.open(tmp_path / "i", write=True) as index:
        assert index.delete(["one"]) == 1
    assert build(folder, tmp_path / "i").made == "unchanged"
    assert "one" not in contents(tmp_path / "i")[0]
    (folder / "one.txt").write_text("ddd")
    build(folder, tmp_path / "i")
    assert contents(tmp_path / "i")[0]["one"].captions == ["ddd"]


def test_a_stopped_build_goes_on_with_what_has_not_changed(folder, tmp_path):
    """A block of three samples is staged, of which the first is another one when the build goes on."""

    def stop(done, total):
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, tmp_path / "i", work=Work(max_bad=1, batch=3, progress=stop))
    first = scan(folder, Wanted({"image": ("png",)}, MEDIA)).samples[0]
    (folder / first.files[0].path).write_bytes(picture(77, 150, 200))
    (folder / first.files[0].path).with_suffix(".txt").write_text("fff")
    report = build(folder, tmp_path / "i", work=Work(max_bad=1, batch=3))
    assert report.resumed == 2
    build(folder, tmp_path / "one go")
    found, expected = contents(tmp_path / "i"), contents(tmp_path / "one go")
    assert found[0] == expected[0]
    for m, rows in expected[1].items():
        assert rows.keys() == found[1][m].keys()
        for key, values in rows.items():
            assert torch.allclose(torch.stack(values), torch.stack(found[1][m][key]), atol=1e-6), (m, key)


def test_other_options_embed_anew(folder, tmp_path):
    build(folder, tmp_path / "i")
    report = build(folder, tmp_path / "i", modalities=["image"])
    assert len(report.changes.changed) == 4
    assert set(contents(tmp_path / "i")[1]) == {"image"}


def test_broken_files_are_counted_and_tried_again(folder, tmp_path):
    for name in ("broken", "cut"):
        (folder / f"{name}.png").write_bytes(FILES["one.png"][: 40 if name == "cut" else 0])
    (folder / "cut.txt").write_text("its caption stands")
    with pytest.raises(TooManyBad, match="2 of 6 samples"):
        build(folder, tmp_path / "i", work=Work(max_bad=0.1))
    assert not (tmp_path / "i").exists()
    report = build(folder, tmp_path / "i", work=Work(max_bad=0.4))
    assert report.resumed == 0  # the last batch ended the build, and no batch before it was whole
    assert report.filled.unread == 1
    assert sum(n for reason, n in report.bad.items() if reason.startswith("image/")) == 2
    items, rows = contents(tmp_path / "i")
    assert items["cut"].captions == ["its caption stands"]
    assert "cut" not in rows["image"]
    (folder / "broken.png").write_bytes(picture(1, 1, 9))
    os.utime(folder / "broken.png", ns=(1, 1))
    assert build(folder, tmp_path / "i").filled.added == 1


@pytest.mark.parametrize(("name", "said"), [("fils", r"; did you mean .*files\?$"), ("nothing/like/it", "it$")])
def test_a_folder_that_is_not_there(tmp_path, name, said):
    (tmp_path / "files").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no folder and no shard .*{said}"):
        build(tmp_path / name, tmp_path / "i")


@pytest.mark.parametrize("name", ["a.aiff", "A.AIF", "a.wav", "a.flac"])
def test_a_sound_by_its_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(tone(400, kind="AIFF" if "if" in name.lower() else name[2:].upper()))
    wanted = Wanted({"audio": Audio.suffixes}, MEDIA)
    found = scan(tmp_path, wanted)
    assert [file.member for file in found.samples[0].files] == [f"audio.{name[2:].lower()}"]


def test_broken_files_that_were_allowed_do_not_stop_a_refresh(folder, tmp_path):
    for i in range(3):
        (folder / f"broken {i}.png").write_bytes(b"")
    build(folder, tmp_path / "i", work=Work(max_bad=0.5))
    for _ in range(2):
        report = build(folder, tmp_path / "i", work=Work(max_bad=0.0))
        assert (report.made, report.filled.unread) == ("unchanged", 3)
        assert (len(report.changes.again), len(report.changes.same)) == (3, 4)
        assert report.bad["image/empty"] == 3
    (folder / "broken 0.png").unlink()
    (folder / "broken 1.png").write_bytes(picture(1, 1, 9))
    report = build(folder, tmp_path / "i", work=Work(max_bad=0.0))
    assert (report.filled.added, report.filled.removed, report.filled.unread) == (1, 0, 1)
    assert len(contents(tmp_path / "i")[0]) == 5


def test_new_broken_files_are_judged_by_their_share_of_all(folder, tmp_path):
    build(folder, tmp_path / "i")
    for i in range(2):
        (folder / f"broken {i}.png").write_bytes(b"")
    with pytest.raises(TooManyBad, match="2 of 6 samples in all"):
        build(folder, tmp_path / "i", work=Work(max_bad=0.3))
    assert build(folder, tmp_path / "i", work=Work(max_bad=0.4)).filled.unread == 2


def test_a_file_that_vanishes_while_it_is_read(folder, tmp_path, monkeypatch):
    from align.search.building import files

    real = files._read

    def vanish(file):
        if file.path.endswith("é.png"):
            os.unlink(file.path)
        return real(file)

    monkeypatch.setattr(files, "_read", vanish)
    report = build(folder, tmp_path / "i")
    assert report.bad["image/unreadable"] == 1
    assert "é" not in contents(tmp_path / "i")[0]


def test_files_that_are_too_large_are_not_opened(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("align.search.building.files.MOST", 100)
    monkeypatch.setattr("align.search.building.files.MOST_JSON", 10)
    (folder / "large.png").write_bytes(b"x" * 101)
    report = build(folder, tmp_path / "i")
    assert (report.bad["image/too-large"], report.bad["json/too-large"]) == (1, 1)
    assert contents(tmp_path / "i")[0]["one"].label is None


@pytest.mark.parametrize(
    ("files", "made", "said"),
    [
        ({}, (), "no file that the model embeds: it reads .*obj.*png.*; there are no files"),
        ({"a.pdf": b"x", "b.pdf": b"x"}, (), r"there are 2 \.pdf \(no medium reads it\)"),
        (
            {"a.png": picture(1, 1, 1)},
            ("image",),
            r"1 \.png \(image is not asked for, or the model has no tower for it\)",
        ),
        ({"a.txt": b"x"}, (), r"1 \.txt \(no file beside it"),
        ({"a.png": b"x", "b.png": b""}, (), r"none of the 2 samples of .* could be embedded \(1 image/"),
    ],
)
def test_a_folder_without_anything_to_embed(tmp_path, files, made, said):
    (tmp_path / "f").mkdir()
    for name, data in files.items():
        (tmp_path / "f" / name).write_bytes(data)
    with pytest.raises(ValueError, match=said):
        build(tmp_path / "f", tmp_path / "i", model(*made))
    assert not (tmp_path / "i").exists()
    assert not [*tmp_path.glob(".i.*.tmp")]


def test_workers_and_batches_change_no_bit(folder, tmp_path):
    build(folder, tmp_path / "i")
    build(folder, tmp_path / "j", work=Work(max_bad=1, workers=2, batch=2))
    one, other = contents(tmp_path / "i"), contents(tmp_path / "j")
    assert one[0] == other[0]
    for m, rows in one[1].items():
        for key, values in rows.items():
            assert torch.equal(torch.stack(values), torch.stack(other[1][m][key])), (m, key)


def test_json_that_no_database_holds(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.png").write_bytes(picture(1, 1, 1))
    (tmp_path / "f" / "a.json").write_text('{"n": NaN, "s": "\\ud800x", "big": 1' + "0" * 30 + ', "z": "a\\u0000b"}')
    build(tmp_path / "f", tmp_path / "i")
    item = contents(tmp_path / "i")[0]["a"]
    assert item.json["n"] is None
    assert item.json["s"] == "?x"
    assert json.dumps(item.json)
    assert item.json["big"] == 10**30
