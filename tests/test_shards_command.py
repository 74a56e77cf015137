"""``align shards build`` and ``align shards show``, as typed."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from tiny_data import npy, png, wav, write

from align.commands import main


@pytest.fixture
def built(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, data in {"a.png": png(0), "a.wav": wav(0), "a.npy": npy(0)}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "t.csv").write_text(
        "image,audio,points,caption,label\na.png,a.wav,a.npy,a red [b]cone[/b],cone\n,,,a torus,torus\n"
    )
    assert main(["shards", "build", "t.csv", "out", "--columns", "caption=text", "--licence", "CC0-1.0"]) == 0
    assert "out/train-*.tar: 2 samples" in capsys.readouterr().out
    return tmp_path


def test_show_prints_counts_and_a_sample_of_each(built, capsys):
    assert main(["shards", "show", "out/train-*.tar"]) == 0
    out = capsys.readouterr().out
    for part in (
        "2 samples in 1 shard",
        "CC0-1.0",
        "12×12 RGB",
        "0.1 s at 8000 Hz, mono",
        "20 points",
        "a red [b]cone[/b]",
    ):
        assert part in out
    assert "label: 2 classes: cone, torus" in out


def test_show_takes_a_folder_too(built, capsys):
    assert main(["shards", "show", "out"]) == 0
    assert "2 samples in 1 shard" in capsys.readouterr().out


def test_show_as_json_and_saved(built, capsys):
    assert main(["shards", "show", "out/train-000000.tar", "--json", "--save", "look", "--each", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modalities"] == {"audio": 1, "image": 1, "points": 1, "text": 2}
    assert found["examples"]["points"][0]["shape"] == [20, 6]
    assert [example["text"] for example in found["examples"]["text"]] == [["a red [b]cone[/b]"], ["a torus"]]
    assert found["examples"]["image"][0]["label"] == "cone"
    assert (built / "look" / "00000000.image.png").read_bytes() == png(0)
    assert len(list((built / "look").iterdir())) == len(found["saved"]) == 7


def test_no_name_in_a_shard_leaves_the_folder(tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a.image.jpg/../../../up.txt", "b.text.txt", "a.image.jpg", "c.text.\x1b[31m.txt"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"xx"))
    assert main(["shards", "show", str(tmp_path / "a.tar"), "--save", str(tmp_path / "look")]) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "a.tar.index.json", "look"}
    assert {path.name for path in (tmp_path / "look").iterdir()} == {"00000000.text.txt", "00000001.image.jpg"}


def test_what_is_wrong_is_one_line(built, capsys):
    for arguments, message, code in (
        (["show", "out/val-*.tar"], "no shard matches out/val-*.tar", 1),
        (["show", "out/train-*.tar", "--each", "0"], "--each 0", 1),
        (["show", "out/train-*.tar", "--jsno"], "--json", 2),
        (["build", "t.csv", "out2"], "unknown column 'caption'", 1),
        (["build", "t.csv", "out2", "--columns", "caption"], "write NAME=COLUMN", 1),
        (["build", "none.csv", "out2"], "no table or folder none.csv", 1),
    ):
        assert main(["shards", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_bad_member_is_shown_as_such(tmp_path, capsys):
    pattern = write(tmp_path, 1, make=lambda i: {"image.png": b"no image", "points.npy": b"no array"})
    assert main(["shards", "show", pattern]) == 0
    assert capsys.readouterr().out.count("unreadable") == 2


def test_build_from_shards_with_everything_written_anew(built, capsys):
    options = ["--image-size", "8", "--image-format", "jpeg", "--image-quality", "80", "--sample-rate", "4000"]
    options += ["--points-dtype", "float16", "--workers", "1", "--shard-mb", "1"]
    assert main(["shards", "build", "out/train-000000.tar", "small", "--split", "test", *options]) == 0
    assert "small/test-*.tar: 2 samples" in capsys.readouterr().out
    assert main(["shards", "show", "small"]) == 0
    out = capsys.readouterr().out
    for part in ("8×8 RGB", "at 4000 Hz, mono", "float16", "CC0-1.0", "2 classes: cone, torus"):
        assert part in out


def test_build_says_what_was_unreadable_and_when_it_is_too_much(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(b"none")
    (tmp_path / "t.csv").write_text("image,text\n" + "".join(f"{i}.png,thing\n" for i in range(12)))
    build = ["shards", "build", "t.csv", "out", "--image-size", "8"]
    assert main(build) == 3
    assert "11 of 11 samples so far are bad" in capsys.readouterr().err
    assert main([*build, "--max-bad", "1"]) == 0
    assert "unreadable: 12 members, left out; see out/train-bad.jsonl" in capsys.readouterr().out
    for extra, message, code in (
        (["--audio-format", "opus"], "opus needs a sample_rate", 1),
        (["--image-format", "gif"], "'jpeg', 'png', 'webp'", 2),
        (["--members", "text"], "--members 'text': write MODALITY=NAME", 1),
        (["--workers", "-1"], "workers=-1", 1),
    ):
        assert main([*build, *extra]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
