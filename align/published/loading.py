"""A published model from LAYOUT and SOURCE, alone or beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from align.encoders.hf.model import library
from align.encoders.weight_values import check_finite
from align.encoders.weights import find_weights, read_keys
from align.files.hub import LOCAL, expand_home
from align.model import JointModel
from align.published.joined import join, keep_towers, terms_between
from align.published.layouts import (
    LAYOUTS,
    TAKES_OTHERS,
    TAKES_TOWERS,
    TRANSFORMERS,
    check_layout,
    find_module,
    likely_layouts,
    nearest_layout,
)


def load_published(layout: str, source: str, *, beside: Sequence[str] = (), towers: Sequence[str] = ()) -> JointModel:
    """Return a published model, with its own preprocessing, in evaluation mode.

    beside: other published models, each as LAYOUT:SOURCE, whose towers join this one's: those of the space that it was
    aligned to. towers: the modalities to keep, all where there is none.

    Raises ValueError for a layout that is not known, for weights of another layout and for weights that are NaN or
    infinite, OSError for a source that does not exist or cannot be reached, and ImportError for a layout of
    transformers where that is absent.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"no layout {layout!r}; {nearest_layout(layout)}")
    if not source:
        raise ValueError(f"{layout}: needs a source after it: a name, hf-hub:owner/name, a file or a folder")
    if layout in TRANSFORMERS:
        library()  # its absence is said before weights are downloaded
    source = expand_home(source)
    parts: Mapping[str, Sequence[str]] = find_module(layout).PARTS if layout in TAKES_OTHERS else {}
    others = {name: _load_beside(name, parts) for name in beside}
    try:
        more = [others] if layout in TAKES_OTHERS else [towers] if layout in TAKES_TOWERS else []
        model: JointModel = find_module(layout).load(source, *more).eval()
    except (ValueError, OSError) as error:
        _check_local(layout, source)
        named = source, source.partition("@")[2] or source, Path(source).name
        if isinstance(error, OSError) or any(name in str(error) for name in named):
            raise
        raise ValueError(f"{source}: {error}") from error  # of a model that sizes in the file do not make
    check_finite(model, source)
    if others and layout not in TAKES_OTHERS:
        model = join(model, others)
    model.terms = terms_between(model, model.modalities)
    return keep_towers(model, towers) if towers else model


def _load_beside(name: str, parts: Mapping[str, Sequence[str]]) -> JointModel:
    """Return the model of LAYOUT:SOURCE. parts: layout -> the modalities of it that are read, where not all are."""
    layout, colon, source = name.partition(":")
    if not colon:
        raise ValueError(f"beside {name!r}: a published model is LAYOUT:SOURCE")
    return load_published(layout, source, towers=parts.get(layout, ()))


def _check_local(layout: str, source: str) -> None:
    """Raise ValueError, a better reason than a config that is not there, where a source here is of another layout."""
    here = next((p for p in (source.removeprefix(LOCAL), source.partition("@")[2]) if p and Path(p).exists()), None)
    if here is None:
        return
    try:
        path = find_weights(Path(here)) if Path(here).is_dir() else Path(here)
        keys = read_keys(path)
    except (ValueError, OSError):
        return
    if likely_layouts(keys):
        check_layout(layout, keys, str(path))
