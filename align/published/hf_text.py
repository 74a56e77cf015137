"""``hf-text``: a text encoder or decoder as transformers or Sentence Transformers saves it, as one tower."""

from __future__ import annotations

from collections.abc import Collection

from align.encoders import HFText
from align.encoders.hf.sentence_folder import find_text
from align.encoders.weights import read_keys
from align.heads import Identity
from align.model import JointModel, Tower
from align.published.layouts import check_layout

WORDS = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "tok_embeddings.weight", "shared.weight")
OTHERS = (
    "vision_model.",
    "visual.",
    "audio_model.",
    "audio_encoder.",
    "logit_scale",
    "model.encoder.conv1.",
    "encoder.conv1.",
)


def load(source: str) -> JointModel:
    """Return a model of one tower, ``text``, with its publisher's pooling, prompt and tokenizer.

    source: a hub id or a saved folder. Without a stated pooling it is the mean of the tokens. Raises ValueError for
    weights of another layout, FileNotFoundError for a source that is not there.
    """
    path = find_text(source)[1].weights()
    check_layout("hf-text", read_keys(path), str(path))
    encoder = HFText(source, pretrained=True)
    return JointModel({"text": Tower(encoder=encoder, head=Identity)}, encoder.width)


def fits(keys: Collection[str]) -> bool:
    """Return True for names of a table of words, and of no other medium's tower."""
    return any(k.endswith(WORDS) for k in keys) and not any(k.startswith(OTHERS) for k in keys)
