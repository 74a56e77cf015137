"""Arrays of 10^9 rows, arrays that unpickle, and archives."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

from hostile.pictures import zip_of
from hostile.request import Hostile, file

MANY = 10**9


def npy(shape: str, descr: str = "'<f4'", data: bytes = bytes(96), version: int = 1) -> bytes:
    """Return an array whose header is as stated."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + data


class Opens:
    """An object whose unpickling makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def arrays(marker: Path) -> list[Hostile]:
    """Return arrays of 10^9 rows, arrays that unpickle, and archives. marker: a file that unpickling would make."""
    kind, bomb = "arrays and archives", pickle.dumps(Opens(str(marker)))
    deep = "(" * 400 + ")" * 400
    zeros = bytes(30 << 20)
    refused: dict[str, Any] = {
        "10^9 rows": npy(f"({MANY}, 3)"),
        "10^9 rows of 10^9": npy(f"({MANY}, {MANY})"),
        "2⁶³ rows": npy("(9223372036854775807, 3)"),
        "rows below zero": npy("(-1, 3)"),
        "no rows of 10^18 columns": npy(f"(0, {10**18})"),
        "objects": npy("(1, 3)", "'|O'", bomb),
        "objects in a record": npy("(1,)", "[('a', '|O')]", bomb),
        "a type of 2³¹ bytes": npy("(1, 3)", "'V2147483647'"),
        "texts of 10^9": npy("(1, 3)", "'<U1000000000'"),
        "code in the header": npy("__import__('os').system('id')"),
        "a header of 10^4 brackets": npy(deep),
        "a header of 64 KB": npy("(" + "1," * 30_000 + ")", version=2),
        "version 9": npy("(8, 3)", version=9),
        "NaN": npy("(8, 3)", data=struct.pack("<f", float("nan")) * 24),
        "10^38": npy("(8, 3)", "'<f8'", struct.pack("<d", 1e300) * 24),
        "one column": npy("(24,)"),
        "a pickle": bomb,
        "a pickle of torch": zip_of(**{"archive/data.pkl": bomb, "archive/version": b"3"}),
        "npz": zip_of(**{"arr_0.npy": npy("(8, 3)")}),
        "npz of 30 MB of zeros": lambda: zip_of(**{"arr_0.npy": npy("(2500000, 3)") + zeros}),
        "a ZIP in a ZIP": lambda: zip_of(**{"a.zip": zip_of(**{"b.zip": zip_of(c=zeros)})}),
        "gzip of an array": gzip.compress(npy("(8, 3)")),
        "gzip of 30 MB": lambda: gzip.compress(zeros),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500),
        "Parquet": b"PAR1" + bytes(500) + b"PAR1",
        "safetensors of 2⁶³": struct.pack("<Q", 2**63 - 1) + b"{",
    }
    suffixes = {"npz": "npz", "a pickle": "pkl", "HDF5": "h5", "gzip of an array": "npy.gz"}
    return [file(kind, name, "points", data, suffixes.get(name, "npy")) for name, data in refused.items()]
