"""Row 25: mistakes in a config, refused before data is opened or a run folder made, with the nearest right name."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_commands_train import config

from align.commands import main, train
from align.commands.config import _list_keys, check_config, check_options, make_parser
from align.commands.errors import Refused

NEVER = {"config", "run", "fresh", "help", "print_config"}  # of the command line alone

FULL: dict[str, Any] = {
    **copy.deepcopy(config),
    "stages": {"one": {"until": 2, "freeze": ["model.towers.image.*"], "lr": 0.5}, "two": {}},
    "tuning": {"lora": {"model.towers.text.*": {"rank": 2, "alpha": 4.0}}},
    "validate": {"with": ["retrieval"], "every_steps": 2},
    "optim": {
        "groups": {"*.log_scale": {"lr": 2, "weight_decay": 0.0}},
        "schedule": {"class_path": "align.optim.Linear"},
    },
    "early_stopping": {"patience": 3, "min_delta": 0.1},
}
FULL["optim"]["schedule"]["init_args"] = {"warmup": 2, "final": 0.1}
FULL["objective"]["terms"]["pairs"] = {
    "loss": {"class_path": "align.losses.InfoNCE", "init_args": {"tile": 64}},
    "between": "all",
    "weight": 1.0,
}
"""A config that uses the keys below others."""

TOWERS = (["model", "towers", m] for m in ("image", "audio", "text"))
NAMES_OF_THE_USER = (["model", "towers"], ["objective", "terms"], ["stages"], ["tuning", "lora"], ["optim", "groups"])


@pytest.fixture(scope="module")
def parser():
    return make_parser()


def typos(name: str, others: set[str], rng: random.Random) -> list[str]:
    """Four mistakes of a typist in a name, none of which is another key."""
    i, j = rng.randrange(len(name)), rng.randrange(max(1, len(name) - 1))
    made = [
        name[:i] + name[i + 1 :],
        name[:i] + name[i] + name[i:],
        name[:j] + name[j : j + 2][::-1] + name[j + 2 :],
        name[:i] + rng.choice("aeiostnr") + name[i + 1 :],
    ]
    return [typo for typo in dict.fromkeys(made) if typo and typo not in others and typo != name]


def flat(keys: set[str], rng: random.Random) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (config, right name) with a typo of each key of the parser, and of the group that it is in."""
    for key in sorted(keys):
        if key in NEVER:
            continue
        *path, name = key.split(".")
        siblings = {other.split(".")[len(path)] for other in keys if other.split(".")[: len(path)] == path}
        for typo in typos(name, siblings | NEVER, rng):
            made = copy.deepcopy(config)
            place: Any = made
            for step in path:
                place = place.setdefault(step, {})
            place[typo] = place.pop(name, None)
            yield made, name


