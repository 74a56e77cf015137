"""CLIP's two towers of transformers as Sentence Transformers' own modules: Transformer and Normalize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from align.convert.sentences.parts import Part, make_tokenizer
from align.convert.sentences.text import BASE, write_normalize
from align.encoders import HFCaption, HFImage
from align.files import write_json
from align.heads import Identity, Linear
from align.model import JointModel
from align.model.inside import unwrap
from align.preprocess import HFTokens, Image
from align.preprocess.image_presets import MEANS, STDS, n_numbers

RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # PIL's numbers


def refuse_clip(model: JointModel) -> str | None:
    """Return the reason why the modules cannot hold a model, None where they can."""
    if sorted(model.modalities) != ["image", "text"]:
        return f"it has the towers {', '.join(model.modalities)}"
    image, text = (unwrap(model.towers[m]) for m in ("image", "text"))
    if type(image.encoder) is not HFImage or type(text.encoder) is not HFCaption:
        return f"its encoders are {type(image.encoder).__name__} and {type(text.encoder).__name__}"
    kinds = image.encoder.config["model_type"], text.encoder.config["model_type"]
    if kinds != ("clip_vision_model", "clip_text_model"):
        return f"its encoders are of the types {' and '.join(kinds)}"
    for name, tower in (("image", image), ("text", text)):
        if type(tower.head) not in (Identity, Linear) or getattr(tower.head, "bias", False):
            return f"the head of {name} is {type(tower.head).__name__}, and no matrix alone"
    picture, tokens = image.preprocess, text.preprocess
    if type(picture) is not Image or type(tokens) is not HFTokens:
        return f"its preprocesses are {type(picture).__name__} and {type(tokens).__name__}"
    plain = (picture.backend, picture.resize, picture.crop, picture.channels, picture.bits, picture.alpha)
    if plain != ("transformers", "crop", 1.0, 3, 8, "white") or picture.interpolation not in RESAMPLE:
        return "its pictures are prepared as CLIPImageProcessor does not"
    if tokens.clean != "none" or tokens.strip_sep or not tokens.mask or tokens.prefix or tokens.lower:
        return "its tokenizer is no plain one of CLIP"
    return None


def write_clip(model: JointModel, folder: Path) -> list[Part]:
    """Write the modules of a model of CLIP's two towers into a folder. Linear heads go into the projections.

    Returns their entries of modules.json.
    """
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    image, text = (unwrap(model.towers[m]) for m in ("image", "text"))
    parts = [Part(f"{BASE}.transformer.Transformer", "0_Transformer")]
    inside = parts[0].make(folder)
    vision, words = ({**tower.encoder.config, "projection_dim": model.dim} for tower in (image, text))
    made: Any = CLIPModel(CLIPConfig(text_config=words, vision_config=vision, projection_dim=model.dim))
    state: dict[str, Tensor] = {"logit_scale": made.logit_scale.detach()}
    for tower, name in ((image, "visual_projection.weight"), (text, "text_projection.weight")):
        state |= {key: x.detach().cpu() for key, x in tower.encoder.model.state_dict().items()}
        if isinstance(tower.head, Linear):
            state[name] = tower.head.project.weight.detach().cpu() @ state[name]  # (D, W) = (D, P) (P, W)
    scales = [term.scale for term in model.terms if {*term.modalities} == {"image", "text"}]
    if scales:
        state["logit_scale"] = made.logit_scale.detach().new_tensor(scales[0]).log()
    made.load_state_dict(state)
    made.save_pretrained(inside)
    CLIPProcessor(CLIPImageProcessor(**_describe(image.preprocess)), make_tokenizer(text.preprocess)).save_pretrained(
        inside
    )
    names = {"text": "get_text_features", "image": "get_image_features"}
    kinds = {kind: {"method": name, "method_output_name": "pooler_output"} for kind, name in names.items()}
    stated = {"transformer_task": "feature-extraction", "modality_config": kinds}
    write_json(inside / "sentence_bert_config.json", stated | {"module_output_name": "sentence_embedding"})
    return [*parts, write_normalize(1, folder)] if model.normalize else parts


def _describe(picture: Image) -> dict[str, Any]:
    """Return the arguments of CLIPImageProcessor that prepares pictures as ours."""
    size = picture.size if isinstance(picture.size, tuple) else (picture.size, picture.size)
    return {
        "size": {"shortest_edge": min(size)},
        "crop_size": {"height": size[0], "width": size[1]},
        "resample": RESAMPLE[picture.interpolation],
        "image_mean": list(n_numbers("mean", picture.mean, MEANS, 3)),
        "image_std": list(n_numbers("std", picture.std or picture.mean, STDS, 3)),
    }
