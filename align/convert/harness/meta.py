"""mteb's description of a model of align."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from align.checkpoint.fingerprint import fingerprint
from align.convert.harness.batches import KNOWN

if TYPE_CHECKING:
    from mteb.models import ModelMeta

    from align.model import JointModel
    from align.scoring import How


def describe(model: JointModel, name: str, how: How | None) -> ModelMeta:
    """Return the description that mteb writes beside its results.

    The revision is the SHA-256 of the weights, by which mteb finds earlier results of the same model. how: a rule that
    was asked for. It makes results of their own.
    """
    from mteb.models.model_meta import ModelMeta

    modalities: Any = [m for m in KNOWN if m in model.modalities]
    parameters = list(model.parameters())
    return ModelMeta(
        loader=None,
        name=name,
        revision=fingerprint(model)[:40],
        release_date=None,
        languages=None,
        n_parameters=sum(p.numel() for p in parameters),
        memory_usage_mb=round(sum(p.numel() * p.element_size() for p in parameters) / 2**20, 3),
        max_tokens=None,
        embed_dim=model.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",  # pyright: ignore[reportArgumentType]  a validator makes the enum of it
        use_instructions=False,
        training_datasets=None,
        modalities=modalities,
        experiment_kwargs=None if how is None else {"how": how},
    )
