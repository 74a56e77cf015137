"""Diagnostics: measures of a slice against plain loops, and the files that a report reads."""

from __future__ import annotations

import json
import math
import platform
import random
import re
import subprocess
from importlib import metadata

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from cut import Cut, Kill
from test_lit import exact, rows

from align.diagnostics import Alarm, Diagnose, read_alarms, read_environments, read_measures
from align.diagnostics import measure as measuring
from align.diagnostics import slice as slicing
from align.diagnostics.environment import list_changes, note_start, read_git
from align.diagnostics.lines import append_line, keep_until
from align.diagnostics.measure import (
    BINS,
    count_cosines,
    count_false,
    effective_rank,
    list_scores,
    measure,
    share_label,
)
from align.diagnostics.slice import SliceReader
from align.diagnostics.table import Side, Table
from align.lit import AlignData, Checkpoints, fit
from align.losses import InfoNCE
from align.metrics import geometry
from align.metrics.geometry import UnitRows
from align.objective import Objective, Term
from align.optim import AdamW


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


# --- measures against plain loops


def make_side(values: torch.Tensor, sample: list[int], group: list[int] | None = None) -> Side:
    number = torch.tensor(sample)
    key = -2 - number if group is None else torch.tensor(group)
    first = torch.tensor([sample.index(s) if s in sample else -1 for s in range(max(sample) + 1)])
    return Side(values, number, key, first)


@pytest.fixture(scope="module")
def table() -> Table:
    """Eight samples: text has two rows of some and none of one, and image lacks another."""
    draw = torch.Generator().manual_seed(0)
    cause = torch.randn(8, 6, generator=draw)
    image, text = [0, 1, 2, 3, 4, 5, 7], [0, 0, 1, 2, 2, 4, 5, 6, 7]
    sides = {
        "image": make_side(cause[image] + torch.randn(7, 6, generator=draw) / 2, image),
        "text": make_side(cause[text] + torch.randn(9, 6, generator=draw) / 2, text),
    }
    labels = [{"kind": i % 2, "tags": ["a", "b"] if i < 3 else ["c"]} if i != 4 else None for i in range(8)]
    return Table(sides, labels)


BOTH = {frozenset(("image", "text"))}


def test_recall_is_that_of_a_loop(table):
    a, b = table.sides["image"], table.sides["text"]
    hits = 0
    for i, x in enumerate(a.values):
        cosines = [float(F.cosine_similarity(x, y, dim=0)) for y in b.values]
        hits += int(b.sample[max(range(9), key=lambda j: cosines[j])] == a.sample[i])
    found = measure(table, [], BOTH)
    assert found["trained/image_to_text/recall@1"] == hits / 7
    emergent = measure(table, [], set())
    assert emergent["emergent/image_to_text/recall@1"] == hits / 7
    assert not any(name.startswith(("trained/", "false_negatives/")) for name in emergent)
    assert sorted(found) == sorted(list_scores(["text", "image"], BOTH, ["kind", "tags"]))


def test_geometry_is_that_of_the_metrics(table):
    found, (x, y) = measure(table, [], BOTH), table.pair_rows("image", "text")
    x, y = F.normalize(x.double(), dim=1), F.normalize(y.double(), dim=1)
    assert len(x) == 6  # samples 3 and 6 lack one of the two
    assert found["gap/image+text"] == pytest.approx(float((x.mean(0) - y.mean(0)).norm()))
    assert found["alignment/image+text"] == pytest.approx(float((x - y).square().sum(1).mean()))
    z = F.normalize(table.sides["text"].values.double(), dim=1)
    pairs = [math.exp(-2 * float((p - q).square().sum())) for i, p in enumerate(z) for j, q in enumerate(z) if i != j]
    assert found["uniformity/text"] == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-6)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6)])
def test_effective_rank_is_that_of_the_metrics(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    rows = UnitRows(values)
    assert effective_rank(values) == pytest.approx(geometry.effective_rank(rows, geometry.moments(rows)).value)
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1.0)
    assert effective_rank(torch.zeros(5, 3)) == 0.0


def test_histograms_count_every_pair_one_time(table):
    a, b = table.sides["image"], table.sides["text"]
    positives, negatives = [0] * BINS, [0] * BINS
    for i, x in enumerate(a.values):
        for j, y in enumerate(b.values):
            place = min(BINS - 1, int((float(F.cosine_similarity(x, y, dim=0)) + 1) / 2 * BINS))
            (positives if a.sample[i] == b.sample[j] else negatives)[place] += 1
    assert count_cosines(table) == {"image+text": (positives, negatives)}


