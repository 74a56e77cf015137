"""Hostile model folders and checkpoints, and a process that loads each and measures its memory.

``python hostile_models.py ROOT HUB`` prints a line of JSON for each: name, refused (in one line), growth of the peak of
resident memory and size of the folder, both in bytes. ROOT/owner/NAME are the folders, HUB serves them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def pickled(pwned: Path) -> bytes:
    return pickle.dumps(Evil(pwned))


def slipped(pwned: Path) -> bytes:
    """A zip that torch would take for a checkpoint, whose members leave the folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickled(pwned))
        file.writestr(f"../../../{pwned.name}", b"x")
        file.writestr(str(pwned), b"x")
    return out.getvalue()


def tensors(header: dict[str, Any] | None, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file by hand. length: what it says that its header has."""
    text = json.dumps(header).encode() if header is not None else b"{}"
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def stated(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def files(pwned: Path) -> dict[str, bytes]:
    """name -> content of a file of weights."""
    overlapping = {"a": stated("F32", [4], 0, 16), "b": stated("F32", [4], 8, 24)}
    return {
        "pickle": pickled(pwned),
        "7z around a pickle": b"7z\xbc\xaf\x27\x1c\x00\x04" + pickled(pwned),
        "zip that leaves the folder": slipped(pwned),
        "header of 2^63 bytes": tensors(None, b"", 1 << 63),
        "header of 2^40 bytes": tensors(None, b"", 1 << 40),
        "header longer than the file": tensors(None, b"x" * 100, 5000),
        "overlapping tensors": tensors(overlapping, bytes(24)),
        "tensor of 2^40 numbers": tensors({"a": stated("F32", [1 << 40], 0, 1 << 42)}, bytes(64)),
        "tensor past the end": tensors({"a": stated("F32", [4], 0, 16)}, bytes(8)),
        "sizes that overflow": tensors({"a": stated("F32", [1 << 32, 1 << 32], 0, 16)}, bytes(16)),
        "hole between tensors": tensors({"a": stated("F32", [2], 8, 16)}, bytes(16)),
    }


def write(root: Path) -> dict[str, dict[str, Any]]:
    """Write the folders. Returns name -> {"hub": whether a hub would serve it}."""
    import torch

    import align
    from align.encoders import Precomputed
    from align.preprocess import Array

    pwned = root.parent / "pwned"
    torch.manual_seed(0)
    model = align.JointModel({m: align.Tower(Array((6,)), Precomputed(6)) for m in ("image", "text")}, 4)
    good = align.save(model, root / "good")
    cases: dict[str, dict[str, Any]] = {}

    def case(name: str, change: Callable[[Path], None], hub: bool = False) -> None:
        folder = shutil.copytree(good, root / f"{len(cases):02d}")
        change(folder)
        cases[folder.name] = {"name": name, "hub": hub}

    def honest(folder: Path) -> None:
        """Give the hash of the changed weights, as a thorough attacker does."""
        about = json.loads((folder / "model.json").read_text())
        about.pop("sha256")
        (folder / "model.json").write_text(json.dumps(about))

    for name, content in files(pwned).items():

        def weights(folder: Path, content: bytes = content) -> None:
            (folder / "model.safetensors").write_bytes(content)
            honest(folder)

        case(f"weights: {name}", weights, hub=len(cases) % 4 == 0)
    for name in ("config.yaml", "model.json"):
        for kind in ("pickle", "7z around a pickle", "zip that leaves the folder"):
            content = files(pwned)[kind]
            case(f"{name}: {kind}", lambda folder, name=name, content=content: put(folder / name, content))
    case("class of Python", lambda folder: replace(folder / "config.yaml", "align.encoders.Precomputed", "os.system"))
    case(
        "tag of YAML",
        lambda folder: put(folder / "config.yaml", f"model: !!python/object/apply:open ['{pwned}', w]".encode()),
        hub=True,
    )

    def nan(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        next(iter(state.values())).view(-1)[0] = float("nan")
        save_file(state, folder / "model.safetensors")
        honest(folder)

    case("NaN weights", nan, hub=True)
    (root.parent / "cases.json").write_text(json.dumps(cases))
    return cases


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, text
    path.write_text(text.replace(old, new))


def memory(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) << 10


def load(name: str, source: str, size: int) -> None:
    import align
    from align.commands.errors import explain

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, refused, line = memory("VmRSS"), False, None
    try:
        align.load(source)
    except Exception as error:
        line, code = explain(error)
        refused = code == 1 and line is not None and "\n" not in line
    print(json.dumps({"name": name, "refused": refused, "grown": memory("VmHWM") - before, "size": size, "line": line}))


def main(root: Path, hub: str) -> None:
    import align

    (root / "empty").mkdir()
    os.chdir(root / "empty")  # where owner/NAME is no folder
    align.load("owner/good")  # imports are no growth
    for folder, about in json.loads((root / "cases.json").read_text()).items():
        place = root / "owner" / folder
        size = sum(path.stat().st_size for path in place.iterdir())
        load(about["name"], str(place), size)
        if about["hub"]:
            load(f"{about['name']}, hub", f"owner/{folder}", size)
    load("http", f"{hub}/owner/00", 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
