"""timm's models beside timm itself, from pictures to features: any weights, in each form in which they are saved."""

import json
import warnings

import numpy as np
import proof
import pytest
import timm
import torch
import torch.nn.functional as F
from fill import fill
from PIL import Image as Pil
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf

from align import JointModel, Tower, load
from align.checkpoint.describe import build, describe
from align.encoders import TimmImage
from align.heads import Identity
from align.preprocess import Image
from align.published import load_published
from align.published.timm import fits

VALUE, COSINE = proof.VALUE, proof.COSINE
TIGHT = 0.01  # of the tolerance: EfficientNet's random weights bring all pictures close together


@pytest.fixture(autouse=True)
def _batch_norm_is_frozen():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*has batch normalisation")
        yield


def draw_pictures():
    """Three pictures: landscape, portrait and small."""
    rng = np.random.default_rng(0)
    sizes = ((6, 8, 211, 134), (9, 5, 97, 180), (7, 7, 50, 41))
    coarse = (rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for height, width, *_ in sizes)
    return [Pil.fromarray(x).resize(size[2:], Pil.Resampling.BICUBIC) for x, size in zip(coarse, sizes, strict=True)]


def theirs(whole, pictures, pool=None):
    """Features before the classifier, by timm's own transform and model."""
    transform = create_transform(**resolve_model_data_config(whole))
    x = torch.stack([transform(picture.convert("RGB")) for picture in pictures])
    with torch.no_grad():
        maps = whole.forward_features(x)
        return maps[:, 0] if pool == "token" else whole.forward_head(maps, pre_logits=True)


def ours(encoder, pictures):
    return JointModel({"image": Tower(None, encoder, Identity)}, encoder.width, normalize=False).embed(image=pictures)[
        "image"
    ]


def save(whole, how, folder):
    """Return the source that names the weights, saved as ``how`` says."""
    if how == "folder":
        save_for_hf(whole, folder, safe_serialization=True)
        return str(folder)
    path = folder / f"weights{how}"
    if how == ".safetensors":
        save_file({name: x.contiguous() for name, x in whole.state_dict().items()}, path)
    else:
        torch.save({"state_dict": whole.state_dict()}, path)
    return f"{whole.pretrained_cfg['architecture']}.{whole.pretrained_cfg['tag']}@{path}"


models = {
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": (None, 1.0),
    "convnext_atto.d2_in1k": (None, 1.0),
    "efficientnet_lite0.ra_in1k": (None, TIGHT),
    "vit_tiny_patch16_dinov3_qkvb": ("token", 1.0),
}


@pytest.mark.parametrize("name", models)
def test_a_model_is_timms_from_end_to_end(name, tmp_path):
    pool, scale = models[name]
    whole = fill(timm.create_model(name)).eval()
    pictures = draw_pictures()
    want = theirs(whole, pictures, pool)
    encoder = TimmImage(save(whole, "folder", tmp_path)).eval()
    assert (encoder.pool, encoder.pretrained) == (pool, None)
    got = ours(encoder, pictures)
    print(f"{name}: {proof.agree(got, want, scale)}")


@pytest.mark.parametrize("how", ["folder", ".safetensors", ".pth"])
def test_each_form_of_the_weights_is_read(how, tmp_path):
    whole = fill(timm.create_model("test_vit.r160_in1k"), 1).eval()
    source = save(whole, how, tmp_path)
    model = load_published("timm", source)
    want = theirs(whole, draw_pictures())
    got = model.embed(image=draw_pictures())["image"]
    assert (got - F.normalize(want, dim=1)).abs().max() <= VALUE
    origin = model.towers["image"].encoder.origin
    assert origin.source == source.partition("@")[2] or source
    assert len(origin.sha256) == 64
    assert not model.training


slow = [pytest.param(name, marks=pytest.mark.sweep) for name in models]


