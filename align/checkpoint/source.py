"""MODEL, as commands and ``align.load`` take it: a folder, a run, a model on the hub, or ``LAYOUT:SOURCE``."""

from __future__ import annotations

import glob
import hashlib
import shutil
import time
from pathlib import Path

from align.checkpoint.run import find_checkpoint
from align.files import cache_dir, read_json
from align.files.hub import LOCAL, expand_home, hub_folder, is_repository
from align.files.lock import hold_lock
from align.published import LAYOUTS, nearest_layout


def locate(model: str | Path, checkpoint: str = "best") -> Path:
    """Return the model folder of a path, a hub id or ``LAYOUT:SOURCE``. A run means its best or last checkpoint.

    A published model (``open_clip:ViT-B-32/laion2b_s34b_b79k``) is imported into the cache at its first use.

    Raises FileNotFoundError where there is none, ValueError for a folder of another kind and as its import does.
    """
    path = Path(model)
    if (path / "model.json").is_file():
        return path
    if (path / "checkpoints" / "index.json").is_file():
        found = find_checkpoint(path, checkpoint)
        return path / "model" if completes(path / "model", found) else found
    if (path / "model" / "model.json").is_file():
        return path / "model"
    if path.exists():
        raise ValueError(
            f"{path} is no model folder (it has no model.json) and no run folder (no checkpoints/index.json)"
        )
    layout, colon, source = str(model).partition(":")
    if is_published(model):
        return import_cached(layout, source)
    if colon and not layout.startswith((".", "/", "~")) and "/" not in layout:
        raise FileNotFoundError(f"no model folder {model}, and no layout {layout!r}; {nearest_layout(layout)}")
    if is_repository(str(model)):
        try:
            return hub_folder(str(model), ["model.safetensors", "config.yaml", "*.json"])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no folder {model} here; {error}") from error
    if str(model) in LAYOUTS:
        raise FileNotFoundError(f"no model folder {model}; a published model is {model}:SOURCE")
    raise FileNotFoundError(f"no model folder {model}, and no LAYOUT:SOURCE, which is a published model")


def completes(model: Path, heads: Path) -> bool:
    """Return True where a model folder holds the heads of a checkpoint with their encoders (``align.lit.whole``)."""
    path = model / "model.json"
    completed = read_json(path).get("completes") if path.is_file() else None
    return completed is not None and completed == read_json(heads / "model.json").get("sha256")


def is_published(model: str | Path) -> bool:
    """Return True for ``LAYOUT:SOURCE`` of a known layout that is no folder here."""
    layout, colon, _ = str(model).partition(":")
    return bool(colon) and layout in LAYOUTS and not Path(model).exists()


def cached_folder(layout: str, source: str) -> Path:
    """Return the place of a published model in the cache.

    It is another one after a change of a file or a folder that the source names here.
    """
    mark = hashlib.sha256("\n".join([layout, source, *_marks(source)]).encode()).hexdigest()[:16]
    words = "".join(c if c.isalnum() or c in "-_." else "-" for c in source.rstrip("/").split("/")[-1])[:60]
    return cache_dir() / "published" / layout / f"{words}-{mark}"


def import_cached(layout: str, source: str) -> Path:
    """Return the model folder of a published model in the cache, imported where it is not there yet."""
    from align.checkpoint.published import import_published

    folder = cached_folder(layout, source)
    if not (folder / "model.json").is_file():
        with hold_lock(folder.with_suffix(".lock")):
            if not (folder / "model.json").is_file():
                _remove_abandoned(folder)
                import_published(layout, source, folder)
    return folder


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed imports of a model left beside its place in the cache: those that nobody wrote for an hour."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        if time.time() - max(path.stat().st_mtime for path in (left, *left.iterdir())) > 3600:
            shutil.rmtree(left, ignore_errors=True)


def _marks(source: str) -> list[str]:
    """Return a line for each local file that a source names: its path, its size and the time of its last change."""
    named = expand_home(source.removeprefix(LOCAL))
    path = Path(named) if Path(named).exists() else Path(named.partition("@")[2] or named)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return [f"{f.resolve()} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file()]
