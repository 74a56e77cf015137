"""A checkpoint's writers that are killed, or get an error, at every call that changes the disk, one after the other.

    python tests/save_faults.py MODE FOLDER [KEEP_EVERY]

MODE: kill, strace (a SIGKILL inside the system calls themselves), or the name of an error (ENOSPC, EIO, EROFS, EDQUOT).
Prints JSON: operation -> [number of faults, lines about what was wrong].
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny import made

from align.checkpoint import Unsaved, find_damage, load_training, save_state, save_training
from align.files import swapping
from align.lit.ending import write_model_folder
from align.lit.resume import find
from align.lit.run_lock import lock_run
from align.optim import AdamW

CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


class Layer:
    """Counter of the calls that change the disk. At call `at` it calls ``fault``, after half of the data is written."""

    def __init__(self, at, fault):
        self.at, self.fault, self.count, self.names = at, fault, 0, []

    def call(self, name, half=None):
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            if half:
                half()
            self.fault(name)

    @contextmanager
    def installed(self):
        before = {name: getattr(os, name) for name in CALLS}
        opened, saved, exchanged = builtins.open, safetensors.torch.save_file, swapping._exchange

        def counted(name):
            def call(*args, **kwargs):
                self.call(name)
                return before[name](*args, **kwargs)

            return call

        def open_(file, mode="r", *args, **kwargs):
            if not set(mode) & set("wxa+"):
                return opened(file, mode, *args, **kwargs)
            self.call("open")
            return Written(opened(file, mode, *args, **kwargs), self)

        def save_file(tensors, path, *args, **kwargs):
            content = safetensors.torch.save(tensors)

            def half():
                with opened(path, "wb") as f:
                    f.write(content[: len(content) // 2])

            self.call("tensors", half)
            return saved(tensors, path, *args, **kwargs)

        def exchange(a, b):
            self.call("exchange")
            return exchanged(a, b)

        for name in CALLS:
            setattr(os, name, counted(name))
        builtins.open = io.open = open_
        safetensors.torch.save_file, swapping._exchange = save_file, exchange
        try:
            yield self
        finally:
            for name, call in before.items():
                setattr(os, name, call)
            builtins.open = io.open = opened
            safetensors.torch.save_file, swapping._exchange = saved, exchanged


class Written:
    """A file that counts its writes."""

    def __init__(self, file, layer):
        self.file, self.layer = file, layer

    def write(self, data):
        self.layer.call("write", lambda: (self.file.write(data[: len(data) // 2]), self.file.flush()))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *args):
        return self.file.__exit__(*args)


model, objective = made()
optimizer = AdamW(lr=0.01).build(model, objective)


def step(number):
    """Change all parameters, so that a checkpoint has the number of its step in it."""
    for i, p in enumerate([*model.parameters(), *objective.parameters()]):
        p.grad = torch.full_like(p, number + i)
    optimizer.step()


def state(number, **more):
    return {"step": number, "steps": 9, "validated": False, "monitor": "val/loss", "mode": "min", "value": None} | more


def prepare(run):
    """Checkpoints of steps 1 and 2, and a model of step 1."""
    step(1)
    save_training(run, model, objective, optimizer, state(1, value=2.0), better=True)
    write_model_folder(run)
    step(2)
    save_training(run, model, objective, optimizer, state(2))


OPERATIONS = {
    "a new step": lambda run: save_training(run, model, objective, optimizer, state(3)),
    "a step that is there": lambda run: save_training(
        run, model, objective, optimizer, state(2, value=1.0), better=True
    ),
    "its state": lambda run: save_state(run, state(2, validated=True, value=1.0), better=True),
    "the model": write_model_folder,
}


def examine(run, where):
    """Return lines about what a start of the run would find wrong."""
    wrong = []
    with lock_run(run):
        for folder in sorted((run / "checkpoints").glob("step-*")):
            if line := find_damage(folder):
                wrong.append(f"{where}: torn: {line}")
        earlier = find(run, fresh=False)
        again, goal = made()
        if earlier.folder is None or earlier.step < 2:
            wrong.append(f"{where}: goes on from {earlier.step}")
        else:
            load_training(earlier.folder, again, goal, AdamW(lr=0.01).build(again, goal))
        if earlier.gone:
            wrong.append(f"{where}: says {earlier.gone}")
        if not (run / "model" / "model.json").is_file():
            wrong.append(f"{where}: no model")
    left = [path for path in run.rglob(".*") if path.is_file() or path.is_dir()]
    if left or (run / "train.claim").exists():
        wrong.append(f"{where}: left {left}")
    return wrong


def kill(name):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(run, operate, at, names):
    """Run an operation that is killed at a call. Return False where it ends before that."""
    child = os.fork()
    if not child:
        code = 9
        try:
            with Layer(at, kill).installed():
                operate(run)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the operation failed by itself at {at}")
    return os.WIFSIGNALED(status)


def trace_at(run, operate, at, call):
    """The same, inside the system call: its `at`-th one is not made, the process is killed instead."""
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGSTOP)
        code = 9
        try:
            operate(run)
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, os.WUNTRACED)
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}"]
    command += ["-e", f"inject={call}:signal=SIGKILL:when={at}", "-p", str(child)]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
        if tracer.poll() is not None:
            os.kill(child, signal.SIGKILL)
            raise RuntimeError("strace cannot attach to a child")
        time.sleep(0.002)
    os.kill(child, signal.SIGCONT)
    status = os.waitpid(child, 0)[1]
    tracer.wait()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the operation failed by itself at {call} {at}")
    return os.WIFSIGNALED(status)


def fail_at(run, operate, at, number):
    """Run an operation whose call `at` fails. Return (whether it got there, lines about a wrong message)."""
    wrong = []

    def fail(name):
        if name == "tensors":
            text = f"I/O error: {os.strerror(number)} (os error {number})"
            raise safetensors.SafetensorError(f"Error while serializing: {text}")
        raise OSError(number, os.strerror(number))

    layer = Layer(at, fail)
    with layer.installed():
        try:
            operate(run)
        except Unsaved as error:
            text = str(error)
            if str(run) not in text or os.strerror(number) not in text or "\n" in text or "free" not in text:
                wrong.append(f"{layer.names[-1]} {at}: says {text}")
        except OSError as error:
            if operate is not write_model_folder:
                wrong.append(f"{at}: {error!r}")
    return layer.count >= at, wrong


def sweep(mode, work, every):
    found = {}
    prepare(work / "start")
    step(3)
    ways = {"exchange": swapping._exchange, "two renames": lambda a, b: False}
    for operation, operate in OPERATIONS.items():
        for way, call in ways.items():
            if way == "two renames" and operation not in ("a step that is there", "the model"):
                continue
            swapping._exchange = call
            count, wrong = 0, []
            for name in ("write", "fsync", "rename", "renameat2", "mkdir", "unlinkat") if mode == "strace" else ("",):
                at = 1
                while True:
                    run = work / "run"
                    shutil.rmtree(run, ignore_errors=True)
                    shutil.copytree(work / "start", run)
                    if mode == "kill":
                        more = kill_at(run, operate, at, name)
                    elif mode == "strace":
                        more = trace_at(run, operate, at, name)
                    else:
                        more, said = fail_at(run, operate, at, getattr(errno, mode))
                        wrong += said
                    if not more:
                        break
                    count += 1
                    wrong += examine(run, f"{operation} ({way}) {mode} {name} {at}")
                    at += every
            found[f"{operation}, {way}"] = [count, wrong[:5]]
        swapping._exchange = ways["exchange"]
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of forks beside threads
    print(json.dumps(sweep(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)))
