"""Small models of transformers with random weights, saved as their publishers save them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import hf_tokenizers
from fill import fill

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip(folder: Path, *, legacy: bool = False, seed: int = 1) -> Path:
    """CLIP of 40 pixels and 24 tokens. legacy: the end token is stated as 2, as in OpenAI's configs."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = _tokenizer(hf_tokenizers.clip(folder / "tokenizer"))
    end = {"bos_token_id": 0, "eos_token_id": 2} if legacy else {"eos_token_id": len(tokenizer) - 1}
    text = {**SMALL, **end, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    vision = {**SMALL, "image_size": 40, "patch_size": 8}  # a tower states 512 outputs, and the model's 24 count
    with _quiet():
        made = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        fill(made, seed).save_pretrained(folder)
        picture = CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40})
        CLIPProcessor(picture, tokenizer).save_pretrained(folder)
    return folder


def siglip(folder: Path, *, second: bool = False, seed: int = 1) -> Path:
    """SigLIP of 32 pixels and 16 tokens. second: SigLIP 2, with a tokenizer that pads on the left, and bilinear."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    source = hf_tokenizers.llama if second else hf_tokenizers.siglip
    tokenizer = _tokenizer(source(folder / "tokenizer"), model_max_length=16)
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    with _quiet():
        fill(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)), seed).save_pretrained(folder)
        picture = SiglipImageProcessor(size={"height": 32, "width": 32}, **({"resample": 2} if second else {}))
        SiglipProcessor(picture, tokenizer).save_pretrained(folder)
    return folder


TEXTS = {
    "bert": ("BertModel", "bert", {}),
    "roberta": ("RobertaModel", "roberta", {"max_position_embeddings": 40, "pad_token_id": 1}),
    "t5": ("T5EncoderModel", "t5", {"d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "d_model": 32}),
    "gpt2": ("GPT2LMHeadModel", "gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40}),
    "llama": ("LlamaForCausalLM", "llama", {"num_key_value_heads": 1, "max_position_embeddings": 64}),
    "mistral": ("MistralModel", "llama", {"num_key_value_heads": 1, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", "qwen2", {"num_key_value_heads": 1}),
}
"""Name -> class, tokenizer, and what its config needs beside ``SMALL``."""


def text(folder: Path, name: str, *, seed: int = 1) -> Path:
    """Return the folder of a small text model with its tokenizer."""
    import transformers

    kind, tokens, options = TEXTS[name]
    tokenizer = _tokenizer(getattr(hf_tokenizers, tokens)(folder))
    of = getattr(transformers, kind)
    ends = {"bos_token_id": None, "eos_token_id": None} if name == "gpt2" else {}
    plain = {} if name in ("t5", "gpt2") else SMALL
    with _quiet():
        fill(of(of.config_class(**plain, **options, **ends, vocab_size=len(tokenizer))), seed).save_pretrained(folder)
    return folder


def _tokenizer(folder: Path, **options):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), **options)


@contextlib.contextmanager
def _quiet():
    from align.encoders.hf import model as hf_model

    with hf_model.quiet():
        yield
