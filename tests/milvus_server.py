"""A Milvus server of the tests: a process of its own, which they kill and start again."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import final


def find_port() -> int:
    """Return a free port below those that the system gives to clients: a killed server finds it free again."""
    while True:
        port = random.SystemRandom().randrange(10_240, 32_768)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@final
class MilvusServer:
    """``milvus-lite server`` on a port of this machine. What it stores stays in its folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = find_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        command = [str(Path(sys.executable).parent / "milvus-lite"), "server", "--data-dir", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder.parent / "milvus.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.folder.parent / "milvus.log").read_text()[-2000:]
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("milvus-lite does not start")

    def kill(self) -> None:
        """Kill the server as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
