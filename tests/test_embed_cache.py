"""A cache's rows are those of the raw files, for any number of processes, and whatever stops it leaves nothing half."""

import hashlib
import json
import os
import re
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_cache as tiny
import torch
from safetensors.torch import load
from web import serving

from align.data.bad import TooManyBad
from align.data.columns.part import read_record
from align.embedding import write_cache
from align.embedding.features import part, plan, preprocess_hash, run, tower_weights
from align.files import read_json, sha256
from align.files.claims import Claims
from align.preprocess import Array


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny.write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def model():
    return tiny.make_model()


@pytest.fixture(scope="module")
def cache(model, shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("cache") / "c"
    write(model, shards, out, tokens=False)
    write(model, shards, out, name="words", towers=["text"], tokens=True, dtype="float16", features=False)
    return out


def write(model, shards, out, **settings: Any):
    return write_cache(model, shards, out, **{"name": "all", "dtype": "float32", "max_bad": 0.1} | settings)


def blocks(path: Path):
    """(start, tensors, facts) of each block of a part, with tarfile alone."""
    with tarfile.open(path) as tar:
        infos = tar.getmembers()
        assert [info.mtime for info in infos] == [0] * len(infos)
        contents = [tar.extractfile(info).read() for info in infos]  # pyright: ignore[reportOptionalMemberAccess]
    names = [info.name for info in infos]
    assert names == [f"{i // 2:06d}.block.{['safetensors', 'json'][i % 2]}" for i in range(len(names))]
    return [(load(a), json.loads(b)) for a, b in zip(contents[::2], contents[1::2], strict=True)]


def is_close(a, b, most):
    return a.shape == b.shape and bool((a - b).abs().max() < most)


def sums(folder: Path):
    return {path.name: sha256(path) for path in sorted(folder.glob("*.tar"))}


def paths(shards):
    return sorted(Path(shards).parent.glob("train-*.tar"))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_rows_are_the_towers_features_of_the_raw_files(model, shards, cache, modality):
    for path in paths(shards):
        expected = tiny.raw_rows(path, modality)
        (tensors, _), *more = blocks(cache / "all" / path.name)
        assert not more
        assert tensors[f"{modality}.sample"].tolist() == [-2 - p if negative else p for p, negative, _ in expected]
        for row, (_, _, x) in zip(tensors[f"{modality}.values"], expected, strict=True):
            assert is_close(row, model.towers[modality].features(x[None]).pooled[0], 1e-6)


def test_embeddings_and_tokens_are_the_models(model, shards, cache):
    tokens_seen = 0
    for path in paths(shards):
        (tensors, _), *_ = blocks(cache / "words" / path.name)
        offset = tensors["text.offset"].tolist()
        for i, (_, _, x) in enumerate(tiny.raw_rows(path, "text")):
            row = model.embed(text=[x.numpy()])["text"][0]
            assert torch.cosine_similarity(row, tensors["text.values"][i].float(), dim=0) > 1 - 1e-6
            _, tokens, present = model.towers["text"](x[None], tokens=True)
            expected = torch.nn.functional.normalize(tokens[0][present[0]], dim=-1)
            found = tensors["text.tokens"][offset[i] : offset[i + 1]]
            assert is_close(found.float(), expected, 1e-3)
            tokens_seen += len(found)
        assert offset[-1] == len(tensors["text.tokens"])
    assert tokens_seen > 40


def test_keys_labels_groups_weights_and_bad_members_are_kept(shards, cache):
    number = 0
    for name in ("all", "words"):
        for path in paths(shards):
            (tensors, about), *_ = blocks(cache / name / path.name)
            first = int(about["keys"][0][1:])
            numbers = range(first, first + about["count"])
            assert about["keys"] == [f"k{i:03d}" for i in numbers]
            assert about["labels"] == [{"kind": "ab"[i % 2]} for i in numbers]
            assert about["source"] == [path.name] * about["count"]
            assert ("group" in tensors) == ("weight" in tensors) == (first == 10)
            if first == 10:
                assert tensors["group"].tolist() == [i // 2 for i in numbers]
                assert [w for w in tensors["weight"].tolist() if w == 0.5] == [0.5] * 5
            bad = [tuple(bad) for bad in about["bad"]]
            broken = [(tiny.BROKEN, "array/not-npy", "image.npy")] if (name, first) == ("all", 0) else []
            empty = [(tiny.EMPTY - 10, "sample/empty", "")] if first == 10 else []
            assert bad == broken + empty
            number += about["count"]
    assert number == 2 * tiny.SAMPLES


def test_cache_json_names_the_shards_and_the_sets(model, shards, cache):
    content = read_json(cache / "cache.json")
    assert [(s["name"], s["sha256"], s["samples"]) for s in content["shards"]] == [
        (path.name, sha256(path), min(10, tiny.SAMPLES - 10 * i)) for i, path in enumerate(paths(shards))
    ]
    assert {name: [*about["columns"]] for name, about in content["sets"].items()} == {
        "all": ["image", "text"],
        "words": ["text"],
    }
    column = content["sets"]["words"]["columns"]["text"]
    assert (column["kind"], column["unit"], column["dtype"], column["width"]) == ("embedding", True, "float16", 3)
    assert column["tokens"]
    assert not content["sets"]["all"]["columns"]["image"]["unit"]
    assert {p.name for p in cache.iterdir()} == {"cache.json", "all", "words"}
    for name in ("all", "words"):
        for path in (cache / name).glob("*.tar"):
            assert read_record(path).sha256 == sha256(path)


def test_three_workers_and_small_blocks(model, shards, cache, tmp_path, monkeypatch):
    write(model, shards, tmp_path / "w", workers=3)
    assert sums(tmp_path / "w" / "all") == sums(cache / "all")
    monkeypatch.setattr(part, "BLOCK", 4)
    monkeypatch.setattr("align.data.columns.part.BLOCK", 4)
    write(model, shards, tmp_path / "b", batch=2)
    for path in paths(shards):
        (whole, about), *_ = blocks(cache / "all" / path.name)
        pieces = blocks(tmp_path / "b" / "all" / path.name)
        assert [a["start"] for _, a in pieces] == list(range(0, about["count"], 4))
        for name in ("image.sample", "text.sample"):
            assert torch.cat([tensors[name] for tensors, _ in pieces]).equal(whole[name])
        assert [bad for _, a in pieces for bad in a["bad"]] == about["bad"]
        values = torch.cat([tensors["text.values"] for tensors, _ in pieces])
        assert is_close(values, whole["text.values"], 1e-6)


def test_the_same_again_has_nothing_to_do(model, shards, cache):
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    report = write(model, shards, cache)
    assert (report.parts, report.made, report.samples) == (3, 0, tiny.SAMPLES)
    assert report.counts == {"array/not-npy": 1, "sample/empty": 1}
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "has the set 'all' with model sha256 "),
        ({"seed": 1}, "image.weights "),
        (
            {"dtype": "float16"},
            "image.dtype float32, not float16, text.dtype float32, not float16; name another --name",
        ),
        ({"features": False}, "image.kind features, not embedding"),
        ({"towers": ["text"]}, "towers image,text, not text"),
        ({"batch": 32}, "batch 64, not 32"),
        ({"tokens": True, "towers": ["text", "image"]}, "text.tokens False, not True"),
        ({"members": {"text": ["npy"]}}, "members {}, not {'text': ['npy']}"),
    ],
)
def test_the_set_of_another_make_is_refused(model, shards, cache, settings, message):
    seed = settings.pop("seed", None)
    with pytest.raises(ValueError, match=re.escape(message)):
        write(model if seed is None else tiny.make_model(seed), shards, cache, **settings)


