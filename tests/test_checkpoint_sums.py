"""Checkpoints with the SHA-256 of every file: damage is found, the previous good one is used, and a line says so."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny import made

import align
from align.checkpoint import Unsaved, drop_lost, find_checkpoint, find_damage, read_index, save_training
from align.checkpoint.room import count_bytes
from align.checkpoint.sums import replace_json
from align.files.swapping import remove_leftovers
from align.lit.ending import write_model_folder
from align.optim import AdamW


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    """Checkpoints of steps 2, 4 and 6, of which 4 is the best."""
    run = tmp_path_factory.mktemp("made") / "run"
    for step, value in ((2, 3.0), (4, 1.0), (6, 2.0)):
        save(run, step, value)
    return run


@pytest.fixture
def run(made_run, tmp_path):
    return shutil.copytree(made_run, tmp_path / "run")


def save(run, step, value, keep=9, **more):
    model, objective = made(step)
    state = {"step": step, "monitor": "val/loss", "mode": "min", "value": value} | more
    known = read_index(run)
    better = value is not None and (known.get("value") is None or value < known["value"])
    return save_training(run, model, objective, AdamW().build(model, objective), state, keep=keep, better=better)


def flip(path, at=-3):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def steps(run):
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


def test_every_file_has_its_sum(run):
    for folder in (run / "checkpoints").glob("step-*"):
        stated = json.loads((folder / "training/sums.json").read_text())
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert stated["files"].keys() | {"training/sums.json"} == files
        assert stated["schema"] == 3
        assert find_damage(folder) is None


@pytest.mark.parametrize("name", ["model.safetensors", "training/optimizer.json", "training/sums.json"])
def test_damage_in_the_last_checkpoint_costs_that_checkpoint(run, name):
    flip(run / "checkpoints/step-00000006" / name)
    known, lines = drop_lost(run)
    assert (known["last"], known["best"], known["damaged"]) == ("step-00000004", "step-00000004", ["step-00000006"])
    assert len(lines) == 1
    assert str(run / "checkpoints/step-00000006" / name) in lines[0]
    assert lines[0].endswith("; it goes on from step-00000004")


def test_a_cut_of_one_byte_of_the_sums(run):
    """JSON without its last line end is JSON too."""
    path = run / "checkpoints/step-00000006/training/sums.json"
    path.write_bytes(path.read_bytes()[:-1])
    assert find_damage(path.parents[1]) == f"{path} is damaged"


def test_several_damaged_ones(run):
    for step in (4, 6):
        flip(run / f"checkpoints/step-0000000{step}/training/state.json")
    known, lines = drop_lost(run)
    assert (known["last"], known["best"]) == ("step-00000002", "step-00000004")  # whose model is good
    assert len(lines) == 2
    assert lines[1].endswith("it goes on from step-00000002")
    (run / "checkpoints/index.json").write_text(json.dumps(known))
    save(run, 3, None, keep=1)
    assert steps(run) == ["step-00000003", "step-00000004"]
    shutil.rmtree(run / "checkpoints/step-00000003")
    flip(run / "checkpoints/step-00000004/model.json")
    with pytest.raises(ValueError, match=r"step-00000004/model.json is .*no good checkpoint is left; --fresh starts"):
        drop_lost(run)


def test_a_damaged_best_one_is_said_and_its_model_not_loaded(run):
    flip(run / "checkpoints/step-00000004/model.safetensors")
    known, lines = drop_lost(run)
    assert (known["last"], "best" in known) == ("step-00000006", False)
    assert "its best checkpoint, step-00000004, is damaged" in lines[0]
    assert "until a validation the last one counts as best" in lines[0]
    says = r"step-00000004/model.safetensors is damaged: .*; --checkpoint N reads another step of the run: \[2, 6\]"
    with pytest.raises(ValueError, match=says):
        align.load(run, allow=("tiny",))
    assert align.load(run, allow=("tiny",), checkpoint="last")
    with pytest.raises(ValueError, match="the same command goes on without that checkpoint"):
        write_model_folder(run)


def test_a_damaged_index_is_made_anew(run):
    pointer = run / "checkpoints/index.json"
    before = read_index(run)
    renamed = pointer.read_text().replace("sha256", "sha25v").replace("step-00000006", "step-00000002")
    for content in (
        renamed,
        "{",
        "[]",
        "{}",
        pointer.read_text().replace("step-00000006", "step-00000002"),
        "\x00" * 99,
        '{"last": "step-00000006", "best": 3}',
        '{"last": "step-00000006", "damaged": 3}',
        '{"last": "step-00000006", "damaged": "step-00000006"}',
        '{"last": "step-00000006", "damaged": [{}]}',
    ):
        pointer.write_text(content)
        assert read_index(run) == before, content
        known, lines = drop_lost(run)
        assert known == before
        assert lines == [f"{pointer} is damaged: it is made anew from the checkpoints that are there"]
        assert find_checkpoint(run).name == "step-00000004"
    pointer.unlink()
    known, lines = drop_lost(run)
    assert known == before
    assert "has no index of its checkpoints" in lines[0]
    pointer.write_text(json.dumps({"last": "step-00000004"}))  # a person's: it has no sum, and counts
    assert drop_lost(run) == ({"last": "step-00000004"}, [])


def test_a_copy_that_a_person_made_is_no_checkpoint_and_stays(run):
    folder = run / "checkpoints"
    for name in ("step-00000002-backup", "step-00000006.old"):
        shutil.copytree(folder / name[:13], folder / name)
    with pytest.raises(ValueError, match=r"has no checkpoint '99'; it has best, last and the steps \[2, 4, 6\]"):
        find_checkpoint(run, "99")
    before = read_index(run)
    (folder / "index.json").unlink()
    assert drop_lost(run)[0] == before
    flip(folder / "step-00000006/model.safetensors")
    assert drop_lost(run)[0]["last"] == "step-00000004"
    save(run, 8, 0.5, keep=1)
    assert steps(run) == ["step-00000002-backup", "step-00000006.old", "step-00000008"]


def test_the_best_of_a_larger_value_is_found_again(tmp_path):
    for step, value in ((2, 3.0), (4, 1.0)):
        save(tmp_path, step, value, mode="max")
    (tmp_path / "checkpoints/index.json").write_text("")
    assert read_index(tmp_path)["best"] == "step-00000002"


def test_keep_counts_good_ones(run):
    flip(run / "checkpoints/step-00000006/model.json")
    known, _ = drop_lost(run)
    (run / "checkpoints/index.json").write_text(json.dumps(known))
    save(run, 5, None, keep=2)
    assert steps(run) == ["step-00000004", "step-00000005"]


def test_a_damaged_one_before_this_step_is_no_good_one(run):
    flip(run / "checkpoints/step-00000006/model.json")
    known, _ = drop_lost(run)
    (run / "checkpoints/index.json").write_text(json.dumps({"last": known["last"], "damaged": known["damaged"]}))
    save(run, 7, None, keep=2)
    assert steps(run) == ["step-00000004", "step-00000007"]
    assert "damaged" not in read_index(run)


def test_a_state_is_replaced_without_a_bad_moment(run, monkeypatch):
    folder = run / "checkpoints/step-00000006"
    writes = []
    import align.checkpoint.sums as module

    def checked(path, content):
        write(path, content)
        writes.append(path.name)
        assert find_damage(folder) is None

    write = module.write_json
    monkeypatch.setattr(module, "write_json", checked)
    replace_json(folder, "training/state.json", {"schema": 3, "step": 6})
    assert writes == ["sums.json", "state.json", "sums.json"]
    assert len(json.loads((folder / "training/sums.json").read_text())["files"]["training/state.json"]) == 1


def test_leftovers_go_and_a_folder_comes_back(tmp_path):
    for name in ("a.0123456789ab.tmp", "b.0123456789ab.tmp", "c.0123456789ab.old", "d.0123456789ab.old", "e.tmp"):
        (tmp_path / f".{name}").mkdir()
        (tmp_path / f".{name}" / "x").write_text(name)
    (tmp_path / "d").mkdir()
    remove_leftovers(tmp_path, ["a", "c", "d"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.0123456789ab.tmp", ".e.tmp", "c", "d"]
    assert (tmp_path / "c/x").read_text() == "c.0123456789ab.old"


def test_a_disk_without_room_is_refused_before_a_byte_is_written(run, monkeypatch):
    import shutil as module
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    model, objective = made()
    needed = count_bytes(model, objective, AdamW().build(model, objective))
    monkeypatch.setattr(module, "disk_usage", lambda path: usage(1 << 40, 0, needed - 1))
    with pytest.raises(Unsaved) as caught:
        save(run, 7, None)
    said = str(caught.value)
    assert str(run / "checkpoints/step-00000007") in said
    assert "No space left on device; it needs " in said
    assert " are free; the checkpoints that were there are as they were." in said
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    monkeypatch.setattr(module, "disk_usage", lambda path: usage(1 << 40, 0, 2 * needed))
    save(run, 7, None)
    monkeypatch.setattr(module, "disk_usage", lambda path: usage(0, 0, 0))  # a system that does not say
    folder = save(run, 8, None)
    size = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
    assert size < needed < size + (1 << 17)


def test_the_bytes_of_an_optimiser_count():
    model, objective = made()
    optimizer = AdamW().build(model, objective)
    before = count_bytes(model, objective, optimizer)
    parameters = [*model.parameters(), *objective.parameters()]
    for p in parameters:
        p.grad = p.detach().clone()
    optimizer.step()
    moments = 2 * sum(p.nbytes for p in parameters)
    assert moments <= count_bytes(model, objective, optimizer) - before < moments + 8 * len(parameters) + 1
