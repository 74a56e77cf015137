"""The recipes: on miniature copies of the public files behind a local server, and on the real files where they are."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_sets import ROOT, about, alone, fails, read, recipe
from PIL import Image

import align

digest = recipe("archives").digest
RECIPES = ["digits", "esc10", "cifar10", "kaykit"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def sums(folder):
    """Of the shards and the manifest; an index beside a shard also knows when the shard was written."""
    files = [*sorted(Path(folder).glob("*.tar")), Path(folder) / "manifest.json"]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def data():
    """The folder of the real files."""
    folder = Path(os.environ.get("ALIGN_DATA", ROOT / "data"))

    def need(*names):
        missing = [n for n in names if not (folder / n).is_dir()]
        if missing:
            pytest.skip(f"for want of data: no {', '.join(missing)} in $ALIGN_DATA (default: data)")
        return folder

    return need


@pytest.fixture
def server(tmp_path):
    """A folder and the address it is served at."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


def idx(array):
    return gzip.compress(
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes(), mtime=0
    )


def wav(n):
    sound = (np.arange(n) % 50 * 100).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(sound),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        8000,
        16000,
        2,
        16,
        b"data",
        len(sound),
    )
    return head + sound


def mnist(n, seed):
    labels = np.arange(n, dtype=np.uint8) % 10
    images = np.random.default_rng(seed).integers(1, 256, (n, 28, 28)).astype(np.uint8)
    return images, labels


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in files.items():
            pack.writestr(name, content)


def serve_digits(module, folder, url, monkeypatch):
    for name, seed in [("train", 0), ("t10k", 1)]:
        images, labels = mnist(40, seed)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    recordings = {
        f"{d}_{who}_{n}.wav": wav(400 + 10 * d + n) for d in range(10) for who in ("ann", "bo") for n in (0, 4, 5, 9)
    }
    zipped(
        folder / "fsdd.zip",
        {f"free-spoken-digit-dataset-1.0.10/recordings/{n}": c for n, c in recordings.items()}
        | {"free-spoken-digit-dataset-1.0.10/README.md": b""},
    )
    monkeypatch.setattr(module, "MNIST_URL", url)
    monkeypatch.setattr(
        module, "MNIST", {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in module.MNIST}
    )
    monkeypatch.setattr(module, "FSDD_URL", url + "fsdd.zip")
    monkeypatch.setattr(module, "FSDD_DIGEST", digest(recordings))


def serve_esc10(module, folder, url, monkeypatch):
    clips = {
        f"{i + 1:03d} - {name.capitalize()}/{fold}-{i}{fold}-A.ogg": f"{name} {fold}".encode()
        for i, name in enumerate(module.CAPTIONS)
        for fold in range(1, 6)
    }
    inside = f"ESC-10-{module.COMMIT}"
    zipped(folder / "esc.zip", {f"{inside}/{n}": c for n, c in clips.items()} | {f"{inside}/README.md": b""})
    monkeypatch.setattr(module, "URL", url + "esc.zip")
    monkeypatch.setattr(module, "DIGEST", digest(clips))


def serve_cifar10(module, folder, url, monkeypatch):
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as tar:
        for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
            records = np.random.default_rng(len(name)).integers(0, 256, (20, 3073)).astype(np.uint8)
            records[:, 0] = np.arange(20) % 10
            records[:, 1:1025] = 200  # red
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = records.size
            tar.addfile(member, io.BytesIO(records.tobytes()))
    content = (folder / "cifar.tar.gz").read_bytes()
    monkeypatch.setattr(module, "URL", url + "cifar.tar.gz")
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(module, "SIZE", len(content))


def serve_kaykit(module, folder, url, monkeypatch):
    texture = io.BytesIO()
    Image.fromarray(np.array([[[255, 0, 0]] * 8 + [[0, 0, 255]] * 8] * 16, np.uint8)).save(texture, "png")
    files = {"restaurantbits_texture.png": texture.getvalue()}
    for i, name in enumerate(
        ["bowl", "bowl_dirty", "chair_A", "crate_buns", "food_ingredient_ham_cooked", "jar_A_large"]
    ):
        u = 0.1 if i % 2 else 0.9  # left: red, right: blue
        files[f"{name}.mtl"] = b"newmtl restaurant\nKd 1 1 1\nmap_Kd restaurantbits_texture.png\n"
        files[f"{name}.obj"] = (
            f"mtllib {name}.mtl\no {name}\n"
            f"v 0 0 0\nv 1 0 0\nv 1 3 0\nv 0 3 0\nvt {u} 0.5\nvn 0 0 1\nusemtl restaurant\n"
            "f 1/1/1 2/1/1 3/1/1\nf 1/1/1 3/1/1 4/1/1\n"
        ).encode()
    zipped(
        folder / "kaykit.zip", {f"KayKit-Restaurant-Bits-1.0-153c8a7{module.INSIDE}{n}": c for n, c in files.items()}
    )
    monkeypatch.setattr(module, "URL", url + "kaykit.zip")
    monkeypatch.setattr(module, "DIGEST", digest(files))


