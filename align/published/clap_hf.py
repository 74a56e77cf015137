"""``clap-hf``: CLAP as transformers saves it, such as laion/clap-htsat-unfused (Wu et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection

from align.encoders import HFAudio, HFCaption
from align.encoders.hf.files import find
from align.encoders.weight_values import read_scale
from align.encoders.weights import read_keys, read_weights
from align.heads import Identity
from align.model import JointModel, Tower
from align.published.layouts import check_layout
from align.values import TermInfo

NAMES = {"logit_scale_a", "logit_scale_t", "audio_projection.linear1.weight", "text_projection.linear1.weight"}
SCALE = "logit_scale_a"  # of transformers' logits_per_audio; logit_scale_t is that of logits_per_text


def load(source: str) -> JointModel:
    """Return audio and text towers with their projections, and the learned scale of sounds that ask for texts.

    source: a hub id or a saved folder, with or without fusion. CLAP learned a second scale, for texts that ask for
    sounds. It changes no ranking, and is left out.

    Raises ValueError for weights of another layout or that do not fit, OSError for a source that does not exist or
    cannot be reached.
    """
    path = find(source).weights()
    check_layout("clap-hf", read_keys(path), str(path))
    audio, text = HFAudio(source, pretrained=True), HFCaption(source, pretrained=True)
    model = JointModel(
        {"audio": Tower(encoder=audio, head=Identity), "text": Tower(encoder=text, head=Identity)}, audio.width
    )
    scale = read_scale(read_weights(path, SCALE)[""], SCALE, path)
    model.terms = [TermInfo(("audio", "text"), "pairwise", scale)]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are CLAP's."""
    return set(keys) >= NAMES