@pytest.mark.parametrize(
    "name", ["test_vit.r160_in1k", "test_convnext.r160_in1k", "test_efficientnet.r160_in1k", *slow]
)
def test_every_tensor_matters(name, tmp_path):
    """Another fill of a single tensor moves the features. The classifier's alone does not, for they lie before it."""
    whole = fill(timm.create_model(name)).eval()
    encoder = TimmImage(save(whole, "folder", tmp_path)).eval()
    preprocess = build(encoder.wants())
    x = preprocess.device(preprocess.collate([preprocess.row(picture) for picture in draw_pictures()[:1]]))
    state = dict(encoder.model.state_dict())
    gone = {key for key in whole.state_dict() if key not in state}
    assert gone <= {f"{whole.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    scale = TIGHT if "efficientnet" in name else 1.0
    assert proof.unmoved(encoder, lambda: encoder(x).pooled, scale=scale) == []


def test_a_saved_model_needs_no_hub(tmp_path):
    from align.checkpoint import save as save_model

    whole = fill(timm.create_model("test_vit.r160_in1k", img_size=96)).eval()
    source = save(whole, "folder", tmp_path / "theirs")
    model = load_published("timm", source)
    want = model.embed(image=draw_pictures())["image"]
    save_model(model, tmp_path / "ours")
    (tmp_path / "theirs").rename(tmp_path / "gone")
    assert torch.equal(load(tmp_path / "ours").embed(image=draw_pictures())["image"], want)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_the_default_picture_is_not_the_one_that_weights_want(name):
    encoder = TimmImage(name).eval()
    fill(encoder.model)
    want = theirs(encoder.model, draw_pictures())
    plain = JointModel({"image": Tower(Image(224), encoder, Identity)}, encoder.width, normalize=False)
    assert F.cosine_similarity(plain.embed(image=draw_pictures())["image"], want).min() < 1 - 100 * COSINE
    assert F.cosine_similarity(ours(encoder, draw_pictures()), want).min() >= 1 - COSINE


def test_dinov3_gives_its_class_token_and_dinov2_too():
    three, two = TimmImage("vit_tiny_patch16_dinov3_qkvb"), TimmImage("vit_small_patch14_dinov2.lvd142m", size=28)
    assert (three.pool, two.pool) == ("token", None)  # timm's own is the class token for DINOv2
    for encoder in (three.eval(), two.eval()):
        x = torch.randn(2, 3, encoder.size, encoder.size) if encoder.size else torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            pooled, tokens, _ = encoder(x)
            maps = encoder.model.forward_features(x)
        assert torch.equal(pooled, maps[:, 0])
        assert torch.equal(tokens, maps[:, encoder.model.num_prefix_tokens :])
    mean = TimmImage("vit_tiny_patch16_dinov3_qkvb", pool="avg").eval()
    mean.load_state_dict(three.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(mean(x).pooled, three(x).tokens.mean(1))


def test_any_size_with_interpolated_positions():
    fixed, free = TimmImage("test_vit", size=160).eval(), TimmImage("test_vit", dynamic=True).eval()
    free.load_state_dict(fixed.state_dict())
    assert (fixed.size, free.size) == (160, None)
    x = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(free(x).pooled, fixed(x).pooled)
        for H, W in ((96, 224), (32, 32), (320, 160)):
            pooled, tokens, _ = free(torch.randn(2, 3, H, W))
            assert pooled.shape == (2, free.width)
            assert tokens.shape[1] == H // 16 * (W // 16)
    assert Tower(Image(96), free).encoder is free
    assert TimmImage("test_convnext", dynamic=True).eval()(x[..., :96]).pooled.shape[0] == 2


def test_patches_are_dropped_in_training_alone():
    encoder = TimmImage("test_vit", size=160, patch_dropout=0.5)
    x = torch.randn(2, 3, 160, 160)
    assert encoder.train()(x).tokens.shape[1] == 50
    assert encoder.eval()(x).tokens.shape[1] == 100
    with pytest.raises(ValueError, match="test_convnext does not take an argument"):
        TimmImage("test_convnext", patch_dropout=0.5)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_channels_adapt_the_first_convolution(channels, tmp_path):
    whole = fill(timm.create_model("test_vit.r160_in1k"))
    encoder = TimmImage(save(whole, "folder", tmp_path), channels=channels).eval()
    old, new = (m.patch_embed.proj.weight for m in (whole, encoder.model))
    if channels == 1:
        torch.testing.assert_close(new, old.sum(1, keepdim=True))
    else:
        expected = torch.stack([old[:, c % 3] for c in range(channels)], 1) * 3 / channels
        torch.testing.assert_close(new, expected)
    tower = Tower(None, encoder)
    assert (tower.preprocess.channels, len(tower.preprocess._mean)) == (channels, channels)
    values = tower.preprocess.collate([tower.preprocess.row(np.zeros((20, 30, channels), np.uint16))])
    assert values.dtype == torch.uint16
    assert tower.features(values).pooled.shape == (1, encoder.width)


def test_a_saved_folder_of_other_channels_and_size(tmp_path):
    whole = fill(timm.create_model("test_vit", in_chans=1, img_size=64, num_classes=0)).eval()
    encoder = TimmImage(f"local-dir:{save(whole, 'folder', tmp_path)}").eval()
    assert (encoder.channels, encoder.size, encoder.pretrained) == (1, 64, None)
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x).pooled, whole(x))
    again = build(json.loads(json.dumps(describe(encoder))))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}
    assert again.wants() == encoder.wants()