def test_another_preprocess_is_refused(shards, cache):
    other = tiny.make_model()
    other.towers["text"].preprocess = Array((6,), mean=1.0)
    with pytest.raises(ValueError, match=r"text\.preprocess \w{12}…, not \w{12}…; name another --name or --out"):
        write(other, shards, cache)


def test_other_shards_are_refused(model, shards, cache, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"made of other shards: train-000000.tar \(10 samples, keys \w{8}\), .* not "):
        write(model, shards.replace("*", "00000[01]"), cache, name="fewer")
    usual = tiny.npy
    monkeypatch.setattr(tiny, "npy", lambda i, name: usual(i + (i == 15), name))
    changed = tiny.write_shards(tmp_path / "s")  # of the same keys
    with pytest.raises(ValueError, match=r"train-000001.tar has changed: its sha256 is .* name another --out"):
        write(model, changed, cache, name="changed")
    (tmp_path / "t" / "deep").mkdir(parents=True)
    (tmp_path / "t" / "deep" / "train-000000.tar").write_bytes(paths(shards)[0].read_bytes())
    with pytest.raises(ValueError, match="have the same file name"):
        write(model, [shards, str(tmp_path / "t" / "deep" / "train-000000.tar")], tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_other_shards_are_refused_while_the_first_set_is_written(model, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "write_part", stop_at(1))
    with pytest.raises(KeyboardInterrupt):
        write(model, shards, tmp_path / "c")
    with pytest.raises(ValueError, match=r"plan.json was made of other shards"):
        write(model, str(paths(shards)[0]), tmp_path / "c", name="second")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"towers": ["imag"]}, "the model has no tower 'imag'; did you mean image?"),
        ({"towers": ["audio"]}, "the shards have no audio; they have image, text"),
        ({"tokens": True}, "tower 'image': Plain gives pooled features only, no tokens"),
        ({"batch": 48}, "a batch of 48 does not divide a block of 1024 positions; take 32"),
        ({"name": "a/b"}, "'a/b' is no name of a set"),
        ({"name": ".."}, "'..' is no name of a set"),
    ],
)
def test_what_does_not_fit_is_refused(model, shards, tmp_path, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write(model, shards, tmp_path / "c", **settings)
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_model_folder_is_no_place_for_a_cache(model, shards, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/model.json").write_text("{}")
    with pytest.raises(ValueError, match="m is a model folder, whose next writing would remove the cache"):
        write(model, shards, tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.json"]


def test_values_that_float16_or_nothing_holds(shards, tmp_path):
    large = tiny.make_model(gain=1e6)
    with pytest.raises(ValueError, match=r"the image features of sample 'k\d+' reach .* --stored float32 fits"):
        write(large, shards, tmp_path / "c", dtype="float16")
    write(large, shards, tmp_path / "c")
    with pytest.raises(ValueError, match="the image features of sample 'k000' are not finite"):
        write(tiny.make_model(gain=float("nan")), shards, tmp_path / "n")
    assert not list((tmp_path / "n").rglob("*.tar*"))


def test_too_many_bad_members_are_no_set_until_more_are_allowed(model, tmp_path, monkeypatch):
    usual = tiny.npy
    monkeypatch.setattr(tiny, "npy", lambda i, name: b"bad" if i % 5 == 0 else usual(i, name))
    shards = tiny.write_shards(tmp_path / "s")
    with pytest.raises(TooManyBad, match=r"7 of 26 samples in all are bad, more than max_bad=0.05 allows \(1\)"):
        write(model, shards, tmp_path / "c", max_bad=0.05)
    assert not (tmp_path / "c" / "cache.json").exists()
    report = write(model, shards, tmp_path / "c", max_bad=0.5)
    assert report.made == 0
    assert report.counts["array/not-npy"] > 5
    assert [*read_json(tmp_path / "c" / "cache.json")["sets"]] == ["all"]


def stop_at(n):
    """Write_part that a signal ends in the n-th part."""
    usual, seen = part.write_part, []

    def write_part(*args):
        seen.append(1)
        if len(seen) > n:
            raise KeyboardInterrupt
        usual(*args)

    return write_part


def test_what_stops_it_inside_a_part_leaves_whole_parts(model, shards, cache, tmp_path, monkeypatch):
    out = tmp_path / "c"
    encode, calls = part.encode, []

    def stop(*args):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return encode(*args)

    with monkeypatch.context() as patch:
        patch.setattr(part, "encode", stop)
        with pytest.raises(OSError, match="No space"):
            write(model, shards, out)
    assert sorted(p.name for p in (out / "all").iterdir()) == ["train-000000.json", "train-000000.tar"]
    assert [p.name for p in (out / ".all.work").iterdir()] == ["plan.json"]
    with pytest.raises(ValueError, match="was begun with batch 64, not 32"):
        write(model, shards, out, batch=32)
    assert write(model, shards, out).made == 2
    assert sums(out / "all") == sums(cache / "all")
    assert {p.name for p in out.iterdir()} == {"all", "cache.json"}


def test_a_plan_of_which_nothing_came_gives_way(model, shards, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_part", stop_at(0))
        with pytest.raises(KeyboardInterrupt):
            write(model, shards, tmp_path / "c")
    with (
        Claims(tmp_path / "c" / ".all.work").hold("train-000001.tar"),  # a process that lives is writing it
        pytest.raises(ValueError, match="was begun with batch 64, not 32"),
    ):
        write(model, shards, tmp_path / "c", batch=32)
    assert write(model, shards, tmp_path / "c", batch=32).made == 3


def test_a_cut_part_is_written_again(model, shards, cache, tmp_path):
    out = tmp_path / "c"
    write(model, shards, out)
    path = out / "all" / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-1])
    (out / "all" / "train-000002.json").unlink()
    assert write(model, shards, out).made == 2
    assert sums(out / "all") == sums(cache / "all")


def test_a_newer_cache_and_no_cache_are_refused(model, shards, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cache.json").write_text('{"schema": 2, "shards": [], "sets": {}}')
    with pytest.raises(ValueError, match="has schema 2; this align reads up to 1: upgrade align"):
        write(model, shards, tmp_path / "c")
    (tmp_path / "c" / "cache.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        write(model, shards, tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        write(model, shards, tmp_path / "file")


def fork(work) -> int:
    """Run ``work`` in a forked child that ends with code 0, or 1 after an error."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def slow_encode(seconds):
    usual = part.encode

    def encode(*args):
        time.sleep(seconds)
        return usual(*args)

    return encode


def test_processes_share_the_parts_and_the_part_of_a_killed_one_is_taken_over(model, tmp_path, monkeypatch):
    shards = tiny.write_shards(tmp_path / "s", 40, 5)
    write(model, shards, tmp_path / "alone")
    out = tmp_path / "c"
    monkeypatch.setattr(part, "encode", slow_encode(0.15))
    monkeypatch.setattr(run, "POLL", 0.05)
    children = [fork(lambda i=i: write(model, shards, out, begin=i / 3)) for i in range(3)]
    deadline = time.monotonic() + 60
    while not list((out / "all").glob(".*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(children[1], signal.SIGKILL)  # inside a part: its encoding is a sleep
    assert os.waitstatus_to_exitcode(os.waitpid(children[1], 0)[1]) == -signal.SIGKILL
    torn = [p.name for p in (out / "all").glob("*.tar") if sha256(p) != sums(tmp_path / "alone" / "all")[p.name]]
    report = write(model, shards, out)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (children[0], children[2])]
    assert torn == []
    assert codes == [0, 0]
    assert report.parts == 8
    assert report.made < 8
    assert sums(out / "all") == sums(tmp_path / "alone" / "all")
    assert read_json(out / "cache.json") == read_json(tmp_path / "alone" / "cache.json")
    assert {p.name for p in out.iterdir()} == {"all", "cache.json"}
    assert not list((out / "all").glob(".*"))


def test_shards_on_a_server_give_the_same_parts(model, shards, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "files"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("align.files.retry.PAUSE", 0.001)
    with serving(Path(shards).parent) as server:
        urls = f"{server.url}/train-{{000000..000002}}.tar"
        usual = run.write_part

        def lose(work, place, *args):
            if place.name == "train-000001.tar":
                server.faults[place.name] = 404
            usual(work, place, *args)

        with monkeypatch.context() as patch:
            patch.setattr(run, "write_part", lose)
            with pytest.raises(OSError, match=r"train-000001.tar"):
                write(model, urls, tmp_path / "c")
        with pytest.raises(OSError, match="cannot"):
            write(model, urls, tmp_path / "c")
        assert [p.name for p in (tmp_path / "c" / "all").glob("*.tar")] == ["train-000000.tar"]
        server.faults.clear()
        assert write(model, urls, tmp_path / "c").made == 2
    assert sums(tmp_path / "c" / "all") == sums(cache / "all")
    assert read_json(tmp_path / "c" / "cache.json")["shards"] == read_json(cache / "cache.json")["shards"]


def test_a_batch_divides_a_block():
    assert plan.BLOCK == part.BLOCK == 1024


def test_hashes_follow_weights_and_content_and_nothing_else(model, tmp_path):
    tower = model.towers["text"]
    features, embedding = tower_weights(tower), tower_weights(tower, "embedding")
    sums = hashlib.sha256()
    for name in ("net.bias", "net.weight"):
        x = tower.encoder.state_dict()[name]
        sums.update(f"encoder.{name} torch.float32 {list(x.shape)}\n".encode() + x.numpy().tobytes())
    assert features == sums.hexdigest()
    for name, x in sorted(tower.head.state_dict().items()):
        sums.update(f"head.{name} torch.float32 {list(x.shape)}\n".encode() + x.numpy().tobytes())
    assert embedding == sums.hexdigest()
    assert tower_weights(torch.nn.DataParallel(tiny.make_model().towers["text"]), "embedding") == embedding
    other = tiny.make_model()
    other.towers["text"].head.project.weight.data += 1
    assert tower_weights(other.towers["text"]) == features
    assert tower_weights(other.towers["text"], "embedding") != embedding
    other.towers["text"].encoder.net.bias.data[0] += 1
    assert tower_weights(other.towers["text"]) != features
    assert tower_weights(tiny.make_model().half().towers["text"]) != features
    assert preprocess_hash(Array((6,))) == preprocess_hash(Array([6])) != preprocess_hash(Array((6,), mean=1.0))


def test_a_preprocess_hash_is_of_a_files_content(tmp_path):
    class Words(Array):
        def __init__(self, shape, file):
            super().__init__(shape)
            self.file = file

        def assets(self):
            return {"file": Path(self.file).read_text()}

    for name, text in (("a", '{"x": 1,  "y": 2}'), ("b", '{"x": 1, "y": 2}'), ("c", '{"x": 1, "y": 3}')):
        (tmp_path / name).write_text(text)
    a, b, c = (preprocess_hash(Words((6,), str(tmp_path / name))) for name in "abc")
    assert a == b != c


@pytest.mark.sweep  # 20 CPU seconds
def test_a_kill_at_any_moment_leaves_whole_parts(model, tmp_path):
    shards = tiny.write_shards(tmp_path / "s", 60, 10)
    write(model, shards, tmp_path / "alone")
    begin = time.monotonic()
    write(model, shards, tmp_path / "timed")
    whole, killed = time.monotonic() - begin, 0
    expected = sums(tmp_path / "alone" / "all")
    for i in range(40):
        out = tmp_path / f"c{i}"
        child = fork(lambda out=out: write(model, shards, out))
        time.sleep(whole * (i + 1) / 40)
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        for path in (out / "all").glob("*.tar"):
            assert sha256(path) == expected[path.name]
        if (out / "cache.json").exists():
            assert read_json(out / "cache.json") == read_json(tmp_path / "alone" / "cache.json")
        write(model, shards, out)
        assert sums(out / "all") == expected
        assert {p.name for p in out.iterdir()} == {"all", "cache.json"}
        assert not list((out / "all").glob(".*"))
    assert killed > 20
