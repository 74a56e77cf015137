"""The parts of a set on a Ray cluster, whose machines share the folders of the model, the shards and the cache.

Ray hands out numbers of parts and nothing else. Each worker reads and writes files as a process of its own would, under
the same claims. A part whose worker or machine dies is handed out again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.embedding.features.run import POLL, Run, Written
from align.embedding.features.write import open_run

RETRIES = 10
"""Deaths of workers that one part outlives."""
MEMORY = 100 << 20
"""Bytes of the object store of a cluster of our own: no tensors go through it."""


def write_on_ray(
    model: Path,
    shards: Sequence[str],
    out: Path,
    settings: Mapping[str, Any],
    *,
    allow: Sequence[str] = (),
    address: str | None = None,
    dashboard: bool = False,
    tasks: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write a set as ``write_cache`` does, with the parts on a Ray cluster. The parts have the same bytes.

    Args:
        model: a model folder, which all machines see under the same path, as the shards and ``out``.
        settings: the other arguments of ``write_cache``.
        address: of the cluster, as ``ray.init`` takes it. None: one on this machine, which listens on loopback alone.
        dashboard: start Ray's dashboard with it.
        tasks: parts that are handed out at a time. None: as many as the cluster takes at first, and a few more.

    Raises as ``write_cache``, and ConnectionError where workers keep dying.
    """
    import torch

    job = {
        "model": str(model.resolve()),
        "allow": list(allow),
        "shards": [shard if "://" in shard else os.path.abspath(shard) for shard in shards],
        "out": str(out.resolve()),
        "settings": dict(settings),
        "threads": torch.get_num_threads(),
    }
    run = _open(job, progress)
    if run.finished:
        return run.finish()
    run.agree()
    job["about"] = run.plan.about
    made = 0
    with _connected(address, dashboard) as ray:
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
    import torch

    from align.checkpoint import load

    model = load(job["model"], allow=job["allow"])
    if torch.cuda.is_available():
        model = model.to("cuda")
    return open_run(model, job["shards"], job["out"], progress=progress, **job["settings"])


_runs: dict[str, Run] = {}
"""Job -> this worker's share of it: the model is loaded one time."""


def _work(job: Mapping[str, Any], i: int) -> tuple[bool, bool]:
    """Write a part in a worker. Return whether this worker wrote it, and whether it is there."""
    import torch

    key = repr(job)
    if key not in _runs:
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
            f"the workers of the Ray cluster keep dying ({type(error).__name__}); parts that are done are kept, and the "
            "same command goes on"
        ) from None


@contextmanager
def _connected(address: str | None, dashboard: bool) -> Iterator[Any]:
    """Yield Ray, connected to a cluster. A connection that was there before stays."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    if ray.is_initialized():
        yield ray
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    given: dict[str, Any] = {"address": address}
    if address is None:
        given = {"_node_ip_address": "127.0.0.1", "include_dashboard": dashboard, "object_store_memory": MEMORY}
    try:
        ray.init(logging_level="error", log_to_driver=False, **given)
        for number, handler in before.items():
            signal.signal(number, handler)  # Ray has taken SIGTERM
        yield ray
    except ConnectionError as error:
        raise ConnectionError(f"no Ray cluster at {address}: {error}") if address else error from None
    finally:
        ray.shutdown()
