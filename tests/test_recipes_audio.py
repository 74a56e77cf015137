"""The recipes of sounds, on miniatures in the layout that each names."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from made_sets import ROOT, about, alone, fails, flac, manifest, put, put_csv, read, recipe, serve, texts, wav

ESC50 = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]


def esc50(folder):
    """Two classes in every fold; fold 1 has two takes of one Freesound clip."""
    rows = [["1-100032-A-0.wav", 1, 0, "dog", "True", "100032", "A"]]
    rows.append(["1-100032-B-0.wav", 1, 0, "dog", "True", "100032", "B"])
    for fold in range(1, 6):
        rows.append([f"{fold}-20{fold}-A-20.wav", fold, 20, "crying_baby", "True", f"20{fold}", "A"])
        rows.append([f"{fold}-30{fold}-A-5.wav", fold, 5, "cat", "False", f"30{fold}", "A"])
    put_csv(folder / "meta" / "esc50.csv", [ESC50, *rows])
    for i, row in enumerate(rows):
        put(folder / "audio" / row[0], wav(i))
    return [row[0] for row in rows]


def test_esc50_downloads_and_keeps_its_folds(tmp_path, monkeypatch):
    names = esc50(tmp_path / "made")
    archive = tmp_path / "served.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for path in sorted((tmp_path / "made").rglob("*.*")):
            pack.write(path, f"ESC-50-master/{path.relative_to(tmp_path / 'made')}")
    module = recipe("esc50")
    asked = serve(monkeypatch, lambda url, path: put(path, archive.read_bytes()))
    (tmp_path / "data" / "esc50").mkdir(parents=True)  # an empty folder is no folder with something else
    for out in ("out", "again"):
        assert module.main([str(tmp_path / out), "--source", str(tmp_path / "data")]) == 0
    assert asked == {module.URL: None}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["esc50"]
    first = read(tmp_path / "out", "fold1")
    assert set(first) == {name.removesuffix(".wav") for name in names if name.startswith("1-")}
    assert len(read(tmp_path / "out", "fold5")) == 2
    assert alone(tmp_path / "out")
    dog = first["1-100032-B-0"]
    assert dog["audio.wav"] == wav(1)
    assert texts(first["1-201-A-20"]) == ["crying baby", "the sound of crying baby"]
    assert about(dog) == {"label": {"sound": "dog"}, "group": 0, "recording": 100032, "esc10": True}
    assert manifest(tmp_path / "out")["classes"] == {"sound": ["dog", "cat", "crying baby"]}  # by number


def test_esc50_refuses_a_name_that_says_otherwise_and_a_missing_file(tmp_path, capsys):
    esc50(tmp_path / "esc50")
    (tmp_path / "esc50" / "audio" / "2-202-A-20.wav").unlink()
    assert "2-202-A-20.wav" in fails(recipe("esc50"), capsys, tmp_path / "out", "--source", tmp_path)
    put_csv(tmp_path / "esc50" / "meta" / "esc50.csv", [ESC50, ["1-7-A-0.wav", 1, 3, "cow", "True", "7", "A"]])
    assert "its row says 1-7-A-3.wav" in fails(recipe("esc50"), capsys, tmp_path / "out", "--source", tmp_path)
    put_csv(tmp_path / "esc50" / "meta" / "esc50.csv", [ESC50[:-1]])
    assert "no column take" in fails(recipe("esc50"), capsys, tmp_path / "out", "--source", tmp_path)


@pytest.mark.sweep  # test_recipes has one that imports the same neighbours
def test_a_recipe_runs_by_path_and_finds_its_neighbour(tmp_path):
    esc50(tmp_path / "data" / "esc50")
    environment = {**os.environ, "ALIGN_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "datasets" / "esc50.py"), "out"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "out: 2 fold5 samples" in done.stdout


def urbansound(folder):
    rows = [["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]]
    for fold in range(1, 11):
        for part in range(2):
            name = f"{100 + fold}-3-0-{part}.wav"
            rows.append([name, 100 + fold, part, part + 4, 1 + part, fold, 3, "dog_bark"])
            put(folder / "audio" / f"fold{fold}" / name, wav(fold))
    put_csv(folder / "metadata" / "UrbanSound8K.csv", rows)


def test_urbansound8k_downloads_checks_and_groups_by_recording(tmp_path, monkeypatch, capsys):
    urbansound(tmp_path / "made")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as pack:
        pack.add(tmp_path / "made", "UrbanSound8K")
    module = recipe("urbansound8k")
    arguments = [tmp_path / "out", "--source", tmp_path]
    put(tmp_path / "UrbanSound8K.tar.gz", content.getvalue())  # where the download would lie
    assert f"instead of {module.MD5}" in fails(module, capsys, *arguments)
    monkeypatch.setattr(module, "MD5", hashlib.md5(content.getvalue()).hexdigest())
    assert module.main([str(a) for a in arguments]) == 0
    put(tmp_path / "b" / "UrbanSound8K.tar.gz", content.getvalue()[:-200])  # cut
    monkeypatch.setattr(module, "MD5", hashlib.md5(content.getvalue()[:-200]).hexdigest())
    error = fails(module, capsys, tmp_path / "other", "--source", tmp_path / "b")
    assert "UrbanSound8K.tar.gz cannot be unpacked" in error
    assert not (tmp_path / "b" / "urbansound8k").exists()
    put(tmp_path / "b" / "urbansound8k" / "mine.txt", "")
    assert "move it away" in fails(module, capsys, tmp_path / "other", "--source", tmp_path / "b")
    assert alone(tmp_path / "out")
    tenth = read(tmp_path / "out", "fold10")
    assert set(tenth) == {"110-3-0-0", "110-3-0-1"}
    assert about(tenth["110-3-0-1"]) == {"label": {"sound": "dog bark"}, "group": 3, "recording": 110, "salience": 2}
    assert tenth["110-3-0-1"]["audio.wav"] == wav(10)
    assert texts(tenth["110-3-0-0"])[0] == "dog bark"


def test_clotho_has_five_captions_and_says_what_to_unpack(tmp_path, capsys, monkeypatch):
    folder, module = tmp_path / "clotho", recipe("clotho")
    arguments = [tmp_path / "out", "--source", tmp_path]
    assert "clotho_audio_development.7z and unpack it" in fails(module, capsys, *arguments)
    for name in ("development", "validation", "evaluation"):
        rows = [["file_name", *[f"caption_{i}" for i in range(1, 6)]]]
        for i, file in enumerate([f" Ambience {name}.wav", f"Distorted {name} noise.wav"]):
            rows.append([file, *[f"{name} {i}, caption {k}" for k in range(5)]])
            put(folder / name / file, wav(i))
        put_csv(folder / f"clotho_captions_{name}.csv", rows)
    assert module.main([str(a) for a in arguments]) == 0
    assert {s: len(read(tmp_path / "out", s)) for s in ("train", "val", "test")} == {"train": 2, "val": 2, "test": 2}
    assert alone(tmp_path / "out")
    second = read(tmp_path / "out", "test")["00001-Distorted_evaluation_noise"]
    assert texts(second) == [f"evaluation 1, caption {k}" for k in range(5)]
    assert second["audio.wav"] == wav(1)
    birds = folder / "development" / " Ambience development.wav"  # three published names begin with a space
    assert about(read(tmp_path / "out", "train")["00000-Ambience_development"]) == {"file": birds.name}
    birds.rename(folder / "development" / birds.name.strip())  # as programs unpack it that trim names
    assert module.main([str(a) for a in arguments]) == 0
    (folder / "validation" / "Distorted validation noise.wav").unlink()
    assert module.main([str(tmp_path / "some"), *map(str, arguments[1:]), "--only", "test", "train"]) == 0
    assert set(manifest(tmp_path / "some")["splits"]) == {"train", "test"}
    assert "unpack the archive again" in fails(module, capsys, *arguments)
    asked = serve(monkeypatch, lambda url, path: put(path, "file_name\n"))
    (folder / "clotho_captions_development.csv").unlink()
    assert "no column caption_1" in fails(module, capsys, *arguments)
    assert asked == {f"{module.URL}clotho_captions_development.csv?download=1": module.MD5["development"]}


def test_audiocaps_joins_captions_and_counts_what_is_gone(tmp_path, capsys):
    folder, module = tmp_path / "AUDIOCAPS", recipe("audiocaps")
    assert "by the form at https://github.com" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)
    for split, times in [("train", 1), ("val", 5), ("test", 5)]:
        rows = [["audiocap_id", "youtube_id", "start_time", "caption"]]
        for k in range(times):
            rows += [[k, f"-0Gj8-{split}", 30, f'{split} says "{k}", twice'], [9 + k, "gone", 0, "nothing"]]
        put_csv(folder / "csv_files_v1" / f"{split}.csv", rows)
        put(folder / "audio_32000Hz" / split / f"-0Gj8-{split}_30.flac", flac(times))
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path)]) == 0
    assert "1 test clips are not in" in capsys.readouterr().out
    test = read(tmp_path / "out", "test")
    assert set(test) == {"-0Gj8-test_30"}
    assert alone(tmp_path / "out")
    assert texts(test["-0Gj8-test_30"]) == [f'test says "{k}", twice' for k in range(5)]
    assert test["-0Gj8-test_30"]["audio.flac"] == flac(5)
    assert about(test["-0Gj8-test_30"]) == {"youtube_id": "-0Gj8-test", "start": 30}


def test_vggsound_reads_its_list_without_a_header(tmp_path, capsys):
    folder, module = tmp_path / "vggsound", recipe("vggsound")
    rows = [
        ["---g-f_I2yQ", 1, "people marching", "test"],
        ["FwVYUHKoLtQ", 34, "tractor digging", "train"],
        ["gonegonegon", 30, "air conditioning noise, far", "train"],
    ]
    put_csv(folder / "vggsound.csv", rows)
    put(folder / "audio" / "---g-f_I2yQ_000001.wav", wav(1))
    put(folder / "audio" / "FwVYUHKoLtQ_000034.wav", wav(2))
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path)]) == 0
    assert "1 train clips are not in" in capsys.readouterr().out
    sample = read(tmp_path / "out", "train")["FwVYUHKoLtQ_000034"]
    assert sample["audio.wav"] == wav(2)
    assert about(sample)["label"] == {"sound": "tractor digging"}
    assert about(sample)["group"] == 2  # of the classes in the order of their names
    names = ["air conditioning noise, far", "people marching", "tractor digging"]
    assert manifest(tmp_path / "out")["classes"]["sound"] == names
    put_csv(folder / "vggsound.csv", [["x", 1, "y", "training"]])
    assert "splits training" in fails(module, capsys, tmp_path / "out", "--source", tmp_path)


@pytest.mark.parametrize("leave", [False, True])
def test_wavcaps_takes_each_source_and_leaves_out_a_list(tmp_path, capsys, leave):
    folder, module = tmp_path / "WavCaps", recipe("wavcaps")
    lists = {
        "AudioSet_SL": ("as_final.json", [("Yb0RFKhbpFJA.wav", "Wind and a man speaking are heard.")]),
        "FreeSound": ("fsd_final.json", [("180913", "An engine revs."), ("117790", "A bell."), ("7", "Gone.")]),
        "SoundBible": ("sb_final.json", [("2219", "An airplane is landing.")]),
    }
    for source, (name, rows) in lists.items():
        data = [{"id": i, "caption": c, "duration": 1.5, "audio": "wav_path"} for i, c in rows]
        put(folder / "json_files" / source / name, {"num_captions_per_audio": 1, "data": data})
        for i, _ in rows[:2]:
            put(folder / "Audio" / source / f"{i.removesuffix('.wav')}.flac", flac(len(i)))
    put(tmp_path / "leave.json", {"AudioSet": ["Yb0RFKhbpFJA.wav"], "FreeSound": ["117790"]})
    more = ["--leave-out", str(tmp_path / "leave.json")] if leave else []
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path), *more]) == 0
    said = capsys.readouterr().out
    assert "1 sounds without a file" in said
    assert ("2 sounds in the list to leave out" in said) == leave
    train = read(tmp_path / "out", "train")
    left = {"FreeSound_180913", "SoundBible_2219"}
    assert set(train) == (left if leave else left | {"AudioSet_SL_Yb0RFKhbpFJA", "FreeSound_117790"})
    assert texts(train["SoundBible_2219"]) == ["An airplane is landing."]
    assert about(train["SoundBible_2219"]) == {"source": "SoundBible", "id": "2219"}
