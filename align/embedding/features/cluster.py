"""The parts of a set on a Ray cluster, whose machines share the folders of the model, the shards and the cache.

Ray hands out the numbers of parts and nothing else. Each worker reads and writes files, under the same claims as any
other process. A part is handed out again if its worker or machine dies.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.embedding.features.run import POLL, Run, Written
from align.embedding.features.write import open_run

RETRIES = 10
"""Number of times that a part is handed out again after the death of its worker."""
MEMORY = 100 << 20
"""Bytes of the object store of a cluster of our own: no tensors go through it."""
LOOPBACK = "127.0.0.1"


def write_on_ray(
    model: Path,
    shards: Sequence[str],
    out: Path,
    settings: Mapping[str, Any],
    *,
    allow: Sequence[str] = (),
    device: str | None = None,
    precision: str | None = None,
    address: str | None = None,
    dashboard: bool = False,
    tasks: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write a set as ``write_cache`` does, with the parts on a Ray cluster. The parts have the same bytes.

    Args:
        model: a model folder, which all machines see under the same path, as the shards and ``out``.
        settings: the other arguments of ``write_cache``.
        device, precision: of the model, as ``align.load`` takes its device and dtype. None: a GPU where there is one.
        address: of the cluster, as ``ray.init`` takes it. None: one on this machine, which listens on loopback alone.
        dashboard: start Ray's dashboard with it.
        tasks: parts that are handed out at a time. None: as many as the cluster takes at first, and a few more.

    Raises as ``write_cache``, and ConnectionError where workers keep dying.
    """
    import torch

    job = {
        "model": str(model.resolve()),
        "allow": list(allow),
        "device": device,
        "precision": precision,
        "shards": [shard if "://" in shard else os.path.abspath(shard) for shard in shards],
        "out": str(out.resolve()),
        "settings": dict(settings),
        "threads": torch.get_num_threads(),
        "path": [os.path.abspath(path) for path in sys.path],
    }
    run = _open(job, progress)
    if run.finished:
        return run.finish()
    run.agree()
    job["about"] = run.plan.about
    made = 0
    with _connect(address, dashboard) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = min(job["threads"], int(max(node.get("CPU", 1) for node in nodes)) or 1)
        gpus = 1 if any(node.get("GPU") for node in nodes) else 0
        task = ray.remote(_work).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        slots = tasks or max(1, int(2 * sum(node.get("CPU", 0) for node in nodes) / cpus))
        waiting, going = list(run.left), {}
        while waiting or going:
            while waiting and len(going) < slots:
                i = waiting.pop(0)
                going[task.remote(job, i)] = i
            ended, _ = ray.wait(list(going), num_returns=1)
            i = going.pop(ended[0])
            wrote, done = _result(ray, ended[0])
            if done:
                run.write_one(i)  # finds it there, and counts it
                made += wrote
            else:  # another process is writing it, or a dead one's claim has not ended yet
                waiting.append(i)
                time.sleep(POLL)
    return run.finish(made)


def _open(job: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Run:
    from align.checkpoint import load
    from align.model.place import find_device

    model = load(job["model"], allow=job["allow"], device=find_device(job["device"]), dtype=job["precision"])
    return open_run(model, job["shards"], job["out"], progress=progress, **job["settings"])


_runs: dict[str, Run] = {}
"""Job -> this worker's share of it: the model is loaded one time."""


def _work(job: Mapping[str, Any], i: int) -> tuple[bool, bool]:
    """Write a part in a worker, and return two bools: this worker wrote it, and it is there."""
    import torch

    key = repr(job)
    if key not in _runs:
        sys.path += [path for path in job["path"] if path not in sys.path]  # for the packages of --allow
        torch.set_num_threads(job["threads"])  # Ray takes another number, which can move the last bits
        run = _open(job)
        if run.plan.about != job["about"]:
            raise ValueError(f"{job['model']} or the shards differ on a machine of the cluster ({os.uname().nodename})")
        _runs.clear()
        _runs[key] = run
    wrote = _runs[key].write_one(i)
    return wrote, i not in _runs[key].left


def _result(ray: Any, reference: Any) -> tuple[bool, bool]:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # an error of ours, inside Ray's
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ConnectionError(
            f"the workers of the Ray cluster keep dying ({type(error).__name__}); parts that are done are kept, and "
            "the same command goes on"
        ) from None


def set_variables(local: bool) -> None:
    """Set the variables that Ray reads at its import, so that it reports no usage.

    local: Ray starts a cluster, which listens on the loopback address alone. By default Ray replaces 127.0.0.1 by the
    machine's address. A variable prevents this.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if local:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


@contextmanager
def _connect(address: str | None, dashboard: bool) -> Iterator[Any]:
    """Yield Ray, connected to a cluster. A connection that was there before stays.

    Raises ConnectionError where there is no cluster at the address, and where a new one would listen to others.
    """
    set_variables(address is None)
    import ray

    if ray.is_initialized():
        yield ray
        return
    given: dict[str, Any] = {"address": address}
    if address is None:
        given = {"address": "local", "include_dashboard": dashboard, "object_store_memory": MEMORY}
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **given)
        except Exception as error:  # Ray raises the class itself where a node starts too slowly
            raise ConnectionError(f"no Ray cluster at {address or 'this machine'}: {error}") from None
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)  # Ray has taken SIGTERM
        if address is None and ray.util.get_node_ip_address() != LOOPBACK:
            raise ConnectionError("Ray was imported before and listens beyond this machine; start a new process")
        yield ray
    finally:
        ray.shutdown()
