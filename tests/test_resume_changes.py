"""A resume with a changed config: one line for each change, with its meaning. What cannot go on is refused."""

from __future__ import annotations

import copy

import pytest
import yaml
from test_commands_train import config
from tiny import write

from align.commands import main
from align.commands.config import _list_keys, make_parser
from align.lit.changes import MEANINGS, Change, describe, list_changes

BEFORE = {
    "seed": 0,
    "model": {"dim": 4, "towers": {"image": {"encoder": {"class_path": "a.B", "init_args": {"width": 6}}}}},
    "objective": {"terms": {"one": {"loss": {"class_path": "align.losses.InfoNCE"}, "weight": 1.0}}},
    "data": {"train": "a.tar", "batch": 12, "workers": 0},
    "optim": {"lr": 0.1, "groups": None, "schedule": {"class_path": "x.Cosine", "init_args": {"warmup": 3}}},
    "trainer": {"precision": None},
}


def said(**changes) -> list[str]:
    """Lines about BEFORE with some keys (dots as __) replaced; a None removes one."""
    now = copy.deepcopy(BEFORE)
    for key, value in changes.items():
        *path, last = key.split("__")
        place = now
        for step in path:
            place = place[step]
        place[last] = value
        if value == "gone":
            del place[last]
    return [describe(change, 20, 0.25) for change in list_changes(BEFORE, now)]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"optim__lr": 0.2}, ["optim.lr was 0.1, is 0.2: the rate of the next step is 0.25"]),
        (
            {"seed": 1, "data__workers": 2},
            [
                "seed was 0, is 1: the order of samples, augmentation and dropout follow from another seed from here "
                "on",
                "data.workers was 0, is 2: no number changes",
            ],
        ),
        (
            {"objective__terms__two": {"weight": 1.0}, "objective__terms__one": "gone"},
            [
                "objective.terms.one is gone: the loss is another one from here on; do not compare it with the values "
                "before",
                "objective.terms.two is new: the loss is another one from here on; do not compare it with the values "
                "before",
            ],
        ),
        (
            {"optim__schedule": {"class_path": "x.Linear", "init_args": {"warmup": 9}}},
            ["optim.schedule was x.Cosine, is x.Linear: the rate of the next step is 0.25"],
        ),
        (
            {"data__train": {"digits": {"urls": "b.tar"}}},
            [
                "data.train was a.tar, is {digits: {urls: b.tar}}: the next steps have other samples, or these in "
                "another order"
            ],
        ),
        ({"optim__newer": 3}, []),  # a key of a newer align, at its default
    ],
)
def test_lines(changes, lines):
    assert said(**changes) == lines


def test_every_key_of_a_config_has_a_meaning():
    for key in _list_keys(make_parser()):
        if key not in ("config", "run", "fresh", "fork", "start", "dry_run", "dry-run", "print_config", "version"):
            assert describe(Change(key, 1, 2), 20, 0.25).startswith(f"{key} was 1, is 2: ")
    assert all((text[-1] != "." and text[0].islower()) or text.startswith("Lightning") for text in MEANINGS.values())


def test_a_run_says_them_and_keeps_the_config_of_its_last_good_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    small = copy.deepcopy(config)
    del small["data"]["val"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small))
    command = ["train", "--config", "config.yaml", "--run", "run"]
    assert main([*command, "--trainer.max_steps", "2"]) == 0
    first = (tmp_path / "run/config.yaml").read_text()
    capsys.readouterr()
    assert main([*command, "--trainer.max_steps", "4", "--optim.optimizer", "torch.optim.SGD"]) == 1
    assert "was trained by torch.optim.AdamW, this config has torch.optim.SGD" in capsys.readouterr().err
    assert (tmp_path / "run/config.yaml").read_text() == first
    assert main([*command, "--trainer.max_steps", "4", "--optim.lr", "0.002", "--data.batch", "6"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "trainer.max_steps was 2, is 4: the run ends at step 4" in lines
    assert "optim.lr was 0.001, is 0.002: the rate of the next step is 2e-05" in lines
    assert len([line for line in lines if "data.batch was 12, is 6" in line]) == 1
    assert main([*command, "--trainer.max_steps", "4", "--optim.lr", "0.002", "--data.batch", "6"]) == 0
    assert " was " not in capsys.readouterr().err.replace("checkpoint was", "")
