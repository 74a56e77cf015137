"""Runs of `align train` in forked processes, with a fault at a chosen place: ``run_jobs(folder, [job, ...])``.

A job is a dict. run: its folder. args: further words of the command, or None for a run by ``align.lit.fit`` with the
model of ``tiny``, which costs a tenth of the time. workers, stages and guard are for the latter. world: ranks, started
as torchrun starts them. faults: a list of ``[place, at, rank, action]``.

A place is a method of ``AlignModule`` (``training_step``, ``optimizer_step``, ``validation_step``), where ``at`` is the
step that was finished last, or ``read``: a data worker at a position. An action is a signal that the process sends
itself, ``raise``, ``memory``, ``sleep``, ``nan`` (one row of one modality of the batch), or [a signal to the main
process, seconds]. A fault of a worker happens as often as a fifth entry says, by default once.

A result has the exit code of each rank (``codes``), their ``seconds`` since the fault, and what they printed (``err``).
``RUN.log-RANK`` gets a line for each step that was taken: step, SHA-256 of its keys, bits of loss and gradient norm.
``RUN.log-RANK.keys`` has the keys themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any


def run_jobs(folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the jobs one after another in `folder`, and return their results."""
    from forked import run_script
    from written import environment

    script = folder / "killed_runs.py"
    shutil.copy(__file__, script)
    tests = str(Path(__file__).parent)
    (folder / "jobs.json").write_text(json.dumps([{**job, "tests": tests} for job in jobs]))
    done = run_script(script, "jobs.json", env=environment())
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


def read_steps(run: Path, rank: int = 0) -> dict[int, str]:
    """Return step -> its line. A step that was taken twice must be the same twice."""
    found: dict[int, str] = {}
    for line in Path(f"{run}.log-{rank}").read_text().splitlines():
        step, rest = line.split(" ", 1)
        assert found.setdefault(int(step), rest) == rest, f"step {step} differs when it is taken again"
    return found


def _start(job: dict[str, Any]) -> dict[str, Any]:
    world, faults = job.get("world", 1), job.get("faults", [])
    env = {}
    if world > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "GROUP_RANK": "0"}
        env |= {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": str(world)}
    Path("acted").unlink(missing_ok=True)
    children = {}
    for rank in range(world):
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)
            code = 70
            try:
                code = _rank(rank, job, {**env, "RANK": str(rank), "LOCAL_RANK": str(rank)} if env else {}, faults)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children[pid] = rank
    return _wait(children, world, job.get("timeout", 120))


def _wait(children: dict[int, int], world: int, timeout: float) -> dict[str, Any]:
    codes: list[Any] = [None] * world
    ends = [0.0] * world
    begin = time.monotonic()
    while any(code is None for code in codes):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in children:
            codes[children[pid]] = os.waitstatus_to_exitcode(status)
            ends[children[pid]] = time.monotonic()
        elif time.monotonic() - begin > timeout:
            for child, rank in children.items():
                if codes[rank] is None:
                    os.kill(child, signal.SIGKILL)
                    codes[rank] = "late"
        else:
            time.sleep(0.005)
        stopped = [child for child, rank in children.items() if codes[rank] is None]
        if len(stopped) == 1 and world > 1 and Path(f"/proc/{stopped[0]}/stat").read_text().split(") ")[1][0] == "T":
            os.kill(stopped[0], signal.SIGKILL)  # the rank that stopped itself: nobody else is left
    acted = float(Path("acted").read_text()) if Path("acted").exists() else begin
    for child in children:  # data workers that a killed rank has left
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    err = [Path(f"err-{rank}").read_text() for rank in range(world)]
    return {"codes": codes, "seconds": [end - acted for end in ends], "err": err}


