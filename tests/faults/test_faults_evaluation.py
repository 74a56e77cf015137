"""Row 28: no number is printed for a shard set that is not what it should be."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny_space

from align.checkpoint import save
from align.commands import main

TRUST = ["--allow", "tiny_space", "--no-report"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model, and two shards of twelve samples with a manifest."""
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    save(tiny_space.model("pairwise"), tmp_path / "model")
    samples = list(tiny_space.world().items())
    for i in range(2):
        tiny_space.write_tar(tmp_path / "shards" / f"test-{i:06d}.tar", dict(samples[12 * i : 12 * i + 12]))
    said = {f"test-{i:06d}.tar": {"samples": 12} for i in range(2)}
    (tmp_path / "shards" / "manifest.json").write_text(json.dumps({"shards": said}))
    return tmp_path


def shard(place, i):
    return place / "shards" / f"test-{i:06d}.tar"


def missing(place):
    shard(place, 1).unlink()


def missing_and_named(place):
    shard(place, 1).unlink()
    return [shard(place, 0), shard(place, 1)]


def copied_under_a_third_name(place):
    shutil.copy(shard(place, 0), shard(place, 2))


def copied_over_another(place):
    shutil.copy(shard(place, 0), shard(place, 1))


def copied_without_a_manifest(place):
    (place / "shards" / "manifest.json").unlink()
    shutil.copy(shard(place, 0), shard(place, 2))


def copied_elsewhere(place):
    shutil.copytree(place / "shards", place / "again")
    return [place / "shards" / "test-*.tar", place / "again" / "test-*.tar"]


def cut(place):
    data = shard(place, 1).read_bytes()
    shard(place, 1).write_bytes(data[: len(data) // 2])


def scratched(place):
    data = bytearray(shard(place, 1).read_bytes())
    data[:100] = b"\xff" * 100
    shard(place, 1).write_bytes(data)


def emptied(place):
    shard(place, 1).write_bytes(b"")


FAULTS = [
    missing,
    missing_and_named,
    copied_under_a_third_name,
    copied_over_another,
    copied_without_a_manifest,
    copied_elsewhere,
    cut,
    scratched,
    emptied,
]


def evaluate(place, shards, capsys):
    """(exit code, stdout, lines on stderr, whether there are results)."""
    capsys.readouterr()
    code = main(["evaluate", str(place / "model"), *map(str, shards), "--out", str(place / "out"), *TRUST])
    out, err = capsys.readouterr()
    return code, out, err.strip().splitlines(), (place / "out" / "results.json").exists()


@pytest.mark.parametrize("damage", FAULTS, ids=lambda f: f.__name__)
def test_no_wrong_number_is_printed(fault, place, capsys, caplog, damage):
    name = f"evaluate, shard {damage.__name__.replace('_', ' ')}"
    row = fault("28", name, numbers=0, exit_code=1, lines=1)
    shards = damage(place) or [place / "shards" / "test-*.tar"]
    code, out, lines, written = evaluate(place, shards, capsys)
    row.measured(numbers=int(bool(out) or written), exit_code=code, lines=len(lines), says=repr(lines[-1][-60:]))


def test_a_shard_named_twice_counts_once(fault, place, capsys, monkeypatch):
    row = fault("28", "evaluate, a shard named in four ways", samples=24, wrong_numbers=0)
    assert evaluate(place, [place / "shards" / "test-*.tar"], capsys)[0] == 0
    plain = json.loads((place / "out" / "results.json").read_text())
    (place / "link.tar").symlink_to(shard(place, 0))
    monkeypatch.chdir(place)
    named = ["shards/test-000000.tar", "./shards/../shards/test-*.tar", shard(place, 1), shard(place, 0), "link.tar"]
    assert evaluate(place, named, capsys)[0] == 0
    found = json.loads((place / "out" / "results.json").read_text())
    wrong = sum(found[name] != plain[name] for name in plain if name != "protocol")
    row.measured(samples=found["protocol"]["samples"], wrong_numbers=wrong)
