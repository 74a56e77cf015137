"""``align index export INDEX --to faiss OUT`` writes an index as files of other programs."""

from __future__ import annotations

from typing import Literal

from align.commands.sizes import size


def export(index: str, out: str, /, *, to: Literal["numpy", "parquet", "faiss"]) -> None:
    """Write the rows and the items of an index as NumPy, Parquet or FAISS files

    Rows are unit vectors, and their norms stand beside them. items.jsonl has the number, the key, the source, the
    captions, the label and the json of each sample. The ids of a FAISS index are these numbers. Parquet and FAISS need
    the extra search.

    Args:
        index: the index folder
        out: the folder to write, which appears whole or not at all
        to: the format
    """
    from align.search.export import export_index
    from align.search.local import LocalIndex

    with LocalIndex.open(index) as opened:
        for path in export_index(opened, out, to):
            print(f"{path}: {size(path.stat().st_size)}")
