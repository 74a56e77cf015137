"""A text tower of transformers as Sentence Transformers' own modules: Transformer, Pooling, Dense and Normalize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from align.convert.sentences.parts import Part, save_tokenizer
from align.encoders import HFText
from align.encoders.hf.text_kind import text_kind
from align.encoders.weights import write_tensors
from align.files import write_json
from align.heads import Identity, Linear
from align.model import JointModel, Tower
from align.model.inside import unwrap
from align.preprocess import HFTokens

POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
PACKAGE = "sentence_transformers.sentence_transformer.modules"
BASE = "sentence_transformers.base.modules"


def refuse_text(model: JointModel) -> str | None:
    """Return the reason why the modules cannot hold a model, None where they can."""
    if len(model.modalities) != 1:
        return f"it has the towers {', '.join(model.modalities)}"
    tower = unwrap(model.towers[model.modalities[0]])
    encoder, tokens, head = tower.encoder, tower.preprocess, tower.head
    if type(encoder) is not HFText or type(tokens) is not HFTokens:
        return f"its encoder is {type(encoder).__name__} and its preprocess {type(tokens).__name__}"
    if type(head) not in (Identity, Linear):
        return f"its head is {type(head).__name__}"
    if encoder.pooling not in POOLINGS or encoder.bidirectional:
        return f"it pools by {encoder.pooling}" + (" and reads a decoder both ways" if encoder.bidirectional else "")
    if any(layer.get("norm") is not None for layer in encoder.dense):
        return "it has a layer normalisation after the pooling"
    if tokens.clean != "none" or tokens.strip_sep or not tokens.mask:
        return "its tokenizer cleans texts, drops separators or hides no padding"
    return None


def write_text(model: JointModel, folder: Path) -> tuple[list[Part], dict[str, Any]]:
    """Write the modules of a model of one text tower into a folder.

    Returns their entries of modules.json, and what config_sentence_transformers.json says of the prompt.
    """
    tower: Tower = unwrap(model.towers[model.modalities[0]])
    encoder, tokens = tower.encoder, tower.preprocess
    parts = [Part(f"{BASE}.transformer.Transformer", "0_Transformer")]
    inside = parts[0].make(folder)
    encoder.model.save_pretrained(inside)
    save_tokenizer(tokens, inside)
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    stated = {"transformer_task": "feature-extraction", "modality_config": text, "max_seq_length": tokens.context}
    module = {"module_output_name": "token_embeddings", "do_lower_case": bool(tokens.lower)}
    options = text_kind(encoder.model.config)[1]  # such as add_pooling_layer=False: no weights are missed
    write_json(inside / "sentence_bert_config.json", stated | module | {"model_kwargs": options})
    width = int(encoder.model.config.hidden_size)
    parts.append(Part(f"{PACKAGE}.pooling.Pooling", "1_Pooling"))
    pooling = {"embedding_dimension": width, "pooling_mode": POOLINGS[encoder.pooling], "include_prompt": True}
    write_json(parts[-1].make(folder) / "config.json", pooling)
    for layer in encoder.layers:
        activation = type(layer.activation)
        name = f"{activation.__module__}.{activation.__name__}"
        parts.append(_write_dense(layer.linear, name, len(parts), folder))
    if encoder.normalize:
        parts.append(write_normalize(len(parts), folder))
    if isinstance(tower.head, Linear):
        parts.append(_write_dense(tower.head.project, "torch.nn.modules.linear.Identity", len(parts), folder))
    if model.normalize and not (encoder.normalize and isinstance(tower.head, Identity)):
        parts.append(write_normalize(len(parts), folder))
    prompts = {"prompts": {"align": tokens.prefix}, "default_prompt_name": "align"} if tokens.prefix else {}
    return parts, prompts


def write_normalize(place: int, folder: Path) -> Part:
    """Write the module that makes unit vectors."""
    part = Part(f"{BASE}.normalize.Normalize", f"{place}_Normalize")
    names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    write_json(part.make(folder) / "config.json", names)
    return part


def _write_dense(linear: torch.nn.Linear, activation: str, place: int, folder: Path) -> Part:
    part = Part(f"{BASE}.dense.Dense", f"{place}_Dense")
    inside = part.make(folder)
    names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    sizes = {"in_features": linear.in_features, "out_features": linear.out_features}
    bias = linear.bias is not None
    write_json(inside / "config.json", sizes | {"bias": bias, "activation_function": activation} | names)
    tensors = {f"linear.{name}": x.detach().cpu().contiguous() for name, x in linear.state_dict().items()}
    write_tensors(tensors, inside / "model.safetensors")
    return part
