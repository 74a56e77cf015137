"""Whole towers from heads: the encoders come from the models whose cached features the heads were fitted on.

A head on cached embeddings stands behind the head that made them, so a whole tower has both (``align.heads.Chain``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from align.embedding.features.hashes import Kind, preprocess_hash, tower_weights
from align.encoders import Precomputed
from align.heads import Chain
from align.model import JointModel, Tower
from align.model.inside import unwrap
from align.values import FeatureOrigin


def find_heads(model: JointModel) -> dict[str, FeatureOrigin]:
    """Return modality -> the origin of its rows, for heads over ``Precomputed`` that a tower can complete.

    A head over the tokens of *embeddings* is none of them, since the tower would give it other tokens.
    """
    towers = {m: unwrap(model.towers[m]) for m in model.modalities}
    return {
        m: tower.fitted_on
        for m, tower in towers.items()
        if tower.fitted_on is not None
        and isinstance(encoder := unwrap(tower.encoder), Precomputed)
        and not (encoder.tokens and read_kind(tower.fitted_on) == "embedding")
    }


def read_kind(origin: FeatureOrigin) -> Kind:
    """Return the kind of the rows that a head was fitted on."""
    return "embedding" if origin.column.get("kind") == "embedding" else "features"


def check_tower(head: str, origin: FeatureOrigin, model: JointModel, name: str) -> None:
    """Raise ValueError, with both hashes, where a model's tower is not the one that a head was fitted on.

    head: the modality of the head. name: of the model, for the message.
    """
    if origin.modality not in model.modalities:
        raise ValueError(f"{name} has no tower {origin.modality!r}; it has {', '.join(model.modalities)}")
    tower = unwrap(model.towers[origin.modality])
    have = {"weights": tower_weights(tower, read_kind(origin)), "preprocess": preprocess_hash(tower.preprocess)}
    for fact, found in have.items():
        wanted = getattr(origin, fact)
        if found != wanted:
            raise ValueError(
                f"the head {head!r} was fitted on the {origin.modality} tower of {origin.model} with {fact} "
                f"{wanted[:12]}; that of {name} has {fact} {found[:12]}: another tower's features mean something else"
            )


def complete(model: JointModel, find: Callable[[str, FeatureOrigin], tuple[str, JointModel]]) -> JointModel:
    """Return the model with whole towers in place of heads over cached features. The heads are the same modules.

    Args:
        find: called with a modality and the origin of its head, returns a name and the model with its encoder.

    Raises ValueError for a tower that a head was not fitted on, and as ``find`` does.
    """
    towers: dict[str, Tower] = {}
    share = dict(model.share or {})
    lenders: dict[int, str] = {}  # an encoder that two heads were fitted on is one encoder here too
    heads = find_heads(model)
    for m in share:
        model.towers[m].encoder = model.towers[m].encoder  # the new model lends it again
    for m in model.modalities:
        tower = unwrap(model.towers[m])
        if m not in heads:
            towers[m] = tower
            continue
        name, base = find(m, heads[m])
        check_tower(m, heads[m], base, name)
        whole = unwrap(base.towers[heads[m].modality])
        lender = lenders.setdefault(id(whole.encoder), m)
        if lender != m:
            share[m] = lender
        towers[m] = _join(whole, tower, borrows=lender != m)
    made = JointModel(towers, model.dim, share=share or None, normalize=model.normalize)
    made.terms = list(model.terms)
    return made.eval()


def _join(whole: Tower, head: Tower, *, borrows: bool) -> Tower:
    """Return a tower with the preprocess and encoder of one and the head of another. borrows: without the encoder.

    A head on embeddings comes after a copy of the head that made them.
    """
    origin = whole.read_origin(whole.encoder.state_dict())
    fitted, last = head.fitted_on, head.head
    if fitted is not None and read_kind(fitted) == "embedding":
        width, unit = fitted.column["width"], fitted.column["unit"]
        last = Chain(whole.encoder.width, last.dim, copy.deepcopy(whole.head), last, width, unit)
    made = Tower(whole.preprocess, None if borrows else whole.encoder, last)  # pyright: ignore[reportArgumentType]
    if origin is not None and not borrows:
        made.mark_origin(origin)
    made.fitted_on = head.fitted_on
    return made


def assemble(
    model: JointModel, given: Mapping[str, JointModel] | None = None, *, allow: Sequence[str] = ()
) -> JointModel:
    """Return a model with whole towers, from heads that were trained on cached features.

    Args:
        given: name -> model with the towers. None: the models that the heads name, loaded.
        allow: packages beside ``align`` whose classes those models may name.

    Raises ValueError where no head needs an encoder, and for a tower that a head was not fitted on, with both hashes.
    Raises FileNotFoundError for a model that is not there.
    """
    if not find_heads(model):
        raise ValueError("no head of the model was fitted on cached features, so none needs an encoder")
    if given is None:
        return complete(model, load_each(allow))
    if not given:
        raise ValueError("name the model with the encoders")

    def find(m: str, origin: FeatureOrigin) -> tuple[str, JointModel]:
        reasons = []
        for name, base in given.items():
            try:
                check_tower(m, origin, base, name)
                return name, base
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError(reasons[0])

    return complete(model, find)


def load_each(allow: Sequence[str] = ()) -> Callable[[str, FeatureOrigin], tuple[str, JointModel]]:
    """Return a function that loads the model that a head names, and keeps it for other heads."""
    from align.checkpoint import load

    loaded: dict[str, Any] = {}

    def find(m: str, origin: FeatureOrigin) -> tuple[str, JointModel]:
        if origin.model not in loaded:
            loaded[origin.model] = load(origin.model, allow=allow)
        return origin.model, loaded[origin.model]

    return find
