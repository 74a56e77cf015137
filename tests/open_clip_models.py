"""Small models of open_clip, each of another kind, made by the library with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import hf_tokenizers
import torch
from fill import fill
from torch.nn.functional import normalize

VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
HALF: dict[str, Any] = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
SIGLIP = {
    "context_length": 16,
    "vocab_size": 400,
    "width": 64,
    "heads": 2,
    "layers": 2,
    "no_causal_mask": True,
    "pool_type": "last",
    "proj_bias": True,
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
    "tokenizer_kwargs": {"clean": "canonicalize"},
}
BERT = {**TEXT, "vocab_size": 400, "pool_type": "last", "no_causal_mask": True}
ROBERTA = {
    "model_type": "roberta",
    "vocab_size": 600,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
MT5 = {
    "model_type": "mt5",
    "vocab_size": 400,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 2,
    "is_encoder_decoder": True,
}


def timm(name: str, size: int, pool: str, proj: str | None, **more: Any) -> dict[str, Any]:
    cfg = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": proj}
    return {**cfg, "image_size": size, **more}


class Kind(NamedTuple):
    """Configuration of a model, and the preprocessing that it was "trained" with."""

    config: dict[str, Any]
    options: Mapping[str, Any] = MappingProxyType({})


def write_kinds(folder: Path) -> dict[str, Kind]:
    """Return the models by name, and teach them to open_clip, which has no way to forget them. That does no harm."""
    import open_clip

    siglip, bert, roberta, mt5 = (folder / name for name in ("siglip", "bert", "roberta", "mt5"))
    hf_tokenizers.siglip(siglip), hf_tokenizers.bert(bert), hf_tokenizers.roberta(roberta), hf_tokenizers.t5(mt5)
    (roberta / "config.json").write_text(json.dumps(ROBERTA))
    (mt5 / "config.json").write_text(json.dumps(MT5))
    clipa = {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
    coca = {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True}
    bilinear = {"image_interpolation": "bilinear"}
    squash = {"image_resize_mode": "squash"}
    kinds = {
        "vit": Kind({"vision_cfg": VIT, "text_cfg": TEXT}),
        "quick": Kind({"vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True}),
        "custom": Kind({"vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True}),
        "siglip": Kind(
            {
                "vision_cfg": timm("test_vit", 160, "map", "none"),
                "text_cfg": {**SIGLIP, "hf_tokenizer_name": str(siglip)},
                "init_logit_bias": -10,
                "custom_text": True,
            },
            HALF | squash,
        ),
        "pe": Kind(
            {"vision_cfg": timm("vit_pe_core_tiny_patch16_384", 384, "map", None), "text_cfg": TEXT},
            HALF | squash | bilinear,
        ),
        "eva": Kind({"vision_cfg": timm("eva02_tiny_patch14_224", 224, "token", None), "text_cfg": TEXT}),
        "mobile": Kind(
            {
                "vision_cfg": timm("fastvit_mci0", 256, "avg", None),
                "text_cfg": {**TEXT, "no_causal_mask": True},
                "custom_text": True,
            },
            {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)} | bilinear,
        ),
        "resnet": Kind(
            {
                "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
                "text_cfg": TEXT,
            }
        ),
        "clipa": Kind(
            {
                "vision_cfg": clipa,
                "text_cfg": {
                    **BERT,
                    "hf_tokenizer_name": str(bert),
                    "tokenizer_kwargs": {"strip_sep_token": True},
                },
                "custom_text": True,
            },
            {"image_resize_mode": "longest"},
        ),
        "coca": Kind(
            {
                "vision_cfg": coca,
                "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
                "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
                "custom_text": True,
            }
        ),
        "roberta": Kind(
            {
                "vision_cfg": VIT,
                "text_cfg": {"hf_model_name": str(roberta), "hf_tokenizer_name": str(roberta), "context_length": 16},
            }
        ),
        "mt5": Kind(
            {
                "vision_cfg": VIT,
                "text_cfg": {"hf_model_name": str(mt5), "hf_tokenizer_name": str(mt5), "context_length": 16},
            }
        ),
    }
    configs = folder / "configs"
    configs.mkdir()
    for name, kind in kinds.items():
        (configs / f"tiny-{name}.json").write_text(json.dumps({"embed_dim": 64, **kind.config}))
    open_clip.add_model_config(configs)
    return kinds


class Whole(NamedTuple):
    """The library's own model, its processor and its tokenizer."""

    model: Any
    preprocess: Any
    tokenizer: Any

    @torch.no_grad()
    def embed(self, pictures: list[Any], texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.model.encode_image(torch.stack([self.preprocess(x) for x in pictures]))
        return normalize(image, dim=-1), normalize(self.model.encode_text(self.tokenizer(texts)), dim=-1)


def make(name: str, seed: int = 0, **options: Any) -> Whole:
    """Return a model of open_clip filled so that its input matters."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained_text=False, **options)
    return Whole(fill(model, seed).eval(), preprocess, open_clip.get_tokenizer(name))


def save_folder(whole: Whole, name: str, folder: Path, safe: bool = True) -> Path:
    """Save a model as open_clip does for the hub."""
    from open_clip import get_model_config
    from open_clip.push_to_hf_hub import save_config_for_hf, save_for_hf

    config = get_model_config(name)
    if hasattr(whole.tokenizer, "save_pretrained"):
        save_for_hf(whole.model, whole.tokenizer, config, str(folder), safe_serialization=safe)
    else:
        folder.mkdir(parents=True)
        save_config_for_hf(whole.model, folder / "open_clip_config.json", config)
        save_weights(
            whole.model.state_dict(), folder / f"open_clip_{'model.safetensors' if safe else 'pytorch_model.bin'}"
        )
    return folder


def save_weights(state: dict[str, torch.Tensor], path: Path) -> Path:
    """Save weights as a training run or the hub has them."""
    from safetensors.torch import save_file

    if path.suffix == ".safetensors":
        save_file({k: v.contiguous().clone() for k, v in state.items()}, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return path
