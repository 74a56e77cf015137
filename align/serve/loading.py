"""Loading of an index with its model, of a run, or of a model alone, and loading again when they have changed."""

from __future__ import annotations

import logging
import os
import shlex
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from align.checkpoint import load, locate
from align.checkpoint.fingerprint import fingerprint
from align.checkpoint.source import is_published
from align.model.place import find_device
from align.search.open import compare_precision, find_index, open_index
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.readers import SEARCHERS
from align.serve.service import Service

WATCH_SECONDS = 2.0
log = logging.getLogger("align.serve")


@final
@dataclass(frozen=True)
class Place:
    """The index or model that the command line names.

    Args:
        name: the folder of an index, a run, or a model as ``align.load`` takes it.
        model: another name of the index's model. None: as the index says.
        checkpoint, allow, dtype: see ``align.load``. device: None is the first GPU, else the CPU.
        backend: see ``align.open_index``.
    """

    name: str
    model: str | None = None
    checkpoint: str = "best"
    allow: Sequence[str] = ()
    device: str | None = None
    dtype: str | None = None
    backend: str | None = None

    def open(self, limits: Limits) -> Loaded:
        """Load it, with its decoders running.

        Raises FileNotFoundError and ValueError as ``align.open_index`` and ``align.load`` do.
        """
        reason = ""
        try:
            folder: Path | None = find_index(self.name)
        except FileNotFoundError as error:
            folder, reason = None, str(error)
        if folder is None:
            model = self._load(self.model or self.name, reason)
            source = self.model or self.name
            searcher, sha256 = None, fingerprint(model)
        else:
            named = None if self.model is None else self._load(self.model)
            place = {"device": find_device(self.device), "dtype": self.dtype}
            searcher = open_index(folder, named, allow=self.allow, backend=self.backend, **place)
            model = searcher.model
            source = self.model or _source(searcher.index.about, folder)
            sha256 = fingerprint(model)
        if searcher is not None:
            if line := compare_precision(searcher.index.about, model):
                log.warning("%s", line)
            prepare = getattr(searcher.index, "prepare", None)
            if prepare is not None:
                prepare(SEARCHERS)
        name = name_model(source)
        reason = f"no index is served, so there is no search; {_advise(self.name)}"
        loaded = Loaded(model, searcher, limits, name=name, sha256=sha256, source=source, reason=reason)
        try:
            loaded.decoders.start()
        except BaseException:
            loaded.retire()
            raise
        return loaded

    def mark(self, source: str) -> tuple[Any, ...]:
        """Return marks of the folders that another index or model replaces. Equal marks mean: nothing is new.

        source: of the model that is loaded, see ``Loaded``.

        An index that grows in its folder is not among them, because an open index follows it by itself.
        """
        marks: list[Any] = []
        try:
            marks.append(os.stat(find_index(self.name)).st_ino)
        except (OSError, ValueError):
            marks.append(None)
        if Path(source).exists():  # a model of the hub does not change in its folder
            try:
                model = locate(source, self.checkpoint)
                stat = os.stat(model / "model.safetensors")
                marks.append((str(model), stat.st_ino, stat.st_mtime_ns))
            except (OSError, ValueError):
                marks.append(None)
        return tuple(marks)

    def _load(self, name: str, reason: str = "") -> Any:
        try:
            place = {"device": find_device(self.device), "dtype": self.dtype}
            return load(locate(name, self.checkpoint), allow=self.allow, **place)
        except FileNotFoundError as error:
            if reason and Path(name).exists():
                raise FileNotFoundError(f"{name} is neither an index nor a model: {reason}") from None
            raise error
        except ValueError as error:
            if reason and " is no model folder" in str(error):
                build = f"align index build MODEL {shlex.quote(name)} --out idx"
                raise ValueError(f"{name} is neither an index nor a model; to search its files: {build}") from None
            raise


@final
class Reloader:
    """The place's latest state for a service: loaded again on demand, and when ``mark`` has changed.

    A state that cannot be loaded leaves the old one in its place, and its reason in ``Service.trouble``.
    """

    def __init__(self, place: Place, service: Service):
        self._place, self._service = place, service
        self._mark = place.mark(service.loaded.source)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reload", daemon=True)

    def start(self, seconds: float = WATCH_SECONDS) -> None:
        """Watch the place until ``stop``."""
        self._seconds = seconds
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()

    def reload(self) -> bool:
        """Load the place anew. Return True where it has taken the old one's place."""
        with self._lock:
            source = self._service.loaded.source
            mark = self._place.mark(source)
            try:
                loaded = self._place.open(self._service.limits)
            except Exception as error:  # whatever is broken there, the old one goes on
                self._mark = mark
                self._service.trouble = f"{type(error).__name__} while loading; the log says more"
                log.error("not reloaded, the old model and index stay: %s", " ".join(str(error).split()))
                return False
            self._mark = mark if loaded.source == source else self._place.mark(loaded.source)
            self._service.trouble = ""
            self._service.replace(loaded)
            log.warning("reloaded %s", self._place.name)
            return True

    def _watch(self) -> None:
        seen = self._mark
        while not self._stop.wait(self._seconds):
            mark = self._place.mark(self._service.loaded.source)
            if mark == self._mark:
                seen = mark
            elif mark == seen:  # it has been so for two looks: nobody is writing it
                self.reload()
                seen = self._mark
            else:
                seen = mark


def name_model(source: str) -> str:
    """Return a model's name for clients, without the folders above it.

    >>> name_model("/home/me/runs/birds/model"), name_model("open_clip:ViT-B-32/laion2b_s34b_b79k")
    ('birds', 'open_clip:ViT-B-32/laion2b_s34b_b79k')
    """
    if is_published(source):
        return source
    parts = [part for part in Path(source).parts if part not in ("/", "..", ".")]
    kept = [part for part in parts if part not in ("model", "checkpoints", "index") and not part.startswith("step-")]
    return (kept or parts or ["align"])[-1]


def _source(about: Any, folder: Path) -> str:
    model = about.get("model") or {}
    return str((model.get("source") if isinstance(model, dict) else "") or folder.resolve().parent)


def _advise(name: str) -> str:
    return f"make an index with: align index build {name_model(name)} SHARDS, and start: align serve INDEX"
