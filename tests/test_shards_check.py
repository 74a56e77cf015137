"""``align shards check``: every kind of damage is named, with its key; what is whole is left in peace."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys

import damage
import numpy as np
import pytest
import soundfile
from PIL import Image as Picture
from tiny_data import write

from align.commands import main
from align.curation.check import Findings, Place, diagnose
from align.curation.check.near import BITS, COLOUR, near
from align.curation.check.prints import Prints
from align.curation.check.reasons import meaning, severity
from align.data import Shards, ShardWriter
from align.media.pictures.fingerprint import picture_print
from align.media.shapes.fingerprint import cloud_print
from align.media.sound import clipped_share
from align.media.sounds.fingerprint import sound_print
from align.report import write_diagnosis


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    return diagnose(damage.write_damaged(folder))


def cases(diagnosis):
    """{(reason, key)} and the example of each."""
    return {(f.reason, e.place.key): e for f in diagnosis.findings for e in f.examples}


def test_there_are_more_than_forty_kinds():
    assert len({kind.reason for kind in damage.KINDS if kind.reason}) + len(damage.ARCHIVES) > 60


@pytest.mark.parametrize("kind", [k for k in damage.KINDS if k.reason], ids=lambda k: f"{k.key}:{k.reason}")
def test_a_damaged_sample_is_named(damaged, kind):
    found = cases(damaged)
    assert (kind.reason, kind.key) in found, sorted(r for r, key in found if key == kind.key)
    example = found[kind.reason, kind.key]
    assert example.place.shard.endswith("kinds.tar")
    if not kind.reason.startswith(("label/", "sample/no", "audio/missing", "text/missing")):
        assert example.place.member == kind.member


@pytest.mark.parametrize(("shard", "reason", "key"), damage.ARCHIVES)
def test_a_damaged_archive_is_named(damaged, shard, reason, key):
    places = [e.place for f in damaged.findings if f.reason == reason for e in f.examples]
    assert (shard, key) in [(place.shard.rpartition("/")[2], place.key) for place in places]


def test_nothing_else_is_named(damaged):
    """A sample has what was done to it and nothing more; what a gap touches is cut too."""
    wanted = {(k.reason, k.key) for k in damage.KINDS} | {(reason, key) for _, reason, key in damage.ARCHIVES}
    beside = {
        ("sample/cut", "before-gap"),
        ("sample/cut", "endless"),
        ("label/rare", "label-number"),
        ("label/rare", "label-case"),
    }
    assert set(cases(damaged)) - wanted <= beside


def test_a_good_set_has_no_findings(tmp_path):
    found = diagnose(damage.write_good(tmp_path))
    assert [f.reason for f in found.findings] == []
    assert not found.failed
    assert found.modalities == dict.fromkeys(("audio", "image", "points", "text"), 25)
    assert found.labels["label"] == {"torus": 15, "cone": 10}
    assert found.rates == {"16000": 25}


def test_leaks_are_named_with_their_twins(tmp_path):
    good, other = damage.write_good(tmp_path / "a"), damage.write_other(tmp_path / "b")
    found = cases(diagnose(good, other))
    assert set(found) == set(damage.LEAKS)
    twins = {reason: found[reason, key].twin for reason, key in damage.LEAKS}
    assert {reason: twin.key for reason, twin in twins.items()} == {
        "leak/exact": "other0",
        "leak/near": "other1",
        "leak/key": "00005",
        "leak/group": "other3",
    }
    assert all(twin.shard == str(other) for twin in twins.values())


def test_a_set_leaks_all_of_itself(tmp_path):
    good = damage.write_good(tmp_path, 8)
    counts = {f.reason: f.count for f in diagnose(good, good).findings}
    assert counts == {"leak/exact": 27, "leak/key": 9, "leak/group": 9}  # 9 samples of three media


def test_errors_are_samples_and_the_budget_is_a_share_of_them(tmp_path):
    def make(i):
        members = {"image.png": damage.encoded(damage.pixels(i), "PNG"), "text.txt": f"thing {i}".encode()}
        return {**members, "image.png": b"", "text.txt": b"\xff"} if i < 2 else members

    url = write(tmp_path, 20, make=make)
    found = diagnose(url, max_bad=0.1)
    assert {f.reason: f.count for f in found.findings} == {"image/empty": 2, "text/not-utf8": 2}
    assert (found.errors, found.allowed, found.failed) == (2, 2, False)
    assert diagnose(url, max_bad=0.09).failed
    assert not diagnose(url, max_bad=1).failed
    assert {f.reason for f in diagnose(url, modalities=["text"]).findings} == {"text/not-utf8"}
    with pytest.raises(ValueError, match="no member of modality 'audio'; these shards have image, text"):
        diagnose(url, modalities=["audio"])
    with pytest.raises(ValueError, match="a share from 0 to 1, not 2"):
        diagnose(url, max_bad=2)


def test_foreign_names_and_captions_in_a_json(tmp_path):
    with ShardWriter(tmp_path) as writer:
        for i in range(3):
            json_ = json.dumps({"caption": f"caption {i // 2}", "label": 0}).encode()
            writer.write(str(i), {"jpg": damage.encoded(damage.pixels(i)) if i else b"x", "json": json_})
    found = cases(diagnose(tmp_path / "train-000000.tar", members={"text": ["json:caption"]}))
    assert ("image/not-an-image", "0") in found
    assert ("text/duplicate", "1") in found
    assert found["text/duplicate", "1"].place.member == "json:caption"


def test_very_small_pictures_are_not_compared(tmp_path):
    """A digit of 28 pixels looks like many another."""

    def make(i):
        return {"image.png": damage.encoded(np.asarray(Picture.fromarray(damage.pixels("x")).resize((size, size + i))))}

    for size, reasons in ((31, {"image/tiny"}), (32, {"image/near-duplicate"})):
        assert {f.reason for f in diagnose(write(tmp_path / str(size), 2, make=make)).findings} - {
            "image/suffix"
        } == reasons


def test_a_decoder_that_fails_does_not_stop_a_check(tmp_path, monkeypatch):
    def broken(self, data, suffix, modality):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("align.media.picture.Picture.examine", broken)
    found = cases(diagnose(damage.write_good(tmp_path, 2)))
    assert found["image/unreadable", "00000"].detail == "ZeroDivisionError: oh"


def test_balance_and_classes_that_nobody_has(tmp_path):
    with ShardWriter(tmp_path, classes={"label": ["cone", "torus", "sphere"]}) as writer:
        for i in range(102):
            label = "cone" if i else "torus"
            writer.write(f"{i:03d}", {"text.txt": f"a {i}".encode(), "json": json.dumps({"label": label}).encode()})
    found = {f.reason: f.examples[0].detail for f in diagnose(tmp_path / "train-000000.tar").findings}
    assert found["label/imbalance"] == "label: 101 of 'cone', 1 of 'torus'"
    assert found["label/absent"] == "label: 'sphere'"
    assert found["label/rare"] == "label: 'torus'"


def test_a_stated_rate(tmp_path):
    good = damage.write_good(tmp_path, 4)
    assert {f.reason: f.count for f in diagnose(good, rate=48_000).findings} == {"audio/odd-rate": 5}


def test_examples_are_bounded_and_counts_are_not(tmp_path):
    url = write(tmp_path, 30, make=lambda i: {"text.txt": b"\xff"})
    (finding,) = diagnose(url, most=3).findings
    assert (finding.count, [e.place.key for e in finding.examples]) == (30, ["00000", "00001", "00002"])
    findings, more = Findings(2), Findings(2)
    findings.add("a/b", Place("s", "k"))
    more.add("a/b", Place("s", "l"), n=5)
    findings.merge(more)
    assert (findings.errors, findings.rank()[0].count) == (6, 6)


def test_the_end_of_a_long_flat_top_is_clipping():
    wave = np.array([0.0, 1.0, 0.5, 1.0, 1.0, 0.2, 1.0, 1.0, 1.0, 1.0])
    assert clipped_share(wave) == 4 / 10  # a single full sample and a pair are not
    assert clipped_share(np.zeros(5)) == 0


def test_severity_and_meaning():
    assert severity("text/duplicate") == "note"
    assert severity("depth/duplicate") == "warning"
    assert severity("depth/anything") == "error"
    assert severity("ignored/image.ppm") == "note"
    assert meaning("depth/missing") == "no row of a modality that others have"
    assert meaning("depth/anything") == ""


def test_near_is_the_double_loop():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 16, (60, 8)).astype(np.uint16)
    colours = rng.integers(0, 256, (60, 48)).astype(np.uint8)
    for i in range(0, 60, 3):  # a copy with up to 7 bits changed, and one whose colours are others
        flips = rng.choice(128, rng.integers(0, 8), replace=False)
        bits[i + 1] = bits[i]
        for flip in flips:
            bits[i + 1, flip // 16] ^= np.uint16(1 << (flip % 16))
        bits[i + 2], colours[i + 1] = bits[i], colours[i]
    want = set()
    for i in range(60):
        for j in range(i + 1, 60):
            differ = sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(bits[i], bits[j], strict=True))
            off = max(abs(int(a) - int(b)) for a, b in zip(colours[i], colours[j], strict=True))
            if differ <= BITS and off <= COLOUR:
                want.add((i, j, differ))
    assert len(want) == 20
    assert {tuple(row) for row in near(bits, colours).tolist()} == want
    across = {(i, j, n) for i, j, n in want if i < 30 <= j}
    assert {tuple(row) for row in near(bits, colours, split=30).tolist()} == across
    assert near(bits[:1], colours[:1]).shape == near(bits[:0], colours[:0]).shape == (0, 3)


@pytest.mark.parametrize("change", ["quality", "smaller", "larger", "png", "grey border of a pixel"])
def test_a_print_survives_another_size_and_quality(change):
    pixels = damage.pixels("print", 96)
    image = Picture.fromarray(pixels)
    if change == "quality":
        out = io.BytesIO()
        image.save(out, "JPEG", quality=25)
        image = Picture.open(out)
    elif change == "smaller":
        image = image.resize((41, 41))
    elif change == "larger":
        image = image.resize((300, 200))
    elif change == "grey border of a pixel":
        image.paste(image.resize((94, 94)), (1, 1))
    assert _differ(pixels, np.asarray(image)) <= BITS
    assert _differ(pixels, damage.pixels("another", 96)) > 30


def _differ(a, b):
    return sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(picture_print(a)[0], picture_print(b)[0], strict=True))


def calls(seed):
    """(T,) float32: two seconds of thirty short tones at their own times, and a little noise."""
    draw, t = damage.rng("calls", seed), np.arange(2 * damage.RATE) / damage.RATE
    hz, at, width = draw.uniform(100, 3400, 30), draw.uniform(0, 2, 30), draw.uniform(0.05, 0.3, 30)
    tones = np.sin(2 * np.pi * hz[:, None] * t) * np.exp(-(((t - at[:, None]) / width[:, None]) ** 2))
    return (0.1 * tones.sum(axis=0) + 0.005 * draw.standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("change", ["flac", "ogg", "rate", "loudness", "int8"])
def test_a_print_of_a_sound_survives_another_file(change):
    wave = calls("print")
    other, rate = wave, damage.RATE
    if change in ("flac", "ogg", "int8"):
        out = io.BytesIO()
        kind = {"flac": ("FLAC", None), "ogg": ("OGG", None), "int8": ("WAV", "PCM_U8")}[change]
        soundfile.write(out, wave, rate, format=kind[0], subtype=kind[1])
        out.seek(0)
        other, _ = soundfile.read(out, dtype="float32")
    elif change == "rate":
        other, rate = wave.reshape(-1, 2).mean(axis=1), rate // 2
    elif change == "loudness":
        other = wave / 8
    mine, theirs = sound_print(wave, damage.RATE), sound_print(other, rate)
    assert mine is not None
    assert theirs is not None
    assert len(near(np.stack([mine[0], theirs[0]]), np.stack([mine[1], theirs[1]]))) == 1
    another = sound_print(calls("another"), damage.RATE)
    assert another is not None
    assert len(near(np.stack([mine[0], another[0]]), np.stack([mine[1], another[1]]))) == 0


def test_a_sound_that_says_too_little_has_no_print():
    t = np.arange(16_000) / 16_000
    assert sound_print(np.eye(1, 16_000, 8000, dtype=np.float32)[0], 16_000) is None
    assert sound_print(np.sin(2 * np.pi * 440 * t).astype(np.float32), 16_000) is None
    assert sound_print(np.ones(3, dtype=np.float32), 8000) is None


def test_a_print_of_a_cloud_is_that_of_its_places():
    xyz = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    bits, _ = cloud_print(xyz) or (None, None)
    for same in (xyz[::-1], xyz.astype(np.float64), xyz.astype(np.float16)):
        found = cloud_print(same)
        assert found is not None
        assert (found[0] == bits).all()
    for other in (xyz + 1, xyz[:-1], xyz[:, ::-1]):
        found = cloud_print(other)
        assert found is not None
        assert (found[0] != bits).any()
    assert cloud_print(1e6 * xyz) is None


def test_prints_in_two_parts_are_prints_in_one():
    one, first, second = Prints(), Prints(), Prints()
    for i in range(6):
        where = Place("s", str(i), f"image.{i % 2}.png" if i < 3 else "png", i)
        for prints in (one, first if i < 3 else second):
            prints.add(picture_print(damage.pixels(i, 16)), b"x" * i, where)
    first.extend(second)
    assert (first.bits == one.bits).all()
    assert (first.colours == one.colours).all()
    assert (first.content == one.content).all()
    assert [first.where(i) for i in range(6)] == [one.where(i) for i in range(6)]
    assert one.where(5) == (5, "png")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    damage.write_damaged(folder / "bad")
    damage.write_good(folder / "good")
    damage.write_other(folder / "other")
    return folder


def test_the_command(sets, monkeypatch, capsys):
    monkeypatch.chdir(sets)
    assert main(["shards", "check", "good", "--html", "good.html"]) == 0
    out = capsys.readouterr().out
    assert "25 samples in 2 shards" in out
    assert "nothing found" in out
    assert main(["shards", "check", "good", "--against", "other"]) == 3
    out = capsys.readouterr().out
    assert re.search(r"error +leak/exact +1 +00003.image.jpg: as other0.image.jpg", out)
    assert "1 error; --max-bad 0.001 of 25 samples allows 0" in out
    assert main(["shards", "check", "good", "--against", "{other,good}/other.tar,other", "--max-bad", "0.1"]) == 1
    assert "no shard good/other.tar" in capsys.readouterr().err
    assert main(["shards", "check", "good", "--against", "other,{other,other}/other.tar", "--max-bad", "0.1"]) == 0
    capsys.readouterr()
    assert main(["shards", "check", "bad", "--json", "--examples", "1"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["failed"]
    assert found["errors"] > 40
    first = {f["reason"]: f["examples"] for f in found["findings"]}["image/truncated"]
    assert [e["key"] for e in first] == ["image-cut"]
    assert set(first[0]) == {"shard", "key", "member", "detail"}


def test_nothing_of_a_hostile_shard_reaches_the_terminal(sets, monkeypatch, capsys):
    monkeypatch.chdir(sets)
    main(["shards", "check", "bad/kinds.tar", "bad/mixed.tar"])
    assert "\x1b" not in capsys.readouterr().out


def test_what_is_wrong_is_one_line(sets, monkeypatch, capsys):
    monkeypatch.chdir(sets)
    for arguments, message, code in (
        (["none-*.tar"], "no shard matches none-*.tar", 1),
        (["good", "--modalities", "depth"], "no member of modality 'depth'", 1),
        (["good", "--examples", "0"], "--examples 0", 1),
        (["good", "--max-bad", "2"], "a share from 0 to 1", 1),
        (["good", "--against", "none.tar"], "no shard none.tar", 1),
        (["good", "--html", "x.html", "--up", "x"], "--up", 2),
        (["good", "--agianst", "other"], "did you mean --against?", 2),
    ):
        assert main(["shards", "check", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_help_tells_the_story_and_is_light():
    code = (
        "import sys\nfrom align.commands import main\nfor name in ('check', 'stats', 'show'):\n"
        "    assert main(['shards', name, '--help']) == 0\nassert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for part in ("Near duplicates are pictures", "exit code is 3", "--against", "Headers are read", "--html", "--seed"):
        assert part in " ".join(out.split())


def test_the_page_shows_examples(sets, monkeypatch, capsys):
    monkeypatch.chdir(sets)
    assert main(["shards", "check", "bad", "--html", "bad.html"]) == 3
    capsys.readouterr()
    page = (sets / "bad.html").read_text()
    block = re.search(r'id="cards-data">(.*?)</script>', page)
    assert block is not None
    groups = json.loads(block[1])["groups"]
    cards = {(card["key"], card["detail"]): card["faces"] for group in groups for card in group}
    faces = {key: [face[1] and face[1]["k"] for face in parts] for (key, _), parts in cards.items()}
    assert faces["image-flat"] == ["image"]
    assert faces["audio-clipped"] == ["sound"]
    assert faces["points-plane"] == ["cloud"]
    assert faces["image-resized"] == ["image", "image"]  # and what it looks like
    assert faces["pickle"] == faces["flipped"] == [None]
    assert faces["image-bomb"] == [None]  # refused before anything is decoded
    assert "<html><body>404" not in page
    assert len(groups) == page.count('class="cards"')
    for finding in diagnose(sets / "bad" / "kinds.tar").findings:
        assert f'id="of-{finding.reason.replace("/", "-")}"' in page


@pytest.mark.slow
def test_workers_change_nothing(sets, monkeypatch):
    paths = sorted((sets / "bad").glob("*.tar"))
    alone = diagnose(paths).json()
    monkeypatch.setattr("align.curation.check.survey.STRETCH", 40)  # nor does where the stretches end
    assert diagnose(paths, workers=2).json() == alone
    with pytest.raises(ValueError, match="workers=-1"):
        diagnose(paths, workers=-1)


def test_progress_covers_both_sets(tmp_path):
    said = []
    diagnose(
        damage.write_good(tmp_path / "a", 4), damage.write_good(tmp_path / "b", 2), progress=lambda *x: said.append(x)
    )
    assert said == [(5, 8), (8, 8)]


def test_checking_writes_nothing_but_an_index(tmp_path):
    (path,) = damage.write_good(tmp_path, 2)[:1]
    before = path.read_bytes()
    diagnose(path)
    assert path.read_bytes() == before
    assert len(Shards(path)) == 2


@pytest.mark.slow
def test_a_browser_draws_every_card_without_complaint(sets, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium here")
    found = diagnose(sorted((sets / "bad").glob("*.tar")))
    path = write_diagnosis(tmp_path / "check.html", found)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([chromium, *flags, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert done.stdout.count("<article") == sum(len(f.examples) for f in found.findings)
    assert "<canvas" in done.stdout
    assert 'class="sound"' in done.stdout
