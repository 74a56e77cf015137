"""ESC-10: ten environmental sounds with captions.

    python datasets/esc10.py shards/esc10

One sample a clip: ``audio.ogg`` (the file as published), ``text.txt`` with two captions ("dog bark" and "the sound of a
dog barking", one row each) and ``json`` with ``label: {sound: dog bark}`` and ``group``: the class. Fold 4 is the test
split, all others (1, 2, 3 and, where it is there, 5) are the training split: clips cut from one recording are in one
fold, so that no recording is on both sides.

  what      400 clips, 10 classes x 5 folds x 8, ogg, 44.1 kHz mono, about 5 s, 41 MB
  licence   CC BY 3.0 as a whole; each clip under the licence of its Freesound original (the README lists them)
  cite      K. J. Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia 2015.
            https://doi.org/10.1145/2733373.2806390
  from      https://github.com/karolpiczak/ESC-10, commit 553c8f1, the last one with the clips: the repository has since
            been emptied in favour of ESC-50, which holds the same clips with other names and as wav
  layout    the README of that commit: {number} - {class}/{fold}-{Freesound clip}-{take}.ogg
  checksum  none is published, and GitHub packs the archive on request. What is checked is a sha256 over the names and
            contents of the 400 clips, computed from a clone whose git tree ids are that commit's
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

from align.data import ShardWriter
from align.files import download

CAPTIONS = {  # class, as its folder is called after the number -> what makes the sound
    "dog bark": "a dog barking",
    "rain": "rain",
    "sea waves": "sea waves",
    "baby cry": "a crying baby",
    "clock tick": "a ticking clock",
    "person sneeze": "a person sneezing",
    "helicopter": "a helicopter",
    "chainsaw": "a chainsaw",
    "rooster": "a rooster",
    "fire crackling": "a crackling fire",
}
TEST_FOLD = "4"

URL = "https://github.com/karolpiczak/ESC-10/archive/553c8f1743b9dba6b282e1323c3ca8fa76923448.zip"
DIGEST = "f7ed9b7ee1bc8629352bb5d0a785ad4c364994f26d699e184bcf5be2c46cf819"


def fetch(folder: Path) -> None:
    """Download the clips into ``folder`` unless it has some. OSError (one line) where that fails."""
    if not any(folder.glob("* - */*.ogg")):
        unpack(download(URL, folder / "ESC-10.zip"), folder, DIGEST)


def digest(files: dict[str, bytes]) -> str:
    """sha256 over names and contents, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.hexdigest()


def unpack(archive: Path, folder: Path, expected: str) -> None:
    """Write the clips of the zip to ``folder``, a class folder at a time; ValueError if their digest differs."""
    with zipfile.ZipFile(archive) as pack:
        files = {"/".join(n.split("/")[-2:]): pack.read(n) for n in pack.namelist() if n.endswith(".ogg")}
    if digest(files) != expected:
        raise ValueError(f"{archive}: its {len(files)} clips have digest {digest(files)}, not {expected}; remove it")
    partial = folder / ".part"
    shutil.rmtree(partial, ignore_errors=True)
    for name, content in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    for ready in sorted(partial.iterdir()):
        ready.rename(folder / ready.name)
    partial.rmdir()
    archive.unlink()


def clips(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    """Split -> (class, file), in the order of the names. ValueError for a class that has no caption."""
    found: dict[str, list[tuple[str, Path]]] = {"train": [], "test": []}
    for path in sorted(folder.glob("* - */*.ogg")):
        name = path.parent.name.split(" - ", 1)[1].lower()
        if name not in CAPTIONS:
            raise ValueError(f"{path.parent}: not a class of ESC-10 ({', '.join(CAPTIONS)})")
        found["test" if path.name.split("-")[0] == TEST_FOLD else "train"].append((name, path))
    for split, files in found.items():
        if not files:
            raise ValueError(f"{folder}: no clip for the {split} split (fold {TEST_FOLD} is the test split)")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="ESC-10 -> shards (see the top of this file).")
    parser.add_argument("out", type=Path, help="folder to write train-*.tar, test-*.tar and manifest.json to")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path(os.environ.get("ALIGN_DATA", "data")),
        help="folder with esc10/; what is missing is downloaded into it (default: $ALIGN_DATA, else data)",
    )
    parser.add_argument("--seed", type=int, default=0, help="nothing is drawn here; every recipe takes it")
    args = parser.parse_args(arguments)
    classes = list(CAPTIONS)
    try:
        fetch(args.source / "esc10")
        for split, files in clips(args.source / "esc10").items():
            with ShardWriter(args.out, split, classes={"sound": classes}, licence="CC BY 3.0") as writer:
                for name, path in files:
                    writer.write(
                        path.stem,
                        {
                            "audio.ogg": path.read_bytes(),
                            "text.txt": f"{name}\nthe sound of {CAPTIONS[name]}".encode(),
                            "json": json.dumps({"label": {"sound": name}, "group": classes.index(name)}).encode(),
                        },
                    )
            print(f"{args.out}: {len(files)} {split} samples")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        print(f"esc10.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
