"""Rows 1, 2, 5, 6, 21, 22 and 23: whole runs that are killed, stopped or spoiled, and continued by the same command.

"exact" is the line of each step (SHA-256 of its keys, bits of loss and gradient norm), every file of the last
checkpoint that holds weights, the optimiser or the state of the run, RUN/model, and metrics.csv without its times.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1]))

from killed_runs import read_steps, run_jobs
from test_commands_train import config
from tiny import write

STEPS, SAVED = 10, 3
PLACES = ("training_step", "optimizer_step", "validation_step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Shards with a bad member, and a config with a validation every 4 steps and a checkpoint every 3."""
    folder = tmp_path_factory.mktemp("runs")
    write(folder, broken=(3,))
    write(folder, "test", 20, broken=(1,))
    new = {
        **config,
        "data": {**config["data"], "max_bad": 1},
        "trainer": {**config["trainer"], "precision": "64-true", "val_check_interval": 4, "max_steps": STEPS},
        "checkpoint": {"every_steps": SAVED},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(new))
    return folder


def job(run: str, *faults: list[Any], world: int = 1, workers: int = 0, stages: bool = False, **guard: Any):
    """One start of a run. guard: its bounds."""
    guard = {"seconds": 20, **guard}
    more = {"args": None, "workers": workers, "stages": stages, "guard": guard}
    return {"run": run, "world": world, "faults": list(faults), **more}


def command(run: str, *faults: list[Any], world: int = 1, workers: int = 0) -> dict[str, Any]:
    """One start of a run by the command."""
    args = ["--config", "config.yaml", "--data.workers", str(workers)]
    return {"run": run, "world": world, "faults": list(faults), "args": args}


def exact(folder: Path, run: str, world: int = 1) -> str:
    """One digest of all that must not differ from the run that was never stopped."""
    path = folder / run
    found: dict[str, Any] = {f"steps {r}": read_steps(path, r) for r in range(world)}
    last = path / "checkpoints" / json.loads((path / "checkpoints/index.json").read_text())["last"]
    kept = [*last.rglob("*"), *(path / "model").rglob("*"), path / "bad.jsonl", path / "bad.json"]
    for file in sorted(file for file in kept if file.is_file()):
        found[str(file.relative_to(path))] = hashlib.sha256(file.read_bytes()).hexdigest()
    with (path / "metrics.csv").open(newline="") as f:
        table = list(csv.DictReader(f))
    found_steps = [row["step"] for row in table]  # a run in stages measures the weights that it begins with: step 0
    assert found_steps[found_steps[0] == "0" :] == [str(step) for step in range(1, STEPS + 1)], "every step once"
    found["metrics"] = [{k: v for k, v in row.items() if k not in ("samples_per_second", "wait")} for row in table]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def killed(
    draw: random.Random, run: str, workers: int, world: int, kills: int, name: str = "config.yaml"
) -> list[dict]:
    """The jobs of a run that is killed so often at drawn places, each time a little later, and then ends."""
    options = {"workers": workers, "world": world}
    jobs = []
    for _ in range(kills):
        place = draw.choice(PLACES)
        at = draw.choice((4, 8)) if place == "validation_step" else draw.randrange(STEPS)
        jobs.append(job(run, [place, at, draw.randrange(world), "SIGKILL"], **options))
    return [*jobs, job(run, **options)]


def count_exact(folder: Path, cases: dict[str, list[dict[str, Any]]], straight: dict[str, list[dict[str, Any]]]):
    """Run cases (and those they are compared with), and return how many are exact, and how many kills there were.

    cases: "RUN of STRAIGHT" -> jobs.
    """
    every = {**straight, **cases}
    done = run_jobs(folder, [each for jobs in every.values() for each in jobs])
    results = iter(done)
    codes = {name: [next(results)["codes"] for _ in jobs] for name, jobs in every.items()}
    assert all(set(of[-1]) == {0} for of in codes.values()), [each["err"] for each in done if {*each["codes"]} != {0}]
    worlds = {name: jobs[0]["world"] for name, jobs in every.items()}
    digests = {name: exact(folder, name.split(" of ")[0], worlds[name]) for name in every}
    good = sum(digests[name] == digests[name.split(" of ")[1]] for name in cases)
    kills = sum(-9 in of for name in cases for of in codes[name])
    return good, kills, len({*digests.values()})


