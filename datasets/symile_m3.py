"""Symile-M3: a sentence read aloud in a language, words in several languages, and a picture of one of the words.

    python datasets/symile_m3.py shards/symile_m3 --source DIR --variant symile-m3-5-s

One sample a triple: ``audio.mp3`` (the clip as published; only its language matters), ``text.txt`` with the words, one
of each language, in one row, ``image.jpeg`` (the picture of the word in the clip's language) and ``json`` with
``label: {object: the word in English, language: English}``. No two of the three tell the third. Splits as published.

  what      33 million triples: 2, 5 or 10 languages in the sizes xs (550,000 triples, 80 GB), s (twice that), m (ten
            times) and l (twenty times)
  licence   CC BY-NC-SA 4.0; pictures are ImageNet's (its terms), clips Common Voice's (CC0)
  cite      A. Saporta, A. M. Puli, M. Goldstein, R. Ranganath. Contrasting with Symile. NeurIPS 2024.
  from      https://huggingface.co/datasets/arsaporta/symile-m3, of which a person picks one variant: `hf download
            arsaporta/symile-m3 --repo-type dataset --include "symile-m3-5-s/*" --local-dir DIR/symile-m3`
  layout    that page (README: configs and dataset_info) and github.com/rajesh-lab/symile (generate_data.py):
            {variant}/{train,val,test}-00000-of-00008.parquet with lang, audio {bytes, path}, image {bytes, path}, text
            (words joined by "_"), cls, cls_id, target_text
  checksum  none is published beside the files; the download checks the hub's own
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from recipe import AUDIO, IMAGES, Members, Samples, about, parser, run, text, there, write

from align.extras import pip_install

COLUMNS = ["lang", "audio", "image", "text", "cls", "cls_id"]
LANGUAGES = {"ar": "Arabic", "el": "Greek", "en": "English", "hi": "Hindi", "ja": "Japanese", "ko": "Korean"}
LANGUAGES |= {"te": "Telugu", "th": "Thai", "uk": "Ukrainian", "zh-CN": "Chinese"}
VARIANTS = [f"symile-m3-{languages}-{size}" for languages in (2, 5, 10) for size in ("l", "m", "s", "xs")]
MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3"}


def media(modality: str, cell: Any, where: str) -> Members:
    """The member that a cell becomes; its suffix from the path, else from the first bytes."""
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(content, bytes):
        raise ValueError(f"{where}: its {modality} has no bytes")
    known = AUDIO if modality == "audio" else IMAGES
    suffix = Path(str(cell.get("path") or "")).suffix.lower().removeprefix(".")
    if suffix not in known:
        guess = next((name for head, name in MAGIC.items() if content.startswith(head)), "")
        suffix = guess or ("mp3" if content[:1] == b"\xff" else "")
    if suffix not in known:
        raise ValueError(f"{where}: its {modality} is none of {', '.join(known)}")
    return {f"{modality}.{suffix}": content}


def triples(files: list[Path], split: str) -> Samples:
    """The samples of the tables of a split, in order."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ImportError(f"reading Parquet needs pyarrow; {pip_install('recipes')}") from None
    number = 0
    for path in files:
        try:
            with ParquetFile(path) as file:
                if lacking := set(COLUMNS) - set(file.schema_arrow.names):
                    raise ValueError(f"{path}: no column {', '.join(sorted(lacking))}")
                for batch in file.iter_batches(batch_size=64, columns=COLUMNS):
                    for row in batch.to_pylist():
                        where = f"{path} sample {number}"
                        language = LANGUAGES.get(row["lang"], row["lang"])
                        said = about({"label": {"object": row["cls"], "language": language}})
                        words = text([row["text"]], where)
                        words = {name: line.replace(b"_", b" ") for name, line in words.items()}
                        found = media("audio", row["audio"], where) | media("image", row["image"], where)
                        yield f"{split}-{number:08d}", found | words | said
                        number += 1
        except ArrowException as error:
            raise ValueError(f"{path} is not Parquet: {error}") from None


def main(arguments: list[str] | None = None) -> int:
    splits = ["train", "val", "test"]
    made = parser(__doc__, "symile-m3/{variant}/*.parquet", splits)
    said = "symile-m3-LANGUAGES-SIZE, with 2, 5 or 10 and l, m, s or xs (default: symile-m3-2-xs)"
    made.add_argument("--variant", choices=VARIANTS, default="symile-m3-2-xs", metavar="VARIANT", help=said)
    args = made.parse_args(arguments)

    def work() -> None:
        page = "https://huggingface.co/datasets/arsaporta/symile-m3"
        folder = there(args.source / "symile-m3" / args.variant, f"download that variant from {page}")
        for split in args.only or splits:
            files = sorted(folder.glob(f"{split}-*-of-*.parquet"))
            if files and len(files) != (of := int(files[0].stem.rpartition("-of-")[2])):
                raise ValueError(f"{folder}: {len(files)} of {of} tables of the {split} split; download the rest")
            write(args.out, split, triples(files, split), licence="CC BY-NC-SA 4.0; pictures ImageNet's terms")

    return run("symile_m3.py", work)


if __name__ == "__main__":
    sys.exit(main())
