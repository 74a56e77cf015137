"""Scripts run as `python FILE` runs them, each in a child of one process that has imported torch, which takes seconds.

Nothing of align is imported before the fork, so a script sees the imports that it makes itself.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "torchaudio", "timm", "lightning.pytorch")


def run_script(script: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script in its folder, and return its exit code and the text that it prints."""
    out, err = script.with_suffix(".out"), script.with_suffix(".err")
    task = {"script": str(script), "arguments": arguments, "env": env, "out": str(out), "err": str(err)}
    parent = _start(env["PYTHONPATH"])
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(json.dumps(task) + "\n")
    parent.stdin.flush()
    code = int(parent.stdout.readline())
    done = subprocess.CompletedProcess([str(script), *arguments], code, out.read_text(), err.read_text())
    out.unlink()
    err.unlink()
    return done


@cache
def _start(modules: str) -> subprocess.Popen[str]:
    """Start the process that forks. modules: PYTHONPATH."""
    env = {**os.environ, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    parent = subprocess.Popen([sys.executable, __file__, *LIBRARIES], env=env, **pipes)
    atexit.register(_end, parent)
    return parent


def _end(parent: subprocess.Popen[str]) -> None:
    """Kill the process that forks. A loader's worker may hold its input open, so that the end of ours is not seen."""
    parent.kill()
    parent.wait()


def _serve(libraries: list[str]) -> None:
    """Fork for each line of stdin, a task, and write its exit code to stdout. A child returns after its script."""
    for name in libraries:
        __import__(name)
    while line := sys.stdin.readline():
        task = json.loads(line)
        child = os.fork()
        if not child:
            _run(**task)
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(script: str, arguments: list[str], env: dict[str, str], out: str, err: str) -> None:
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, flags | os.O_CREAT), number)
    folder = str(Path(script).parent)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv, sys.path[0] = [script, *arguments], folder
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1:])
