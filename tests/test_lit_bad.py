"""What was bad in a run: counted for all ranks, by shard and reason, listed by name, continued after a stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from ranks import on_ranks
from test_commands_train import config
from test_lit import train
from tiny import width, write

from align.data import Loader, Shards, TooManyBad
from align.data.bad import Bad
from align.data.ledger import Ledger, everyones
from align.distributed import exchange, rank
from align.lit.progress import _bad
from align.lit.quarantine import keep_until
from align.lit.signals import Stop
from align.preprocess import Array

broken = (3, 11, 12, 30, 44)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "bad.jsonl").read_text().splitlines()]


def read(max_bad: float, **options) -> list:
    """Steps taken, why it stopped, counts by reason and by shard, and the names listed, of the same made shards."""
    steps, stopped = 0, ""
    with TemporaryDirectory() as mine:
        write(Path(mine), missing=0, broken=broken)
        folder = exchange(mine.encode())[0].decode()  # all ranks read the first one's
        shards = Shards(f"{folder}/train-*.tar", max_bad=max_bad)
        loader = Loader(shards, {"image": Array((width,))}, batch=12, train=True, **options)
        try:
            for _ in loader:
                steps += 1
        except TooManyBad as error:
            stopped = str(error).replace(folder, "")
        exchange(b"")  # nobody deletes what another still reads
    listed = [[line["key"], line["member"], line["step"]] for line in loader.ledger.take()]
    by_shard = {Path(shard).name: counts for shard, counts in loader.ledger.shards.items()}
    return [steps, stopped, loader.counts, by_shard, listed]


def case_counted() -> list:
    return read(1, rank=rank(), world=2, steps=6, share=everyones)


def case_stopped() -> list:
    return read(0.001, rank=rank(), world=2, steps=60, share=everyones)


def case_signalled() -> list:
    """Only the second rank gets a signal."""
    stop = Stop(lambda trainer: None)
    before = stop._agree()
    if rank() == 1:
        stop._receive(15, None)
    return [before, stop._agree(), stop.received]


def test_every_rank_knows_what_all_ranks_read_and_stops_with_them(tmp_path):
    found = on_ranks([case_counted, case_stopped, case_signalled], tmp_path)
    counted = read(1, steps=6)
    assert sum(counted[2].values()) > len(counted[4]) == len(broken)  # six steps are an epoch and a half
    assert found["case_counted"] == [counted, counted]
    stopped = read(0.001, steps=60)
    assert "samples in this epoch" in stopped[1]
    assert found["case_stopped"] == [stopped, stopped]
    assert found["case_signalled"] == [[0, 15, 15], [0, 15, 15]]


def test_a_ledger_is_a_plain_count_and_a_bounded_list():
    ledger = Ledger(limit=2)
    found = [
        Bad("image/truncated", "a.tar", "k1", "image.png", 0),
        Bad("text/empty", "a.tar", "k1", "text.txt", 0),
        Bad("sample/empty", "a.tar", "k1", "", 0),
        Bad("image/truncated", "b.tar", "k2", "image.png", 5),
    ]
    ledger.add(found, seen=8, split="train", epoch=0, step=1)
    ledger.add(found[:1], seen=8, split="train", epoch=1, step=9)
    assert ledger.reasons == {"image/truncated": 3, "text/empty": 1, "sample/empty": 1}
    assert ledger.shards == {
        "a.tar": {"image/truncated": 2, "sample/empty": 1, "text/empty": 1},
        "b.tar": {"image/truncated": 1},
    }
    assert (ledger.seen, ledger.bad) == (16, 3)
    first, second, last = ledger.take()
    assert first == {
        "shard": "a.tar",
        "key": "k1",
        "member": "image.png",
        "reason": "image/truncated",
        "position": 0,
        "split": "train",
        "epoch": 0,
        "step": 1,
    }
    assert second["reason"] == "text/empty"
    assert last == {
        "more": "only 2 members are listed; bad-shards.json counts all",
        "split": "train",
        "epoch": 0,
        "step": 1,
    }
    again = Ledger(limit=2)
    again.resume(json.loads(json.dumps(ledger.state())))
    assert (again.reasons, again.shards, again.seen, again.bad) == (ledger.reasons, ledger.shards, 16, 3)
    again.skip_listed([first, second, last])
    again.add(found, seen=8, split="train", epoch=2, step=10)
    assert again.take() == []


def test_a_list_is_cut_where_a_run_goes_on(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"key": "a", "step": 1}\n{"key": "b", "step": 3}\n{"key": "ü", "step": 2}\n{"key": "c", "st')
    assert [line["key"] for line in keep_until(path, 2)] == ["a", "ü"]
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "ü"]
    assert keep_until(path, 0) == []
    assert not path.exists()


def test_the_rate_is_said_where_there_is_one():
    assert [_bad(*n) for n in ((0, 0), (0, 9), (3, 1500), (1, 5000))] == ["", "", "3 bad (0.2%)", "1 bad (<0.1%)"]


def test_a_run_folder_lists_and_counts_and_a_resumed_run_has_no_line_twice(tmp_path, capsys):
    shards = write(write(tmp_path / "shards", missing=0, broken=broken), "test", 20, missing=0, broken=(7,))
    given = {"max_bad": 0.5, "val": True}
    runs = []
    for name, ends in (("straight", (8,)), ("stopped", (5, 8))):
        fitted = [train(shards, tmp_path / name, steps, **given)[1] for steps in ends][-1]
        runs.append((lines(tmp_path / name), json.loads((tmp_path / name / "bad-shards.json").read_text())))
        assert json.loads((tmp_path / name / "bad.json").read_text()) == fitted.bad
        assert fitted.bad["array/not-npy"] == sum(n for counts in runs[-1][1].values() for n in counts.values())
    straight, stopped = runs
    assert {line["key"] for line in straight[0]} == {f"train{i:04d}" for i in broken} | {"test0007"}
    assert len(straight[0]) == 6
    assert all(line["member"] == "image.npy" and line["reason"] == "array/not-npy" for line in straight[0])
    assert [line for line in straight[0] if line["split"] == "train"] == [
        line for line in stopped[0] if line["split"] == "train"
    ]
    # validation ran once more where the shorter run ended; training's counts are those of the run without a stop
    for shard, counts in straight[1].items():
        assert stopped[1][shard] == counts if "train-" in shard else stopped[1][shard]["array/not-npy"] >= 1
    assert "bad (" in capsys.readouterr().err
    # a stop that came after its last checkpoint: what stands past it goes, and is met again
    with (tmp_path / "stopped/bad.jsonl").open("a") as f:
        f.write(json.dumps({**straight[0][0], "step": 9}) + "\n")
    train(shards, tmp_path / "stopped", 10, **given)
    names = [(line["key"], line["split"]) for line in lines(tmp_path / "stopped")]
    assert len(set(names)) == len(names) == 6


def test_what_a_cut_shard_lost_is_counted_too(tmp_path):
    """The sample that the cut goes through has no position any more; the run says where it was."""
    shards = write(tmp_path / "shards", missing=0)
    last = sorted(shards.glob("train-*.tar"))[-1]
    for beside in shards.glob("*.json"):
        beside.unlink()
    last.write_bytes(last.read_bytes()[: 3 * last.stat().st_size // 7])
    for steps in (2, 3):  # a resumed run does not count it again
        _, fitted = train(shards, tmp_path / "run", steps, val=False, max_bad=1)
        assert fitted.bad == {"sample/cut": 1}
    assert json.loads((tmp_path / "run/bad-shards.json").read_text()) == {str(last): {"sample/cut": 1}}


def test_what_the_manifest_misses_stands_in_the_table_and_in_the_counts(tmp_path):
    """A shard of no bytes has no sample to name: the table says which shard, and how many."""
    shards = write(tmp_path / "shards", missing=0)
    gone = sorted(shards.glob("train-*.tar"))[1]
    for index in shards.glob("*.index.json"):
        index.unlink()
    gone.write_bytes(b"")
    with pytest.raises(TooManyBad) as stopped:
        train(shards, tmp_path / "run", 8, val=False)
    assert str(stopped.value).endswith(f"allows (1):\n  sample/lost       20  {gone}")
    assert json.loads((tmp_path / "run/bad.json").read_text()) == stopped.value.counts == {"sample/lost": 20}
    assert json.loads((tmp_path / "run/bad-shards.json").read_text()) == {str(gone): {"sample/lost": 20}}


def test_the_budget_goes_on_after_a_stop(tmp_path):
    """A run that is stopped and continued every two steps stops for good where the straight one does."""
    shards = write(tmp_path / "shards", missing=0, broken=tuple(range(0, 40, 3)))
    with pytest.raises(TooManyBad) as straight:
        train(shards, tmp_path / "straight", 8, val=False)
    with pytest.raises(TooManyBad) as stopped:
        for steps in (2, 4, 6, 8):
            train(shards, tmp_path / "stopped", steps, val=False)
    assert str(straight.value) == str(stopped.value)
    assert lines(tmp_path / "straight") == lines(tmp_path / "stopped")  # also what was one too many
    for run in ("straight", "stopped"):
        assert json.loads((tmp_path / run / "bad.json").read_text()) == stopped.value.counts


@pytest.mark.sweep
def test_two_ranks_of_a_run_count_and_stop_together(tmp_path):
    write(tmp_path, missing=0, broken=broken)
    own = {**config["data"], "val": None, "max_bad": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "data": own}))
    command = [sys.executable, "-m", "align", "train", "--config", "config.yaml", "--trainer.max_steps", "8"]
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    written = []
    for run, more in (("one", []), ("two", two)):
        args = [*command, "--run", run, *more]
        done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("array/not-npy") == 1
        written.append([(tmp_path / run / name).read_text() for name in ("bad.json", "bad-shards.json", "bad.jsonl")])
    assert written[0] == written[1]
    args = [*command, "--run", "strict", *two, "--data.max_bad", "0.001"]
    done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("samples in this epoch are bad") == 1
    assert "--data.max_bad 0.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len((tmp_path / "strict/bad.jsonl").read_text().splitlines()) == 5