def nested(rng: random.Random) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the same for the keys below those of the parser: of classes, terms, stages, groups."""

    def walk(value: Any, path: list[str]) -> Iterator[list[str]]:
        for name, inside in value.items() if isinstance(value, dict) else ():
            if (path not in NAMES_OF_THE_USER and len(path) > 1) or path in (["stages", "one"], ["validate"]):
                yield [*path, name]
            yield from walk(inside, [*path, name])

    for path in walk(FULL, []):
        if path[0] in ("data", "trainer") or path[-1] in ("class_path", "init_args") or path in TOWERS:
            continue
        if path[:-1] in NAMES_OF_THE_USER:
            continue
        for typo in typos(path[-1], set(), rng):
            made = copy.deepcopy(FULL)
            place = made
            for step in path[:-1]:
                place = place[step]
            place[typo] = place.pop(path[-1])
            yield made, path[-1]


def count(parser: Any, cases: list[tuple[dict[str, Any], str]], path: Path) -> dict[str, Any]:
    caught = named = 0
    slowest, missed = 0.0, []
    for content, name in cases:
        path.write_text(yaml.safe_dump(content))
        begin = time.thread_time()
        try:
            check_config(parser, str(path))
            missed.append(name)
        except Refused as error:
            caught += 1
            named += name in str(error)
            if name not in str(error):
                missed.append(f"{name}: {error}")
        slowest = max(slowest, time.thread_time() - begin)
    print(missed[:20])
    return {"caught": caught / len(cases), "named": named / len(cases), "slowest_s": slowest, "typos": len(cases)}


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.sweep)])
def test_typos_of_keys(fault, parser, tmp_path, every):
    row = fault(
        "25", f"typos of {'every' if every == 1 else 'some'} key", missed=fault.most(0.01), slow=fault.most(1.0)
    )
    rng = random.Random(0)
    listed = [*flat(_list_keys(parser), rng), *nested(rng)]
    found = count(parser, listed[::every], tmp_path / "config.yaml")
    row.measured(missed=1 - found["caught"], slow=found["slowest_s"], named=found["named"], typos=found["typos"])


def test_typos_of_options(fault, parser):
    row = fault("25", "typos of options of the command line", missed=0)
    rng, missed, n = random.Random(1), [], 0
    keys = _list_keys(parser)
    for key in sorted(keys - {"config"}):
        head, _, name = key.rpartition(".")
        for typo in typos(name, {k.rpartition(".")[2] for k in keys} | {"help"}, rng):
            n += 1
            option = f"--{head}.{typo}" if head else f"--{typo}"
            try:
                check_options(parser, [option, "1"])
                missed.append(option)
            except Refused as error:
                if error.code != 2:
                    missed.append(option)
    row.measured(missed=len(missed), typos=n)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"data": {"batch": "many"}}, "data.batch"),
    ({"data": {"batch": -3}}, "data.batch must be at least 1"),
    ({"model": {"dim": "wide"}}, "model.dim"),
    ({"model": {"dim": 0}}, "dim"),
    ({"optim": {"lr": "fast"}}, "optim.lr"),
    ({"optim": {"lr": -1.0}}, "lr must be above 0"),
    ({"trainer": {"max_steps": 1.5}}, "trainer.max_steps"),
    ({"checkpoint": {"keep": 0}}, "checkpoint.keep"),
    ({"checkpoint": {"mode": "least"}}, "checkpoint.mode"),
    ({"checkpoint": {"on_error": "ignore"}}, "checkpoint.on_error"),
    ({"seed": "one"}, "seed"),
    ({"objective": {"terms": {"a": {"loss": "align.losses.InfoNCE", "between": ["image", "txet"]}}}}, "'text'"),
    ({"chunk": {"imgae": 8}}, "did you mean 'image'?"),
    ({"chunk": -1}, "at least 1; got -1"),
    (
        {
            "objective": {
                "terms": {
                    "a": {"loss": {"class_path": "align.losses.InfoNCE", "init_args": {"tile": -1}}, "between": "all"}
                }
            }
        },
        "tile",
    ),
    (
        {"optim": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {}}, "betas": [0.5, 0.5]}},
        "optim.betas and optim.eps are AdamW's",
    ),
    ({"optim": {"schedule": "align.optim.Constant", "warmup": 7}}, "optim.warmup and optim.final are the default"),
    ({"data": {"train": {"a": {"urls": "train-*.tar"}}, "samples": 5}}, "belong to the single sources"),
    ({"trainer": {"accumulate_grad_batches": 2}}, "chunk: 64"),
    ({"validate": {"every_step": 2}}, "did you mean every_steps?"),
]


def test_wrong_values_and_contradictions(fault, parser, tmp_path, monkeypatch, capsys):
    row = fault("25", "wrong types and values, unknown modalities, contradictions", accepted=0, touched=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "make_parser", lambda: parser)
    opened = []
    monkeypatch.setattr("align.lit.data.AlignData.open", lambda *a, **k: opened.append(1))
    odd = []
    for changes, says in WRONG:
        content = copy.deepcopy(config)
        for key, value in changes.items():
            content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) and key != "chunk" else value
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        code = main(["train", "--config", "config.yaml", "--run", "run"])
        lines = capsys.readouterr().err.strip().splitlines()
        if code != 1 or len(lines) != 1 or says not in lines[0]:
            odd.append((changes, code, lines))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["train", "--config", "config.yaml", "--run", "run"]
    for both in (["--fresh", "--fork", "x"], ["--start", "x", "--fork", "y"]):
        if main([*command, *both]) != 2 or "both say how the run begins" not in capsys.readouterr().err:
            odd.append((both, 0, []))
    assert not odd, odd
    row.measured(accepted=len(odd), touched=len(opened) + (tmp_path / "run").exists(), tried=len(WRONG) + 2)