def _rank(rank: int, job: dict[str, Any], env: dict[str, str], faults: list[Any]) -> int:
    import warnings

    from align.commands import main

    warnings.simplefilter("ignore")
    for number, name in ((1, f"out-{rank}"), (2, f"err-{rank}")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(env)
    _patch(rank, f"{job['run']}.log-{rank}", [fault for fault in faults if fault[2] == rank])
    if job["args"] is None:
        return _fit(job)
    two = ["--trainer.devices", str(job["world"]), "--trainer.strategy", "ddp"] if env else []
    return main(["train", *job["args"], *two, "--run", job["run"]])


def _fit(job: dict[str, Any]) -> int:
    from tiny import made

    from align.commands.errors import explain
    from align.lit import AlignData, Checkpoints, fit
    from align.lit.guard import Guard
    from align.lit.stages import Stage
    from align.optim import AdamW

    model, objective = made(dropout=0.2)
    trainer = {"accelerator": "cpu", "precision": "64-true", "logger": False, "max_steps": 10, "val_check_interval": 4}
    trainer |= {"devices": job["world"], "strategy": "ddp"} if job["world"] > 1 else {}
    stages = {"first": Stage(until=5, lr=0.5), "second": Stage()} if job["stages"] else None
    data = AlignData("train-*.tar", "test-*.tar", batch=12, workers=job["workers"], max_bad=1)
    more = {"checkpoint": Checkpoints(every_steps=3), "guard": Guard(**job["guard"]), "stages": stages}
    try:
        fitted = fit(model, objective, data, job["run"], optim=AdamW(lr=0.01), trainer=trainer, **more)
    except Exception as error:
        line, code = explain(error)
        if line is None:
            raise
        print(f"align: {line}", file=sys.stderr)
        return code
    return 128 + fitted.signal if fitted.signal else 0


def _patch(rank: int, log: str, faults: list[Any]) -> None:
    from align.data.pieces import Pieces
    from align.lit.module import AlignModule

    def append(path: str, line: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, line.encode())
        os.close(fd)

    def patch(place: str) -> None:
        before = getattr(AlignModule, place)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            if place == "training_step":
                self._ids = args[0].ids
            for fault in faults:
                if fault[0] == place and fault[1] == self.step:
                    _act(fault[3], args[0] if args else None, fault[4:])
            out = before(self, *args, **kwargs)
            if place == "optimizer_step":
                numbers = " ".join(
                    float(self.values[name]).hex() for name in ("loss", "grad_norm") if name in self.values
                )
                keys = hashlib.sha256(" ".join(self._ids).encode()).hexdigest()
                append(log, f"{self.step} {keys} {numbers}\n")
                append(f"{log}.keys", f"{self.step} {' '.join(self._ids)}\n")
            return out

        setattr(AlignModule, place, method)

    for place in ("training_step", "optimizer_step", "validation_step"):
        patch(place)
    before_read = Pieces._read

    def read(self: Any, position: int, epoch: int, readers: int) -> Any:
        for fault in faults:
            if fault[0] == "read" and fault[1] == position + epoch * len(self.shards) and self.train:
                marks = len(list(Path().glob(f"read-{position}-*")))
                if marks < (fault[4] if len(fault) > 4 else 1):
                    Path(f"read-{position}-{marks}").touch()
                    _act(fault[3], None, [])
        return before_read(self, position, epoch, readers)

    Pieces._read = read


def _act(action: Any, batch: Any, more: list[Any]) -> None:
    if action == "nan":
        modality, row = more or ("image", 0)
        batch[modality].values[row] = float("nan")
        return
    Path("acted").write_text(str(time.monotonic()))
    if action == "raise":
        raise OSError("the disk has gone away")
    if action == "memory":
        raise MemoryError("no 7 GiB left")
    if action == "sleep":
        time.sleep(1000)
    if isinstance(action, list):  # a signal to its main process, and a long read
        os.kill(os.getppid(), action[0])
        time.sleep(action[1])
    else:
        os.kill(os.getpid(), getattr(signal, action))


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    sys.path.append(jobs[0]["tests"])
    import tiny  # noqa: F401  all ranks and runs share these imports

    import align.lit
    import align.optim  # noqa: F401

    Path("results.json").write_text(json.dumps([_start(job) for job in jobs]))
