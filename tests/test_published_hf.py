"""clip-hf, siglip-hf and hf-text against transformers itself, end to end, with random weights."""

import json
import shutil
from functools import partial

import hf_models
import numpy as np
import proof
import pytest
import torch
from PIL import Image as PILImage

import align
from align.checkpoint.published import import_published
from align.commands import main
from align.encoders import HFCaption, HFImage, HFText
from align.heads import Identity
from align.model import JointModel, Tower
from align.preprocess import HFTokens
from align.published import load_published

TEXTS = ["a photo of a cat", "Two dogs, in the snow!", ", ".join(["rain and thunder near an old house"] * 6)]
KEY_BIAS = "a bias of the keys adds the same to all scores of a query, which the softmax takes away"
EXEMPT = {"k_proj.bias": KEY_BIAS, "key.bias": KEY_BIAS}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def pictures(root):
    """Three pictures of different shapes, as files."""
    rng, paths = np.random.default_rng(0), []
    for i, (height, width) in enumerate(((30, 40), (61, 47), (25, 25))):
        small = PILImage.fromarray((rng.random((height // 4, width // 4, 3)) * 255).astype(np.uint8))
        small.resize((width * 2, height * 2)).save(root / f"{i}.png")
        paths.append(root / f"{i}.png")
    return paths


PAIRS = {
    "clip": ("clip-hf", hf_models.clip, {}),
    "clip, old end token": ("clip-hf", hf_models.clip, {"legacy": True}),
    "siglip": ("siglip-hf", hf_models.siglip, {}),
    "siglip 2": ("siglip-hf", hf_models.siglip, {"second": True}),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request, root):
    """(layout, folder, model) of each."""
    layout, make, options = PAIRS[request.param]
    folder = make(root / request.param.replace(" ", "-"), **options)
    return layout, folder, load_published(layout, str(folder))


def theirs(folder, pictures, context):
    """Return the output of transformers' own model on its own processor's input."""
    from transformers import AutoModel, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    images = [PILImage.open(path).convert("RGB") for path in pictures]
    options = {"padding": "max_length", "truncation": True, "max_length": context}
    given = processor(text=TEXTS, images=images, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**given)


def logits(rows, term):
    return term.scale * rows["image"] @ rows["text"].T + term.bias


def test_a_pair_of_towers_is_that_of_transformers(pair, pictures):
    _, folder, model = pair
    wanted = theirs(folder, pictures, model.towers.text.preprocess.context)
    rows = model.embed(image=pictures, text=TEXTS)
    proof.agree(rows["image"], wanted.image_embeds)
    proof.agree(rows["text"], wanted.text_embeds)
    assert model.terms[0].modalities == ("image", "text")
    torch.testing.assert_close(logits(rows, model.terms[0]), wanted.logits_per_image, rtol=0, atol=1e-4)


def test_each_tensor_of_a_pair_counts(pair, pictures):
    _, _, model = pair
    values = {
        name: tower.preprocess.collate([tower.preprocess.row(x) for x in inputs])
        for (name, tower), inputs in zip(model.towers.items(), (pictures, TEXTS), strict=True)
    }
    for name, tower in model.towers.items():
        assert proof.unmoved(tower.encoder, partial(tower, values[name]), EXEMPT) == []


def test_a_pairs_tokens_are_in_the_joint_space(pair, pictures):
    """CLIP's end token and its class token, projected, are what it pools. SigLIP's last place is."""
    layout, _, model = pair
    tower = model.towers.text
    values = tower.preprocess.device(tower.preprocess.collate([tower.preprocess.row(x) for x in TEXTS]))
    found = tower.encoder(values)
    assert found.tokens.shape[:2] == found.mask.shape == values["input_ids"].shape
    distance = (found.tokens - found.pooled[:, None]).abs().amax(-1).argmin(1)
    last = found.mask.sum(1) - 1 if layout == "clip-hf" else torch.full((3,), found.mask.shape[1] - 1)
    assert distance.tolist() == last.tolist()
    image = model.towers.image
    values = image.preprocess.device(image.preprocess.collate([image.preprocess.row(x) for x in pictures]))
    patches, library = image.encoder(values).tokens, image.encoder.model
    if layout == "clip-hf":
        inside = library.vision_model
        wanted = library.visual_projection(inside.post_layernorm(inside(values).last_hidden_state))[:, 1:]
    else:
        wanted = library(values).last_hidden_state
    assert patches.shape == (3, 25 if layout == "clip-hf" else 16, image.encoder.width)
    torch.testing.assert_close(patches, wanted)


def test_a_row_alone_and_in_company_is_equal_and_none_is_none(pair, pictures):
    _, _, model = pair
    together = model.embed(image=pictures, text=TEXTS)
    for name, inputs in (("image", pictures), ("text", TEXTS)):
        alone = torch.cat([model.embed(**{name: [x]})[name] for x in inputs])
        torch.testing.assert_close(alone, together[name], rtol=0, atol=1e-6)
        tower = model.towers[name]
        tower(tower.preprocess.collate([])).sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in tower.encoder.parameters())
        tower.zero_grad(set_to_none=True)


def test_activations_computed_again_give_equal_gradients(pair, pictures):
    _, folder, model = pair
    for kind, tower, inputs in (
        (HFImage, model.towers.image, pictures),
        (HFCaption, model.towers.text, TEXTS),
    ):
        values = tower.preprocess.device(tower.preprocess.collate([tower.preprocess.row(x) for x in inputs]))
        gradients = []
        for again in (False, True):
            encoder = kind(str(folder), pretrained=True, checkpointing=again)
            encoder(values).pooled.square().sum().backward()
            gradients.append({name: p.grad for name, p in encoder.named_parameters()})
        assert any(getattr(m, "gradient_checkpointing", False) for m in encoder.modules())
        for name, x in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], x)


def test_a_model_folder_needs_neither_the_hub_nor_the_source(pair, pictures, tmp_path):
    layout, folder, model = pair
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    import_published(layout, str(source), tmp_path / "out")
    shutil.rmtree(source)
    again = align.load(tmp_path / "out")
    for name, rows in model.embed(image=pictures, text=TEXTS).items():
        inputs = {"image": pictures, "text": TEXTS}[name]
        assert torch.equal(again.embed(**{name: inputs})[name], rows)
    assert again.terms == model.terms
    parts = json.loads((tmp_path / "out" / "model.json").read_text())["parts"]
    assert {part["licence"] for part in parts.values()} == {"mit"}
    assert not any(part["changed"] for part in parts.values())


def test_zeroshot_gives_the_probabilities_of_transformers(root, pictures, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))
    folder = hf_models.clip(root / "zeroshot")
    command = ["zeroshot", f"clip-hf:{folder}", "--classes", "cat,old house", "--template", "{}", "--json"]
    assert main([*command, *map(str, pictures)]) == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    from transformers import AutoModel, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    images = [PILImage.open(path) for path in pictures]
    given = processor(text=["cat", "old house"], images=images, return_tensors="pt", padding=True)
    with torch.no_grad():
        wanted = model(**given).logits_per_image.softmax(-1)
    for row, each in zip(rows, wanted.tolist(), strict=True):
        assert [row["probabilities"][name] for name in ("cat", "old house")] == pytest.approx(each, abs=1e-4)


