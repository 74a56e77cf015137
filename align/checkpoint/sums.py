"""Checksums of a checkpoint: ``training/sums.json`` holds the SHA-256 and the size of every other file.

    {"schema": 3, "files": {"model.safetensors": [{"sha256": ..., "bytes": ...}], ...}, "sha256": of the rest}

It is written last. Its own SHA-256 is over its JSON, so a flipped byte in it shows too. A file that is being replaced
has two entries, and both contents are good: a process may be killed between the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.files import json_text, read_json, sha256, write_json

schema = 3
"""Schema of the checkpoints that this align writes. 1: the optimiser's state was AdamW's tensors alone. 2: no sums."""

SUMS = "training/sums.json"
Sums = dict[str, list[dict[str, Any]]]


def write_sums(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Write the checksums of all files of a checkpoint.

    known: file name (``training/a.safetensors``) -> its SHA-256, of files that need not be read again.
    """
    _write(folder, _measure_all(folder, known or {}))


def replace_json(folder: Path, name: str, content: Any) -> None:
    """Replace a JSON file of a checkpoint. A kill at any time leaves a checkpoint that passes its check."""
    sums = _read(folder) or _measure_all(folder, {})
    text = (json_text(content, 2) + "\n").encode()
    new = {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    _write(folder, sums | {name: [*sums.get(name, []), new]})
    write_json(folder / name, content)
    _write(folder, sums | {name: [new]})


def find_damage(folder: Path, *, training: bool = True) -> str | None:
    """Return a line about the first file of a checkpoint that is not as it was written, None where all are.

    A checkpoint from before schema 3 has no sums. Its weights are checked by model.json, its other files by their form.

    training: also check the files in ``training/``. Those of the model are enough for evaluation.
    """
    if not (folder / "model.json").is_file():
        return f"{folder / 'model.json'} is gone"
    sums = _read(folder)
    if sums is None:
        version = _read_schema(folder)
        if isinstance(version, str):
            return version
        if version == schema:
            return f"{folder / SUMS} is {'damaged' if (folder / SUMS).exists() else 'gone'}"
        return None if version > schema else _find_older(folder)
    for name, entries in sums.items():
        if training or "/" not in name:
            line = _compare(folder, name, entries)
            if line:
                return line
    return None


@contextmanager
def refuse_damage() -> Iterator[None]:
    """Raise ValueError in place of safetensors' own error, which a file has whose sums were made to fit it."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"a file of the checkpoint is damaged: {error}; --fresh starts over") from error


def _compare(folder: Path, name: str, entries: Iterable[Mapping[str, Any]]) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{path} is gone"
    size = path.stat().st_size
    same_size = [entry for entry in entries if entry["bytes"] == size]
    if not same_size:
        return f"{path} is damaged: it has {size} bytes, not {', '.join(str(entry['bytes']) for entry in entries)}"
    found = sha256(path)
    if all(entry["sha256"] != found for entry in same_size):
        return f"{path} is damaged: its SHA-256 is not the one in {SUMS}"
    return None


def _measure_all(folder: Path, known: Mapping[str, str]) -> Sums:
    """Return the sums of all files of a checkpoint, without temporary ones and the sums themselves."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: [{"sha256": known.get(name) or sha256(folder / name), "bytes": (folder / name).stat().st_size}]
        for name in names
        if name != SUMS and not Path(name).name.startswith(".")
    }


def _write(folder: Path, sums: Sums) -> None:
    content = {"schema": schema, "files": sums}
    write_json(folder / SUMS, content | {"sha256": sum_json(content)})


def _read(folder: Path) -> Sums | None:
    """Return the sums of a checkpoint, None where they are not there or damaged."""
    try:
        text = (folder / SUMS).read_bytes()
        content = read_json(folder / SUMS)
        stated = content.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    whole = (json_text(content | {"sha256": stated}, 2) + "\n").encode() == text  # no flip in a space either
    return content["files"] if whole and stated == sum_json(content) else None


def sum_json(content: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json_text(content).encode()).hexdigest()


def _read_schema(folder: Path) -> int | str:
    """Return the schema of a checkpoint, or a line about its damaged state."""
    path = folder / "training" / "state.json"
    try:
        return int(read_json(path).get("schema", 0))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{path} is damaged: {error}"


def _find_older(folder: Path) -> str | None:
    """Return a line about the first damaged file of a checkpoint without sums."""
    from safetensors import SafetensorError, safe_open

    try:
        for path in sorted(folder.rglob("*.json")):
            read_json(path)
        stated = read_json(folder / "model.json").get("sha256")
        if stated not in (None, sha256(folder / "model.safetensors")):
            return f"{folder / 'model.safetensors'} is damaged: its SHA-256 is not the one in model.json"
        for path in sorted(folder.rglob("*.safetensors")):
            try:
                with safe_open(path, "pt"):
                    pass
            except SafetensorError as error:
                return f"{path} is damaged: {error}"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return None