def test_killed_runs_continue_to_the_bit(fault, folder):
    row = fault("1", "SIGKILL in a step, 1 worker", exact=1)
    two = fault("2", "SIGKILL before the first checkpoint, in a validation, twice in an epoch", exact=1)
    cases = {
        "b of straight": [job("b", ["optimizer_step", 5, 0, "SIGKILL"], workers=1), job("b", workers=1)],
        "c of straight": [
            job("c", ["training_step", 1, 0, "SIGKILL"]),
            job("c", ["validation_step", 4, 0, "SIGKILL"]),
            job("c", ["training_step", 6, 0, "SIGKILL"]),
            job("c"),
        ],
    }
    good, kills, digests = count_exact(folder, cases, {"straight": [job("straight")]})
    assert digests == 1
    row.measured(exact=good - 1, kills=1)
    two.measured(exact=good - 1, kills=kills - 1)


@pytest.mark.sweep
@pytest.mark.timeout(1500)
def test_the_same_command_continues_a_killed_run(fault, folder):
    row = fault("1", "align train, killed in a step, and the same command", exact=2)
    straight = {"k1": [command("k1")], "k2": [command("k2", world=2)]}
    cases = {
        "l1 of k1": [command("l1", ["training_step", 7, 0, "SIGKILL"], workers=4), command("l1", workers=4)],
        "l2 of k2": [command("l2", ["training_step", 7, 1, "SIGKILL"], world=2), command("l2", world=2)],
    }
    good, kills, _ = count_exact(folder, cases, straight)
    row.measured(exact=good, kills=kills)


@pytest.mark.sweep
@pytest.mark.timeout(3000)
def test_thirty_of_thirty_random_kills(fault, folder):
    """Workers 0, 1 and 4 with one process and with two ranks: 30 kills, and the same command again."""
    row = fault("1", "SIGKILL at 30 random places, workers 0/1/4, 1 and 2 ranks", exact=30, kills=30)
    straight = {"s1": [job("s1")], "s2": [job("s2", world=2)]}
    cases = {}
    for n in range(30):
        workers, world = ((0, 1), (1, 1), (4, 1), (0, 2), (1, 2), (4, 2))[n % 6]
        cases[f"r{n} of s{world}"] = killed(random.Random(n), f"r{n}", workers, world, 1)
    good, kills, _ = count_exact(folder, cases, straight)
    row.measured(exact=good, kills=kills)


@pytest.mark.sweep
@pytest.mark.timeout(3000)
def test_kills_twice_early_in_validations_and_between_stages(fault, folder):
    row = fault("2", "SIGKILL twice in an epoch, mid-validation, before the first checkpoint, between stages", exact=18)
    straight = {
        "t1": [job("t1")],
        "t2": [job("t2", world=2)],
        "g1": [job("g1", stages=True)],
        "g2": [job("g2", stages=True, world=2)],
    }
    cases = {}
    for n, (workers, world) in enumerate(((0, 1), (1, 1), (4, 1), (0, 2), (4, 2), (1, 2))):
        other = {"workers": workers, "world": world}
        last = world - 1
        cases[f"u{n} of t{world}"] = killed(random.Random(100 + n), f"u{n}", workers, world, 2)
        cases[f"v{n} of t{world}"] = [
            job(f"v{n}", ["training_step", 1, 0, "SIGKILL"], **other),
            job(f"v{n}", ["validation_step", 4, last, "SIGKILL"], **other),
            job(f"v{n}", ["validation_step", 8, 0, "SIGKILL"], **other),
            job(f"v{n}", **other),
        ]
        cases[f"w{n} of g{world}"] = [
            job(f"w{n}", ["optimizer_step", 4, last, "SIGKILL"], stages=True, **other),
            job(f"w{n}", ["training_step", 5, 0, "SIGKILL"], stages=True, **other),
            job(f"w{n}", stages=True, **other),
        ]
    good, kills, _ = count_exact(folder, cases, straight)
    row.measured(exact=good, kills=kills)


