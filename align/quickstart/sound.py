"""Sounds of solids that are struck: modal synthesis, where shape and size give the partials, the material their decay.

Each mode rings as a decaying sine (van den Doel and Pai 1998, "The sounds of physical shapes", equation 1).
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from align.quickstart.world import SCALE, Solid

RATE = 16_000
SECONDS = 0.75
MODES: dict[str, tuple[float, tuple[float, ...]]] = {  # fundamental of the unit solid in Hz, and ratios to it
    "cube": (430, (1, 1.41, 1.73, 2.24, 2.83, 3.32, 3.74, 4.58)),  # a box: roots of sums of squares
    "sphere": (620, (1, 1.50, 1.93, 2.34, 2.73, 3.11, 3.48, 3.84)),  # spheroidal modes
    "cone": (500, (1, 1.84, 2.63, 3.47, 4.24, 5.08, 5.9, 6.7)),
    "torus": (290, (1, 1.01, 2.83, 2.85, 5.42, 5.46, 8.77, 8.82)),  # a ring, each mode twice
    "capsule": (330, (1, 2.54, 4.62, 6.95, 9.5, 12.1, 14.8, 17.6)),  # a slender free bar
    "tube": (240, (1, 2.0, 3.0, 4.17, 5.43, 6.79, 8.21, 10.0)),  # a tubular bell
    "star": (410, (1, 1.59, 2.14, 2.30, 2.65, 2.92, 3.16, 3.50)),  # a plate: a drum's Bessel zeros
    "octahedron": (690, (1, 1.33, 1.78, 2.05, 2.61, 2.94, 3.4, 3.91)),
    "spring": (120, (1, 2.01, 3.03, 4.06, 5.1, 6.15, 7.22, 8.3, 9.5, 10.8, 12.2, 13.7, 15.3)),  # nearly a string
    "cross": (250, (1, 1.06, 1.12, 3.4, 3.6, 3.8, 7.0, 7.3)),  # three pairs of prongs
}


class Damping(NamedTuple):
    """Sound of a material: its pitch, its decay and its strike."""

    pitch: float  # speed of sound in it, over metal's
    ring: float  # seconds until a mode at 500 Hz has fallen by 60 dB
    slope: float  # how much faster high modes fall: decay rate goes as (f / 500)^slope
    bright: float  # Hz at which the strike has lost a factor e
    click: float  # noise of the contact, relative to the modes
    contact: float  # seconds it lasts


DAMPING = {
    "metal": Damping(1.0, 1.60, 0.30, 4200, 0.03, 0.002),
    "wood": Damping(0.80, 0.16, 0.60, 1700, 0.25, 0.004),
    "glass": Damping(1.45, 0.70, 0.15, 6500, 0.08, 0.001),
    "rubber": Damping(0.42, 0.07, 0.45, 420, 0.02, 0.008),
    "stone": Damping(1.15, 0.07, 0.20, 3600, 0.90, 0.006),
    "plastic": Damping(0.55, 0.24, 0.85, 1100, 0.10, 0.003),
    "ceramic": Damping(1.25, 0.34, 0.40, 3000, 0.15, 0.002),
}


def strike(solid: Solid) -> np.ndarray:
    """Return the sound of a solid, (12000,) float32 at 16 kHz, 0.75 s, within +-0.9."""
    rng = solid.generator(3)
    base, ratios = MODES[solid.shape]
    m = DAMPING[solid.material]
    scale = SCALE[solid.size] ** 1.2 * solid.body().scale / SCALE[solid.size]
    f = base * m.pitch / scale * np.array(ratios) * rng.uniform(0.99, 1.01, len(ratios))
    strength = rng.uniform(0.5, 1.0, len(ratios)) / np.sqrt(np.arange(1, len(ratios) + 1)) * np.exp(-f / m.bright)
    ring = m.ring * rng.uniform(0.85, 1.15) * (500 / f) ** m.slope
    f, strength, ring = (a[f < 0.46 * RATE] for a in (f, strength, ring))
    t = np.arange(int(RATE * SECONDS), dtype=np.float32) / np.float32(RATE)
    wave = np.zeros_like(t)
    for hertz, loud, fall in zip(f.tolist(), strength.tolist(), ring.tolist(), strict=True):
        k = min(len(t), int(fall * 1.3 * RATE) + 1)  # after that it is 78 dB down
        wave[:k] += loud * np.sin(2 * np.pi * hertz * t[:k]) * np.exp((-6.91 / fall) * t[:k])
    k = int(6 * m.contact * RATE)
    noise = rng.standard_normal(k).astype(np.float32) * np.exp(t[:k] / -m.contact)
    width = max(1, round(RATE / m.bright / 2))
    noise = np.convolve(noise, np.full(width, 1 / width, np.float32), "same")
    wave[:k] += noise * (m.click * float(np.abs(wave).max()) / max(float(np.abs(noise).max()), 1e-9))
    wave[:16] *= t[:16] * (RATE / 16)
    wave[-400:] *= np.linspace(1, 0, 400, dtype=np.float32)
    return wave * np.float32(rng.uniform(0.5, 0.9) / np.abs(wave).max())


def sound(solid: Solid) -> bytes:
    """Return the sound of a solid as a FLAC file, mono, 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, strike(solid), RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
