"""An index of shards: its rows are the model's, adding twice adds nothing, and a stopped build goes on."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import tiny_space
import torch
from web import serving

from align.data import Shards, TooManyBad
from align.embedding import embed_shards, fingerprint
from align.embedding.tables import tensor_of
from align.search.building import Options, Work, add_to_index, build_index
from align.search.building.place import kind_of
from align.search.building.staging import staging_place
from align.search.local import LocalIndex

MODEL = tiny_space.model("pairwise")


@pytest.fixture
def shards(tmp_path):
    """Two shards of 12 samples, with holes, two captions, a hard negative, and one key in both."""
    samples = list(tiny_space.world().items())
    samples[2][1]["text.neg.txt"] = b"iii"
    for i in range(2):
        part = dict(samples[12 * i : 12 * i + 12])
        if i:
            part["0001"] = dict(samples[5][1])
        tiny_space.write_tar(tmp_path / "s" / f"test-{i:06d}.tar", part)
    return tmp_path / "s"


def build(shards, out, model=MODEL, **how):
    work = how.pop("work", Work())
    names = {"members": how.pop("members", {}), "modalities": how.pop("modalities", None)}
    pattern = how.pop("pattern", "test-*.tar")
    return build_index(model, f"{shards}/{pattern}", out, source="m", options=Options(**names), work=work, **how)


def table(out):
    """(place, key) -> (captions, label, modality -> rows (r, D)), read from the disk"""
    found = {}
    with LocalIndex.open(out) as index:
        numbers = index.numbers().tolist()
        for number, item in zip(numbers, index.items(numbers), strict=True):
            rows = {m: index.rows(m, [number]).values for m in index.modalities}
            found[item.place, item.key] = (
                list(item.captions),
                item.label,
                {m: part for m, part in rows.items() if len(part)},
            )
    return found


def files_of(out):
    """Every row and every item as bytes: numbers, entries, values."""
    with LocalIndex.open(out) as index:
        numbers = index.numbers().tolist()
        rows = {m: index.rows(m, numbers) for m in index.modalities}
        return (
            numbers,
            [repr(item) for item in index.items(numbers)],
            {m: (tensor_of(part).numpy().tobytes(), part.sample.tolist()) for m, part in rows.items()},
        )


def test_rows_and_items_are_those_of_the_shards(shards, tmp_path):
    report = build(shards, tmp_path / "i")
    opened = Shards(f"{shards}/test-*.tar", shuffle=False)
    expected = embed_shards(MODEL, opened)
    found = table(tmp_path / "i")
    assert len(found) == report.samples == expected.size == 25
    assert {key for _, key in found} == {f"{i:04d}" for i in range(24)}  # 0001 stands in both
    for i, (key, position) in enumerate(zip(expected.ids, expected.position.tolist(), strict=True)):
        shard, _ = opened.find(position)
        _, label, rows = found[str(opened.urls[shard]), key]
        assert label == expected.labels[i]
        for m, part in expected.items():
            theirs = tensor_of(part)[part.sample == i]  # a hard negative has -1
            assert rows.get(m, torch.empty(0, 8)).shape == theirs.shape
            if len(theirs):
                assert torch.allclose(rows[m], theirs, atol=1e-6)
    assert found[str(shards / "test-000000.tar"), "0005"][0] == ["fff", "ggg"]
    assert found[str(shards / "test-000000.tar"), "0002"][0] == [
        "a ddd " + tiny_space.world()["0002"]["text.txt"].decode()[-1]
    ]
    assert report.modalities == {"audio": 24, "image": 24, "text": 27}


def test_about_names_model_and_sources(shards, tmp_path):
    build(shards, tmp_path / "i", modalities=["image"])
    with LocalIndex.open(tmp_path / "i") as index:
        about, known = index.about, index.sources()
    assert about["model"] == {"source": "m", "sha256": fingerprint(MODEL), "dtype": "float32"}
    assert about["sources"] == [{"shards": [f"{shards}/test-*.tar"], "options": {"modalities": ["image"]}}]
    assert set(known) == {str(path) for path in shards.glob("*.tar")}
    assert not staging_place(tmp_path / "i").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i", "s"]


def test_adding_twice_adds_nothing(shards, tmp_path):
    build(shards, tmp_path / "i", pattern="test-000000.tar")
    before = files_of(tmp_path / "i")
    one = f"{shards}/test-000000.tar"
    assert add_to_index(MODEL, one, tmp_path / "i").made == "unchanged"
    shutil.copy(one, shards / "copy.tar")
    os.replace(shards / "copy.tar", one)  # the same content at another time
    assert add_to_index(MODEL, [one, one], tmp_path / "i").made == "unchanged"
    assert files_of(tmp_path / "i") == before
    report = add_to_index(MODEL, f"{shards}/*.tar", tmp_path / "i")
    assert (len(report.changes.new), len(report.changes.same), report.filled.added) == (1, 1, 13)
    assert table(tmp_path / "i").keys() == _whole(shards, tmp_path).keys()


def _whole(shards, tmp_path):
    build(shards, tmp_path / "whole")
    return table(tmp_path / "whole")


def test_a_shard_that_changed_replaces_its_samples(shards, tmp_path):
    build(shards, tmp_path / "i")
    world = list(tiny_space.world(seed=1).items())
    tiny_space.write_tar(shards / "test-000001.tar", dict(world[15:22]))
    report = build(shards, tmp_path / "i")
    assert (len(report.changes.changed), len(report.changes.same)) == (1, 1)
    assert report.filled == (13, 7, 0)
    found, whole = table(tmp_path / "i"), _whole(shards, tmp_path)
    assert found.keys() == whole.keys()
    for name, (captions, label, rows) in whole.items():
        assert found[name][:2] == (captions, label)
        assert all(torch.equal(found[name][2][m], part) for m, part in rows.items())
    (shards / "test-000000.tar").unlink()
    assert build(shards, tmp_path / "i").changes.gone == [str(shards / "test-000000.tar")]
    assert len(table(tmp_path / "i")) == 7


def test_a_shard_of_equal_sizes_is_another_one(tmp_path):
    for caption in (b"bbb", b"ccc"):
        tiny_space.write_tar(tmp_path / "s" / "test-0.tar", {"a": {"text.txt": caption}})
        os.utime(tmp_path / "s" / "test-0.tar", ns=(1, len(caption) + caption[0]))
        build(tmp_path / "s", tmp_path / "i")
        assert [captions for captions, *_ in table(tmp_path / "i").values()] == [[caption.decode()]]


def test_shards_that_a_shell_has_named_one_by_one(shards, tmp_path):
    """The same command, `s/test-*.tar` without quotes, when there are more shards and then fewer."""
    out = tmp_path / "i"
    build_index(MODEL, sorted(map(str, shards.glob("*.tar"))), out, source="m")
    tiny_space.write_tar(shards / "test-000002.tar", dict(list(tiny_space.world(seed=2).items())[:7]))
    report = build_index(MODEL, sorted(map(str, shards.glob("*.tar"))), out, source="m")
    assert (len(report.changes.new), len(report.changes.same)) == (1, 2)
    first = sorted(map(str, shards.glob("*.tar")))[0]
    with pytest.raises(ValueError, match="is an index of"):  # the other shards are still there: nothing is dropped
        build_index(MODEL, first, out, source="m")
    os.unlink(first)
    report = build_index(MODEL, sorted(map(str, shards.glob("*.tar"))), out, source="m")
    assert report.changes.gone == [first]
    with LocalIndex.open(out) as index:
        assert [one["shards"] for one in index.about["sources"]] == [sorted(map(str, shards.glob("*.tar")))]
    assert len(table(out)) == 20


def test_foreign_names_and_captions_in_the_json(tmp_path):
    samples = {
        "a": {"npy": tiny_space.npy(range(8)), "json": b'{"caption": ["one", "two"], "label": 3}'},
        "b": {"npy": tiny_space.npy(range(1, 9)), "json": b'{"caption": "three"}', "cls": b"7"},
    }
    tiny_space.write_tar(tmp_path / "s" / "test-0.tar", samples)
    build(tmp_path / "s", tmp_path / "i", members={"image": ["npy"], "text": ["json:caption"]})
    found = {key: x for (_, key), x in table(tmp_path / "i").items()}
    assert (found["a"][0], found["a"][1], found["b"][0], found["b"][1]) == (["one", "two"], 3, ["three"], 7)
    assert len(found["a"][2]["text"]) == 2
    assert set(found["a"][2]) == {"image", "text"}


def test_remote_shards(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    build(shards, tmp_path / "local")
    with serving(shards) as web:
        urls = [f"{web.url}/test-{i:06d}.tar" for i in range(2)]
        report = build_index(MODEL, urls, tmp_path / "i", source="m")
        assert report.samples == 25
        found = {(Path(place).name, key): x for (place, key), x in table(tmp_path / "i").items()}
        for (place, key), (captions, _, rows) in table(tmp_path / "local").items():
            assert found[Path(place).name, key][0] == captions
            assert all(torch.equal(found[Path(place).name, key][2][m], part) for m, part in rows.items())
        assert add_to_index(MODEL, urls, tmp_path / "i").made == "unchanged"


def test_embeddings_that_are_made_already(shards, tmp_path):
    opened = Shards(f"{shards}/test-*.tar", shuffle=False)
    embeddings = embed_shards(MODEL, opened, content=True)
    build_index(MODEL, opened, tmp_path / "given", source="m", embeddings=embeddings)
    build(shards, tmp_path / "i")
    assert files_of(tmp_path / "given") == files_of(tmp_path / "i")
    embeddings.ids[3] = "other"
    with pytest.raises(ValueError, match="position 3 of the shards is '0003', was 'other'"):
        build_index(MODEL, opened, tmp_path / "bad", source="m", embeddings=embeddings)
    assert not (tmp_path / "bad").exists()


def test_another_model_and_other_samples_are_refused(shards, tmp_path):
    build(shards, tmp_path / "i")
    before = files_of(tmp_path / "i")
    other = tiny_space.model("pairwise")
    with torch.no_grad():
        other.towers["image"].encoder.gain.fill_(2)
    with pytest.raises(ValueError, match=r"made by another model \(m, [0-9a-f]{12}; this one is m, .*--anew"):
        build(shards, tmp_path / "i", other)
    with pytest.raises(ValueError, match="made by another model"):
        add_to_index(other, f"{shards}/*.tar", tmp_path / "i")
    with pytest.raises(ValueError, match=r"is an index of .*test-\*\.tar; to add to it: align index add .*--anew"):
        build(shards, tmp_path / "i", pattern="test-000000.tar")
    with pytest.raises(FileNotFoundError, match=r"no index in .*align index build"):
        add_to_index(MODEL, f"{shards}/*.tar", tmp_path / "none")
    assert files_of(tmp_path / "i") == before
    report = build(shards, tmp_path / "i", other, anew=True)
    assert (report.made, report.samples) == ("built", 25)
    with LocalIndex.open(tmp_path / "i") as index:
        assert index.about["model"]["sha256"] == fingerprint(other)


def test_something_else_at_the_place(shards, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "index.json").write_text('{"schema": 3}')
    for name, said in (("file", "is no index"), ("full", "is no index"), ("odd", "schema 3.*upgrade align")):
        with pytest.raises(ValueError, match=said):
            build(shards, tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert build(shards, tmp_path / "empty").made == "built"
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert build(shards, tmp_path / "link").made == "unchanged"


def test_version_1_is_made_anew(shards, tmp_path):
    old = {"schema": 1, "model": fingerprint(MODEL), "dim": 8, "modalities": {"image": 0}, "samples": 0, "sha256": {}}
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "index.json").write_text(json.dumps(old))
    assert kind_of(tmp_path / "i") == "version 1"
    with pytest.raises(ValueError, match="has version 1, which is only read"):
        add_to_index(MODEL, f"{shards}/*.tar", tmp_path / "i")
    assert build(shards, tmp_path / "i").made == "built"
    assert kind_of(tmp_path / "i") == "index"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i", "s"]


def test_a_modality_that_the_model_or_the_shards_lack(shards, tmp_path):
    with pytest.raises(ValueError, match="no modality 'imag'; it has image, audio, text"):
        build(shards, tmp_path / "i", modalities=["imag"])
    tiny_space.write_tar(tmp_path / "t" / "test-0.tar", {"a": {"points.npy": b""}})
    with pytest.raises(ValueError, match="the model embeds image, audio, text; the shards have points"):
        build(tmp_path / "t", tmp_path / "i")
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("at", [0, 1, 2, 4, 5])
def test_a_stopped_build_goes_on_bit_for_bit(shards, tmp_path, monkeypatch, at):
    """Stopped after `at` batches of 5, in a build and in a refresh."""
    work = Work(batch=5)
    build(shards, tmp_path / "one go", work=work)

    def stop(done, total):
        if done >= 5 * at:
            raise KeyboardInterrupt

    monkeypatch.setattr("align.search.building.embed.SAMPLES", 10)
    with pytest.raises(KeyboardInterrupt):
        build(shards, tmp_path / "i", work=Work(batch=5, progress=stop))
    assert not (tmp_path / "i").exists()
    report = build(shards, tmp_path / "i", work=work)
    assert report.resumed == 5 * at
    assert files_of(tmp_path / "i") == files_of(tmp_path / "one go")
    tiny_space.write_tar(shards / "test-000002.tar", dict(list(tiny_space.world(seed=2).items())[:7]))
    before = files_of(tmp_path / "i")
    with pytest.raises(KeyboardInterrupt):
        build(shards, tmp_path / "i", work=Work(batch=2, progress=lambda done, total: stop(5 * done, total)))
    assert files_of(tmp_path / "i") == before
    build(shards, tmp_path / "i", work=work)
    assert len(table(tmp_path / "i")) == 32


def test_bad_samples_are_counted_a_single_time(tmp_path):
    samples = tiny_space.world(48)
    for i in range(14):
        samples[f"{i:04d}"] = {"image.npy": b"no array"}
    tiny_space.write_tar(tmp_path / "s" / "test-0.tar", samples)
    for batch in (4, 8, 5):
        with pytest.raises(TooManyBad, match="so far are bad"):
            build(tmp_path / "s", tmp_path / "i", work=Work(batch=batch))
    report = build(tmp_path / "s", tmp_path / "i", work=Work(max_bad=0.3))
    assert report.bad == {"array/not-npy": 14, "sample/empty": 14}
    assert report.resumed == 8
    assert len(table(tmp_path / "i")) == 34


def test_blocks_of_another_model_or_of_changed_samples_are_not_used(shards, tmp_path):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(shards, tmp_path / "i", work=Work(batch=5, progress=stop))
    other = tiny_space.model("pairwise")
    with torch.no_grad():
        other.towers["image"].encoder.gain.fill_(2)
    assert build(shards, tmp_path / "other", other).resumed == 0
    shutil.copytree(staging_place(tmp_path / "i"), staging_place(tmp_path / "j"))
    assert build(shards, tmp_path / "j", other).resumed == 0
    tiny_space.write_tar(shards / "test-000000.tar", dict(list(tiny_space.world(seed=3).items())[:12]))
    assert build(shards, tmp_path / "i").resumed == 0
    assert [x[0] for x in table(tmp_path / "i").values()] == [x[0] for x in _whole(shards, tmp_path).values()]


def test_a_full_disk_leaves_everything_as_it_was(shards, tmp_path, monkeypatch):
    build(shards, tmp_path / "i", pattern="test-000000.tar")
    before = files_of(tmp_path / "i")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "block")

    monkeypatch.setattr("align.search.building.staging.atomic_write", full)
    with pytest.raises(OSError, match="No space left"):
        add_to_index(MODEL, f"{shards}/test-*.tar", tmp_path / "i")
    monkeypatch.undo()
    monkeypatch.setattr("align.search.building.update.fill", full)
    with pytest.raises(OSError, match="No space left"):
        add_to_index(MODEL, f"{shards}/test-*.tar", tmp_path / "i")
    with pytest.raises(OSError, match="No space left"):
        build(shards, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    assert files_of(tmp_path / "i") == before
    assert add_to_index(MODEL, f"{shards}/test-*.tar", tmp_path / "i").resumed == 13
    assert build(shards, tmp_path / "new").resumed == 25


def test_two_builds_of_one_index(shards, tmp_path):
    def again(done, total):
        with pytest.raises(ValueError, match="another process is changing"):
            build(shards, tmp_path / "i")

    build(shards, tmp_path / "i", work=Work(progress=again))