@pytest.mark.sweep
@pytest.mark.timeout(1500)
def test_signals_stop_runs_within_ten_seconds(fault, folder):
    """In a step, in a validation, while a worker reads for 100 s, and to one rank of two."""
    row = fault("5", "SIGTERM and SIGINT, at 8 places", seconds=fault.most(10), codes=8, exact=8)
    faults = {
        "step": ([job("p0", ["training_step", 5, 0, "SIGTERM"])], 143),
        "validation": ([job("p1", ["validation_step", 4, 0, "SIGINT"])], 130),
        "before the first step": ([job("p2", ["training_step", 0, 0, "SIGTERM"])], 143),
        "a worker that reads": ([job("p3", ["read", 61, 0, [15, 100]], workers=1)], 143),
        "one rank": ([job("p4", ["training_step", 5, 1, "SIGTERM"], world=2)], 143),
        "a validation of one rank": ([job("p5", ["validation_step", 8, 1, "SIGINT"], world=2)], 130),
        "before the first step of one rank": ([job("p7", ["training_step", 0, 1, "SIGTERM"], world=2)], 143),
        "data of one rank": ([job("p6", ["read", 67, 1, [15, 100]], workers=1, world=2)], 143),
    }
    cases = {name: [*jobs, {**jobs[0], "faults": []}] for name, (jobs, _) in faults.items()}
    every = [job("o1"), job("o2", world=2), *(each for jobs in cases.values() for each in jobs)]
    stopped = run_jobs(folder, every)[2::2]
    seconds = [max(each["seconds"]) for each in stopped]
    codes = sum(each["codes"][0] == code for each, (_, code) in zip(stopped, faults.values(), strict=True))
    whole = {1: exact(folder, "o1", 1), 2: exact(folder, "o2", 2)}
    good = sum(exact(folder, jobs[0]["run"], jobs[0]["world"]) == whole[jobs[0]["world"]] for jobs in cases.values())
    row.measured(seconds=max(seconds), codes=codes, exact=good)


@pytest.mark.sweep
@pytest.mark.timeout(1500)
def test_other_workers_and_ranks_see_the_same_samples(fault, folder):
    """Killed with 1 worker and one process, and continued with others: the keys of each global step are the same."""
    row = fault("6", "whole runs continued with other workers and ranks", other_sequences=0)
    begin = {"workers": 1}
    names = {"x0": (0, 1), "x1": (4, 1), "x2": (1, 2), "x3": (2, 2)}
    jobs = [job("whole")]
    for name, (workers, world) in names.items():
        jobs += [
            job(name, ["training_step", 5, 0, "SIGKILL"], **begin),
            job(name, workers=workers, world=world),
        ]
    done = run_jobs(folder, jobs)
    assert all(set(each["codes"]) == {0} for each in done[0::2]), done
    expected = read_keys(folder, "whole", 1)
    other = sum(read_keys(folder, name, world) != expected for name, (_, world) in names.items())
    row.measured(other_sequences=other, runs=len(names), steps=len(expected))


def read_keys(folder: Path, run: str, world: int) -> dict[int, list[str]]:
    """Return step -> the sorted keys of its batch, over the ranks that took it."""
    found: dict[int, set[str]] = {}
    for rank in range(world):
        path = folder / f"{run}.log-{rank}.keys"
        for line in path.read_text().splitlines():
            step, *keys = line.split()
            found.setdefault(int(step), set()).update(keys)
    return {step: sorted(keys) for step, keys in sorted(found.items())}


