"""``align shards stats`` counts; ``align shards show`` draws, on the terminal and as a page."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from tiny_data import holed, members, npy, png, wav, write

from align.commands import main
from align.commands.shown import quote
from align.commands.sizes import size
from align.curation.look import describe, sketch
from align.curation.stats import measure
from align.data import Shards, ShardWriter
from align.media.sketch import BLOCKS, cloud_dots, picture_cells, wave_blocks


def test_numbers_are_those_of_a_loop(tmp_path):
    url = write(tmp_path, 40, make=holed)
    found = measure(Shards(url, shuffle=False))
    samples = [holed(i) for i in range(40)]
    sounds = [s["audio.wav"] for s in samples if "audio.wav" in s]
    assert found["samples"] == 40
    assert found["bytes"] == sum(len(data) for sample in samples for data in sample.values())
    audio = found["modalities"]["audio"]
    assert (audio["samples"], audio["rows"], audio["bytes"]) == (len(sounds), len(sounds), sum(map(len, sounds)))
    assert audio["quantities"]["seconds"] == {
        "min": 0.1,
        "median": 0.1,
        "max": 0.1,
        "sum": round(0.1 * len(sounds), 4),
    }
    assert audio["kinds"] == {"Hz": {"8000": len(sounds)}, "channels": {"1": len(sounds)}}
    assert found["modalities"]["image"]["quantities"]["width"]["max"] == 12
    assert found["modalities"]["points"]["quantities"]["points"]["median"] == 20
    lines = [line for s in samples for line in s.get("text.txt", b"").decode().splitlines()]
    negatives = [s["text.neg.txt"].decode().strip() for s in samples if "text.neg.txt" in s]
    text = found["modalities"]["text"]
    assert (text["samples"], text["rows"]) == (len(lines) // 2, len(lines) + len(negatives))
    lengths = sorted(map(len, lines + negatives))
    assert text["quantities"]["characters"] == {
        "min": lengths[0],
        "median": np.median(lengths),
        "max": lengths[-1],
        "sum": sum(lengths),
    }
    assert text["quantities"]["rows"] == {"min": 2, "median": 2, "max": 2, "sum": len(lines)}
    assert found["labels"]["shape"] == {"samples": 40, "classes": {"cone": 20, "torus": 20}}
    assert found["labels"]["size"]["classes"] == {"0": 14, "1": 13, "2": 13}


def test_what_has_no_header_is_counted(tmp_path):
    url = write(tmp_path, 3, make=lambda i: {"image.png": b"no" if i else png(0), "audio.wav": wav(i, 800 * (i + 1))})
    found = measure(Shards(url, shuffle=False))["modalities"]
    assert (found["image"]["rows"], found["image"]["unreadable"]) == (3, 2)
    assert found["audio"]["quantities"]["seconds"] == {"min": 0.1, "median": 0.2, "max": 0.3, "sum": 0.6}


def test_the_stats_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "s", 6)
    assert main(["shards", "stats", "s"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"audio +6 +100% +6 +\S+ KiB +bytes", out)
    assert "shape: 6 samples, 2 classes, 3 to 3 samples each: cone 3, torus 3" in out
    assert main(["shards", "stats", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["modalities"]["points"]["samples"] == 6
    assert main(["shards", "stats", "none.tar"]) == 1
    assert capsys.readouterr().err == "align: no shard none.tar\n"


def test_sizes():
    assert [size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 30, 7 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
        "7.0 TiB",
    ]


def test_a_wave_in_blocks():
    wave = np.concatenate([np.zeros(100), np.full(100, 0.25), np.full(100, -1.0), np.full(100, np.nan)])
    assert wave_blocks(wave, 4) == "▁▄█▁"  # the square root of a quarter is a half
    assert wave_blocks(np.zeros(0), 3) == "▁▁▁"
    assert set(wave_blocks(np.random.default_rng(0).normal(size=999))) <= set(BLOCKS)


def test_a_cloud_in_dots():
    corners = np.array([[0, 9, 0], [1, 9, 0], [0, -9, 1], [1, 0, 1.0]])
    assert cloud_dots(corners, width=2, height=1) == "⡁⢈"
    assert cloud_dots(np.full((3, 3), np.nan)) == ""
    assert cloud_dots(np.zeros((5, 3)), 3, 2).count("\n") == 1


def test_a_picture_in_cells():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 200
    cells = picture_cells(pixels, width=2)
    assert cells == [[((200, 200, 200), (0, 0, 0))] * 2]
    assert len(picture_cells(np.zeros((900, 30, 3), np.uint8))) == 8


def test_what_cannot_be_drawn_is_none():
    assert sketch("image.png", b"no") is sketch("audio.wav", b"") is sketch("points.npy", b"x") is None
    assert sketch("text.txt", b"hello") is None
    out = io.BytesIO()
    np.save(out, np.zeros((2, 7)))
    assert sketch("points.npy", out.getvalue()) is None
    assert len(sketch("audio.wav", wav(0)) or "") == 24
    assert isinstance(sketch("image.png", png(0)), list)
    assert "⠀" in str(sketch("points.npy", npy(0, 4)))


def test_show_draws_waves_and_clouds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "s", 2)
    assert main(["shards", "show", "s"]) == 0
    out = capsys.readouterr().out
    assert re.search("[▁▂▃▄▅▆▇█]{24}", out)
    assert re.search("[\u2800-\u28ff]{12}", out)
    assert "▀" not in out  # colours only where there are colours
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["shards", "show", "s"]) == 0
    assert "▀" in capsys.readouterr().out


def test_what_cannot_be_described_says_why():
    assert describe("image.png", b"nope")["error"].startswith("image/not-an-image: no picture; JPEG, PNG, ")
    said = "audio/unreadable: Format not recognised; it starts with b'nope'"  # and no address of an object
    assert describe("audio.wav", b"nope") == {"error": said}


def test_names_whose_ends_would_not_be_seen_are_quoted():
    assert [quote(name) for name in ("cat", "cat ", "")] == ["cat", "'cat '", "''"]


def test_a_drawing_is_whole_on_a_narrow_terminal(tmp_path, monkeypatch, capsys):
    write(tmp_path / "s", 2)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["shards", "show", str(tmp_path / "s")]) == 0
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert re.search("[▁▂▃▄▅▆▇█]{24}", out)
    assert max(map(len, out.splitlines())) <= 80


def test_an_example_of_a_modality_is_no_hard_negative_alone(tmp_path, capsys):
    with ShardWriter(tmp_path) as writer:
        writer.write("a", {"image.png": png(0), "text.neg.txt": b"not it"})
        writer.write("b", {"text.txt": b"it", "text.neg.txt": b"not it"})
    assert main(["shards", "show", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["examples"]["text"]
    assert [(one["key"], one["member"]) for one in shown] == [("b", "text.txt"), ("b", "text.neg.txt")]


def faces(page):
    found = re.search(r'id="cards-data">(.*?)</script>', page)
    assert found is not None
    (cards,) = json.loads(found[1])["groups"]
    return {card["key"]: card for card in cards}


def test_the_page_of_a_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with ShardWriter("s") as writer:
        for i in range(9):
            extra = {"image.1.png": png(9), "text.txt": b"</script><b>bold"} if i == 0 else {}
            writer.write(f"{i:05d}", {**members(i), **extra})
    assert main(["shards", "show", "s", "--html", "look.html", "--samples", "3"]) == 0
    assert "look.html: 3 samples" in capsys.readouterr().out
    page = (tmp_path / "look.html").read_text()
    cards = faces(page)
    assert list(cards) == ["00000", "00001", "00002"]
    shown = {name: face["k"] for name, face, _ in cards["00000"]["faces"]}
    assert shown == {
        "audio.wav": "sound",
        "image.png": "image",
        "image.1.png": "image",
        "points.npy": "cloud",
        "text.txt": "text",
        "text.neg.txt": "text",
    }
    assert cards["00001"]["label"] == "shape=torus, size=1"
    assert "</script><b>" not in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    picked = {}
    for seed in ("1", "1", "2"):
        assert main(["shards", "show", "s", "--html", "x.html", "--samples", "3", "--seed", seed, "--json"]) == 0
        picked.setdefault(seed, []).append(list(faces((tmp_path / "x.html").read_text())))
    assert picked["1"][0] == picked["1"][1] != picked["2"][0]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--samples", "0"], "--samples 0: show at least one sample", 1),
        (["--html", "a.html", "--up", "x"], "argument --up: invalid choice: 'x' (choose from", 2),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, capsys, arguments, message, code):
    url = write(tmp_path, 1)
    assert main(["shards", "show", url, *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "a.html").exists()
