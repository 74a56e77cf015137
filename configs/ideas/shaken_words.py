"""Series of accelerations with words: the objects that ``notebooks/shaken.py`` shakes, without their pictures.

python configs/ideas/shaken_words.py shards/shaken_words   # seconds; series_terms.py does it by itself
"""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
from sets import ask_folder

from align.data import ShardWriter
from align.quickstart.world import ATTRIBUTES, captions, draw


def write(folder: str | Path, train: int = 1000, test: int = 500) -> None:
    """Write shards of ``series.npy`` (3, 256) and ``text.txt``."""
    path = Path(__file__).parents[2] / "notebooks" / "shaken.py"
    spec = importlib.util.spec_from_file_location("shaken", path)
    assert spec
    assert spec.loader
    shaken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shaken)
    for split, n in (("train", train), ("test", test)):
        with ShardWriter(folder, split, classes=ATTRIBUTES, licence="CC0-1.0") as shards:
            for i, solid in enumerate(draw(split, n, seed=1)):
                np.save(content := io.BytesIO(), shaken.shake(solid))
                words = "\n".join(captions(solid, train=split == "train")).encode()
                about = json.dumps({"label": solid.label, "group": solid.group}).encode()
                shards.write(f"{split}-{i:06d}", {"series.npy": content.getvalue(), "text.txt": words, "json": about})


if __name__ == "__main__":
    write(ask_folder(__doc__))
