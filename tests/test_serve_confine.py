"""A decoder's limits, each tried in a process of its own that does what a taken-over decoder would do."""

from __future__ import annotations

import pickle
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from served import picture
from traps import Trap

from align.serve.decoders import _Process, prepare
from align.serve.decoding import Task
from align.serve.limits import Limits

LIMITED = """
import mmap, os, resource, sys
from align.serve.confine import allow_seconds, confine
confine(64 << 20)
"""


def confined(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python that runs code after ``confine``, in a folder."""
    command = [sys.executable, "-c", LIMITED + textwrap.dedent(code)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("bytearray(80 << 20)", "MemoryError"),
        ("mmap.mmap(-1, 200 << 20)", "Cannot allocate memory"),  # shared, which RLIMIT_DATA does not count
        ("os.write(os.open('made', os.O_CREAT | os.O_WRONLY), b'x')", "File too large"),
        ("os.ftruncate(os.memfd_create('x'), 9)", "File too large"),
        ("files = [open(os.devnull) for _ in range(40)]", "Too many open files"),
    ],
)
def test_a_confined_process_gets_no_more(tmp_path, code, said):
    done = confined(code, tmp_path)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not any(path.stat().st_size for path in tmp_path.iterdir())


def test_a_confined_process_does_its_work(tmp_path):
    code = "x = bytearray(40 << 20); open(os.devnull, 'w').write('x'); print(resource.getrlimit(resource.RLIMIT_CORE))"
    done = confined(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "(0, 0)\n"), done.stderr


def test_processor_time_is_bounded_for_each_task(tmp_path):
    """Time that earlier tasks took does not count, and the time that is over ends the process."""
    code = """
    import time
    def burn(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    burn(1.2)
    allow_seconds(0.1)
    burn(0.5)
    print("alive", flush=True)
    burn(9)
    """
    done = confined(code, tmp_path)
    assert (done.stdout, done.returncode) == ("alive\n", -signal.SIGXCPU), done.stderr


def test_a_lower_limit_stays(tmp_path):
    code = "print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])"

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    command = [sys.executable, "-c", LIMITED + code]
    done = subprocess.run(
        command, preexec_fn=lower, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "12\n", done.stderr


def decoder(seconds: float) -> _Process:
    """A decoder of pictures that may be traps."""
    prepare()
    trap = Trap(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return _Process(pickle.dumps({"image": trap}), Limits(decode_seconds=seconds))


def test_a_decoder_without_time_says_so():
    """The system ends a decoder that has used its time where the server's clock does not."""
    process = decoder(0.2)
    try:
        process._seconds = 30.0  # of the server's clock
        assert process.ask(Task("row", "image", "png", picture((1, 2, 3)))).shape == (3, 8, 8)
        found = process.ask(Task("row", "image", "png", b"burn"))
        assert (found.reason, found.detail, process.alive) == ("too-slow", "decoding took more than 30 s", False)
    finally:
        process.end()
