"""Conceptual Captions (CC3M) and Conceptual 12M (CC12M), from what img2dataset downloaded.

    img2dataset --url_list cc3m.tsv --input_format tsv --url_col url --caption_col caption \\
        --output_format webdataset --output_folder DIR/cc3m
    python datasets/conceptual_captions.py shards/cc3m --set cc3m --source DIR

One sample an image: ``image.jpg`` (or png, webp: as img2dataset encoded it), ``text.txt`` with its caption and ``json``
with its address. What is left out is counted: images without a caption, what of a shard is damaged, and the shards that
img2dataset did not finish (a finished one has a ``_stats.json`` beside it). One shard is read at a time, and an index
is left beside it; the keys of all are held, 1.4 GB for CC12M. There is one split, ``--split train``; the validation
list of CC3M, downloaded into a folder of its own, is another run: ``--folder cc3m_val --split val``. (Any of
img2dataset's shards can also be read as they are: ``data.members`` knows their names. What this adds is the index, the
counts and the checks.)

  what      3.3 million and 12.4 million addresses of images with their alternative texts; many are gone by now
  licence   "may be freely used for any purpose" (the lists); each image its owner's
  cite      P. Sharma, N. Ding, S. Goodman, R. Soricut. Conceptual Captions. ACL 2018.
            S. Changpinyo, P. Sharma, N. Ding, R. Soricut. Conceptual 12M. CVPR 2021.
  from      the lists: https://ai.google.com/research/ConceptualCaptions/download (a form), and
            https://storage.googleapis.com/conceptual_12m/cc12m.tsv; the images by img2dataset, with the commands in its
            dataset_examples/cc3m.md and cc12m.md (both add the line of column names that the lists lack)
  layout    https://github.com/rom1504/img2dataset, README "Output format" and img2dataset/writer.py: 00000.tar with
            000000000.jpg, .txt and .json (caption, url, key, status, …), 00000_stats.json, 00000.parquet
  checksum  none is possible: every download differs
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from recipe import IMAGES, Members, Samples, about, parser, plain, run, text, there, write

from align.data import Shards
from align.files import read_json

LICENCE = "the lists: any purpose; each image its owner's"


def pictures(folder: Path, counts: Counter[str]) -> Samples:
    """The samples of the finished shards; ``counts`` gathers what is left out and why."""
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise ValueError(f"{folder}: no *.tar; img2dataset needs --output_format webdataset")
    for path in paths:
        stats = path.with_name(f"{path.stem}_stats.json")
        if not stats.exists():
            counts["shards that were not finished"] += 1
            continue
        shard = Shards(path, shuffle=False)  # strictly: damage is counted, not taken for the end
        seen = 0
        for sample in shard.samples(0):
            seen += 1
            suffix = next((name for name in IMAGES if name in sample), None)
            caption = text([sample.get("txt", b"").decode("utf-8-sig", "replace")])
            if suffix is None or not caption:
                counts["samples without an image" if suffix is None else "images without a caption"] += 1
                continue
            image: Members = {f"image.{suffix}": sample[suffix]}
            yield plain(sample["__key__"]), image | caption | about({"url": address(sample)})
        counts.update(shard.report())
        counts["samples that _stats.json counts and no shard has"] += max(0, written(stats) - seen)
        shard.close()
    counts += Counter()  # drops zeros


def written(stats: Path) -> int:
    """How many images img2dataset put into a shard; 0 where it does not say."""
    content = read_json(stats)
    stated = content.get("successes") if isinstance(content, dict) else None
    return stated if isinstance(stated, int) else 0


def address(sample: dict[str, Any]) -> str | None:
    """Where an image came from, as its json says."""
    try:
        content = json.loads(sample.get("json", b"{}"))
    except ValueError:
        return None
    return content.get("url") if isinstance(content, dict) else None


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "what img2dataset wrote, in cc3m/ or cc12m/")
    made.add_argument("--set", choices=["cc3m", "cc12m"], default="cc3m", help="(default: cc3m)")
    made.add_argument("--folder", help="of img2dataset's output in the source folder (default: as the set is called)")
    made.add_argument("--split", default="train", help="what the shards are called (default: train)")
    args = made.parse_args(arguments)

    def work() -> None:
        remedy = "download the images with https://github.com/rom1504/img2dataset; see --help"
        folder = there(args.source / (args.folder or args.set), remedy)
        counts: Counter[str] = Counter()
        write(args.out, args.split, pictures(folder, counts), licence=LICENCE)
        for reason, count in sorted(counts.items()):
            print(f"{args.out}: left out: {count} {reason}")

    return run("conceptual_captions.py", work)


if __name__ == "__main__":
    sys.exit(main())
