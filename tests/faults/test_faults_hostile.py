"""Rows 17, 18 and 19: bombs, names that leave the folder, members that run code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import corpus
import pytest
from tiny_data import readers

from align.commands import main
from align.data import Loader, Shards, collate
from align.preprocess import Array
from align.values import BadSample


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


# row 17


def bombs(folder: Path) -> dict[str, tuple[str, Path, str]]:
    """name -> (action of measure.py, file, how it has to end)."""
    files = {
        "PNG 13000 x 13000": ("image", corpus.bomb("PNG"), "image/too-large"),
        "WebP 6000 x 6000": ("image", corpus.bomb("WEBP"), "image/too-large"),
        "GIF 65535 x 65535": ("image", corpus.bomb("GIF"), "image/too-large"),
        "TIFF 6000 x 6000": ("image", corpus.bomb("TIFF"), "image/too-large"),
        "TIFF with a tile of 65520 x 65520": ("image", corpus.tiff_bomb(), "image/too-large"),
        "AVIF 8192 x 8192": ("image", corpus.avif_bomb(), "image/too-large"),
        "AVIF 8192 x 8192 that states 64 x 64": ("image", corpus.avif_bomb(64), "image/too-large"),
        "npz of 128 MB, as points": ("points", corpus.npz_bomb(), "points/not-npy"),
        "npz of 128 MB, as an array": ("array", corpus.npz_bomb(), "array/not-npy"),
        "npy of 120 GB": ("points", corpus.vast(), "points/too-large"),
    }
    out = {}
    for i, (name, (action, data, end)) in enumerate(files.items()):
        path = folder / f"bomb{i}"
        path.write_bytes(data)
        out[name] = (action, path, end)
    gz = corpus.squeezed(folder / "bomb.tar.gz")
    out["tar.gz of 512 MB"] = ("shard", gz, "is compressed with gzip")
    out["tar.gz named .tar"] = ("shard", shutil.copy(gz, folder / "bomb.tar"), "is compressed with gzip")
    members = {"0": {f"text.{i}.txt": b"x" for i in range(8192)}}
    corpus.shard(folder / "many.tar", members)
    out["8192 members in a sample"] = ("shard", folder / "many.tar", "1 samples {}")
    corpus.shard(folder / "long.tar", {"k" * 245 + f"{i:02d}": {"text.txt": b"x"} for i in range(50)})
    out["names of 255 characters"] = ("shard", folder / "long.tar", "50 samples {}")
    return out


@pytest.mark.slow
def test_bombs(fault, tmp_path):
    cases = bombs(tmp_path)
    control = tmp_path / "control.png"  # that the meter moves: this one is decoded
    control.write_bytes(corpus.bomb("PNG", 5000))
    rows = {name: fault("17", name, ends=end, peak_mib=fault.most(64)) for name, (_, _, end) in cases.items()}
    for kind, data in (("image", corpus.good(0)["image.jpg"]), ("points", corpus.good(0)["points.npy"])):
        (tmp_path / f"warm.{kind}").write_bytes(data)
    (tmp_path / "warm.png").write_bytes(corpus.encoded(corpus.pixels(0), "PNG"))
    for kind in ("webp", "tiff", "avif"):
        (tmp_path / f"warm.{kind}").write_bytes(corpus.encoded(corpus.pixels(0), kind.upper()))
    corpus.shard(tmp_path / "warm.tar", {"0": corpus.small(0)})
    warm = [["warm", kind, str(tmp_path / f"warm.{kind}")] for kind in ("image", "points")]
    warm += [["warm", "image", str(tmp_path / f"warm.{kind}")] for kind in ("png", "webp", "tiff", "avif")]
    warm += [["warm", "shard", str(tmp_path / "warm.tar")]]
    listed = [
        *warm,
        ["control", "image", str(control)],
        *([name, action, str(path)] for name, (action, path, _) in cases.items()),
    ]
    (tmp_path / "cases.json").write_text(json.dumps(listed))
    script = Path(__file__).with_name("measure.py")
    ran = subprocess.run(
        [sys.executable, script, tmp_path / "cases.json"], capture_output=True, text=True, timeout=300, check=False
    )
    missed = []
    for line in ran.stdout.splitlines():
        found = json.loads(line)
        if found["name"] == "control":
            assert found["mib"] > 64, found
            continue
        end = cases[found["name"]][2]
        says = end if end in found["end"] else found["end"]
        try:
            rows[found["name"]].measured(ends=says, peak_mib=found["mib"], ms=found["ms"])
        except AssertionError as error:
            missed.append(str(error))
    assert not missed
    assert all(row.found for row in rows.values()), ran.stderr


# row 18


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and /tmp/outside*; what was there before is subtracted by the caller."""
    found = {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return found | {str(p): b"" for p in Path("/tmp").glob("outside*")}


def test_names_that_leave_the_folder(fault, tmp_path, capsys):
    """The hostile shard through everything that reads shards or writes them again by key."""
    (tmp_path / "in").mkdir()
    hostile = corpus.escaping(tmp_path / "in" / "train-000000.tar")
    row = fault(
        "18",
        "traversal, absolute, drive, NUL, links, devices",
        files_outside=0,
        keys=["0001", "0002"],
        rejected=len(hostile),
        links_and_devices_counted=5,
        hostile_written=0,
        commands={"build": 0, "split": 0, "merge": 0, "filter": 0, "check": 3, "show": 0, "stats": 0},
    )
    shard = tmp_path / "in" / "train-000000.tar"
    shards = Shards(shard, shuffle=False, max_bad=1)
    keys = [sample["__key__"] for sample in shards.samples(0)]
    rejected = shards.report().get("shard/unsafe-name", 0)
    before = everything(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    commands = [
        ["build", shard.parent, work / "built", "--max-bad", "1"],
        ["split", shard, work / "split", "--parts", "a=0.5,b=0.5"],
        ["merge", shard, work / "merged"],
        ["filter", shard, work / "filtered", "--where", "True"],
        ["check", shard, "--html", work / "check.html"],
        ["show", shard, "--save", work / "saved", "--html", work / "show.html"],
        ["stats", shard],
    ]
    ran = {command[0]: main(["shards", *map(str, command)]) for command in commands}
    capsys.readouterr()
    after = everything(tmp_path)
    allowed = (str(work), str(tmp_path / "cache"), str(shard))
    outside = [p for p in after if before.get(p) != after[p] and not p.startswith(allowed)]
    inside = [Shards(tar, max_bad=1) for tar in work.rglob("*.tar")]
    written = sum(s["__key__"] not in ("0001", "0002") for some in inside for s in some.samples(0))
    row.measured(
        files_outside=len(outside),
        keys=keys,
        rejected=rejected,
        links_and_devices_counted=shards.report().get("shard/no-file", 0),
        hostile_written=written,
        commands=ran,
        shards=len(inside),
    )


# row 19


def test_members_that_run_code(fault, tmp_path):
    mark = tmp_path / "executed"
    content = corpus.code(mark)
    row = fault("19", f"{len(content)} members that run code when opened", executions=0, rows=0, opened_by_shards=[])
    corpus.shard(tmp_path / "a.tar", {"0": {**content, "json": b"{}"}})
    mapping = {"points": ["pkl", "pyd", "npy"], "image": ["pyd"], "text": ["pkl"], "label": ["pkl"]}
    shards = Shards(tmp_path / "a.tar", shuffle=False, max_bad=1, members=mapping)
    opened = sorted({name for sample in shards.samples(0) for name in sample if name[:2] != "__"})
    rows = 0
    towers = readers()
    for workers in (0, 1):
        loader = Loader(shards, towers, batch=1, train=False, workers=workers)
        rows += sum(of.n for batch in loader for of in batch.values())
        loader.close()
    raw = {"__key__": "0", "__url__": "a.tar", **content}  # as another reader would hand it over
    batch = collate([raw], towers, positions=[0], train=True, seed=0, epoch=0, members=mapping)
    rows += sum(of.n for of in batch.values())
    executed = int(mark.exists())
    row.measured(
        executions=executed,
        rows=rows,
        opened_by_shards=[name for name in opened if name not in ("json", "points.npy")],
        reasons=sorted(shards.report()),
    )


def test_the_members_do_run_code(tmp_path):
    """The corpus is what it says: opened the usual way, each leaves its mark."""
    import io
    import pickle

    import numpy as np

    mark = tmp_path / "executed"
    content = corpus.code(mark)
    for name, data in content.items():
        mark.unlink(missing_ok=True)
        if name.endswith("npy"):
            np.load(io.BytesIO(data), allow_pickle=True)
        elif data[:2] != b"PK":
            pickle.loads(data)
        assert mark.exists() or data[:2] == b"PK", name


def test_every_preprocess_refuses_pickles(fault, tmp_path):
    mark = tmp_path / "executed"
    every = {**readers(), "array": Array(shape=[2])}
    row = fault("19", "the same bytes handed to each preprocess", executions=0, rows=0)
    rows = tried = 0
    for reader in (r for m, r in every.items() if m != "text"):
        for data in corpus.code(mark).values():
            tried += 1
            with contextlib.suppress(BadSample):
                reader.decode(data)
                rows += 1
    row.measured(executions=int(mark.exists()), rows=rows, tried=tried)


LISTS = [
    "pipe:touch executed",
    "pipe:cat a.tar; touch executed",
    "{pipe:touch executed,a.tar}",
    "file:a.tar",
    "file:///etc/passwd",
    "local:///etc/passwd",
    "simplecache::file:///etc/passwd",
    "-",
]


@pytest.mark.parametrize("how", ["Shards", "command line", "manifest"])
def test_shard_lists_that_run_commands(fault, tmp_path, capsys, how):
    row = fault("19", f"pipe:, file: and - in a shard list, {how}", executions=0, refused=len(LISTS), files=["a.tar"])
    corpus.shard(tmp_path / "a.tar", {"0": corpus.small(0)})
    (tmp_path / "cache").mkdir()
    refused = 0
    for url in LISTS:
        if how == "Shards":
            with pytest.raises(ValueError, match=r"would run a command|would read a pipe|is not a URL that shards"):
                Shards([url])
            refused += 1
        elif how == "command line":
            code = main(["shards", "stats", url])
            error = capsys.readouterr().err
            refused += code in (1, 2) and error.count("\n") == 1
        else:  # a manifest names files; what it says is never opened
            (tmp_path / "manifest.json").write_text(json.dumps({"shards": {url: {"samples": 1}}}))
            assert len(Shards("a.tar")) == 1
            refused += 1
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    here = sorted(p.name for p in tmp_path.iterdir() if p.is_file() and not p.name.endswith(".index.json"))
    row.measured(executions=int(os.path.exists("executed")), refused=refused, files=here)
