"""The blocks of a page, and their execution: a page is read from top to bottom in one folder, as a user would."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from forked import run_script

root = Path(__file__).parent.parent
SERVES = ("align serve", "align demo")  # commands that go on until they are stopped


class Block(NamedTuple):
    """A block of code: its language, the line that it begins in, and its text."""

    language: str
    line: int
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, without remarks. One ends with its line, or with the text that it reads."""
        whole = re.sub(r"\\\n", " ", self.text)
        found = re.findall(r"^.*<<'END'\n(?:.*\n)*?END$|^.+$", whole, flags=re.MULTILINE)
        return [command for command in found if command.strip() and not command.lstrip().startswith("#")]


def read_blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page, all or those in some languages."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(block[1], text.count("\n", 0, block.start(2)) + 1, block[2])
        for block in re.finditer(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    ]
    return [block for block in found if not languages or block.language in languages]


def environment() -> dict[str, str]:
    """Return the environment of a user who has installed this tree and is offline."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    modules = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PATH": path, "PYTHONPATH": modules, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(command: str | list[str], folder: Path, timeout: float = 300) -> str:
    """Run a command in a folder, see that it succeeds, and return what it prints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        shell=isinstance(command, str),
        executable="/bin/bash" if isinstance(command, str) else None,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def run_code(script: Path, *arguments: str) -> str:
    """Run a script in its folder, see that it succeeds, and return what it prints."""
    done = run_script(script, *arguments, env=environment())
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def run_here(command: str, folder: Path) -> str:
    """Run a command of align in this process, which saves the seconds of an import, and return what it prints."""
    from align.commands import main

    split = ["bash", "-c", f"printf '%s\\0' {command}"]  # its quotes, its patterns and its remark
    words = subprocess.run(split, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0")[1:-1]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    assert code == 0, f"{command}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue()


class Reader:
    """A reader of a page who types its blocks. Port 8000 becomes a free one, and a server is stopped at the end."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.servers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        for server in self.servers:
            assert server.poll() is None, f"a server has ended by itself: {server.communicate()}"
            server.send_signal(signal.SIGINT)  # as Ctrl-C
            out, err = server.communicate(timeout=60)
            assert "Traceback" not in out + err, err
            assert server.returncode in (0, 130), err

    def type(self, block: Block) -> list[str]:
        """Run a block, and return what each command of it prints."""
        if block.language == "python":
            page = self.folder / "page.py"
            page.write_text("\n" * (block.line - 1) + self.here(block.text), encoding="utf-8")
            return [run_code(page)]
        return [self.enter(command) for command in block.commands]

    def enter(self, command: str) -> str:
        """Run one command. One that serves goes on, and is waited for until it answers."""
        if not command.startswith(SERVES):
            align = command.startswith("align ")
            printed = run_here(command, self.folder) if align else run(self.here(command), self.folder)
            assert not printed.startswith('{"error"'), f"{command}\n{printed}"  # curl itself succeeds
            return printed
        words = f"exec {command.partition(' #')[0]}" + f" --port {self.port}"
        server = subprocess.Popen(
            words,
            cwd=self.folder,
            env=environment(),
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.servers.append(server)
        for _ in range(600):
            assert server.poll() is None, f"{command}\n{server.communicate()}"
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                    return "it answers"
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"{command} does not answer")

    def here(self, text: str) -> str:
        """Return a text with this reader's port."""
        return text.replace("8000", str(self.port))
