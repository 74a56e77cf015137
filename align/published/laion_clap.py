"""``laion-clap``: CLAP as LAION published it (Wu et al. 2023, arXiv:2211.06687)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from align.encoders import HTSAT, HFCaption
from align.encoders.hf.model import library
from align.encoders.weight_values import read_scale
from align.encoders.weights import check_weights, checksum, put_weights, read_weights
from align.files.hub import PREFIX, hub_file, licence_of
from align.heads import Identity
from align.model import JointModel, Tower
from align.preprocess import HFTokens
from align.published.laion_constants import check_constants, is_constant
from align.published.laion_sizes import audio_sizes, text_sizes
from align.published.layouts import check_layout
from align.values import Origin, TermInfo

TOKENIZER = "FacebookAI/roberta-base"
CONTEXT = 77  # tokens of a text
SCALE = "logit_scale_a"  # of sounds that ask for texts; logit_scale_t is that of texts that ask for sounds
MARKS = ("audio_branch.patch_embed.", "audio_projection.")
UNUSED = ("audio_branch.tscam_conv.", "audio_branch.head.", "audio_transform.", "text_transform.", "logit_scale_")
"""First parts of names that the embeddings do not need: AudioSet's classifier, and layers of an older loss."""
AUDIO = (
    (r"^audio_branch\.bn0\.", "bands."),
    (r"^audio_branch\.patch_embed\.proj\.", "patches.whole."),
    (r"^audio_branch\.patch_embed\.norm\.", "patches.norm."),
    (r"^audio_branch\.patch_embed\.mel_conv2d\.", "patches.parts."),
    (r"^audio_branch\.patch_embed\.fusion_model\.local_att\.", "patches.fusion.local."),
    (r"^audio_branch\.patch_embed\.fusion_model\.global_att\.", "patches.fusion.all."),
    (r"^audio_branch\.layers\.(\d+)\.downsample\.norm\.", r"stages.\1.merge.norm."),
    (r"^audio_branch\.layers\.(\d+)\.downsample\.reduction\.", r"stages.\1.merge.reduce."),
    (r"^audio_branch\.layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    (r"\.attn\.relative_position_bias_table$", ".attention.table"),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
    (r"^audio_branch\.norm\.", "norm."),
    (r"^audio_projection\.", "project."),
)
TEXT = (
    (r"^text_branch\.", "text_model."),
    (r"^text_projection\.0\.", "text_projection.linear1."),
    (r"^text_projection\.2\.", "text_projection.linear2."),
)
"""Parts of published names -> ours, and transformers'."""
COUNTED = ("text_model.embeddings.position_ids", "text_model.embeddings.token_type_ids")
"""Constants of transformers' text tower that RoBERTa's files do not have."""


def load(source: str, towers: Sequence[str] = ()) -> JointModel:
    """Return audio and text towers with their projections, and the learned scale of sounds that ask for texts.

    source: a .pt as LAION published it, with or without fusion, of HTSAT-tiny or -base and RoBERTa. Its tokenizer is
    not in it: ``TOKENIZER@FILE`` names a folder or a model on the hub that has it. FILE alone takes the one in its
    folder, and where there is none roberta-base's.
    ``hf-hub:owner/name/FILE.pt`` is a file on the hub. towers: without "text" among them no tokenizer is asked for,
    and no transformers. The second learned scale changes no ranking and is left out.

    Raises ValueError for weights of another layout or that do not fit, OSError for a source that does not exist or
    cannot be reached.
    """
    tokenizer, path, name = _find(source)
    if text_wanted := not towers or "text" in towers:
        library()
    tensors = read_weights(path)
    check_layout("laion-clap", tensors, str(path))
    if SCALE not in tensors:
        raise ValueError(f"{path} does not fit the model: 1 missing: {SCALE}")
    origin = Origin(name, checksum(path), licence_of(path.parent))
    audio = make_audio(tensors, str(path))
    audio.origin = origin
    made = {"audio": Tower(None, audio, Identity)}
    if text_wanted:
        text = make_text(tensors, str(path))
        text.origin = origin
        context = min(CONTEXT, text.context_limit or CONTEXT)
        made["text"] = Tower(HFTokens(tokenizer, context=context), text, Identity)
    model = JointModel(made, audio.width)
    if text_wanted:
        model.terms = [TermInfo(("audio", "text"), "pairwise", read_scale(tensors[SCALE], SCALE, path))]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of LAION's CLAP with an HTSAT."""
    return all(any(key.startswith(mark) for key in keys) for mark in MARKS)


def make_audio(tensors: Mapping[str, Tensor], where: str) -> HTSAT:
    """Return the audio encoder with its weights. where: the file, for messages.

    Raises ValueError for missing, unknown and odd tensors, and for constants other than the published ones.
    """
    sizes, weights = audio_sizes(tensors, where), rename_audio(tensors)
    with torch.device("meta"):  # no memory for sizes that do not fit
        check_weights(HTSAT(**sizes), weights, where)
    encoder = HTSAT(**sizes)
    put_weights(encoder, weights, where)
    check_constants(tensors, encoder, where)
    return encoder


def rename_audio(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the audio branch and its projection under HTSAT's names."""
    kept = {k: x for k, x in tensors.items() if not k.startswith(("text_", *UNUSED)) and not is_constant(k)}
    return _rename(kept, AUDIO)


def make_text(tensors: Mapping[str, Tensor], where: str) -> HFCaption:
    """Return the text encoder with its weights. Raises ValueError for missing, unknown and odd tensors."""
    config, weights = text_sizes(tensors, where), rename_text(tensors)
    with torch.device("meta"):  # as for sounds
        check_weights(HFCaption("roberta-base", config=config).model, weights, where, COUNTED)
    encoder = HFCaption("roberta-base", config=config)
    put_weights(encoder.model, weights, where, COUNTED)
    return encoder


def rename_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the text branch and its projection under transformers' names."""
    names = [k for k in tensors if k.startswith(("text_branch.", "text_projection.")) and not is_constant(k)]
    return _rename({k: tensors[k] for k in names}, TEXT)


def _rename(tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Return the tensors under our names. Names that are not known stay."""
    found: dict[str, Tensor] = {}
    for name, x in tensors.items():
        for pattern, ours in rules:
            name = re.sub(pattern, ours, name)
        found[name] = x
    return found


def _find(source: str) -> tuple[str, Path, str]:
    """Return the source of the tokenizer, the file, and its name. Raises FileNotFoundError where there is no file."""
    before, at, after = source.partition("@")
    tokenizer, file = ("", source) if not at or Path(source).exists() else (before, after)
    if not file.startswith(PREFIX):
        beside = any((Path(file).parent / name).is_file() for name in ("tokenizer.json", "vocab.json"))
        return tokenizer or (str(Path(file).parent) if beside else TOKENIZER), Path(file), file
    parts = file.removeprefix(PREFIX).split("/")
    if len(parts) != 3:
        raise ValueError(f"{file} is no file on the hub, which has the form {PREFIX}owner/name/FILE.pt")
    return tokenizer or TOKENIZER, hub_file("/".join(parts[:2]), parts[2]), file.removeprefix(PREFIX)