def test_rows_of_one_group_are_neither_positives_nor_negatives():
    side = make_side(torch.eye(3), [0, 1, 2], [7, 7, 3])
    ((positives, negatives),) = count_cosines(Table({"a": side, "b": side}, [])).values()
    assert (sum(positives), sum(negatives)) == (3, 4)


def test_false_negatives_are_those_of_a_loop(table, monkeypatch):
    monkeypatch.setattr(measuring, "NEAREST", 3)
    a, b = table.sides["image"], table.sides["text"]
    equal = share_label(table.labels, "kind")
    cosines = F.normalize(a.values, dim=1) @ F.normalize(b.values, dim=1).T
    hits = total = 0
    for i in range(7):
        mine = table.labels[int(a.sample[i])]
        others = [j for j in range(9) if b.sample[j] != a.sample[i]]
        for j in sorted(others, key=lambda j: -float(cosines[i, j]))[:3]:
            theirs = table.labels[int(b.sample[j])]
            if mine is not None and theirs is not None:
                total, hits = total + 1, hits + (mine["kind"] == theirs["kind"])
    assert count_false(cosines, a, b, equal) == pytest.approx(hits / total)
    assert 0 < hits < total
    shared = share_label(table.labels, "tags")
    assert shared[0, 2]
    assert not shared[0, 3]
    assert not shared[4].any()  # it has no label
    assert math.isnan(count_false(cosines, a, b, torch.zeros(8, 8, dtype=torch.bool)))


def test_a_slice_is_measured_at_one_percent_of_the_training():
    one = Diagnose()
    assert one.choose_steps(validation=1000, batch=256, samples=256) == 1000
    assert one.choose_steps(validation=20, batch=256, samples=256) == 80  # 80 trained for each measured
    assert one.choose_steps(validation=4, batch=12, samples=20) == 136
    assert Diagnose(every_steps=7).choose_steps(20, 256, 256) == 7
    assert Diagnose(every_steps=0).choose_steps(20, 256, 256) == 0
    for wrong in ({"every_steps": -1}, {"rows": 1}):
        with pytest.raises(ValueError, match=f"diagnose.{next(iter(wrong))} is at least"):
            Diagnose(**wrong)


# --- runs


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return tiny.write(tiny.write(folder), "test", 20)


def train(shards, run, steps, diagnose, **given):
    model, objective = tiny.made(dropout=0.2)
    if given.pop("pair", False):
        terms = {"pair": Term(InfoNCE(), [["image", "text"]]), "other": Term(InfoNCE(), [["audio", "text"]])}
        objective = Objective(terms, dim=tiny.dim, batch=12, modalities=list(tiny.modalities)).double()
    val = str(shards / "test-*.tar") if given.pop("val", True) else None
    data = AlignData(given.pop("train", str(shards / "train-*.tar")), val, batch=12, workers=0)
    trainer = {"accelerator": "cpu", "precision": "64-true", "logger": False, "max_steps": steps}
    trainer |= given.pop("trainer", {})
    return fit(model, objective, data, run, optim=AdamW(lr=0.01), trainer=trainer, diagnose=diagnose, **given)


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    train(shards, run, 10, Diagnose(every_steps=4, rows=16), pair=True)
    return run


def test_a_run_has_its_measures_in_both_files(straight):
    measures = read_measures(straight)
    assert [one.step for one in measures] == [0, 4, 8, 10]
    table = {int(row["step"]): row for row in rows(straight)}
    assert list(table) == list(range(1, 11))
    for one in measures[1:]:
        for name, value in one.scores.items():
            if not name.startswith("scale/"):
                assert float(table[one.step][f"diagnose/{name}"]) == value
    assert [step for step, row in table.items() if row["diagnose/uniformity/image"]] == [4, 8, 10]
    last = measures[-1]
    assert {"trained/image_to_text/recall@1", "emergent/audio_to_image/recall@1"} < last.scores.keys()
    assert {"gradient/image", "scale/pair", "false_negatives/text_to_audio/label"} < last.scores.keys()
    assert last.facts == {"slice": {"of": "val", "samples": 16}, "trained": ["audio+text", "image+text"]}
    assert last.histograms.keys() == {"audio+image", "audio+text", "image+text"}
    assert float(table[8]["pair/scale"]) == pytest.approx(measures[2].scores["scale/pair"], rel=1e-2)


def test_a_run_is_the_same_to_the_bit_without_diagnostics(shards, straight, tmp_path):
    after = []
    for name, diagnose in (("with", Diagnose(every_steps=1)), ("without", Diagnose(every_steps=0, alarms=False))):
        random.seed(5)
        np.random.seed(5)
        train(shards, tmp_path / name, 10, diagnose, pair=True)
        after.append((random.random(), np.random.random()))
    assert after[0] == after[1]
    assert exact(tmp_path / "with") == exact(tmp_path / "without") == exact(straight)
    assert not (tmp_path / "without/diagnostics.jsonl").exists()
    assert not any(name.startswith("diagnose") for name in rows(tmp_path / "without")[0])