# row 21

GONE = {
    "SIGKILL": "it ended without a word: killed, or out of memory",
    "SIGSTOP": "it is silent for 6 s: stopped, or its machine is gone",
    "memory": "MemoryError: no 7 GiB left",
    "raise": "OSError: the disk has gone away",
}


def measure_ends(folder: Path, cases: list[tuple[str, int, str]], row: Any, world: int = 2) -> None:
    """cases: (action, rank, place). Every other rank names rank, step and reason in one line."""
    jobs = [
        job(
            f"d{n}-{world}",
            [place, 5 if place != "validation_step" else 4, rank, action],
            world=world,
            seconds=6,
        )
        for n, (action, rank, place) in enumerate(cases)
    ]
    named, seconds, codes = 0, 0.0, 0
    for (action, rank, place), found in zip(cases, run_jobs(folder, jobs), strict=True):
        for other in (r for r in range(world) if r != rank):
            text = found["err"][other]
            step = 6 if place != "validation_step" else 5
            kind = "is gone" if action.startswith("SIG") else "failed"
            named += f"align: rank {rank} {kind} in step {step}: {GONE[action]}; rank {other} leaves" in text
            codes += found["codes"][other] == 1
            seconds = max(seconds, found["seconds"][other])
            assert "Traceback" not in text, text
    row.measured(named=named, codes=codes, seconds=seconds)


def test_ranks_that_die_are_named(fault, folder):
    row = fault("21", "a rank of two is killed in a step", named=1, codes=1, seconds=fault.most(60))
    measure_ends(folder, [("SIGKILL", 1, "training_step")], row)


@pytest.mark.sweep
@pytest.mark.timeout(1500)
def test_ranks_that_die_stop_or_fail_are_named(fault, folder):
    actions = [(action, rank, "training_step") for action in GONE for rank in (0, 1)]
    actions += [("SIGKILL", rank, place) for rank in (0, 1) for place in ("validation_step", "optimizer_step")]
    n = len(actions)
    row = fault("21", "killed, stopped, out of memory, failed: rank 0 and 1", named=n, codes=n, seconds=fault.most(60))
    measure_ends(folder, actions, row)
    row = fault("21", "one of three ranks is killed or stopped", named=8, codes=8, seconds=fault.most(60))
    three = [(action, rank, "training_step") for action in ("SIGKILL", "SIGSTOP") for rank in (0, 2)]
    measure_ends(folder, three, row, world=3)


# row 22


def test_a_run_goes_on_with_new_workers(fault, folder):
    bar = {"exact": 1, "named": 1, "code": 1}
    row = fault("22", "a data worker is killed: started anew; always: the run stops with the shard", **bar)
    jobs = [
        job("e0"),
        job("e1", ["read", 61, 0, "SIGKILL"], workers=2),
        job("e2", ["read", 20, 0, "SIGKILL", 99], workers=1, restarts=1),
    ]
    _, once, always = run_jobs(folder, jobs)
    assert once["codes"] == [0], once["err"]
    last = always["err"][0].splitlines()[-1]
    named = "was ended by SIGKILL while it read train-00000" in last and "2 times in step" in last
    good = exact(folder, "e1") == exact(folder, "e0") and once["err"][0].count("the workers start anew") == 1
    row.measured(exact=int(good), named=int(named), code=always["codes"][0])


