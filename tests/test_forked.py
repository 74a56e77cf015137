"""The process that runs scripts in forks ends with the tests, whatever other process holds its pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import os
import sys
import time
from pathlib import Path

import forked

forked.LIBRARIES = ()  # a shorter start
script = Path(sys.argv[1])
script.write_text("print(1)")
assert forked.run_script(script, env=dict(os.environ)).stdout == "1\\n"
child = os.fork()  # as a loader's worker, it has the process's pipes
if not child:
    time.sleep(600)
print(child)
"""


def test_a_worker_that_lives_does_not_keep_the_process_from_its_end(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CODE, str(tmp_path / "script.py")]
    out = tmp_path / "out"
    with out.open("w") as file:
        done = subprocess.run(command, env=env, timeout=60, stdout=file, check=False)
    os.kill(int(out.read_text()), 9)
    assert done.returncode == 0
