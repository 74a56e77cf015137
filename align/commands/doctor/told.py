"""The examination in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from align.commands.doctor.examine import Examination, Extra
from align.commands.doctor.machine import LEAST_SHARED
from align.commands.doctor.packages import Package
from align.commands.sizes import size


def tell(found: Examination) -> Iterator[str]:
    """Yield the lines, problems last, where they are seen."""
    process = found.process
    yield f"align {found.version}, Python {found.python.version}, {process['system']}, {process['libc']}"
    yield from _columns(found.packages)
    yield ""
    for extra in found.extras:
        yield f"extra {extra.name:<10} {_tell_extra(extra)}"
    yield ""
    yield f"GPU      {_tell_gpu(found.gpu)}"
    threads = process["omp_num_threads"]
    yield f"CPU      {process['cores']} cores, {size(process['memory'])} of memory" + (
        f", OMP_NUM_THREADS={threads}" if threads else ""
    )
    if process["shared_memory"] < LEAST_SHARED:
        shared = size(process["shared_memory"])
        yield f"         /dev/shm has {shared}: data workers may need more (docker: --shm-size 2g)"
    if not process["libc"].startswith("glibc"):
        yield "         the C library is not glibc: small models train slower (freed memory is given back at each step)"
    for medium, suffixes in found.media.items():
        yield f"{medium:<8} {' '.join(suffixes)}"
    yield f"index    SQLite {found.sqlite or 'without full text search'}"
    yield f"cache    {_tell_cache(found.cache)}"
    yield f"hub      {_tell_hub(found.hub)}"
    for note in found.notes:
        yield f"note: {note}"
    for problem in found.problems:
        yield f"problem: {problem}"
    yield "" if found.problems else "everything that align needs works"


def _columns(packages: Sequence[Package]) -> Iterator[str]:
    """Yield a line a package: its name, version, supported range and, where it is not fine, its state."""
    name, version = (max(len(getattr(p, key)) for p in packages) for key in ("name", "version"))
    for p in packages:
        state = "" if p.state == "ok" else p.state.upper()
        yield f"  {p.name:<{name}} {p.version or '-':<{version}}  {p.supported:<22} {state}".rstrip()


def _tell_extra(extra: Extra) -> str:
    if extra.absent:
        return f"lacks {', '.join(extra.absent)}: {extra.install}"
    wrong = [p.name for p in extra.packages if p.state != "ok"]
    return f"{', '.join(wrong)} does not work, see below" if wrong else "installed"


def _tell_gpu(gpu: Mapping[str, Any]) -> str:
    if gpu["devices"]:
        return ", ".join(f"{one['name']} ({size(one['memory'])})" for one in gpu["devices"]) + f", {gpu['cuda']}"
    built = f" (torch is built for {gpu['cuda']})" if gpu.get("cuda") else ""
    return f"none: {gpu['reason']}{built}"


def _tell_cache(cache: Mapping[str, Any]) -> str:
    room = f", {size(cache['free'])} free" if "free" in cache else ""
    state = f"cannot be written: {cache['error']}" if cache["error"] else "writable"
    return f"{cache['folder']}: {'' if cache['whole'] else 'more than '}{size(cache['bytes'])}{room}, {state}"


def _tell_hub(hub: Mapping[str, Any]) -> str:
    address = hub.get("address", "")
    if hub["state"] == "reachable":
        return f"{address} answers"
    if hub["state"] == "offline":
        return f"not asked: {hub['reason']}, so models come from the cache alone"
    return f"{address} cannot be reached ({hub['reason']}): models come from the cache and from folders".strip()
