"""Counts of the server in Prometheus' text form (version 0.0.4)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, final

from align.serve.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@final
class Metrics:
    """Counts of requests by route and status, and of their times."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._answered: Counter[str] = Counter()

    def count(self, scope: Any, status: int, seconds: float) -> None:
        """Count a request. Its route is the pattern of its path, so that visitors make no names."""
        route = getattr(scope.get("route"), "path", "") or "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._requests[method, route, status] += 1
        self._answered[route] += 1
        self._seconds[route] += seconds  # pyright: ignore[reportArgumentType]
        for bound in SECONDS:
            if seconds <= bound:
                self._buckets[route, bound] += 1

    def write(self, service: Service) -> str:
        """Return all counts."""
        loaded = service.loaded
        lines = [
            *_head("align_requests_total", "counter", "Requests by method, route and status."),
            *(
                f'align_requests_total{{method="{method}",route="{route}",status="{status}"}} {n}'
                for (method, route, status), n in sorted(self._requests.items())
            ),
            *_head("align_request_seconds", "histogram", "Time from a request's head to its response's end."),
        ]
        for route, n in sorted(self._answered.items()):
            for bound in SECONDS:
                lines.append(
                    f'align_request_seconds_bucket{{route="{route}",le="{bound}"}} {self._buckets[route, bound]}'
                )
            lines.append(f'align_request_seconds_bucket{{route="{route}",le="+Inf"}} {n}')
            lines.append(f'align_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'align_request_seconds_count{{route="{route}"}} {n}')
        gauges = {
            "align_open_requests": ("gauge", "Requests that are being answered.", service.open),
            "align_rows_waiting": ("gauge", "Rows that wait to be embedded.", loaded.batcher.waiting),
            "align_files_waiting": ("gauge", "Files that wait to be decoded.", loaded.decoders.waiting),
            "align_batches_total": ("counter", "Batches that were embedded.", loaded.batcher.batches),
            "align_rows_total": ("counter", "Rows that were embedded.", loaded.batcher.rows),
            "align_decoder_restarts_total": ("counter", "Decoders that crashed or hung.", loaded.decoders.restarts),
            "align_reloads_total": ("counter", "Models and indexes that took another's place.", service.reloads),
            "align_reload_failed": ("gauge", "1 where the last reload failed.", int(bool(service.trouble))),
            "align_draining": ("gauge", "1 while the server is stopping.", int(service.draining)),
            "process_resident_memory_bytes": ("gauge", "Resident memory.", resident()),
        }
        for name, (kind, about, value) in gauges.items():
            lines += [*_head(name, kind, about), f"{name} {value}"]
        return "\n".join(lines) + "\n"


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # macOS: the most that it was
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
