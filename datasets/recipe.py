"""What the recipes share: the command line, the tables they read, and the members of a sample.

Not a recipe: ``python datasets/NAME.py`` puts this folder first on the path, so its neighbours import it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.data import ShardWriter
from align.data.captions import is_blank
from align.files import read_json
from align.values import BadSample

Members = dict[str, bytes]
Samples = Iterable[tuple[str, Members]]

AUDIO = ("flac", "wav", "ogg", "mp3")
IMAGES = ("jpg", "jpeg", "png", "webp")


def parser(card: str | None, holds: str, splits: Sequence[str] = ()) -> argparse.ArgumentParser:
    """OUT, --source and --seed, as every recipe takes them.

    Args:
        card: the recipe's docstring, which ``--help`` shows as it stands.
        holds: what lies in the source folder.
        splits: where their files come apart, the choices of ``--only``, so that nobody fetches what is not wanted.
    """
    made = argparse.ArgumentParser(description=card, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path, help="folder to write SPLIT-000000.tar, … and manifest.json to")
    made.add_argument(
        "--source",
        type=Path,
        default=Path(os.environ.get("ALIGN_DATA", "data")),
        help=f"folder with {holds} (default: $ALIGN_DATA, else data)",
    )
    made.add_argument("--seed", type=int, default=0, help="of whatever is drawn (default: 0); every recipe takes it")
    if splits:
        made.add_argument("--only", nargs="+", choices=splits, metavar="SPLIT", help=f"splits, of {', '.join(splits)}")
    return made


def run(script: str, work: Callable[[], None]) -> int:
    """``work()``: 0, or 1 with one line on stderr for files that are missing or not as described; 130 after Ctrl-C."""
    try:
        work()
    except (OSError, ValueError, KeyError, ImportError, csv.Error, BadSample) as error:
        print(f"{script}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{script}: stopped; the split that was being written is not there", file=sys.stderr)
        return 130
    return 0


def write(
    out: Path, split: str, samples: Samples, *, licence: str, classes: Mapping[str, Sequence[str]] | None = None
) -> int:
    """The shards of a split, and a line that counts them. Raises ValueError where there is no sample."""
    said = time.monotonic()
    with ShardWriter(out, split, classes=classes, licence=licence) as writer:
        for key, members in samples:
            writer.write(key, members)
            if time.monotonic() - said > 15:
                print(f"{out}: {writer.samples} {split} samples so far", file=sys.stderr, flush=True)
                said = time.monotonic()
        if writer.samples == 0:
            raise ValueError(f"no sample for the {split} split; --help says what must be there")
    print(f"{out}: {writer.samples} {split} samples")
    return writer.samples


def there(path: Path, remedy: str) -> Path:
    """``path``, or FileNotFoundError with what to do."""
    if not path.exists():
        raise FileNotFoundError(f"no {path}; {remedy}")
    return path


def table(path: Path, columns: Sequence[str], *, header: bool = True, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The rows of a CSV file; without a header its cells are ``columns``. ValueError names what does not fit."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, None if header else list(columns), delimiter=delimiter)
        lacking = set(columns) - set(reader.fieldnames or [])
        if lacking:
            raise ValueError(f"{path}: no column {', '.join(sorted(lacking))}; it has {reader.fieldnames}")
        for number, row in enumerate(reader, 1):
            if None in row or any(row[name] is None for name in columns):
                raise ValueError(f"{path} row {number}: its cells do not fit the columns {', '.join(columns)}")
            yield row


def records(path: Path, fields: Mapping[str, type], *, under: str | None = None) -> list[dict[str, Any]]:
    """The objects in the list of a JSON file (or of its key ``under``), each with these fields. Else ValueError."""
    content = read_json(path)
    if under is not None:
        content = content.get(under) if isinstance(content, dict) else None
    if not isinstance(content, list):
        raise ValueError(f"{path}: no list{f' {under!r}' if under else ''} of objects")
    for number, row in enumerate(content):
        for name, kind in fields.items():
            if not isinstance(row, dict) or not isinstance(row.get(name), kind):
                raise ValueError(f"{path}: object {number} has no {name!r} ({kind.__name__})")
    return content


def stems(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Stem -> file, of the files in a folder with one of these suffixes (the first that is there)."""
    rank = {f".{suffix}": i for i, suffix in enumerate(suffixes)}
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in rank)
    return {p.stem: p for p in sorted(files, key=lambda p: -rank[p.suffix.lower()])}


def plain(name: str) -> str:
    """A key like a file's name, with "_" for what a key cannot hold."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)


def a_or_an(name: str) -> str:
    """``name`` with its article."""
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def member(modality: str, path: Path) -> Members:
    """The file as it is, named by its modality."""
    return {f"{modality}{path.suffix.lower()}": path.read_bytes()}


def text(captions: Iterable[str], where: str = "") -> Members:
    """A line for each caption, with single spaces; the blank ones are left out. ValueError for what is no string."""
    found = list(captions)
    for caption in found:
        if not isinstance(caption, str):
            raise ValueError(f"{where or 'a sample'}: caption {caption!r} is a {type(caption).__name__}, no string")
    lines = [" ".join(caption.split()) for caption in found if not is_blank(caption)]
    return {"text.txt": "\n".join(lines).encode()} if lines else {}


def about(content: Mapping[str, Any]) -> Members:
    """The json of a sample: label, group and whatever else is worth keeping.

    Where a caption is no more than the class, the group is the class: what has the same caption is no negative.
    """
    return {"json": json.dumps(dict(content), ensure_ascii=False).encode()}


def cloud(xyz: np.ndarray, rgb: np.ndarray | None = None, *, y_up: bool, dtype: type = np.float16) -> Members:
    """(P, 3), with colours in [0, 1] (P, 6), turned so that z is up. ValueError for anything else."""
    shapes = [np.asarray(part).shape for part in (xyz, rgb) if part is not None]
    if len(shapes[0]) != 2 or shapes[0][1] != 3 or len(set(shapes)) > 1:
        raise ValueError(f"a cloud of shape {', '.join(map(str, shapes))}; points and colours are (P, 3)")
    x, y, z = np.asarray(xyz, np.float32).T
    columns = [x, -z, y] if y_up else [x, y, z]
    if rgb is not None:
        columns += list(np.asarray(rgb, np.float32).T)
    out = io.BytesIO()
    np.save(out, np.stack(columns, axis=1).astype(dtype), allow_pickle=False)
    return {"points.npy": out.getvalue()}


def karpathy(path: Path, split: str, more: Mapping[str, type]) -> list[dict[str, Any]]:
    """The images of a split in a list of Karpathy's: filename, ``more`` fields, and the captions of the sentences."""
    fields = {"filename": str, "split": str, "sentences": list, **more}
    found = [image for image in records(path, fields, under="images") if image["split"] == split]
    for image in found:
        image["captions"] = [sentence["raw"] for sentence in image["sentences"] if "raw" in sentence]
        text(image["captions"], f"{path}: {image['filename']}")
    return found
