"""Decoders of the server: the folder in which it is started gives them no module."""

import os
import subprocess
import sys
from pathlib import Path

import align

SERVER = """
import multiprocessing
import sys


def say():
    import align

    print("decoder:", align.__file__, "wave" in sys.modules, flush=True)


if __name__ == "__main__":
    from align.serve import decoders

    decoders.LIBRARIES = ("align", "wave")
    decoders.prepare()
    process = multiprocessing.get_context("forkserver").Process(target=say)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_a_folder_named_like_the_package_hides_nothing(tmp_path):
    """A clone of the repository is a folder ``align`` in the folder in which one goes on working."""
    here, bin = tmp_path / "here", tmp_path / "bin"
    (here / "align").mkdir(parents=True)
    (here / "wave.py").write_text("raise SystemExit('a file of the current folder was run')")
    bin.mkdir()
    (bin / "server.py").write_text(SERVER)
    package = Path(align.__file__).parent
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(package.parent)
    done = subprocess.run(
        [sys.executable, str(bin / "server.py")], cwd=here, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, f"decoder: {package / '__init__.py'} True\n"), done.stderr
