"""Faces as still pictures, for a page whose script is off or has not run yet."""

from __future__ import annotations

import io

import numpy as np

from align.media.medium import Face
from align.page.faces import face_json
from align.page.templates import environment

EYE = 3.4  # distance of the eye in radii, as in kit/cloud.js
YAW, PITCH = 0.6, 0.42  # where the turning clouds begin


def draw_cloud(face: Face, *, side: int = 320, up: str = "z") -> bytes:
    """Return a cloud as a PNG of ``side`` pixels with a transparent ground: balls, lit by their normals.

    up: the axis that stands upright, "y" or "z".
    """
    from PIL import Image

    raw = np.frombuffer(face.data, np.uint8).reshape(3, -1, 3)
    place, normal = raw[:2].view(np.int8).astype(np.float32) / 127  # (P, 3) each
    if up == "y":
        place, normal = (np.stack([a[:, 0], -a[:, 2], a[:, 1]], axis=1) for a in (place, normal))
    place, normal = _turn(place), _turn(normal)
    normal = np.where(normal[:, 1:2] > 0, -normal, normal)  # both sides of a surface are lit
    light = 0.55 + 0.54 * np.maximum(0, normal @ np.array([-0.42, -0.6, 0.68], np.float32))
    colour = np.minimum(255, raw[2] * light[:, None])
    alpha = 255 * (1 - 0.42 * np.clip((place[:, 1] + 1) / 2, 0, 1))
    scale = EYE / (EYE + place[:, 1])
    zoom = 0.43 * side
    x, y = side / 2 + zoom * place[:, 0] * scale, side / 2 - zoom * place[:, 2] * scale
    radius = np.maximum(1, zoom * min(0.09, 1.25 / len(place) ** 0.5) * scale)
    out = np.zeros((side, side, 4), np.uint8)
    for i in np.argsort(-place[:, 1], kind="stable"):  # the farthest first
        r = float(radius[i])
        top, left = max(0, int(y[i] - r)), max(0, int(x[i] - r))
        box = out[top : int(y[i] + r) + 2, left : int(x[i] + r) + 2]
        v, u = np.mgrid[top : top + box.shape[0], left : left + box.shape[1]]
        far = ((u - x[i]) ** 2 + (v - y[i]) ** 2) / r**2
        inside = far <= 1
        box[inside, :3] = (colour[i] * (1 - 0.22 * far[inside])[:, None]).astype(np.uint8)
        box[inside, 3] = alpha[i]
    file = io.BytesIO()
    Image.fromarray(out).save(file, "PNG")
    return file.getvalue()


def _turn(points: np.ndarray) -> np.ndarray:
    """Return (P, 3) points seen from the eye: to the right, away from it, upwards."""
    x, y, z = points.T
    rx, ry = x * np.cos(YAW) - y * np.sin(YAW), x * np.sin(YAW) + y * np.cos(YAW)
    return np.stack([rx, ry * np.cos(PITCH) - z * np.sin(PITCH), z * np.cos(PITCH) + ry * np.sin(PITCH)], axis=1)


def draw_wave(face: Face) -> bytes:
    """Return the waveform of a sound as SVG."""
    heights = [max(2.0, peak / 255 * 42) for peak in face.more["peaks"]]
    return environment().get_template("search/wave.svg").render(heights=heights).encode()


def draw_lines(face: Face) -> bytes:
    """Return a drawing as SVG, in the grey that is read on light and dark ground."""
    lines = face_json(face)["d"]
    xs, ys = [x for line in lines for x, _ in line], [-y for line in lines for _, y in line]
    side = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    pad = side / 20
    left, top = (max(xs) + min(xs) - side) / 2 - pad, (max(ys) + min(ys) - side) / 2 - pad
    points = [" ".join(f"{x:.6g},{-y:.6g}" for x, y in line) for line in lines]
    box = f"{left:.6g} {top:.6g} {side + 2 * pad:.6g} {side + 2 * pad:.6g}"
    return environment().get_template("search/drawing.svg").render(box=box, lines=points).encode()
