"""A small folder of files, as a user has it: pictures, a sound, captions, facts, and files that no medium reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}


def make_folder(folder: Path, pictures: int = 12) -> Path:
    """Write ``PLACE/NNN.jpg`` with a caption and facts beside most, one sound, and two other files."""
    rng = np.random.default_rng(0)
    for i in range(pictures):
        place, (name, colour) = ("harbour", "hill")[i % 2], list(COLOURS.items())[i % 3]
        (folder / place).mkdir(parents=True, exist_ok=True)
        noise = rng.integers(-20, 20, (64, 64, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / place / f"{i:03d}.jpg")
        (folder / place / f"{i:03d}.json").write_text(json.dumps({"year": 2015 + i, "place": place}))
        if i % 4:
            (folder / place / f"{i:03d}.txt").write_text(f"a {name} wall at the {place}")
    wave = 0.3 * np.sin(2 * np.pi * 330 * np.arange(16000) / 16000)
    soundfile.write(folder / "harbour" / "000.wav", wave, 16000)
    (folder / "notes.md").write_text("no medium of ours")
    (folder / ".hidden").write_text("x")
    return folder
