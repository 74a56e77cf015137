"""Diagnostics: measures of a slice against plain loops, and the files that a report reads."""

from __future__ import annotations

import json

import pytest

from align.diagnostics import Alarm, read_alarms, read_environments, read_measures
from align.diagnostics.lines import append_line, keep_until


def test_a_run_without_diagnostics_reads_as_empty(tmp_path):
    assert read_measures(tmp_path) == read_alarms(tmp_path) == read_environments(tmp_path) == []


def test_measurements_are_read_as_they_are_written(tmp_path):
    counts = {"image+text": [[0, 2], [3, 1]]}
    line = {"step": 4, "scores": {"gap/image+text": 0.5}, "bins": [-1, 1, 2], "histograms": counts, "seconds": 0.25}
    append_line(tmp_path / "diagnostics.jsonl", line | {"slice": {"samples": 3}, "trained": ["image+text"]})
    (one,) = read_measures(tmp_path)
    assert (one.step, one.scores, one.seconds) == (4, {"gap/image+text": 0.5}, 0.25)
    assert one.histograms == {"image+text": ([-1.0, 0.0, 1.0], [0, 2], [3, 1])}
    assert one.facts == {"slice": {"samples": 3}, "trained": ["image+text"]}


def test_alarms_and_environments_are_read_as_they_are_written(tmp_path):
    alarm = Alarm(30, "collapse", "image", "all rows are one", "raise the temperature")
    append_line(tmp_path / "alarms.jsonl", alarm._asdict())
    assert read_alarms(tmp_path) == [alarm]
    (tmp_path / "environment.json").write_text(json.dumps({"schema": 1, "starts": [{"python": "3.11"}]}))
    assert read_environments(tmp_path) == [{"python": "3.11"}]


def test_a_run_that_goes_on_drops_the_lines_past_its_step_and_a_torn_one(tmp_path):
    path = tmp_path / "lines.jsonl"
    for step in (2, 4, 6):
        append_line(path, {"step": step})
    path.write_bytes(path.read_bytes() + b'{"step": 8, "sco')
    assert [line["step"] for line in keep_until(path, 4)] == [2, 4]
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n'
    assert keep_until(path, 0) == []
    assert not path.exists()


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "alarms.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"alarms.jsonl, line 1, is no JSON object: '\{\"step\": 1'"):
        read_alarms(tmp_path)
