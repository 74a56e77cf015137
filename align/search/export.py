"""An index as files of other programs: NumPy, Parquet, FAISS. Keys, numbers and sources stand beside the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align.extras import has_part, pip_install
from align.files import atomic_folder, atomic_write, json_text, write_json
from align.files.fresh import check_place
from align.files.swapping import remove_leftovers
from align.search.index import Index
from align.search.item import Item
from align.search.leaves import plain

Format = Literal["numpy", "parquet", "faiss"]
BLOCK = 16384  # samples read at a time
MARK = "export.json"


def export_index(index: Index, folder: str | Path, to: Format) -> list[Path]:
    """Write an index's rows and items into a folder, which appears whole or not at all, and return the files.

    Rows are unit vectors, with their norm beside them, in the order of their samples' numbers.

    numpy: ``MODALITY.npy`` (n, D) float32, ``MODALITY.norm.npy`` (n,) float32 and ``MODALITY.number.npy`` (n,) int64.
    parquet: ``MODALITY.parquet`` with the columns number, key, source, norm and vector.
    faiss: ``MODALITY.faiss``, an ``IndexIDMap`` of an ``IndexFlatIP`` whose ids are the numbers, and the norms.
    Each has ``items.jsonl``: number, key, source, captions, label and json of each sample, a line each.

    Raises ValueError where something else stands at `folder`, where it lies in an index or a model, and for an empty
    index, ImportError where a library is missing.
    """
    folder = Path(folder)
    if to not in get_args(Format):
        raise ValueError(f"to={to!r}; it may be {', '.join(get_args(Format))}")
    check_library(to)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).is_file())):
        raise ValueError(f"{folder} is there and is no export; choose another folder")
    if not index.modalities:
        raise ValueError("the index is empty; there is nothing to export")
    check_place(folder)
    if folder.parent.is_dir():
        remove_leftovers(folder.parent, [folder.name])
    with atomic_folder(folder) as work:
        for m in index.modalities:
            {"numpy": _write_numpy, "parquet": _write_parquet, "faiss": _write_faiss}[to](index, m, work)
        with atomic_write(work / "items.jsonl", "w") as file:
            for numbers in index.numbers().split(BLOCK):
                for number, item in zip(numbers.tolist(), index.items(numbers.tolist()), strict=True):
                    file.write(json_text(_describe(number, item)) + "\n")
        about = {name: index.about[name] for name in ("model", "dim", "parts") if name in index.about}
        write_json(work / MARK, {"schema": 1, "to": to, "modalities": dict(index.modalities), **about})
    return sorted(folder.iterdir())


def check_library(to: Format) -> None:
    """Raise ImportError where the library of a format is missing, with the extra that brings it."""
    parts = {"faiss": ("faiss", "IndexFlatIP"), "parquet": ("pyarrow.parquet", "ParquetWriter")}
    if to in parts and not has_part(*parts[to]):
        raise ImportError(f"--to {to} needs {parts[to][0].partition('.')[0]}; {pip_install('search')}")


def read_rows(index: Index, of: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the rows of a modality in blocks: unit vectors (n, D), norms (n,), and numbers (n,), ascending."""
    for numbers in index.numbers(of).split(BLOCK):
        rows = index.rows(of, numbers)
        values: Any = rows.values
        order = rows.sample.argsort(stable=True)
        values = values[order].float()
        yield F.normalize(values, dim=1), values.norm(dim=1), rows.sample[order]


def _write_numpy(index: Index, of: str, work: Path) -> None:
    n, dim, at = index.modalities[of], index.about["dim"], 0
    made: dict[str, np.memmap] = {
        name: np.lib.format.open_memmap(work / f"{of}{name}.npy", "w+", dtype, shape)
        for name, dtype, shape in (("", np.float32, (n, dim)), (".norm", np.float32, (n,)), (".number", np.int64, (n,)))
    }
    for values, norm, numbers in read_rows(index, of):
        for name, part in (("", values), (".norm", norm), (".number", numbers)):
            made[name][at : at + len(part)] = part.numpy()
        at += len(numbers)
    for array in made.values():
        array.flush()


def _write_parquet(index: Index, of: str, work: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    dim = index.about["dim"]
    schema = pa.schema(
        [
            ("number", pa.int64()),
            ("key", pa.string()),
            ("source", pa.string()),
            ("norm", pa.float32()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )
    with ParquetWriter(work / f"{of}.parquet", schema) as writer:
        for values, norm, numbers in read_rows(index, of):
            every = numbers.unique().tolist()
            items = dict(zip(every, index.items(every), strict=True))
            owners = [items[number] for number in numbers.tolist()]
            columns = [
                pa.array(numbers.numpy()),
                pa.array([str(plain(item.key)) for item in owners]),
                pa.array([json_text(item.source) for item in owners]),
                pa.array(norm.numpy()),
                pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1).numpy()), dim),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _write_faiss(index: Index, of: str, work: Path) -> None:
    import faiss

    made: Any = faiss.IndexIDMap(faiss.IndexFlatIP(index.about["dim"]))
    norms = []
    for values, norm, numbers in read_rows(index, of):
        made.add_with_ids(values.contiguous().numpy(), numbers.numpy())
        norms.append(norm)
    with atomic_write(work / f"{of}.faiss") as file:
        file.write(faiss.serialize_index(made).tobytes())
    np.save(work / f"{of}.norm.npy", torch.cat(norms).numpy())


def _describe(number: int, item: Item) -> dict[str, Any]:
    about = {"captions": list(item.captions), "label": item.label, "json": dict(item.json)}
    return {"number": number, "key": item.key, "source": dict(item.source), **about}
