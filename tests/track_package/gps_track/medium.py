"""A GPS track: a JSON object {"t": seconds, "lat": degrees, "lon": degrees} on each line of a ``.track`` file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from align.media.medium import Examined, Face, Medium, Note, Oddity, Severity
from align.media.sketch import cloud_dots
from align.values import BadSample

METRES = 111_195.0  # of a degree of latitude
FASTEST = 100.0  # metres a second


class Track(Medium):
    """Places over time; far jumps and clocks that run backwards are found by a check."""

    name = "track"
    modality = "track"
    suffixes = ("track",)
    folders = ("track", "tracks", "gps")
    columns: ClassVar[Mapping[str, str]] = {"metres": "metres"}
    odd: ClassVar[Mapping[str, Oddity]] = {"step": Oddity("track/odd-step", "{} s a step, most have {}")}
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {
        "track/not-json": ("error", "a line that is no JSON object of t, lat and lon"),
        "track/backwards": ("warning", "its clock runs backwards"),
        "track/jump": ("warning", "a step of more than 100 metres a second"),
        "track/odd-step": ("note", "another time between its points than most"),
    }

    def read(self, source: bytes | Path) -> np.ndarray:
        """Return (T, 3) float64: seconds, metres east and metres north of the first point."""
        data = source.read_bytes() if isinstance(source, Path) else source
        try:
            lines = [json.loads(line) for line in data.splitlines() if line.strip()]
            rows = np.array([[line["t"], line["lat"], line["lon"]] for line in lines], dtype=np.float64)
        except (ValueError, KeyError, TypeError) as error:
            raise BadSample("track/not-json", str(error)) from None
        if len(rows) < 2:
            raise BadSample("track/empty", f"{len(rows)} points")
        if not np.isfinite(rows).all():
            raise BadSample("track/non-finite", "NaN or infinity")
        t, lat, lon = rows.T
        east = (lon - lon[0]) * METRES * np.cos(np.radians(lat[0]))
        return np.stack([t - t[0], east, (lat - lat[0]) * METRES], axis=1)

    def describe(self, data: bytes) -> dict[str, Any]:
        track = self.read(data)
        metres = float(np.linalg.norm(np.diff(track[:, 1:], axis=0), axis=1).sum())
        return {"points": len(track), "seconds": round(float(track[-1, 0]), 3), "metres": round(metres, 1)}

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        track, found = self.read(data), []
        steps, metres = np.diff(track[:, 0]), np.linalg.norm(np.diff(track[:, 1:], axis=0), axis=1)
        if (steps <= 0).any():
            found.append(Note("track/backwards", f"{int((steps <= 0).sum())} of {len(steps)} steps"))
        if (fast := metres > FASTEST * np.maximum(steps, 1e-9)).any():
            found.append(Note("track/jump", f"{metres[fast].max():.0f} metres in one step"))
        return Examined(found, {"step": f"{np.median(steps):g}"}, content=track)

    def fingerprint(self, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """128 signs of turns along the way, and 48 places on it, each as a share of the track's extent."""
        way = content[:, 1:] - content[:, 1:].min(axis=0)
        way = way / max(float(way.max()), 1e-9)
        share = np.linspace(0, len(way) - 1, 130)
        fine = np.stack([np.interp(share, np.arange(len(way)), axis) for axis in way.T], axis=1)  # (130, 2)
        a, b = np.diff(fine, axis=0)[:-1], np.diff(fine, axis=0)[1:]
        bits = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 1e-9  # (128,)
        places = np.round(255 * fine[np.linspace(0, 129, 24).astype(int)].ravel()).astype(np.uint8)  # (48,)
        return np.packbits(bits).view(np.uint16), places

    def face(self, data: bytes, suffix: str) -> Face:
        """The way as one polyline in kilometres, north up."""
        return Face("drawing", [(self.read(data)[:, 1:] / 1000).tolist()])

    def sketch(self, data: bytes, *, colours: bool) -> str:
        way = self.read(data)[:, 1:]
        return cloud_dots(np.stack([way[:, 0], np.zeros(len(way)), way[:, 1]], axis=1))

    def encode(self, content: Any) -> bytes | None:
        """A list of (t, lat, lon) as a file."""
        if not isinstance(content, Sequence) or isinstance(content, str):
            return None
        return "".join(json.dumps(dict(zip(("t", "lat", "lon"), row, strict=True))) + "\n" for row in content).encode()
