"""Models of open_clip beside the library itself: pictures and texts in, embeddings and probabilities out."""

import io
import json
import os
from pathlib import Path

import numpy as np
import open_clip_models as models
import pytest
import torch
from fill import draw
from PIL import Image as Pil

import align
from align.checkpoint import save
from align.commands import main
from align.encoders import OpenClipImage, OpenClipText
from align.published import load_published
from align.published.open_clip import fits, split_source

COSINE, VALUE = 1e-5, 1e-4
TEXTS = ["a photo of a cat", "Two dogs &amp; a café, naïve_façade!! 3.14", "the quick brown fox jumps over it " * 20]
pytestmark = pytest.mark.filterwarnings("ignore:.*has batch normalisation:UserWarning")
KINDS = ("vit", "quick", "custom", "siglip", "pe", "eva", "mobile", "resnet", "clipa", "coca", "roberta", "mt5")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    pytest.importorskip("transformers")
    return models.write_kinds(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pictures():
    """Photographs side by side: three pictures of different sizes."""
    paths = sorted((Path(os.environ.get("ALIGN_DATA", "data")) / "cifar10" / "test").rglob("*.jpg"))[::40]
    if not paths:
        pytest.skip("for want of data: no folder cifar10 in $ALIGN_DATA (default: data)")
    parts = iter(np.asarray(Pil.open(path)) for path in paths)

    def mosaic(rows, columns):
        return Pil.fromarray(np.concatenate([np.concatenate([next(parts) for _ in range(columns)], 1) for _ in range(rows)]))

    return [mosaic(1, 1), mosaic(3, 5), mosaic(4, 2)]


@pytest.fixture(scope="module")
def wholes(kinds):
    """Name -> the library's model, made once."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = models.make(f"tiny-{kind}", **kinds[kind].options)
        return made[kind]

    return get


def worst(ours, whole, pictures, texts):
    """Largest differences in cosine and in value, and the smallest of the largest between different inputs."""
    theirs = dict(zip(("image", "text"), whole.embed(pictures, texts), strict=True))
    found = ours.embed(image=pictures, text=texts)
    cosine = max(float((1 - (found[m] * theirs[m]).sum(-1)).abs().max()) for m in theirs)
    value = max(float((found[m] - theirs[m]).abs().max()) for m in theirs)
    apart = min(float((x[i] - x[j]).abs().max()) for x in theirs.values() for i, j in ((0, 1), (0, 2), (1, 2)))
    return cosine, value, apart


def check(ours, whole, pictures, texts=TEXTS):
    cosine, value, apart = worst(ours, whole, pictures, texts)
    assert cosine <= COSINE
    assert value <= VALUE
    assert apart >= 100 * VALUE
    (term,) = ours.terms
    bias = whole.model.logit_bias
    assert (term.modalities, term.kind) == (("image", "text"), "pairwise")
    assert term.scale == pytest.approx(whole.model.logit_scale.exp().item(), rel=1e-6)
    assert term.bias == pytest.approx(0.0 if bias is None else bias.item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_is_the_librarys_model(kind, wholes, pictures, tmp_path):
    whole = wholes(kind)
    folder = models.save_folder(whole, f"tiny-{kind}", tmp_path / "saved", safe=kind not in ("custom", "roberta"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    ours = load_published("open_clip", str(folder))
    check(ours, whole, pictures)
    save(ours, tmp_path / "ours")
    for file in folder.iterdir():  # a saved model needs none of them
        file.unlink()
    again = align.load(tmp_path / "ours")
    for name, x in ours.embed(image=pictures, text=TEXTS).items():
        assert torch.equal(again.embed(image=pictures, text=TEXTS)[name], x)
    parts = json.loads((tmp_path / "ours" / "model.json").read_text())["parts"]
    assert {p["licence"] for p in parts.values()} == {"mit"}
    assert all(Path(p["source"]).parent == folder and len(p["sha256"]) == 64 and not p["changed"] for p in parts.values())
    assert again.terms == ours.terms


@pytest.mark.parametrize(
    ("kind", "like", "suffix"),
    [
        ("vit", "vit", ".safetensors"),  # CLIP's own layout: the text tower beside "visual."
        ("vit", "custom", ".pt"),
        ("custom", "vit", ".bin"),
        ("coca", "coca", ".pth"),
        ("resnet", "resnet", ".bin"),
    ],
)
def test_a_file_of_either_layout_is_read(kind, like, suffix, wholes, pictures, tmp_path):
    whole = wholes(kind)
    file = models.save_weights(whole.model.state_dict(), tmp_path / f"weights{suffix}")
    check(load_published("open_clip", f"tiny-{like}@{file}"), whole, pictures)


@pytest.mark.filterwarnings("ignore:.*torch.jit:", "ignore::torch.jit.TracerWarning")
def test_openais_archive_is_read_without_running_it(kinds, pictures, tmp_path):
    from open_clip.openai import load_openai_model

    whole = models.make("tiny-quick")
    mask = whole.model._buffers.pop("attn_mask")
    whole.model.attn_mask = mask  # no buffer, as it was none in OpenAI's
    inputs = {"encode_image": (torch.ones(2, 3, 32, 32),), "encode_text": (torch.ones(2, 16, dtype=torch.long),)}
    traced = torch.jit.trace_module(whole.model, inputs, check_trace=False)
    for name, x in traced.named_parameters():
        if not any(word in name for word in ("embedding", "ln_", "logit_scale")):  # OpenAI's are halved in part
            x.data = x.data.half()
            whole.model.get_parameter(name).data = x.data.float()
    traced.save(str(tmp_path / "OpenAI.pt"))
    theirs = load_openai_model(str(tmp_path / "OpenAI.pt"), precision="fp32", device="cpu").state_dict()
    odd = [name for name, x in whole.model.state_dict().items() if not torch.equal(x, theirs[name])]
    assert not odd
    ours = load_published("open_clip", f"tiny-vit@{tmp_path / 'OpenAI.pt'}")
    assert ours.towers["image"].encoder.config["quick_gelu"] is True
    check(ours, whole, pictures)


def test_positions_are_resized_as_the_library_does(wholes, pictures, tmp_path):
    import open_clip

    config = open_clip.get_model_config("tiny-vit")
    config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"] = 64, 12
    (tmp_path / "tiny-large.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-large.json")
    file = models.save_weights(wholes("vit").model.state_dict(), tmp_path / "small.safetensors")
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-large", pretrained=str(file))
    whole = models.Whole(model.eval(), preprocess, open_clip.get_tokenizer("tiny-large"))
    check(load_published("open_clip", f"tiny-large@{file}"), whole, pictures)


def test_big_visions_arrays_are_read(wholes, pictures, tmp_path):
    import open_clip
    from open_clip_layouts import big_vision

    np.savez(tmp_path / "siglip.npz", **big_vision(wholes("siglip").model.state_dict(), heads=2))
    file = tmp_path / "siglip.npz"
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-siglip", pretrained=str(file))
    whole = models.Whole(model.eval(), preprocess, open_clip.get_tokenizer("tiny-siglip"))
    check(load_published("open_clip", f"tiny-siglip@{file}"), whole, pictures)
    x = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(model.encode_image(x), wholes("siglip").model.encode_image(x), rtol=0, atol=1e-5)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """``hub(name, files)`` is a repository in the client's cache, whose network is off."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(name, revision="main"):
        folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        commit = f"{len(list((folder / 'refs').iterdir())):040x}"
        (folder / "refs" / revision).write_text(commit)
        return folder / "snapshots" / commit

    return add


def test_a_model_of_the_hub_at_a_revision(wholes, pictures, hub):
    first, second = wholes("vit"), models.make("tiny-vit", seed=1)
    models.save_folder(first, "tiny-vit", hub("owner/tiny"))
    folder = models.save_folder(second, "tiny-vit", hub("owner/tiny", "v2"), safe=False)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: our-own\n---\n")
    check(load_published("open_clip", "hf-hub:owner/tiny"), first, pictures)
    ours = load_published("open_clip", "hf-hub:owner/tiny@v2")
    check(ours, second, pictures)
    assert ours.towers["image"].encoder.origin[:1] + ours.towers["image"].encoder.origin[2:] == (
        "owner/tiny@v2",
        "our-own",
        False,
    )


def notes(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "align.encoders"]


def test_a_tag_brings_its_preprocessing_and_its_activation(kinds, pictures, hub, monkeypatch, caplog):
    import open_clip

    tag = open_clip.pretrained._slpcfg(hf_hub="owner/tagged/", quick_gelu=True)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", {"web_1b": tag})
    options = models.HALF | {"image_resize_mode": "squash"}
    whole = models.make("tiny-vit", force_quick_gelu=True, **options)
    folder = models.save_folder(whole, "tiny-vit", hub("owner/tagged"))
    ours = load_published("open_clip", "tiny-vit/web-1b")
    check(ours, whole, pictures)
    assert ours.towers["text"].encoder.origin.source == "owner/tagged"
    assert ours.towers["image"].encoder.config["quick_gelu"] is True
    assert not notes(caplog)
    file = folder / "open_clip_model.safetensors"
    check(load_published("open_clip", f"tiny-vit/web_1b@{file}"), whole, pictures)
    assert not notes(caplog)
    plain, _, preprocess = open_clip.create_model_and_transforms("tiny-vit", pretrained=str(file))
    check(load_published("open_clip", f"tiny-vit@{file}"), whole._replace(model=plain.eval(), preprocess=preprocess), pictures)
    assert notes(caplog) == [
        "tiny-vit: for a file, open_clip prepares pictures as OpenAI's CLIP does; its weights web_1b want them "
        "otherwise: give web_1b@FILE to take theirs"
    ]


def test_the_gelu_of_a_tag_that_states_none_is_the_configurations():
    """laion2b_s12b_b32k of roberta-ViT-B-32 was trained with its configuration's; open_clip states it there alone."""
    import open_clip

    for name, tags in open_clip.pretrained._PRETRAINED.items():
        for tag, about in tags.items():
            config = open_clip.get_model_config(name)
            stated = about.get("quick_gelu", config.get("quick_gelu", False))
            assert stated or not config.get("quick_gelu", False), f"{name} {tag}: has quick GELU, its tag says no"


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip", "roberta"])
def test_every_tensor_of_the_file_counts(kind, wholes, pictures, tmp_path):
    """Another fill of any single tensor moves the embeddings by ten times the tolerance."""
    whole = wholes(kind)
    ours = load_published("open_clip", str(models.save_folder(whole, f"tiny-{kind}", tmp_path / "saved")))
    before = ours.embed(image=pictures, text=TEXTS)
    generator = torch.Generator().manual_seed(7)
    for modality, tower in ours.towers.items():
        given = {modality: pictures if modality == "image" else TEXTS}
        for name, x in tower.encoder.state_dict().items():
            if not x.is_floating_point():
                continue
            kept = x.clone()
            x.copy_(draw(name, x, generator))
            moved = (ours.embed(**given)[modality] - before[modality]).abs().max()
            x.copy_(kept)
            if any(word in name for word in INVARIANT):
                continue
            if any(word in name for word in FLAT):
                assert moved >= VALUE, name
            else:
                assert moved >= 10 * VALUE, name


INVARIANT = ("attnpool.k_proj.bias", "self.key.bias")
"""A key's bias adds the same number to all logits of a query, and the softmax takes it away."""
FLAT = ("attnpool.q_proj", "attnpool.k_proj.weight")
"""Random convolutions leave the cells of the last map nearly equal, so that it hardly matters how they are weighed."""


@pytest.mark.parametrize(
    ("encoder", "other", "part"), [(OpenClipImage, "text", "visual."), (OpenClipText, "vision", "")]
)
def test_the_other_tower_is_neither_built_nor_read(encoder, other, part, wholes, tmp_path, monkeypatch):
    import safetensors

    whole = wholes("vit")
    file = models.save_weights(whole.model.state_dict(), tmp_path / "weights.safetensors")
    read = []

    class Spy:
        def __init__(self, *args):
            self.file = safetensors_open(*args)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def keys(self):
            return self.file.keys()

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    safetensors_open = safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", Spy)
    monkeypatch.setattr(f"open_clip.model._build_{other}_tower", None)
    made = encoder("tiny-vit", str(file))
    names = {name for name in whole.model.state_dict() if name.startswith("visual.") == (part == "visual.")}
    assert set(read) == names - {"logit_scale"}
    counts = {n: sum(p.numel() for p in m.parameters()) for n, m in (("visual", whole.model.visual), ("all", whole.model))}
    want = counts["visual"] if part else counts["all"] - counts["visual"] - 1
    assert sum(p.numel() for p in made.parameters()) == want


def test_patches_go_the_way_of_the_pooled_token(kinds):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 224, 224)
    encoder = OpenClipImage("tiny-eva").eval()
    pooled, tokens, mask = encoder(x)
    assert tokens.shape == (2, 256, 64)
    assert mask is None
    torch.testing.assert_close(pooled, encoder.visual(x))
    maps = encoder.visual.trunk.forward_features(x)
    maps[:, 0] = maps[:, 5]  # the fifth patch in the place of the class token
    torch.testing.assert_close(tokens[:, 4], encoder.visual.head(encoder.visual.trunk.forward_head(maps)))
    assert OpenClipImage("tiny-siglip")(torch.randn(1, 3, 160, 160)).tokens is None


