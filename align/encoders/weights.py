"""Files of weights: read by name, whole or the part of one tower, and put into a module with every name checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from align.encoders.pickles import check_packing, explain_damage, read_pickle
from align.encoders.torchscript import is_script, read_script
from align.encoders.weight_values import check_precision, check_stored
from align.files import sha256
from align.files.confined import check_confined

NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
"""Files of weights in a saved folder, in the order in which they are looked for."""
INDEX = ".index.json"
LISTED = 12  # names that a message lists
LONGEST = 200  # characters of each


def find_weights(folder: Path) -> Path:
    """Return the file of weights in a folder as libraries save it. Raises FileNotFoundError, which lists the names."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no weights in {folder}; looked for {', '.join(NAMES)}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name. Raises SafetensorError for a damaged one."""
    from safetensors.torch import load, load_file

    try:
        str(path).encode()
    except UnicodeEncodeError:  # safetensors opens paths in UTF-8 alone
        return load(path.read_bytes())
    return load_file(path)


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file. Raises OSError in one line, with its number, where it cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        said = str(error).rpartition("I/O error: ")[2]
        number = re.search(r"\(os error (\d+)\)", said)
        failed = OSError(f"{path} cannot be written: {said}")
        failed.errno = int(number[1]) if number else None
        raise failed from error


def read_weights(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a file whose names begin with ``prefix``, under their names without it.

    Raises as ``pick_weights``.
    """
    return {name[len(prefix) :]: x for name, x in pick_weights(path, lambda name: name.startswith(prefix)).items()}


def pick_weights(path: Path, keep: Callable[[str], bool]) -> dict[str, Tensor]:
    """Return the tensors of a file whose names are kept. Others are not read, or stay on the disk (mapped).

    path: a .safetensors, an index of several (``model.safetensors.index.json``), or a legacy .pt, .pth or .bin, of
    which torch reads tensors only (``read_pickle``). A dict under "state_dict", "model" or "module" (DeepSpeed) in it
    is taken. Of a TorchScript archive, as OpenAI published CLIP, the tensors are read and no code is run.

    Raises FileNotFoundError for a file that is not there, ValueError in one line for one that is damaged or holds no
    tensors.
    """
    check_confined(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    found: dict[str, Tensor] = {}
    for part in list_parts(path):
        tensors = _read_safe(part, keep) if part.suffix == ".safetensors" else _read_legacy(part, keep)
        check_stored(tensors, part)
        found |= tensors
    check_precision(found, path)
    return found


def list_parts(path: Path) -> list[Path]:
    """Return the files that an index names, beside it, or the file itself. Raises as ``read_weights``."""
    if not path.name.endswith(INDEX):
        return [path]
    try:
        names = sorted(map(str, set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index of weights: {type(error).__name__}: {error}") from error
    for name in names:
        if name != Path(name).name or not (path.parent / name).is_file():
            raise FileNotFoundError(f"{path} names {name}, which is not beside it")
    return [path.parent / name for name in names]


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file of weights. For an index it is that of its files' SHA-256s, one a line."""
    parts = list_parts(path)
    sums = [_sha256_of(part, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    return sums[0] if parts == [path] else hashlib.sha256("".join(f"{one}\n" for one in sums).encode()).hexdigest()


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, modified: int) -> str:
    """Return a file's SHA-256, read once for all towers that it holds."""
    return sha256(path)


def read_keys(path: Path) -> list[str]:
    """Return the names of the tensors in a file, of which no tensor is read. Raises as ``pick_weights``."""
    names: list[str] = []

    def note(name: str) -> bool:
        names.append(name)
        return False

    pick_weights(path, note)
    return names


def put_weights(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    where: str,
    skip: Collection[str] = (),
    names: Callable[[str], str] = str,
) -> None:
    """Load tensors into a module. where: the file, for messages. skip: names that the module need not get.

    names: the module's name of a tensor -> the file's, which messages have too.
    A module on the meta device gets its memory here, when all fits. Buffers outside its state dict stay unset.
    Raises ValueError as ``check_weights``.
    """
    check_weights(module, tensors, where, skip, names)
    if any(x.is_meta for x in module.state_dict().values()):
        module.to_empty(device="cpu")
    state = module.state_dict()
    module.load_state_dict({name: tensors.get(names(name), kept) for name, kept in state.items()})


def check_weights(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    where: str,
    skip: Collection[str] = (),
    names: Callable[[str], str] = str,
) -> None:
    """Raise ValueError that lists the names that are missing or unknown, or the tensors of another shape or kind.

    Arguments are those of ``put_weights``. A module on the meta device will do, which costs no memory whatever sizes a
    file states.
    """
    wanted: dict[str, Any] = {names(name): x for name, x in module.state_dict().items()}
    missing = [name for name in wanted if name not in tensors and name not in skip]
    unknown = [name for name in tensors if name not in wanted and name not in skip]
    if missing or unknown:
        odd = {"missing": missing, "unknown": unknown}
        said = [f"{len(names)} {kind}: {listing(names)}" for kind, names in odd.items() if names]
        raise ValueError(f"{where} does not fit the model: {'; '.join(said)}")
    shapes = [
        f"{name} {tuple(x.shape)} instead of {tuple(wanted[name].shape)}"
        for name, x in tensors.items()
        if name in wanted and x.shape != wanted[name].shape
    ]
    if shapes:
        raise ValueError(f"{where} has {len(shapes)} tensors of another shape: {listing(shapes)}")
    whole = [
        f"{name} {str(x.dtype).removeprefix('torch.')}"
        for name, x in tensors.items()
        if name in wanted and wanted[name].is_floating_point() and not x.is_floating_point()
    ]
    if whole:
        raise ValueError(f"{where} has {len(whole)} tensors of whole numbers: {listing(whole)}")


def listing(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    first = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in list(names)[:LISTED]]
    return ", ".join(first) + (f", and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _read_safe(path: Path, keep: Callable[[str], bool]) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        try:
            str(path).encode()
        except UnicodeEncodeError:  # as in read_tensors
            return {name: x for name, x in read_tensors(path).items() if keep(name)}
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys()) if keep(name)}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def _read_legacy(path: Path, keep: Callable[[str], bool]) -> dict[str, Tensor]:
    with explain_damage(path):
        check_packing(path)
        if is_script(path):
            return read_script(path, keep)
    content: Any = read_pickle(path)
    for key in ("state_dict", "model", "module"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {k: x for k, x in named if isinstance(k, str) and isinstance(x, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name, but a {type(content).__name__}")
    if all(name.startswith("module.") for name in tensors):  # saved inside DistributedDataParallel
        tensors = {name.removeprefix("module."): x for name, x in tensors.items()}
    return {name: x for name, x in tensors.items() if keep(name)}