@pytest.mark.sweep
@pytest.mark.timeout(1500)
def test_workers_of_ranks_that_die_or_hang(fault, folder):
    row = fault("22", "workers killed and hung, 1, 2 and 4 workers, 1 and 2 ranks", exact=8)
    jobs, straight = [], [job("h1"), job("h2", world=2)]
    kills = [(workers, world, "SIGKILL") for world in (1, 2) for workers in (1, 2, 4)]
    for n, (workers, world, action) in enumerate([*kills, (2, 1, "SIGSTOP"), (2, 2, "SIGSTOP")]):
        options = {"workers": workers, "world": world, "data_seconds": 3}
        at = 60 + 2 * n + (world - 1)
        jobs.append(job(f"i{n}", ["read", at, at % world, action], **options))
    done = run_jobs(folder, [*straight, *jobs])
    assert all({*each["codes"]} == {0} for each in done), [each["err"] for each in done]
    whole = {1: exact(folder, "h1", 1), 2: exact(folder, "h2", 2)}
    good = sum(exact(folder, each["run"], each["world"]) == whole[each["world"]] for each in jobs)
    row.measured(exact=good, restarts=sum("start anew" in "".join(each["err"]) for each in done))


# row 23


@pytest.mark.sweep
@pytest.mark.timeout(1500)
def test_a_row_that_is_not_finite_on_one_and_two_ranks(fault, folder):
    """One NaN in one row of one modality, at one step: on two ranks the other rank's row is named too."""
    bar = {"skipped_alike": 3, "named": 3, "exact_after_a_kill": 3}
    row = fault("23", "NaN in 1 row of 1 modality at 1 step, 1 and 2 ranks", **bar)
    jobs, cases = [], [("image", 0, 1), ("text", 0, 2), ("audio", 1, 2)]
    for n, (modality, rank, world) in enumerate(cases):
        nan = ["training_step", 6, rank, "nan", modality, 0]
        kill = ["training_step", 7, 0, "SIGKILL"]
        jobs += [
            job(f"n{n}", nan, world=world),
            job(f"m{n}", nan, kill, world=world),
            job(f"m{n}", nan, world=world),
        ]
    done = run_jobs(folder, jobs)
    assert all({*each["codes"]} == {0} for n, each in enumerate(done) if n % 3 != 1), [each["err"] for each in done]
    alike = named = good = 0
    for n, (modality, rank, world) in enumerate(cases):
        (line,) = map(json.loads, (folder / f"n{n}" / "skipped.jsonl").read_text().splitlines())
        named += (line["step"], line["rank"], [*line["modalities"]]) == (7, rank, [modality])
        steps = [read_steps(folder / f"n{n}", r) for r in range(world)]
        alike += all(of[7].split()[1:] == ["nan", "nan"] for of in steps)
        good += exact(folder, f"n{n}", world) == exact(folder, f"m{n}", world)
    row.measured(skipped_alike=alike, named=named, exact_after_a_kill=good)


@pytest.mark.sweep
def test_a_run_that_is_never_finite_stops_with_a_table(fault, folder):
    row = fault("23", "every step is not finite, 1 and 2 ranks", codes=[3, 3], tables=2)
    jobs = [
        job(f"z{world}", *(["training_step", at, 0, "nan"] for at in range(2, STEPS)), world=world, skips=4)
        for world in (1, 2)
    ]
    done = run_jobs(folder, jobs)
    text = "4 steps in a row have a loss or a gradient that is not finite; weights and optimiser are those of step 2"
    row.measured(codes=[each["codes"][0] for each in done], tables=sum(text in each["err"][0] for each in done))


# row 26, for whole runs


@pytest.mark.sweep
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux tells it")
def test_a_short_soak(fault, tmp_path):
    """600 steps with 2 workers. ``tests/benchmarks/soak.py`` makes 20,000, with a bar of 1 MiB per 1,000 steps."""
    from benchmarks.soak import drop_warm_up, find_slopes, soak

    bar = {"process": fault.most(10), "workers": fault.most(10)}
    row = fault("26", "600 steps of a run, MiB per 1,000 steps", **bar, files=1, threads=1, steps=580)
    readings = soak(tmp_path, 600, 2, 20).readings
    late = drop_warm_up(readings)
    process, workers = find_slopes(late)
    files, threads = ({reading[i] for reading in late} for i in (3, 4))
    row.measured(process=process, workers=workers, files=len(files), threads=len(threads), steps=readings[-1].step)
