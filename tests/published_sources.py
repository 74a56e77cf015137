"""A tiny valid source of each published layout, as its library saves it, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import hf_models
import hf_sounds
import hf_tokenizers
import laion_clap_file
import open_clip_models
import point_towers
import torch
from fill import fill
from golden import ebind as golden_ebind
from golden import imagebind as golden_imagebind
from golden import uni3d as golden_uni3d
from keys import read_keys


class Made(NamedTuple):
    """SOURCE of ``align import``, the file of its weights, and the models that it needs beside it."""

    source: str
    weights: Path
    beside: tuple[str, ...] = ()


def make_sources(root: Path) -> dict[str, Made]:
    """Return the source of each layout. open_clip's has a tokenizer of Hugging Face beside its weights."""
    made = {
        "open_clip": make_open_clip(root / "open_clip"),
        "clip-hf": hf_models.clip(root / "clip"),
        "siglip-hf": hf_models.siglip(root / "siglip"),
        "clap-hf": hf_sounds.clap(root / "clap"),
        "pe-av": hf_sounds.pe_av(root / "pe_av"),
        "timm": _timm(root / "timm"),
        "hf-text": hf_models.text(root / "bert", "bert"),
        "whisper": hf_sounds.whisper(root / "whisper"),
        "ast": hf_sounds.ast(root / "ast"),
    }
    found = {layout: Made(str(folder), next(folder.glob("*.safetensors"))) for layout, folder in made.items()}
    files = {"efficientnet-lite": _lite(root / "lite.pth"), "imagebind": make_imagebind(root / "imagebind.pth")}
    shapes = {
        "openshape": point_towers.openshape_shapes(**point_towers.OPENSHAPE[point_towers.PROJECTED]),
        "ulip2": point_towers.ulip2_shapes(**point_towers.ULIP2),
    }
    for layout, sizes in shapes.items():
        files[layout] = root / f"{layout}.pt"
        torch.save(point_towers.fill_tower(sizes), files[layout])
    found |= {layout: Made(str(file), file) for layout, file in files.items()}
    found["laion-clap"] = _laion_clap(root / "laion")
    return found | _make_ebind(root / "parts", made["open_clip"])


def make_open_clip(folder: Path) -> Path:
    """Write a small model of open_clip's as the library saves it, its configuration beside it."""
    import open_clip

    tokens = hf_tokenizers.bert(folder.parent / "tokens")
    text = {"context_length": 16, "vocab_size": 400, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    config = {
        "embed_dim": 16,
        "vision_cfg": vision,
        "text_cfg": {**text, "pool_type": "last", "no_causal_mask": True, "hf_tokenizer_name": str(tokens)},
        "custom_text": True,
    }
    (folder.parent / "configs").mkdir()
    (folder.parent / "configs" / "tiny-published.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder.parent / "configs")
    return open_clip_models.save_folder(open_clip_models.make("tiny-published"), "tiny-published", folder)


def _make_ebind(folder: Path, clip: Path) -> dict[str, Made]:
    """Write EBind's heads in a folder of their own, over a small ImageBind and Uni3D, and return ebind and uni3d."""
    folder.mkdir()
    files = golden_ebind.write_files(golden_ebind.filled(golden_ebind.read_notes(), 0), folder)
    points = golden_uni3d.filled(golden_uni3d.shapes_of("eva02"), 0)
    torch.save(points, folder / "points.pt")
    weights = Path(files["ebind"])
    (folder / "ebind").mkdir()
    weights = weights.rename(folder / "ebind" / weights.name)
    beside = tuple(f"{k}:{x}" for k, x in (("open_clip", clip), *files.items()) if k != "ebind")
    return {
        "uni3d": Made(str(folder / "points.pt"), folder / "points.pt"),
        "ebind": Made(str(folder / "ebind"), weights, beside),
    }


def _timm(folder: Path) -> Path:
    import timm
    from timm.models import save_for_hf

    save_for_hf(fill(timm.create_model("test_vit")), folder, safe_serialization=True)
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    return folder


def _laion_clap(folder: Path) -> Made:
    """Write a file of LAION's CLAP with its tokenizer beside it."""
    file = laion_clap_file.write_flat(hf_tokenizers.roberta(folder) / "clap.pt")
    return Made(str(file), file)


def _lite(file: Path) -> Path:
    import timm
    from test_efficientnet_lite import published_names

    torch.save(published_names(fill(timm.create_model("tf_efficientnet_lite0"))), file)
    return file


def make_imagebind(file: Path) -> Path:
    """Write a small checkpoint of ImageBind with all of its towers."""
    torch.save(golden_imagebind.make_state(read_keys(golden_imagebind.HERE / "imagebind-tiny.keys")), file)
    return file
