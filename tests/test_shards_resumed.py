"""What split, merge and filter were killed at is continued, by several processes too: the bytes are those of one go."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from tiny_data import content, png

from align.curation import build, filter_shards, merge_shards, split_shards
from align.data import ShardWriter

SAMPLES, PER_SHARD = 40, 5


class Killed(BaseException):
    """Ends a call at a moment of the test's choosing."""


def stop(after: int):
    def say(done: int, total: int) -> None:
        if done == after:
            raise Killed

    return say


def written(folder: Path, name: str, labels: list[str]) -> Path:
    with ShardWriter(folder, per_shard=15, classes={"label": labels}) as writer:
        for i in range(SAMPLES):
            about = {"label": i % 2, "i": i}
            writer.write(f"{name}{i:02d}", {"image.png": png(i), "json": json.dumps(about).encode()})
    return folder / "*.tar"


CALLS = {
    "split": lambda sets, out, **how: split_shards(sets[0], out, {"a": 0.5, "b": 0.5}, per_shard=PER_SHARD, **how),
    "merge": lambda sets, out, **how: merge_shards(sets, out, per_shard=PER_SHARD, **how),
    "filter": lambda sets, out, **how: filter_shards(sets[0], out, "i > 3", per_shard=PER_SHARD, **how),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return [written(folder / "x", "x", ["cat", "dog"]), written(folder / "y", "y", ["dog", "cat"])]


@pytest.mark.parametrize("name", CALLS)
def test_a_killed_call_continues_to_the_same_bytes(sets, name, tmp_path):
    whole = CALLS[name](sets, tmp_path / "whole")
    with pytest.raises(Killed):  # of split within its second part, of filter within the copying
        CALLS[name](sets, tmp_path / "out", progress=stop({"split": 33, "merge": 33, "filter": SAMPLES + 22}[name]))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert len(before) >= 4
    assert (
        not set(content(tmp_path / "out"))
        - set(content(tmp_path / "whole"))
        - {f".{split}.build.jsonl" for split in ("a", "b", "train")}
    )
    assert CALLS[name](sets, tmp_path / "out") == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before  # kept, not written once more
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", CALLS)
def test_workers_change_no_byte(sets, name, tmp_path):
    assert CALLS[name](sets, tmp_path / "0") == CALLS[name](sets, tmp_path / "2", workers=2)
    assert content(tmp_path / "0") == content(tmp_path / "2")


def test_what_was_dropped_is_listed_by_key(sets, tmp_path):
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        info = tarfile.TarInfo("a.text.pkl")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    _, _, dropped = merge_shards([sets[0], tmp_path / "p.tar"], tmp_path / "out")
    assert dropped == {"member/pkl": 1, "sample/empty": 1}
    lines = [json.loads(line) for line in (tmp_path / "out" / "train-bad.jsonl").read_text().splitlines()]
    assert {"key": "a", "member": "text.pkl", "reason": "member/pkl"} in lines


def test_a_build_that_was_killed_in_its_second_split_keeps_the_first(tmp_path):
    for split in ("train", "test"):
        for i in range(8):
            path = tmp_path / "raw" / split / "cat" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(i))
    calls = []

    def say(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 14:
            raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "raw", tmp_path / "out", per_shard=4, progress=say)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert len(before) == 3  # two of the first split, one of the second
    assert build(tmp_path / "raw", tmp_path / "out", per_shard=4) == {"test": 8, "train": 8, "left out": 0}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list((tmp_path / "out").glob(".*"))
