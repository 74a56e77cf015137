"""The commands on an index: build, add, delete, compact, show, check, export, and their ends by a signal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_space
import torch
from test_index_build import files_of
from test_index_folder import FILES, picture
from test_index_folder import model as folder_model

import align
from align.checkpoint import save
from align.commands import main
from align.commands.index_build import name_model
from align.search.building.staging import count_staged, staging_place
from align.search.export import export_index
from align.search.local import LocalIndex

trust = ["--allow", "tiny_space,test_index_folder"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards/test-*.tar, photos/, and the models pairs and looks."""
    folder = tmp_path_factory.mktemp("commands")
    samples = list(tiny_space.world().items())
    for i in range(2):
        tiny_space.write_tar(folder / "shards" / f"test-{i:06d}.tar", dict(samples[12 * i : 12 * i + 12]))
    save(tiny_space.model("pairwise"), folder / "pairs")
    save(folder_model(), folder / "looks")
    for name, data in FILES.items():
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(data)
    return folder


@pytest.fixture
def built(place, tmp_path):
    assert (
        main(["index", "build", str(place / "pairs"), f"{place}/shards/test-*.tar", "--out", f"{tmp_path}/i", *trust])
        == 0
    )
    return tmp_path / "i"


def run(capsys, *args):
    """(exit code, stdout, stderr) of `align index …`."""
    capsys.readouterr()
    code = main(["index", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def test_build_says_what_it_made(place, tmp_path, capsys):
    code, out, err = run(capsys, "build", place / "pairs", place / "shards" / "test-*.tar", *trust)
    assert (code, err) == (0, "")
    assert out.startswith(
        f"{place / 'pairs' / 'index'}: 24 samples (23 audio, 23 image, 25 text), built (shards: 2 new)\n"
    )
    code, out, _ = run(capsys, "build", place / "pairs", place / "shards" / "test-*.tar", *trust)
    assert (
        out
        == f"{place / 'pairs' / 'index'}: 24 samples (23 audio, 23 image, 25 text), unchanged (shards: 2 unchanged)\n"
    )
    code, out, err = run(
        capsys, "build", place / "looks", place / "photos", "--out", tmp_path / "i", "--labels", "folders", *trust
    )
    assert (code, err) == (0, "")
    assert "4 samples (4 image, 1 points, 2 text), built (samples: 4 new)" in out
    lines = out.splitlines()
    assert lines[1].startswith("left out: 6 files")
    assert [line.split()[:2] for line in lines[3:9]] == [
        ["none", "1"],
        ["none", "1"],
        [".json", "1"],
        [".pdf", "1"],
        [".png", "1"],
        [".txt", "1"],
    ]
    found = align.open_index(tmp_path / "i", allow=["tiny_space", "test_index_folder"]).search(
        {"text": "bbb"}, of="image", k=1
    )
    assert found.hits[0].item.key == "one"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["hub/none", "x"], 2, "hub/none is no folder here; say where the index goes with --out FOLDER"),
        (["pairs", "shards/none-*.tar"], 1, "no shard matches"),
        (["pairs", "none"], 1, "no shard "),
        (["pairs", "photos", "--out", "shards"], 1, "shards is there and is no index"),
        (["pairs", "photos", "--out", "i", "--modalities", "imag"], 1, "the model has no modality 'imag'; it has"),
        (["pairs", "photos", "--out", "i"], 1, "photos has no file that the model embeds: it reads npy, txt"),
        (["pairs", "shards/test-*.tar", "--batch", "0", "--out", "i"], 2, "a batch has at least 1"),
        (["pairs", "shards/test-*.tar", "--modalities", ",", "--out", "i"], 2, "--modalities names none"),
        (["pairs", "shards/test-*.tar", "--labels", "folders", "--out", "i"], 2, "is for a folder of files"),
        (["pairs", "photos", "--members", "text=txt", "--out", "i"], 2, "a file of a folder is named by its suffix"),
        (["pairs", "shards/test-*.tar", "--lables", "folders"], 2, "did you mean --labels?"),
    ],
)
def test_build_refuses_in_one_line(place, capsys, monkeypatch, args, code, said):
    monkeypatch.chdir(place)
    found, out, err = run(capsys, "build", *args, *trust)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (place / "i").exists()


