"""An index folder opened together with its model."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.checkpoint import load, locate
from align.checkpoint.fingerprint import fingerprint
from align.model.place import name_dtype
from align.search.ann.attach import attach
from align.search.ann.named import EXACT
from align.search.local import LocalIndex
from align.search.makers import find_dims, find_stranger, read_maker
from align.search.searcher import Searcher

if TYPE_CHECKING:
    import torch

    from align.model import JointModel


def open_index(
    folder: str | Path,
    model: Any = None,
    *,
    allow: Sequence[str] = (),
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    backend: str | None = None,
) -> Searcher:
    """Open an index folder for search.

        index = align.open_index("idx")
        index.search({"audio": wave, "text": "at night"}, of="image", k=10, where={"year": {"gte": 2020}})

    Args:
        folder: the index, or a run with one in its folder "index".
        model: a JointModel, or a name that ``align.load`` takes. None loads the model that the index names.
        allow: packages beside ``align`` whose classes the model's config may name.
        device, dtype: of a model that is loaded here, as ``align.load`` takes them.
        backend: "exact" leaves the index's approximate search aside (see ``align index backend``). None: it is used
            where there is one.

    Raises FileNotFoundError where there is no index, or its model is gone. Raises ValueError where the index is
    damaged, newer than this align, or of another model that this one is not declared compatible with.
    """
    if backend not in (None, EXACT):
        raise ValueError(f"backend is {EXACT!r} or None, got {backend!r}; align index backend makes another one")
    place = find_index(folder)
    index = LocalIndex.open(place)
    try:
        chosen = _model(index.about, place, allow) if model is None else model
        if isinstance(chosen, str | Path):
            chosen = load(chosen, allow=allow, device=device, dtype=dtype)
        check_model(index.about, place, chosen)
    except BaseException:
        index.close()
        raise
    asked = index if backend == EXACT else attach(index)
    return Searcher(asked, chosen, dims=find_dims(index.about, chosen))


def find_index(folder: str | Path, model: str = "") -> Path:
    """Return the folder of an index: this one, or ``index`` in it.

    Raises FileNotFoundError, with the command that makes one. model: its model as the user named it.
    """
    folder = Path(folder)
    for place in (folder, folder / "index"):
        if (place / "index.json").is_file():
            return place
    named = shlex.quote(str(folder))
    is_model = any((folder / name).exists() for name in ("model.json", "checkpoints", "model"))
    command = f"{named} SHARDS" if is_model else f"{shlex.quote(model) if model else 'MODEL'} SHARDS --out {named}"
    raise FileNotFoundError(f"no index in {folder}; make one with: align index build {command}")


def check_model(about: Any, folder: Path, model: JointModel) -> None:
    """Raise ValueError where the index has rows of a model that this one is not compatible with, with fingerprints."""
    if (other := find_stranger(about, model)) is not None:
        raise ValueError(
            f"{folder} was made by another model ({other['sha256'][:12]}, this one is {fingerprint(model)[:12]}); "
            f"make it anew with: align index build MODEL SHARDS --out {shlex.quote(str(folder))}, or declare a model "
            "that was trained to replace it: align compatible MODEL OLD"
        )


def compare_precision(about: Any, model: JointModel) -> str:
    """Return a line where an index was made in another precision than the model has now, "" where it was not."""
    made, now = read_maker(about).get("dtype", "float32"), name_dtype(model)
    if made == now:
        return ""
    return f"the index was made in {made} and is asked in {now}: scores differ in their last digits"


def _model(about: Any, folder: Path, allow: Sequence[str]) -> Path:
    """Return the folder of the model that the index names, or of the run that the index lies in."""
    source = str(read_maker(about).get("source") or "")
    try:
        if source:
            return locate(source)
        raise FileNotFoundError
    except (FileNotFoundError, ValueError) as error:
        try:
            return locate(folder.parent)  # a run that was moved with its index
        except (FileNotFoundError, ValueError):
            said = f"the model of {folder} is gone: {source}" if source else f"{folder} does not say where its model is"
            raise FileNotFoundError(f'{said}; name it: --model MODEL, or open_index(…, model="MODEL")') from error
