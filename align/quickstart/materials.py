"""Looks of materials: colour from point to point, and answer to light. Linear RGB, float32, (3, n)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RGB = {  # as a screen shows them, 0..1
    "red": (0.86, 0.13, 0.13),
    "orange": (0.96, 0.49, 0.05),
    "yellow": (0.97, 0.82, 0.10),
    "green": (0.15, 0.62, 0.20),
    "cyan": (0.10, 0.76, 0.80),
    "blue": (0.13, 0.28, 0.86),
    "purple": (0.53, 0.18, 0.72),
    "white": (0.93, 0.93, 0.93),
}


class Finish(NamedTuple):
    """Answer of a surface to light."""

    diffuse: float
    gloss: float  # strength of the highlight
    sharp: float  # its Blinn-Phong exponent
    mirror: float  # share of the surroundings reflected face on
    rim: float  # the further share at grazing angles
    clear: float  # share of the backdrop seen through it
    bump: float  # how much the grain tilts the normal


FINISH = {
    "metal": Finish(0.16, 1.3, 60, 0.85, 0.30, 0.0, 0.0),
    "wood": Finish(0.90, 0.08, 10, 0.0, 0.05, 0.0, 0.0),
    "glass": Finish(0.40, 2.6, 160, 0.08, 0.95, 0.60, 0.0),
    "rubber": Finish(0.75, 0.10, 6, 0.0, 0.10, 0.0, 0.25),
    "stone": Finish(0.95, 0.0, 8, 0.0, 0.0, 0.0, 0.45),
    "plastic": Finish(0.95, 0.55, 24, 0.0, 0.12, 0.0, 0.0),
    "ceramic": Finish(0.88, 1.6, 140, 0.06, 0.45, 0.0, 0.0),
}


def linear(rgb: tuple[float, float, float]) -> np.ndarray:
    """Return a screen colour as light, (3, 1)."""
    return np.array(rgb, np.float32)[:, None] ** 2.2


def lattice(p: np.ndarray, cell: float) -> np.ndarray:
    """Return a random number in 0..1 for each point's cell of a cubic lattice, (n,)."""
    i = np.floor(p / cell).astype(np.int32).view(np.uint32)
    h = i[0] * np.uint32(73856093) ^ i[1] * np.uint32(19349663) ^ i[2] * np.uint32(83492791)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return ((h ^ (h >> np.uint32(13))) & np.uint32(0xFFFF)).astype(np.float32) / 65535


def grain(material: str, p: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the pattern of a material at grain coordinates p (3, n) and heights above the ground (n,), in 0..1."""
    x, y, z = p
    if material == "wood":  # year rings about an axis that leans, wavering
        waver = 0.10 * np.sin(2.3 * z + 1.7 * np.sin(1.1 * y)) + 0.05 * np.sin(5 * x + 3 * z)
        rings = np.sqrt((x - 0.35 * z) ** 2 + (y + 0.1 * z) ** 2) + waver
        saw = rings * 5.5
        return (saw - np.floor(saw)) ** 2
    if material == "stone":
        return 0.6 * lattice(p, 0.065) + 0.4 * lattice(p + 7.3, 0.15)
    if material == "rubber":  # ribs around it
        return 0.5 + 0.5 * np.sin(height * 44)
    if material == "ceramic":  # dipped in glaze: bare clay below a wavy line
        line = 0.27 + 0.035 * np.sin(5 * x + 2 * y) + 0.03 * np.sin(4 * y - 3 * x)
        return np.clip((height - line) * 30, 0, 1)
    if material == "metal":
        return lattice(np.stack([x * 0.04, y * 0.04, z]), 0.022)
    return np.ones_like(x)


def albedo(material: str, color: str, pattern: np.ndarray) -> np.ndarray:
    """Return the colour of a surface of this pattern (n,), as (3, n)."""
    base = linear(RGB[color])
    if material == "wood":
        light = 0.62 * base + 0.38 * linear((0.80, 0.60, 0.38))
        dark = 0.55 * base + 0.45 * linear((0.36, 0.20, 0.08))
        return light + (0.42 * dark - light) * pattern
    if material == "stone":
        dull = 0.80 * base + 0.20 * linear((0.62, 0.60, 0.57)) * (0.4 + base.mean())
        return dull * (0.25 + 1.15 * pattern)
    if material == "rubber":
        return (0.50 * base + 0.012) * (0.45 + 0.55 * pattern)
    if material == "ceramic":
        clay = linear((0.70, 0.42, 0.28))
        return clay + (0.92 * base + 0.04 - clay) * pattern
    if material == "metal":
        return (0.90 * base + 0.05) * (0.84 + 0.16 * pattern)
    if material == "glass":
        return 0.85 * base + 0.15 + 0 * pattern
    return base * (0.98 + 0.02 * pattern)


def surroundings(up: np.ndarray, glow: np.ndarray) -> np.ndarray:
    """Return a studio's brightness towards a height up (n,): floor, horizon, ceiling, a lamp at cosine glow (n,)."""
    sky = 1.15 - 0.85 * np.clip(up, 0, 1)
    floor = 0.04 + 0.34 * np.clip(-up, 0, 1)
    edge = np.clip(up * 7 + 0.5, 0, 1)
    return floor + (sky - floor) * edge + 1.9 * np.clip((glow - 0.80) * 8, 0, 1)


def shade(
    material: str,
    tint: np.ndarray,
    n: np.ndarray,
    view: np.ndarray,
    light: np.ndarray,
    shadow: np.ndarray,
    backdrop: np.ndarray,
    height: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    """Return the light that leaves a surface, (3, n).

    tint: (3, n) albedo. n: (3, n) normals. view: (3, n) towards the eye. light: (3, 1) towards the lamp.
    shadow: (n,), 1 where the surface is open to the sky.
    backdrop: (3, n), the light seen through clear matter. depth: (n,) in 0..1, the thickness of that matter.
    height: (n,) above the ground. By it a flat face, too, mirrors more or less of the ceiling.
    """
    f = FINISH[material]
    facing = np.clip((n * view).sum(0), 0, 1)
    lit = np.clip((n * light).sum(0), 0, 1)
    sky = 0.62 + 0.38 * n[2]
    color = tint * (f.diffuse * (0.95 * lit * shadow + 0.50 * sky * shadow))
    if f.mirror or f.rim:
        r = 2 * facing * n - view
        fresnel = (1 - facing) ** 4 if material == "glass" else (1 - facing) ** 5
        studio = surroundings(r[2] + 0.55 * (height - 0.5), (r * light).sum(0)) * (0.35 + 0.65 * shadow)
        if material == "metal":
            color = color + (f.mirror * tint + f.rim * fresnel) * studio
        else:
            color = color + (f.mirror + f.rim * fresnel) * studio
    if f.clear:  # thick matter takes up more of the colour, thin edges catch light
        color = color + f.clear * backdrop * tint ** (0.5 + 1.6 * depth) + 0.30 * tint * (1 - depth) ** 3
    if f.gloss:
        half = view + light
        half = half / np.sqrt((half * half).sum(0))
        color = color + f.gloss * shadow * np.clip((n * half).sum(0), 0, 1) ** f.sharp
    return color
