"""A build killed at each of its system calls in turn, by strace: the index is as before or after it, never between."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_space
from test_index_build import files_of

from align.checkpoint import save
from align.commands import main
from align.search.local import LocalIndex

trust = ["--allow", "tiny_space"]
CALLS = "fsync,fdatasync,pwrite64,rename,renameat2,unlink,rmdir,mkdir"

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.timeout(7200),  # two starts of a program for each call, of which there are some hundred
    pytest.mark.skipif(shutil.which("strace") is None, reason="for want of strace"),
]


@pytest.fixture
def world(tmp_path):
    samples = list(tiny_space.world().items())
    for i in range(3):
        tiny_space.write_tar(tmp_path / "s" / f"test-{i:06d}.tar", dict(samples[8 * i : 8 * i + 8]))
    save(tiny_space.model("pairwise"), tmp_path / "model")
    return tmp_path


def start(args, call, n, log):
    """Run `align` and kill it at the n-th call of that name. Returns its exit code and stderr."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import align.search.building.embed as embed; embed.SAMPLES = 8\n"
        "from align.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    inject = ["-e", f"inject={call}:signal=SIGKILL:when={n}"]
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={call}", *inject, sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    return done.returncode, done.stderr


@pytest.mark.parametrize("call", CALLS.split(","))
@pytest.mark.parametrize("kind", ["build", "anew", "refresh"])
def test_killed_at_every_call(world, kind, call):
    args = ["index", "build", str(world / "model"), f"{world}/s/test-*.tar", "--batch", "4", *trust]
    main([*args, "--out", str(world / "after")])
    after = contents(world / "after")
    base = world / "base"
    if kind != "build":
        hidden = world / "s" / "test-000002.tar"
        hidden.rename(world / "hidden")
        assert main([*args, "--out", str(base)]) == 0
        (world / "hidden").rename(hidden)
    before = contents(base) if base.exists() else None
    kills = 0
    for n in range(1, 400):
        out = world / "i"
        shutil.rmtree(out, ignore_errors=True)
        for left in world.glob(".i.*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        if before is not None:
            shutil.copytree(base, out)
        more = ["--anew"] if kind == "anew" else []
        code, err = start([*args, "--out", str(out), *more], call, n, world / "log")
        killed = "+++ killed by SIGKILL +++" in (world / "log").read_text()
        assert killed or code == 0, err
        found = contents(out) if out.exists() and any(out.iterdir()) else None
        assert found in (before, after), (call, n)
        if not killed:
            break
        kills += 1
        assert main([*args, "--out", str(out), *more]) == 0
        assert contents(out) == after
        assert [path.name for path in world.glob(".i.*")] == []
    print(f"{kind}, {call}: killed {kills} times")


def contents(out):
    """Items and rows without the samples' numbers, which a refresh may give anew."""
    with LocalIndex.open(out) as index:
        assert index.check() == []
    _, items, rows = files_of(out)
    return sorted(items), {
        m: sorted(values[0][i : i + 32] for i in range(0, len(values[0]), 32)) for m, values in rows.items()
    }