def test_the_mask_of_a_tokenizer_and_its_empty_text(wholes):
    for kind in ("roberta", "mt5", "siglip", "clipa"):
        whole = wholes(kind)
        encoder = OpenClipText(f"tiny-{kind}")
        preprocess = align.Tower(encoder=encoder).preprocess
        values = preprocess.collate([preprocess.row("a cat"), preprocess.eval("")])
        assert torch.equal(values["input_ids"], whole.tokenizer(["a cat", ""]))
        pooled, tokens, mask = encoder(values)
        assert tokens.shape[:2] == mask.shape
        assert tokens.shape[2] == pooled.shape[1] == 64
        assert pooled.isfinite().all()
        none = encoder({name: x[:0] for name, x in values.items()}).pooled
        none.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in encoder.parameters())


def test_zero_shot_prints_the_librarys_probabilities(wholes, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    whole = models.make("tiny-vit")
    with torch.no_grad():
        whole.model.logit_scale.fill_(np.log(100))
    file = models.save_weights(whole.model.state_dict(), tmp_path / "weights.safetensors")
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    args = ["--classes", "cat,dog", "--template", "{}", "--json"]
    for _ in range(2):  # the second time from the cache
        assert main(["zeroshot", f"open_clip:tiny-vit@{file}", "--modality", "image", *args, *paths]) == 0
        rows = json.loads(capsys.readouterr().out)
        image, text = whole.embed(pictures, ["cat", "dog"])
        want = (100 * image @ text.T).softmax(-1)
        rows = rows["files"] if isinstance(rows, dict) else rows
        for row, p in zip(rows, want, strict=True):
            scores = row.get("probabilities", row)
            assert scores["cat"] == pytest.approx(p[0].item(), abs=1e-4)
            assert scores["dog"] == pytest.approx(p[1].item(), abs=1e-4)
