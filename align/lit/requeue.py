"""Requeue of a SLURM job whose time is nearly over: at SLURM's signal the run saves and leaves, and the job waits.

The job asks for the signal: ``#SBATCH --signal=USR1@120 --requeue`` (see configs/cluster/slurm.sh). Lightning has a
handler for it too, which would write a checkpoint of its own with pickle, so the run's takes its place.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

INTERACTIVE = ("bash", "interactive")
"""Names of jobs that people type in, which nobody requeues. They are Lightning's."""


def list_signals(environment: Mapping[str, str]) -> list[int]:
    """Return the signal of a SLURM batch job that is nearly over, or [] outside of one.

    >>> list_signals({}), list_signals({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash"})
    ([], [])
    """
    if "SLURM_JOB_ID" not in environment or environment.get("SLURM_JOB_NAME") in INTERACTIVE:
        return []
    return [int(signal.SIGUSR1)]


def find_job(environment: Mapping[str, str]) -> str:
    """Return the name of this job for ``scontrol``.

    >>> find_job({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3"})
    '11_3'
    """
    array = environment.get("SLURM_ARRAY_JOB_ID")
    return environment["SLURM_JOB_ID"] if array is None else f"{array}_{environment['SLURM_ARRAY_TASK_ID']}"


def requeue(number: int, step: int, environment: Mapping[str, str] = os.environ) -> None:
    """Put a job that SLURM's signal has stopped back into the queue. Rank 0 calls it, when the checkpoint is written.

    number: of the signal that stopped it, or 0. Where SLURM refuses, a line says so, and the same command continues.
    """
    if number in list_signals(environment):
        job = find_job(environment)
        failed = run_line(["scontrol", "requeue", job])
        says = f"job {job} is not requeued: {failed}" if failed else f"job {job} is requeued at step {step}"
        print(says, file=sys.stderr, flush=True)


def run_line(command: Sequence[str]) -> str:
    """Run a command, and return the reason for which it failed, or ""."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"exit code {done.returncode}"