SERVE = {"digits": serve_digits, "esc10": serve_esc10, "cifar10": serve_cifar10, "kaykit": serve_kaykit}
MORE = {"digits": ["--train", "50", "--test", "20"], "kaykit": ["--clouds", "2"]}


@pytest.mark.parametrize("name", RECIPES)
def test_downloads_what_is_missing_and_reads_it_the_second_time(name, server, tmp_path, monkeypatch, capsys):
    module = recipe(name)
    SERVE[name](module, *server, monkeypatch)
    more = ["--source", str(tmp_path / "data"), *MORE.get(name, [])]
    assert module.main([str(tmp_path / "out"), *more]) == 0, capsys.readouterr().err
    for path in server[0].iterdir():
        path.unlink()
    left = [
        p for p in (tmp_path / "data").rglob("*") if p.suffix in (".part", ".zip", ".tar") or p.name.endswith(".tar.gz")
    ]
    assert left == []
    assert module.main([str(tmp_path / "again"), *more]) == 0, capsys.readouterr().err
    assert sums(tmp_path / "out") == sums(tmp_path / "again")
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    expected = {"digits": (50, 20), "esc10": (40, 10), "cifar10": (100, 20), "kaykit": (10, 1)}
    assert (len(train), len(test)) == expected[name]
    assert alone(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["licence"]
    assert set(manifest["classes"]) == set(about(next(iter(train.values())))["label"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_wrong_checksum_and_no_network_are_one_line(name, server, tmp_path, monkeypatch, capsys):
    module = recipe(name)
    SERVE[name](module, *server, monkeypatch)
    if name == "digits":
        monkeypatch.setattr(module, "MNIST", dict.fromkeys(module.MNIST, "0" * 64))
    else:
        monkeypatch.setattr(module, "SHA256" if name == "cifar10" else "DIGEST", "0" * 64)
    assert "0" * 64 in fails(module, capsys, tmp_path / "out", "--source", tmp_path / "data")

    for key in [k for k in vars(module) if k.endswith("URL")]:
        monkeypatch.setattr(module, key, "http://127.0.0.1:9/nothing.zip")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert "127.0.0.1:9" in fails(module, capsys, tmp_path / "out", "--source", tmp_path / "elsewhere")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.tar"))


def test_digits_are_the_same_digit_in_every_modality(server, tmp_path, monkeypatch):
    module = recipe("digits")
    SERVE["digits"](module, *server, monkeypatch)
    source = ["--source", str(tmp_path / "data")]
    assert module.main([str(tmp_path / "out"), *source, "--train", "50", "--test", "20"]) == 0
    for split, seed in [("train", 0), ("test", 1)]:
        images, labels = mnist(40, seed)
        number = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        for sample in read(tmp_path / "out", split).values():
            digit = number[np.asarray(Image.open(io.BytesIO(sample["image.png"]))).tobytes()]  # an image of this split
            assert about(sample) == {"label": {"digit": WORDS[digit]}, "group": digit}
            n = (len(sample["audio.wav"]) - 44) // 2 - 400
            assert n // 10 == digit
            assert (n % 10 < 5) == (split == "test")
            assert sample["text.txt"].decode().split()[-1] == WORDS[digit]
            points = np.load(io.BytesIO(sample["points.npy"]))
            assert points.shape == (256, 6)
            assert points.dtype == np.float16
            assert np.abs(points[:, :3]).max() <= 1
            assert 0 <= points[:, 3:].min() <= points[:, 3:].max() <= 1
    assert module.main([str(tmp_path / "other"), *source, "--train", "50", "--test", "20", "--seed", "1"]) == 0
    assert sums(tmp_path / "out") != sums(tmp_path / "other")


def test_a_cloud_is_its_digit_seen_from_the_front():
    image = np.zeros((28, 28), np.uint8)
    image[2:26, 12:16] = 255  # a vertical bar
    image[2:6, 12:24] = 255  # with an arm to the right at the top
    points = recipe("digits").cloud(image, np.random.default_rng(0)).astype(float)
    assert points[:, 0].min() > -0.2
    assert points[:, 0].max() > 0.6
    assert points[points[:, 0] > 0.3, 2].min() > 0.5  # z is up: the arm is at the top
    assert np.abs(points[:, 1]).max() <= 0.2
    row, column = np.rint(13.5 - points[:, 2] * 14).astype(int), np.rint(points[:, 0] * 14 + 13.5).astype(int)
    assert image[row, column].mean() > 250  # rounding to float16 moves a few over a pixel's border


def test_the_sum_task_adds_and_no_pair_knows(server, tmp_path, monkeypatch):
    module = recipe("digits")
    SERVE["digits"](module, *server, monkeypatch)
    assert (
        module.main(
            [
                str(tmp_path / "out"),
                "--source",
                str(tmp_path / "data"),
                "--task",
                "sum",
                "--train",
                "2000",
                "--test",
                "20",
            ]
        )
        == 0
    )
    images, labels = mnist(40, 0)
    number = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    together = np.zeros((3, 10, 10))
    for sample in read(tmp_path / "out", "train").values():
        assert set(sample) == {"image.png", "audio.wav", "text.txt", "json"}
        a = int(number[np.asarray(Image.open(io.BytesIO(sample["image.png"]))).tobytes()])
        b = ((len(sample["audio.wav"]) - 44) // 2 - 400) // 10
        c = WORDS.index(sample["text.txt"].decode().split()[-1])
        assert c == (a + b) % 10
        assert about(sample)["label"] == {"a": WORDS[a], "b": WORDS[b], "sum": WORDS[c]}
        for table, pair in zip(together, [(a, b), (a, c), (b, c)], strict=True):
            table[pair] += 1
    for (
        table
    ) in together:  # every cell expects 20: chi squared with 81 degrees of freedom is below 140 but for 1 in 20,000
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        assert ((table - expected) ** 2 / expected).sum() < 140


def test_esc10_works_with_four_folds_and_names_a_stray_folder(server, tmp_path, monkeypatch, capsys):
    module = recipe("esc10")
    SERVE["esc10"](module, *server, monkeypatch)
    source = tmp_path / "data"
    module.fetch(source / "esc10")
    for path in source.rglob("5-*.ogg"):
        path.unlink()
    assert module.main([str(tmp_path / "out"), "--source", str(source)]) == 0
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    assert {key[0] for key in train} == {"1", "2", "3"}
    assert {key[0] for key in test} == {"4"}
    sample = next(s for k, s in train.items() if about(s)["label"]["sound"] == "baby cry")
    assert sample["text.txt"].decode().split("\n") == ["baby cry", "the sound of a crying baby"]
    (source / "esc10" / "011 - Siren").mkdir()
    (source / "esc10" / "011 - Siren" / "1-1-A.ogg").write_bytes(b"")
    assert module.main([str(tmp_path / "out2"), "--source", str(source)]) == 1
    assert "011 - Siren: not a class of ESC-10" in capsys.readouterr().err


def test_cifar10_keeps_pixels_and_channels(server, tmp_path, monkeypatch):
    module = recipe("cifar10")
    SERVE["cifar10"](module, *server, monkeypatch)
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path / "data")]) == 0
    train = read(tmp_path / "out", "train")
    for key, sample in train.items():
        name = about(sample)["label"]["object"]
        assert key.startswith(f"train-{name}")
        assert sample["text.txt"].decode() in (f"a photo of a {name}", f"a photo of an {name}")
        pixels = np.asarray(Image.open(io.BytesIO(sample["image.png"])))
        assert pixels.shape == (32, 32, 3)
        assert (pixels[..., 0] == 200).all()
        assert pixels[..., 1].std() > 50


def test_kaykit_colours_turns_and_names(server, tmp_path, monkeypatch):
    module = recipe("kaykit")
    SERVE["kaykit"](module, *server, monkeypatch)
    assert module.main([str(tmp_path / "out"), "--source", str(tmp_path / "data"), "--clouds", "2"]) == 0
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    assert list(test) == ["food_ingredient_ham_cooked_000"]  # the fifth name
    assert test["food_ingredient_ham_cooked_000"]["text.txt"].decode().split("\n") == ["ham cooked", "a cooked ham"]
    assert about(train["jar_A_large_000"])["label"] == {"object": "jar a large", "kind": "jar"}
    assert train["jar_A_large_000"]["text.txt"].decode().split("\n") == ["jar a large", "a large jar"]
    points = np.load(io.BytesIO(train["bowl_000"]["points.npy"]))
    assert points.shape == (1024, 6)
    assert points[:, 2].max() > 2.9  # the file's y, three high, is up
    assert np.abs(points[:, 1]).max() == 0
    assert points[:, 3:].mean(0).tolist() == [0, 0, 1]
    assert np.load(io.BytesIO(train["bowl_dirty_000"]["points.npy"]))[:, 3:].mean(0).tolist() == [1, 0, 0]
    assert train["bowl_000"]["points.npy"] != train["bowl_001"]["points.npy"]


@pytest.mark.sweep
def test_run_by_path_in_a_fresh_process(data, tmp_path):
    """The command as documented; ALIGN_DATA names the source."""
    source = data("mnist", "fsdd")
    environment = {**os.environ, "ALIGN_DATA": str(source), "PYTHONPATH": str(Path(align.__file__).parents[1])}
    command = [
        sys.executable,
        str(ROOT / "datasets" / "digits.py"),
        str(tmp_path / "out"),
        "--train",
        "100",
        "--test",
        "20",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    assert (len(train), len(test)) == (100, 20)
    assert {about(s)["label"]["digit"] for s in train.values()} == set(WORDS)
    with pytest.raises(SystemExit, match="2"):
        recipe("digits").main([*command[2:], "--sead", "1"])


def test_digits_on_the_real_files(data, tmp_path):
    source = data("mnist", "fsdd")
    module = recipe("digits")
    for task in ("pair", "sum"):
        out = [str(tmp_path / task), "--source", str(source), "--task", task]
        assert module.main([*out, "--train", "200", "--test", "200"]) == 0
    train, test = read(tmp_path / "pair", "train"), read(tmp_path / "pair", "test")
    recordings = {p.read_bytes(): p.stem.split("_") for p in (source / "fsdd" / "recordings").glob("*.wav")}
    for samples, is_test in [(train, False), (test, True)]:
        for sample in samples.values():
            digit, _, n = recordings[sample["audio.wav"]]
            assert (int(n) < 5) == is_test
            assert about(sample)["group"] == int(digit)
    assert not {s["image.png"] for s in train.values()} & {s["image.png"] for s in test.values()}


@pytest.mark.parametrize("name", ["esc10", "cifar10"])
def test_real_folders(name, data, tmp_path):
    source = data(name)
    module = recipe(name)
    assert module.main([str(tmp_path / "out"), "--source", str(source)]) == 0
    files = [p for p in (source / name).glob("*/*.ogg" if name == "esc10" else "*/*/*") if p.is_file()]
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    assert len(train) + len(test) == len(files)
    first = "audio.ogg" if name == "esc10" else "image.jpg"
    assert not {s[first] for s in train.values()} & {s[first] for s in test.values()}
    classes = {next(iter(about(s)["label"].values())) for s in test.values()}
    assert len(classes) == 10


@pytest.mark.sweep  # the small copy stands above
def test_kaykit_on_the_real_files(data, tmp_path):
    source = data("kaykit")
    assert recipe("kaykit").main([str(tmp_path / "out"), "--source", str(source), "--clouds", "1"]) == 0
    train, test = read(tmp_path / "out", "train"), read(tmp_path / "out", "test")
    names = sorted(p.stem for p in (source / "kaykit").glob("*.obj"))
    assert sorted(key.rpartition("_")[0] for key in test) == names[4::5]
    assert len(train) + len(test) == len(names)
    assert all("_" not in s["text.txt"].decode() for s in (train | test).values())


def test_every_recipe_is_listed_and_carries_a_data_card(capsys):
    neighbours = {"recipe", "archives", "npy_objects"}
    names = {p.stem for p in (ROOT / "datasets").glob("*.py")} - neighbours
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_recipes_*.py"))
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for name in sorted(names):
        assert f"| `{name}` |" in page or name in RECIPES, f"{name} is not in docs/recipes.md"
        assert name in RECIPES or f'"{name}"' in tests, f"no test of {name} in tests/test_recipes_*.py"
        module = recipe(name)
        with pytest.raises(SystemExit, match="0"):
            module.main(["--help"])
        shown = capsys.readouterr().out
        assert "--source" in shown, name
        assert "--seed" in shown, name
        assert module.__doc__ in shown, name
        card = module.__doc__
        for field in ("what", "licence", "cite", "from", "layout", "checksum"):
            assert f"\n  {field} " in card, f"{name}: {field}"
    with contextlib.suppress(ModuleNotFoundError):  # Hugging Face's `datasets` must not be hidden by ours
        import datasets

        assert datasets.__file__ != str(ROOT / "datasets" / "__init__.py")
