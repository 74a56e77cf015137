"""CIFAR-100: small photographs of a hundred kinds of things, with captions.

    python datasets/cifar100.py shards/cifar100

One sample a photograph: ``image.png`` (without loss), ``text.txt`` with "a photo of a {class}" ("an" before a vowel)
and ``json`` with ``label: {object: aquarium fish, kind: fish}`` (the class and its superclass, with spaces for
underscores) and ``group``: the class. Splits as published, in the order of the files.

  what      60,000 photographs, 32x32, colour, 100 classes in 20 superclasses, 50,000 train and 10,000 test, 161 MB
  licence   none is stated; published for research by Krizhevsky, Nair and Hinton
  cite      A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. 2009.
  from      https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz (the *binary* version: the Python one is a pickle,
            which can run code when it is opened), downloaded where it is missing
  layout    https://www.cs.toronto.edu/~kriz/cifar.html: cifar-100-binary/{train,test}.bin, records of 2 + 3072 bytes,
            the superclass, the class, then red, green and blue; fine_label_names.txt and coarse_label_names.txt, a name
            a line. So reads tensorflow_datasets' cifar.py too
  checksum  md5 03b5dce01913d631647c71ecec9e9cb8, as that page lists it
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from archives import unpacked
from PIL import Image
from recipe import Samples, a_or_an, about, parser, run, text, there, write

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
MD5 = "03b5dce01913d631647c71ecec9e9cb8"
RECORD = 2 + 3072


def fetch(folder: Path) -> Path:
    """The folder with train.bin and test.bin, downloaded where it is missing."""
    if (folder / "test.bin").is_file():
        return folder
    return unpacked(URL, folder.with_name("cifar-100-binary.tar.gz"), folder, inside="cifar-100-binary", md5=MD5)


def names(path: Path, number: int) -> list[str]:
    """The names in a file, with spaces for underscores. ValueError for another number of them."""
    lines = [
        line.strip().replace("_", " ") for line in there(path, "unpack the archive again").read_text().splitlines()
    ]
    found = [line for line in lines if line]
    if len(set(found)) != number:
        raise ValueError(f"{path}: {len(set(found))} names, not {number}")
    return found


def photographs(path: Path, fine: list[str], coarse: list[str]) -> Samples:
    """The samples of a file of records. ValueError where it is not as described."""
    content = there(path, "unpack the archive again").read_bytes()
    if not content or len(content) % RECORD:
        raise ValueError(f"{path}: {len(content)} bytes are no records of {RECORD} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    most = records[:, :2].max(axis=0)
    if most[0] >= len(coarse) or most[1] >= len(fine):
        raise ValueError(
            f"{path}: a record has the labels {most[0]} and {most[1]}, not below {len(coarse)}, {len(fine)}"
        )
    for i, record in enumerate(records):
        out = io.BytesIO()
        Image.fromarray(record[2:].reshape(3, 32, 32).transpose(1, 2, 0)).save(out, "PNG")
        name, kind = fine[record[1]], coarse[record[0]]
        said = about({"label": {"object": name, "kind": kind}, "group": int(record[1])})
        yield f"{path.stem}-{i:05d}", {"image.png": out.getvalue()} | text([f"a photo of {a_or_an(name)}"]) | said


def main(arguments: list[str] | None = None) -> int:
    args = parser(__doc__, "cifar100/; it is downloaded where it is missing").parse_args(arguments)

    def work() -> None:
        folder = fetch(args.source / "cifar100")
        fine, coarse = names(folder / "fine_label_names.txt", 100), names(folder / "coarse_label_names.txt", 20)
        classes = {"object": fine, "kind": coarse}
        for split in ("train", "test"):
            found = photographs(folder / f"{split}.bin", fine, coarse)
            write(args.out, split, found, classes=classes, licence="none stated")

    return run("cifar100.py", work)


if __name__ == "__main__":
    sys.exit(main())
