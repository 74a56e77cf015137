"""Shards from shards of another make and from programs; what is written anew; how shards are balanced."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image as Picture
from test_data_build import read, table
from tiny_data import members, npy, png, wav, write, written_anew

from align.curation import Recode, build
from align.curation.jobs.balance import balance
from align.data import Shards, TooManyBad
from align.media.sounds.ogg import checksum, with_serial
from align.preprocess import Audio
from align.values import BadSample


def tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def jpeg(size, value=0, **options):
    out = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def test_what_img2dataset_writes(tmp_path):
    about = json.dumps({"caption": "a  cat", "width": 12, "key": "000000001", "label": 1.5}).encode()
    tar(
        tmp_path / "in" / "00000.tar",
        {"000000001.jpg": png(1), "000000001.json": about, "000000001.txt": b"a\ncat \n", "000000002.json": b"{}"},
    )
    tar(tmp_path / "in" / "00001.tar", {"000010001.webp": png(2), "000010001.cls": b"7", "000010001.xmp": b"?"})
    (tmp_path / "in" / "00000.parquet").write_bytes(b"its table")
    assert build(tmp_path / "in", tmp_path / "out", max_bad=1) == {"train": 2, "left out": 1, "ignored": 1, "bad": 1}
    found = read(tmp_path / "out")
    assert json.loads(found["000000001"].pop("json")) == {"caption": "a  cat", "width": 12, "key": "000000001"}
    assert found["000000001"] == {"image.jpg": png(1), "text.txt": b"a cat"}  # one caption, whatever its lines
    assert found["000010001"] == {"image.webp": png(2), "json": b'{"label": 7}'}
    bad = (tmp_path / "out" / "train-bad.jsonl").read_text()
    assert json.loads(bad) == {"key": "000000001", "member": "json", "reason": "json/label"}

    mapping = {"text": ["json:caption", "txt"]}
    build(str(tmp_path / "in" / "{00000..00001}.tar"), tmp_path / "named", split="cc", members=mapping, max_bad=1)
    assert read(tmp_path / "named", "cc")["000000001"]["text.txt"] == b"a cat"


def test_our_own_shards_keep_their_splits_bytes_and_classes(tmp_path):
    write(tmp_path / "in", 20)
    write(tmp_path / "in", 5, split="test")
    assert build(tmp_path / "in", tmp_path / "out", workers=1) == {"test": 5, "train": 20, "left out": 0}
    assert read(tmp_path / "out") == read(tmp_path / "in")
    assert Shards(tmp_path / "out" / "*.tar").classes == Shards(tmp_path / "in" / "*.tar").classes
    with pytest.raises(ValueError, match="holds the shards to read; write to another folder"):
        build(tmp_path / "in", tmp_path / "in")


def test_a_damaged_member_of_a_shard_is_counted(tmp_path):
    pattern = write(tmp_path / "in", 5)
    data = bytearray((tmp_path / "in" / "train-000000.tar").read_bytes())
    at = data.find(png(3))
    data[at + 50] ^= 1
    index = tmp_path / "in" / "train-000000.tar.index.json"
    said = json.loads(index.read_text())
    (tmp_path / "in" / "train-000000.tar").write_bytes(data)
    said["shard"]["mtime_ns"] = (tmp_path / "in" / "train-000000.tar").stat().st_mtime_ns
    index.write_text(json.dumps(said))
    assert build(tmp_path / "in", tmp_path / "out", max_bad=1)["bad"] == 1
    assert set(read(tmp_path / "out")["00003"]) == set(members(3)) - {"image.png"}
    line = json.loads((tmp_path / "out" / "train-bad.jsonl").read_text())
    assert line == {"key": "00003", "member": "image.png", "reason": "image/checksum"}
    assert pattern


def test_samples_that_a_cut_took_are_counted(tmp_path):
    for name in "ab":
        path = tar(tmp_path / "in" / f"{name}.tar", {f"{name}{i}.jpg": png(i, 30) for i in range(6)})
        path.write_bytes(path.read_bytes()[: 3 * (len(png(0, 30)) + 512)])  # in the third sample
    shards = Shards(tmp_path / "in" / "*.tar")
    with pytest.raises(TooManyBad, match=r"2 of \d samples in all are bad(.|\n)*sample/cut +2  .*a\.tar"):
        build(tmp_path / "in", tmp_path / "out")
    assert build(tmp_path / "in", tmp_path / "out", max_bad=1) == {"train": len(shards), "left out": 0, "bad": 2}
    lines = [json.loads(line) for line in (tmp_path / "out" / "train-bad.jsonl").read_text().splitlines()]
    assert lines == [{"shard": str(tmp_path / "in" / f"{n}.tar"), "reason": "sample/cut", "n": 1} for n in "ab"]


def test_a_program_gives_samples(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(0))

    def samples():
        yield (
            "a",
            {"image.0.png": png(0), "image.1.png": png(1), "text.neg.txt": "not", "audio.wav": tmp_path / "a.wav"},
        )
        yield {"__key__": "b", "__url__": "x", "points.npy": np.ones((4, 3), np.float16), "json": {"group": "g"}}
        yield "c", {"text.txt": "ü", "image.png": None}

    assert build(samples, tmp_path / "out") == {"train": 3, "left out": 0}
    found = read(tmp_path / "out")
    assert set(found["a"]) == {"image.0.png", "image.1.png", "text.neg.txt", "audio.wav"}
    assert found["a"]["audio.wav"] == wav(0)
    assert np.load(io.BytesIO(found["b"]["points.npy"])).dtype == np.float16
    assert (found["b"]["json"], found["c"]) == (b'{"group": "g"}', {"text.txt": "ü".encode()})
    build(samples, tmp_path / "again", workers=2)
    assert read(tmp_path / "again") == found


def test_samples_without_a_modality_are_left_out_and_counted(tmp_path):
    samples = [("a", {"json": {"label": 1}}), ("b", {"text.txt": "x"}), ("c", {"exr": b"x"}), ("d", {"text.txt": None})]
    assert build(samples, tmp_path / "out") == {"train": 1, "left out": 3}


def test_a_program_gives_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(0))
    rows = [{"image": "a.png", "text": "x", "label": "cat"}, {"image": None, "text": None}]
    assert build(rows, tmp_path / "out") == {"train": 1, "left out": 1}
    assert read(tmp_path / "out")["00000000"]["image.png"] == png(0)
    with pytest.raises(FileNotFoundError, match=r"samples row 1: no file gone\.png"):
        build([{"image": "gone.png"}], tmp_path / "out")


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ([1], TypeError, "sample 0 is a list; expected"),
        ((1, {"text.txt": "a"}), TypeError, "the key of sample 0 is a int"),
        (("a", {"image.png": "a.png"}), TypeError, r"member 'image.png' of sample 'a' is a str; give bytes, a Path"),
        (("a", {"Image.PNG": b"x"}), ValueError, "lower case"),
        (("a", {"x.pkl": b"x"}), ValueError, "could hold a pickle"),
        (("a", {"points.npy": np.array([{}])}), ValueError, "Object arrays cannot be saved"),
        (("a", {"json": {"x": {1, 2}}, "text.txt": "x"}), ValueError, "the json cannot be written"),
        (("../a", {"text.txt": "x"}), ValueError, "use a relative name"),
        ({"key": "./a", "text": "x"}, ValueError, "samples row 1: key './a': use a relative name"),
        (("a", {"text.txt": "x", "json": {"weight": -1}}), ValueError, "the json of sample 'a' has json/weight"),
    ],
)
def test_a_program_that_gives_something_else(tmp_path, sample, error, message):
    with pytest.raises(error, match=message):
        build([sample], tmp_path)
    with pytest.raises(ValueError, match="the source gives no samples"):
        build([], tmp_path)


def test_images_written_anew(tmp_path):
    recode = Recode(image_size=10, image_quality=90)
    turned = Picture.new("RGB", (40, 20)).getexif()
    turned[0x0112] = 6  # a quarter turn
    for data, suffix, size, kind in (
        (jpeg((40, 20)), "jpg", (20, 10), "JPEG"),
        (jpeg((40, 20), exif=turned), "jpg", (10, 20), "JPEG"),
        (png(0, 7), "png", (7, 7), "PNG"),  # never scaled up
    ):
        name, out = written_anew(recode, f"image.0.{suffix}", data)
        image = Picture.open(io.BytesIO(out))
        assert (name, image.size, image.format, image.mode) == (f"image.0.{suffix}", size, kind, "RGB")
    assert written_anew(Recode(image_size=20), "image.jpg", jpeg((40, 20))) == (
        "image.jpg",
        jpeg((40, 20)),
    )  # nothing to gain
    name, out = written_anew(Recode(image_format="webp", image_quality=50), "image.png", png(0))
    assert (name, Picture.open(io.BytesIO(out)).format) == ("image.webp", "WEBP")
    assert written_anew(Recode(image_format="jpeg"), "depth.png", png(0)) == ("depth.png", png(0))  # of images alone
    assert written_anew(Recode(image_format="jpeg"), "text.txt", b"x") == ("text.txt", b"x")
    with pytest.raises(BadSample, match="image/not-an-image"):
        written_anew(recode, "image.png", b"none")


@pytest.mark.parametrize(("kind", "suffix"), [("flac", "flac"), ("ogg", "ogg"), ("opus", "ogg"), (None, "flac")])
def test_sound_written_anew(kind, suffix):
    t = np.arange(22050) / 22050
    both = np.stack([np.sin(880 * np.pi * t), np.sin(880 * np.pi * t)], 1) / 2  # stereo, 440 Hz
    out = io.BytesIO()
    soundfile.write(out, both, 22050, format="WAV")
    recode = Recode(audio_format=kind, sample_rate=16000)
    name, data = written_anew(recode, "audio.wav", out.getvalue())
    info = soundfile.info(io.BytesIO(data))
    assert (name, info.samplerate, info.channels) == (f"audio.{suffix}", 16000, 1)
    assert written_anew(recode, "audio.wav", out.getvalue()) == (
        name,
        data,
    )  # Ogg's serial number is drawn anew each time
    wave = Audio(16000, 1.0).decode(data)
    assert abs(len(wave) - 16000) < 10
    assert float(wave[2000:14000].pow(2).mean()) == pytest.approx(1 / 8, rel=0.1)  # the level is kept
    with pytest.raises(BadSample, match="audio/"):
        written_anew(recode, "audio.wav", b"none")


def test_the_checksum_of_ogg_is_the_one_its_writer_takes():
    out = io.BytesIO()
    soundfile.write(out, np.zeros(100), 16000, format="OGG", subtype="VORBIS")
    data = out.getvalue()
    assert with_serial(data, int.from_bytes(data[14:18], "little")) == data
    assert checksum(b"123456789") == 0x89A1897F  # CRC-32 of 04C11DB7, neither reflected nor inverted
    with pytest.raises(ValueError, match="no Ogg page at byte 0"):
        with_serial(b"x" * 40, 0)


def test_points_written_anew():
    name, data = written_anew(Recode(points_dtype="float16"), "points.npy", npy(0))
    assert name == "points.npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), np.load(io.BytesIO(npy(0))).astype(np.float16))
    out = io.BytesIO()
    np.save(out, np.full((2, 3), 1e6, np.float32))
    with pytest.raises(BadSample, match=r"points/range: a value of 1e\+06 does not fit float16"):
        written_anew(Recode(points_dtype="float16"), "points.npy", out.getvalue())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size=0"),
        ({"image_quality": 101}, "from 1 to 100"),
        ({"image_quality": 9, "image_format": "png"}, "means nothing with image_format=png"),
        ({"audio_format": "opus"}, "opus needs a sample_rate of 8000, 12000, 16000, 24000, 48000; got None"),
        ({"audio_format": "opus", "sample_rate": 44100}, "opus needs"),
        ({"sample_rate": 10}, "sample_rate=10"),
    ],
)
def test_settings_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        Recode(**options)


def test_a_library_that_cannot_write_opus(monkeypatch):
    monkeypatch.setattr(soundfile, "available_subtypes", lambda form: {"VORBIS": "Vorbis"})
    with pytest.raises(ValueError, match="cannot write opus; use audio_format=flac"):
        Recode(audio_format="opus", sample_rate=16000)


def test_what_cannot_be_read_is_left_out_until_it_is_too_much(tmp_path):
    samples = [(f"k{i}", {"image.png": b"no" if i < 12 else png(i), "text.txt": "x"}) for i in range(40)]
    with pytest.raises(TooManyBad, match=r"11 of 11 samples so far are bad(.|\n)*image/not-an-image"):
        build(samples, tmp_path / "out", recode=Recode(8))
    found = build(samples, tmp_path / "out", recode=Recode(8), max_bad=1)
    assert found == {"train": 40, "left out": 0, "bad": 12}
    assert Shards(tmp_path / "out" / "*.tar").modalities == {"image": 28, "text": 40}
    with pytest.raises(ValueError, match="no sample of the 1 that came could be written"):
        build([("a", {"image.png": b"no"})], tmp_path / "none", recode=Recode(8), max_bad=1)


def test_balanced_by_hand():
    assert balance([1] * 10, 4) == [4, 3, 3]
    assert balance([1] * 1001, 1000) == [501, 500]
    assert balance([10] * 6, 100, 20) == [2, 2, 2]
    assert balance([100, 1, 1, 1], 100, 50) == [1, 3]
    assert balance([], 3) == []


@pytest.mark.parametrize("seed", range(20))
def test_balanced_in_general(seed):
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 100, draw.integers(1, 200)).tolist()
    per_shard, most = int(draw.integers(1, 40)), int(draw.integers(100, 1000))
    counts = balance(sizes, per_shard, most)
    held = [sum(sizes[sum(counts[:k]) : sum(counts[: k + 1])]) for k in range(len(counts))]
    assert sum(counts) == len(sizes)
    assert max(counts) <= per_shard
    assert max(held) <= most
    assert len(counts) <= 2 * max(len(sizes) / per_shard, sum(sizes) / most) + 2  # and not too many


def test_shards_are_alike_in_samples_or_bytes(tmp_path):
    samples = [{"text": "x" * (40_000 if i % 10 == 0 else 10)} for i in range(50)]
    path = table(tmp_path, samples, "t.jsonl")
    build(path, tmp_path / "n", per_shard=20)
    assert [len(Shards(p)) for p in sorted((tmp_path / "n").glob("*.tar"))] == [17, 17, 16]
    build(path, tmp_path / "b", shard_mb=0.12)
    sizes = [p.stat().st_size for p in sorted((tmp_path / "b").glob("*.tar"))]
    assert max(sizes) <= 120_000 + 10_240
    assert max(sizes) - min(sizes) <= 42_000 + 10_240  # one sample, and the record that a tar fills
    build(iter([(str(i), {"text.txt": x["text"]}) for i, x in enumerate(samples)]), tmp_path / "g", shard_mb=0.12)
    assert len(list((tmp_path / "g").glob("*.tar"))) == 2
    for options in ({"per_shard": 0}, {"shard_mb": 0}, {"workers": -1}, {"max_bad": 2}):
        with pytest.raises(ValueError, match=next(iter(options))):
            build(path, tmp_path / "x", **options)