def test_a_killed_run_has_every_measure_one_time(shards, straight, tmp_path):
    asked = {"diagnose": Diagnose(every_steps=4, rows=16), "pair": True}
    with pytest.raises(Cut):
        train(shards, tmp_path, 10, checkpoint=Checkpoints(every_steps=3), trainer={"callbacks": [Kill(8)]}, **asked)
    assert [one.step for one in read_measures(tmp_path)][-1] == 8
    train(shards, tmp_path, 10, **asked)
    mine, theirs = read_measures(tmp_path), read_measures(straight)
    assert [one._replace(seconds=0) for one in mine] == [one._replace(seconds=0) for one in theirs]
    names = {name for name in rows(straight)[0] if name.startswith("diagnose")}
    assert [{k: r[k] for k in names} for r in rows(tmp_path)] == [{k: r[k] for k in names} for r in rows(straight)]
    assert [one["step"] for one in read_environments(tmp_path)] == [0, 6]


def test_without_validation_the_slice_is_of_the_training_shards(shards, tmp_path):
    train(shards, tmp_path, 2, Diagnose(every_steps=2), val=False)
    assert read_measures(tmp_path)[0].facts["slice"] == {"of": "train", "samples": 48}


def test_the_slice_is_spread_over_the_shards_and_is_cut_where_samples_are_large(shards, monkeypatch):
    model, _ = tiny.made()
    opened = AlignData(str(shards / "train-*.tar"), str(shards / "test-*.tar"), batch=12, workers=0).open(model, 0)
    reader = SliceReader(opened.train, opened.val, opened.preprocess, 12, 10)
    whole = reader.read(0, 1)
    assert [position for part in whole.parts for position in part.position.tolist()] == list(range(0, 20, 2))
    shares = [SliceReader(opened.train, opened.val, opened.preprocess, 12, 10).read(rank, 2) for rank in (0, 1)]
    assert [i for share in shares for part in share.parts for i in part.ids] == [i for p in whole.parts for i in p.ids]
    assert [len(share.parts) for share in shares] == [1, 1]
    monkeypatch.setattr(slicing, "ROOM", 500)
    few = SliceReader(opened.train, opened.val, opened.preprocess, 12, 20).read(0, 1)
    assert 0 < few.size < 20
    assert SliceReader(opened.train, opened.val, opened.preprocess, 12, 3).read(0, 4) is None


def test_a_fresh_run_and_a_fork_begin_as_they_should(shards, straight, tmp_path):
    train(shards, tmp_path / "fork", 12, Diagnose(every_steps=4, rows=16), pair=True, fork=f"{straight}")
    assert [one.step for one in read_measures(tmp_path / "fork")] == [0, 4, 8, 10, 12]
    assert [one["step"] for one in read_environments(tmp_path / "fork")] == [10]


# --- the environment


def test_the_environment_names_versions_machine_and_revision(straight):
    (start,) = read_environments(straight)
    assert start["python"] == platform.python_version()
    assert start["packages"]["torch"] == metadata.version("torch")
    assert len(start["packages"]) > 50
    assert (start["world"], start["step"], start["threads"]) == (1, 0, torch.get_num_threads())
    assert start["git"]["align"] is None or re.fullmatch("[0-9a-f]{40}", start["git"]["align"]["revision"])
    for name in ("command", "host", "system", "cpu", "cores", "gpus", "time", "folder"):
        assert name in start


def test_git_says_the_revision_and_whether_files_differ_from_it(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    assert read_git(str(tmp_path)) is None
    read_git.cache_clear()
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "other").write_text("untracked")
    found = read_git(str(tmp_path))
    assert found is not None
    assert (len(found["revision"]), found["dirty"]) == (40, False)
    read_git.cache_clear()
    (tmp_path / "file").write_text("two")
    assert read_git(str(tmp_path)) == {"revision": found["revision"], "dirty": True}
    read_git.cache_clear()


def test_a_start_in_another_environment_is_said(tmp_path):
    assert note_start(tmp_path, 0, 1) == ""
    assert note_start(tmp_path, 5, 1) == ""
    line = note_start(tmp_path, 7, 2)
    assert line == f"{tmp_path} goes on in another environment: world was 1, is 2"
    assert [one["step"] for one in read_environments(tmp_path)] == [0, 5, 7]
    before = {"gpus": [], "packages": {"torch": "2.13.0"}}
    now = {"gpus": ["H100"], "packages": {"torch": "2.14.1"}}
    assert list_changes(before, now) == ["gpus was none, is H100", "torch was 2.13.0, is 2.14.1"]