def test_the_hub_gives_weights_configuration_and_licence(tmp_path, monkeypatch):
    whole = fill(timm.create_model("test_vit.r160_in1k")).eval()
    save(whole, "folder", tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    monkeypatch.setattr("align.files.hub.hub_folder", lambda name, patterns: tmp_path)
    monkeypatch.setattr("align.encoders.timm.source.hub_file", lambda name, file: tmp_path / file)
    want = theirs(whole, draw_pictures())
    config = json.loads((tmp_path / "config.json").read_text())
    for stated, licence in (("mit", "mit"), (None, "cc-by-4.0")):
        config["pretrained_cfg"]["license"] = stated
        (tmp_path / "config.json").write_text(json.dumps(config))
        for encoder in (TimmImage("hf-hub:owner/name"), TimmImage("test_vit", "hf-hub:owner/name")):
            assert (encoder.origin.source, encoder.origin.licence) == ("hf-hub:owner/name", licence)
            assert (ours(encoder.eval(), draw_pictures()) - want).abs().max() <= VALUE
    for pretrained in (True, "r160_in1k"):
        encoder = TimmImage("test_vit", pretrained)
        assert (encoder.name, encoder.origin.source) == ("test_vit.r160_in1k", "timm/test_vit.r160_in1k")
        assert (encoder.origin.licence, encoder.pretrained) == ("apache-2.0", None)
        assert (ours(encoder.eval(), draw_pictures()) - want).abs().max() <= VALUE


def test_what_does_not_fit_is_one_line(tmp_path, monkeypatch):
    whole = timm.create_model("test_vit", num_classes=0)
    path = tmp_path / "weights.safetensors"
    save_file({f"visual.{key}": x for key, x in whole.state_dict().items()}, path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"hidden_size": 3}')
    cases = {
        "test_vit.r160_in2k": "no tag of test_vit; did you mean 'r160_in1k'?",
        "test_vti": "timm has no model 'test_vti'; did you mean 'test_vit'?",
        f"test_vit@{path}": "holds no weights of the layout timm; its names look like",
        f"test_vit@{cut}": "is damaged or no safetensors file",
        f"test_vit@{tmp_path}/none.pth": "no file",
        str(path): "does not say its architecture; give timm's name for it: NAME@",
        "owner/name": "on the hub it is hf-hub:owner/name",
        "hf-hub:owner/name": "not in the cache, and the hub cannot be reached",
        str(tmp_path / "empty"): "no config.json in",
        str(tmp_path / "odd"): "no configuration of timm",
    }
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for source, message in cases.items():
        with pytest.raises((ValueError, OSError), match=r"(?s).*") as caught:
            load_published("timm", source)
        assert message in str(caught.value), source
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"holds the weights of test_vit\.r160_in1k, not of test_vit2"):
        TimmImage("test_vit2", save(timm.create_model("test_vit.r160_in1k"), "folder", tmp_path / "saved"))
    with pytest.raises(ValueError, match="no pool='map'"):
        TimmImage("test_vit", size=32, pool="map")


def test_maps_of_several_scales_give_no_tokens():
    encoder = TimmImage("crossvit_tiny_240").eval()
    with torch.no_grad():
        pooled, tokens, _ = encoder(torch.randn(1, 3, 240, 240))
    assert (pooled.shape, tokens) == ((1, encoder.width), None)


def test_names_of_tensors_that_are_timms():
    for name in ("test_vit", "test_convnext", "test_efficientnet", "test_resnet", "swin_tiny_patch4_window7_224"):
        with torch.device("meta"):
            keys = timm.create_model(name).state_dict()
        assert fits(keys), name
        assert not fits([f"visual.{key}" for key in keys])
        assert not fits([f"encoder.{key}" for key in keys])
