"""Counts of the server in Prometheus' text form (version 0.0.4)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from align.serve.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)
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
        """Count a request by ``name_route``."""
        method, route = name_route(scope)
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
            "align_batches_total": ("counter", "Forward passes that embedded them.", loaded.batcher.batches),
            "align_rows_total": ("counter", "Rows of requests that were embedded.", loaded.batcher.rows),
            "align_decoder_restarts_total": ("counter", "Decoders that crashed or hung.", loaded.decoders.restarts),
            "align_reloads_total": ("counter", "Models and indexes that took another's place.", service.reloads),
            "align_reload_failed": ("gauge", "1 where the last reload failed.", int(bool(service.trouble))),
            "align_draining": ("gauge", "1 while the server is stopping.", int(service.draining)),
            "process_resident_memory_bytes": ("gauge", "Resident memory.", resident()),
        }
        for name, (kind, about, value) in gauges.items():
            lines += [*_head(name, kind, about), f"{name} {value}"]
        lines += write_passes(loaded.batcher.passes)
        return "\n".join(lines) + "\n"


def name_route(scope: Any) -> tuple[str, str]:
    """Return a request's method and the pattern of its path, or "other", so that visitors make no names."""
    route = getattr(scope.get("route"), "path", "") or "other"
    return scope["method"] if scope["method"] in METHODS else "other", route


def write_passes(passes: Mapping[str, Mapping[int, int]]) -> list[str]:
    """Return a histogram of the rows of a forward pass. passes: modality -> rows -> number of passes."""
    name = "align_rows_per_pass"
    lines = _head(name, "histogram", "Rows that a forward pass embedded, of all requests in it.")
    for modality, counts in sorted(passes.items()):
        label, total = f'modality="{_escape(modality)}"', sum(counts.values())
        for bound in ROWS:
            below = sum(n for rows, n in counts.items() if rows <= bound)
            lines.append(f'{name}_bucket{{{label},le="{bound}"}} {below}')
        lines.append(f'{name}_bucket{{{label},le="+Inf"}} {total}')
        lines.append(f"{name}_sum{{{label}}} {sum(rows * n for rows, n in counts.items())}")
        lines.append(f"{name}_count{{{label}}} {total}")
    return lines


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # macOS: the most that it was
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