def test_an_old_image_processors_file_is_read(pair, pictures, tmp_path):
    """OpenAI's and Google's files of before 2023 give a size as one number."""
    layout, folder, _ = pair
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "processor_config.json").unlink()
    mean, size = ([0.4, 0.5, 0.6], 40) if layout == "clip-hf" else ([0.5, 0.5, 0.5], 32)
    old = {"do_normalize": True, "do_resize": True, "image_mean": mean, "image_std": [0.2, 0.3, 0.4], "resample": 3}
    if layout == "clip-hf":
        old |= {"crop_size": 40, "do_center_crop": True, "feature_extractor_type": "CLIPFeatureExtractor", "size": 44}
    else:
        old |= {"image_processor_type": "SiglipImageProcessor", "rescale_factor": 1 / 255, "do_rescale": True}
        old |= {"size": {"height": size, "width": size}}
    (tmp_path / "old" / "preprocessor_config.json").write_text(json.dumps(old))
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(tmp_path / "old")
    wanted = processor(images=[PILImage.open(p) for p in pictures], return_tensors="pt")["pixel_values"]
    ours = load_published(layout, str(tmp_path / "old")).towers.image.preprocess
    pixels = ours.device(ours.collate([ours.row(p) for p in pictures]))
    torch.testing.assert_close(pixels, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", hf_models.TEXTS)
def test_a_text_model_is_that_of_transformers(root, name):
    """The mean of the real tokens, each tensor's part in it, and the model folder."""
    import transformers
    from transformers import AutoTokenizer

    folder = hf_models.text(root / name, name)
    model = load_published("hf-text", str(folder))
    tower = model.towers.text
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"  # GPT-2's positions are absolute, and count from the first token
    options = {"padding": True, "truncation": True, "max_length": tower.preprocess.context}
    given = tokenizer(TEXTS, return_tensors="pt", **options)
    kind = type(tower.encoder.model).__name__
    library = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
    mask = given["attention_mask"][..., None]
    with torch.no_grad():
        hidden = library(input_ids=given["input_ids"], attention_mask=given["attention_mask"])[0]
    wanted = (hidden * mask).sum(1) / mask.sum(1)
    values = tower.preprocess.collate([tower.preprocess.row(x) for x in TEXTS])
    proof.agree(tower(values), wanted)
    exempt = {} if name == "qwen2" else EXEMPT  # its keys turn with their places after the bias
    assert proof.unmoved(tower.encoder, lambda: tower(values), exempt) == []
    import_published("hf-text", str(folder), root / f"{name}-out")
    again = align.load(root / f"{name}-out")
    assert torch.equal(again.embed(text=TEXTS)["text"], model.embed(text=TEXTS)["text"])


def test_text_trains_in_a_tower_of_its_own(root):
    """With another head, and HFTokens of the user's own, whose length may be shorter."""
    folder = hf_models.text(root / "own", "bert")
    encoder = HFText(str(folder), pretrained=True, pooling="cls", checkpointing=True)
    model = JointModel({"text": Tower(HFTokens(str(folder), 12), encoder)}, 8)
    model.train()
    values = model.preprocess["text"].collate([model.preprocess["text"].row(x) for x in TEXTS])
    model.towers.text(values).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert isinstance(load_published("hf-text", str(folder)).towers.text.head, Identity)
