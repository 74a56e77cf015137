"""A run whose checkpoints cannot be written: it stops, or warns and goes on, and no row of metrics.csv is lost."""

from __future__ import annotations

import pytest
from test_lit import exact, rows, train
from tiny import write

from align.checkpoint import Unsaved, room
from align.lit import Checkpoints
from align.lit.log import Log


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards"))


def fill(monkeypatch, *full: str) -> None:
    """Let the disk have no byte for the checkpoints of these names."""
    monkeypatch.setattr(room, "count_free", lambda folder: 0 if folder.name in full else 1 << 40)


def test_it_stops_or_warns_and_tries_again(shards, tmp_path, monkeypatch, capsys):
    train(shards, tmp_path / "straight", 4, val=False)
    fill(monkeypatch, "step-00000001", "step-00000002")
    with pytest.raises(Unsaved, match="step-00000001 cannot be written: No space left on device; it needs"):
        train(shards, tmp_path / "stop", 4, val=False, checkpoint=Checkpoints(every_steps=1))
    capsys.readouterr()
    train(shards, tmp_path / "warn", 4, val=False, checkpoint=Checkpoints(every_steps=1, on_error="warn"))
    said = capsys.readouterr().err
    assert [n for n in range(1, 5) if f"step {n} is not saved: {tmp_path}" in said] == [1, 2]
    assert len(rows(tmp_path / "warn")) == 4
    assert exact(tmp_path / "warn") == exact(tmp_path / "straight")
    fill(monkeypatch, "step-00000005")
    with pytest.raises(Unsaved):  # the last one must be written
        train(shards, tmp_path / "warn", 5, val=False, checkpoint=Checkpoints(on_error="warn"))
    assert exact(tmp_path / "warn")["model.safetensors"] == exact(tmp_path / "straight")["model.safetensors"]


def test_a_row_that_cannot_be_written_waits(shards, tmp_path, monkeypatch):
    before = Log._append

    def append(self, written):
        if self.module.step == 1:
            raise OSError(28, "No space left on device")
        before(self, written)

    monkeypatch.setattr(Log, "_append", append)
    with pytest.raises(Unsaved, match=r"metrics.csv cannot be written: No space left on device"):
        train(shards, tmp_path / "stop", 2, val=False, checkpoint=Checkpoints(every_steps=1))
    train(shards, tmp_path / "warn", 4, val=False, checkpoint=Checkpoints(every_steps=1, on_error="warn"))
    assert [row["step"] for row in rows(tmp_path / "warn")] == ["1", "2", "3", "4"]