def test_the_name_by_which_a_model_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "w.pt").write_bytes(b"")
    for given, name in (
        ("m", f"{tmp_path}/at"),
        ("owner/name", "owner/name"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32@w.pt", f"open_clip:ViT-B-32@{tmp_path}/w.pt"),
        ("open_clip:local-dir:m", f"open_clip:local-dir:{tmp_path}/m"),
        ("open_clip:m", f"open_clip:{tmp_path}/m"),
    ):
        assert name_model(given, tmp_path / "at") == name


def test_too_many_bad_end_with_code_3(place, tmp_path, capsys):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(picture(i, i, i) if i < 2 else b"no picture")
    code, _, err = run(capsys, "build", place / "looks", tmp_path, "--out", tmp_path / "i", *trust)
    assert code == 3
    assert "2 of 4 samples in all are bad" in err
    assert "--max-bad 0.1" in err
    assert not (tmp_path / "i").exists()
    code, out, err = run(
        capsys, "build", place / "looks", tmp_path, "--out", tmp_path / "i", "--max-bad", "0.5", *trust
    )
    assert (code, "bad members: 2 image/not-an-image" in err) == (0, True)
    assert "(samples: 4 new, 2 of these without a row)" in out


def test_add_looks_for_changes_in_all_sources(place, tmp_path, capsys):
    index, photos = tmp_path / "i", tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(picture(250, 0, 0))
    run(capsys, "build", place / "looks", photos, "--out", index, "--labels", "folders", *trust)
    more = tmp_path / "more"
    (more / "red").mkdir(parents=True)
    (more / "red" / "b.png").write_bytes(picture(240, 0, 0))
    assert run(capsys, "add", index, more, *trust)[0] == 0
    (photos / "a.png").unlink()
    (photos / "c.png").write_bytes(picture(0, 0, 250))
    code, out, _ = run(capsys, "add", index, *trust)
    assert code == 0
    assert re.findall(r"(refreshed|unchanged) \((.*)\)", out) == [
        ("refreshed", "samples: 1 new, 1 gone"),
        ("unchanged", "samples: 1 unchanged"),
    ]
    with LocalIndex.open(index) as opened:
        items = {item.key: item for item in opened.items(opened.numbers().tolist())}
    assert set(items) == {"c", "red/b"}
    assert items["red/b"].label == "red"  # the options of the first build hold
    with LocalIndex.open(index, write=True) as opened, opened.change() as change:
        change.about(model={**opened.about["model"], "source": str(tmp_path / "moved")})
    code, _, err = run(capsys, "add", index, *trust)
    assert (code, "name it with --model" in err, err.count("\n")) == (1, True, 1)
    assert run(capsys, "add", index, "--model", place / "looks", *trust)[0] == 0
    code, _, err = run(capsys, "add", tmp_path / "none", more)
    assert (code, "no index in" in err, err.count("\n")) == (1, True, 1)


def test_delete_by_key_and_by_filter(built, capsys):
    code, _, err = run(capsys, "delete", built, "0001", "001")
    assert (code, "no sample '001'; did you mean" in err, "nothing was deleted" in err) == (1, True, True)
    assert run(capsys, "delete", built, "0001", "0002")[1] == f"{built}: 2 samples deleted, 22 left\n"
    code, out, _ = run(capsys, "delete", built, "--where", '{"label.kind": "bbb"}')
    assert (code, out) == (0, f"{built}: 4 samples deleted, 18 left\n")
    code, _, err = run(capsys, "delete", built, "--where", '{"label.knd": 1}')
    assert (code, "label.kind" in err, err.count("\n")) == (1, True, 1)
    code, _, err = run(capsys, "delete", built, "--where", "label.kind ==")
    assert (code, err.count("\n")) == (2, 1)
    assert (
        run(capsys, "delete", built, "--where", 'label["kind"] == "bbb"')[1] == f"{built}: 0 samples deleted, 18 left\n"
    )
    assert run(capsys, "delete", built)[0] == 2
    assert run(capsys, "delete", built, "0003", "--where", "{}")[0] == 2
    assert "dead: 25.4% of the rows" in run(capsys, "show", built)[1]
    code, out, _ = run(capsys, "compact", built)
    assert (code, re.match(rf"{built}: 18 rows removed, [\d.]+ KiB -> ", out) is not None) == (0, True)
    assert "dead" not in run(capsys, "show", built)[1]
    with LocalIndex.open(built) as index:
        assert index.count() == 18


def test_show(built, place, capsys):
    code, out, _ = run(capsys, "show", built)
    assert code == 0
    for line in (
        f"{built}: 24 samples (23 audio, 23 image, 25 text) of 8 numbers, ",
        f"model: {place / 'pairs'} (sha256 ",
        f"source: {place}/shards/test-*.tar (2 shards)",
        "label.kind",
        "bbb (4)",
    ):
        assert line in out
    said = json.loads(run(capsys, "show", built, "--json")[1])
    assert (said["samples"], said["modalities"], said["dim"], said["dead"]) == (
        24,
        {"audio": 23, "image": 23, "text": 25},
        8,
        0,
    )
    assert [key["key"] for key in said["keys"]] == ["label.half", "label.kind"]
    assert said["sources"] == [{"name": f"{place}/shards/test-*.tar", "kind": "shard", "n": 2, "options": {}}]


def test_check_names_the_damage_and_notes_what_is_gone(built, place, tmp_path, capsys):
    assert run(capsys, "check", built)[:2] == (0, f"{built}: every checksum is right\n")
    segment = max((built / "segments").iterdir())
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    code, out, _ = run(capsys, "check", built)
    assert (code, f"damaged: {segment}" in out) == (1, True)
    tar = tiny_space.write_tar(tmp_path / "t" / "a.tar", tiny_space.world(4))
    run(capsys, "build", place / "pairs", tar, "--out", tmp_path / "j", *trust)
    os.utime(tar, ns=(1, 1))
    assert "note: 1 of 1 sources are changed" in run(capsys, "check", tmp_path / "j")[1]
    tar.unlink()
    code, out, _ = run(capsys, "check", tmp_path / "j")
    assert (code, f"note: 1 of 1 sources are gone, {tar} the first" in out) == (0, True)


# export


def rows_of(index, m):
    """(number, norm, unit row) of every row, by a plain loop."""
    found = []
    for number in index.numbers(m).tolist():
        for row in index.rows(m, [number]).values:
            norm = float(row.norm())
            found.append((number, norm, (row / norm).tolist()))
    return found


def check_rows(found, numbers, norms, values):
    assert [number for number, _, _ in found] == list(numbers)
    assert [norm for _, norm, _ in found] == pytest.approx(list(norms), rel=1e-6)
    assert np.allclose([row for *_, row in found], values, atol=1e-6)


def test_export(built, tmp_path, capsys, monkeypatch):
    import faiss
    from pyarrow.parquet import read_table

    monkeypatch.setattr("align.search.export.BLOCK", 5)
    run(capsys, "delete", built, "0002")
    for to in ("numpy", "parquet", "faiss"):
        code, out, _ = run(capsys, "export", built, tmp_path / to, "--to", to)
        assert code == 0
        assert sorted(line.partition(": ")[0] for line in out.splitlines()) == sorted(
            map(str, (tmp_path / to).iterdir())
        )
    with LocalIndex.open(built) as index:
        for m in index.modalities:
            found = rows_of(index, m)
            check_rows(found, *(np.load(tmp_path / "numpy" / f"{m}{end}.npy") for end in (".number", ".norm", "")))
            table = read_table(tmp_path / "parquet" / f"{m}.parquet").to_pydict()
            check_rows(found, table["number"], table["norm"], table["vector"])
            keys = [index.items([number])[0].key for number, _, _ in found]
            assert table["key"] == keys
            assert {"shard", "key"} == set(json.loads(table["source"][0]))
            stored: Any = faiss.read_index(str(tmp_path / "faiss" / f"{m}.faiss"))
            numbers = faiss.vector_to_array(stored.id_map)
            inner = faiss.downcast_index(stored.index)
            check_rows(
                found, numbers, np.load(tmp_path / "faiss" / f"{m}.norm.npy"), inner.reconstruct_n(0, inner.ntotal)
            )
            query = torch.nn.functional.normalize(torch.randn(1, 8, generator=torch.Generator().manual_seed(1)), dim=1)
            scores, ids = index.search(query, m, 3)
            theirs = stored.search(query.numpy(), 3)
            if m != "text":  # a sample with two captions is two hits there
                assert theirs[1][0].tolist() == ids[0].tolist()
                assert np.allclose(theirs[0], scores, atol=1e-6)
        lines = [json.loads(line) for line in (tmp_path / "numpy" / "items.jsonl").read_text().splitlines()]
        assert [line["number"] for line in lines] == index.numbers().tolist()
        assert lines[0]["label"] == {"kind": "bbb", "half": 0}
        assert lines[0]["source"]["shard"].endswith("test-000000.tar")
        before = (tmp_path / "numpy" / "items.jsonl").read_bytes()
        monkeypatch.setattr("align.search.export._describe", lambda number, item: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_index(index, tmp_path / "numpy", "numpy")
        assert (tmp_path / "numpy" / "items.jsonl").read_bytes() == before
        with pytest.raises(ValueError, match="is there and is no export"):
            export_index(index, tmp_path, "numpy")
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(ImportError, match=r"--to faiss needs faiss; pip install .*\[search\]"):
            export_index(index, tmp_path / "new", "faiss")
    assert not (tmp_path / "new").exists()


# signals


def start(place, out, shards, *more):
    here = Path(__file__).parent
    code = (
        "import sys, time, threading\n"
        f"sys.path.insert(0, {str(here)!r})\n"
        "import align.search.building.embed as embed\n"
        "embed.SAMPLES = 8\n"
        "real = embed.check_finite\n"
        "def slow(piece):\n    time.sleep(0.05)\n    return real(piece)\n"
        "embed.check_finite = slow\n"
        "from align.commands import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    args = ["index", "build", str(place / "pairs"), str(shards), "--out", str(out), "--batch", "4", *trust, *more]
    return subprocess.Popen([sys.executable, "-c", code, *args], stderr=subprocess.PIPE, text=True)


def wait_for_blocks(out, n):
    end = time.monotonic() + 120
    while count_staged(out) < n:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "more"),
    [
        (signal.SIGTERM, 143, []),
        pytest.param(signal.SIGINT, 130, ["--workers", "1"], marks=pytest.mark.sweep),
        pytest.param(signal.SIGKILL, -9, [], marks=pytest.mark.sweep),
    ],
)
def test_a_signal_keeps_what_is_embedded(place, tmp_path, capsys, number, code, more):
    samples = {f"{i:04d}": dict(members) for i, (_, members) in enumerate(20 * [*tiny_space.world().items()])}
    shard = tiny_space.write_tar(tmp_path / "s" / "test-0.tar", samples)
    out = tmp_path / "i"
    process = start(place, out, shard, *more)
    wait_for_blocks(out, 16)
    process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == code
    kept = count_staged(out)
    if number != signal.SIGKILL:
        assert f"stopped by {number.name}: {kept} embedded samples are kept beside {out}" in err
        assert "Traceback" not in err
    assert 16 <= kept < 480
    assert not out.exists()
    args = ["build", place / "pairs", shard, "--batch", "4", *trust]
    assert f"{kept} samples embedded before" in run(capsys, *args, "--out", out)[1]
    run(capsys, *args, "--out", tmp_path / "one")
    assert files_of(out) == files_of(tmp_path / "one")
    assert not staging_place(out).exists()
