"""Models of open_clip beside the library itself: pictures and texts in, embeddings and probabilities out."""

import json
import os
import re
from pathlib import Path

import numpy as np
import open_clip_models as models
import proof
import pytest
import torch
from PIL import Image as Pil
from torch.nn.functional import normalize

import align
from align.checkpoint import save
from align.commands import main
from align.encoders import OpenClipImage, OpenClipText
from align.published import load_published
from align.published.open_clip import fits, split_source

VALUE = proof.VALUE
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
        return Pil.fromarray(
            np.concatenate([np.concatenate([next(parts) for _ in range(columns)], 1) for _ in range(rows)])
        )

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


def check(ours, whole, pictures, texts=TEXTS, scale=1.0):
    theirs = dict(zip(("image", "text"), whole.embed(pictures, texts), strict=True))
    found = ours.embed(image=pictures, text=texts)
    figures = {m: proof.agree(found[m], theirs[m], scale) for m in theirs}
    (term,) = ours.terms
    bias = whole.model.logit_bias
    assert (term.modalities, term.kind) == (("image", "text"), "pairwise")
    assert term.scale == pytest.approx(whole.model.logit_scale.exp().item(), rel=1e-6)
    assert term.bias == pytest.approx(0.0 if bias is None else bias.item(), rel=1e-6)
    return figures


costly = ("mobile", "pe", "eva", "mt5", "coca")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.sweep] if k in costly else []) for k in KINDS])
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
    short = whole.embed(pictures[:1], TEXTS[:1])[1]  # no long text beside it, so that a batch could be narrower
    torch.testing.assert_close(ours.embed(text=TEXTS[:1])["text"], short, rtol=0, atol=VALUE)
    one = {"image": pictures[:1], "text": TEXTS}
    assert all(torch.equal(*pair) for pair in zip(again.embed(**one).values(), ours.embed(**one).values(), strict=True))
    parts = json.loads((tmp_path / "ours" / "model.json").read_text())["parts"]
    assert {p["licence"] for p in parts.values()} == {"mit"}
    assert all(
        Path(p["source"]).parent == folder and len(p["sha256"]) == 64 and not p["changed"] for p in parts.values()
    )
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
    check(
        load_published("open_clip", f"tiny-vit@{file}"),
        whole._replace(model=plain.eval(), preprocess=preprocess),
        pictures,
    )
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


CLOSE = {
    "resnet": 0.1,  # random convolutions leave the cells of the last map nearly equal, however they are weighed
    "pe": 0.1,  # the fill's positions are as small as their table is large: 577 rows of 192 values
}
"""Kinds of which a tensor moves the output less -> the part of the tolerance at which they agree and each counts."""
BRANCHED, FAINT = "mobile", 1e-5
"""FastViT's many branches are each a small part of a sum: a tensor counts from 1e-8 on, in float64.
The biases of two gates do not count: this fill drives their sigmoid to its end."""
GATE = re.compile(r"(downsample\.proj\.0|final_conv)\.se\.fc[12]\.bias ")
KEY_BIAS = "a bias of the keys adds the same to all scores of a query, which the softmax takes away"
EXEMPT = {"attnpool.k_proj.bias": KEY_BIAS, "self.key.bias": KEY_BIAS}
heavy = ("pe", "eva", "mobile", "coca", "clipa", "custom", "quick", "mt5")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.sweep] if k in heavy else []) for k in KINDS])
def test_every_tensor_of_the_file_counts(kind, wholes, pictures, tmp_path):
    """Another fill of any single tensor moves the embeddings by ten times the tolerance."""
    whole, scale = wholes(kind), CLOSE.get(kind, 1.0)
    ours = load_published("open_clip", str(models.save_folder(whole, f"tiny-{kind}", tmp_path / "saved")))
    check(ours, whole, pictures, scale=scale)
    for modality, inputs in (("image", pictures), ("text", TEXTS)):
        preprocess, tower = ours.preprocess[modality], ours.towers[modality]
        values = preprocess.collate([preprocess.row(x) for x in inputs])
        if kind in (BRANCHED, "pe") and modality == "image":
            values = values[:1]  # a second a reading
        if kind == BRANCHED:
            tower, scale = tower.double(), FAINT
        left = proof.unmoved(tower.encoder, lambda t=tower, v=values: normalize(t(v), dim=-1), EXEMPT, scale)
        assert [name for name in left if kind != BRANCHED or not GATE.search(name)] == []


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
    counts = {
        n: sum(p.numel() for p in m.parameters()) for n, m in (("visual", whole.model.visual), ("all", whole.model))
    }
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


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


BAD = {  # how the source is made of the model's state, its folder and its file -> the one line
    "a tag that is not there": (
        lambda *_: "ViT-B-32/laion2b_s34b_b97k",
        r"did you mean 'laion2b_s34b_b79k'\? its tags: openai, ",
    ),
    "a name that is not there": (
        lambda *_: "ViT-B-23/openai",
        r"open_clip has no model 'ViT-B-23/openai'; did you mean 'ViT-B-",
    ),
    "a name of the hub": (
        lambda *_: "timm/PE-Core",
        r"open_clip has no model 'timm/PE-Core'; a model on the hub is named hf-hub:timm/PE-Core",
    ),
    "a name without weights": (
        lambda *_: "RN101-quickgelu",
        r"names no weights; give RN101-quickgelu/TAG or .*@FILE; its tags: openai",
    ),
    "a file that is not there": (lambda s, d, f: f"tiny-vit@{f}.pt", r"no file .*weights.safetensors.pt"),
    "a folder that is not there": (lambda *_: "local-dir:no/such", r"no folder no/such"),
    "a tag offline": (
        lambda *_: "ViT-B-32/openai",
        r"open_clip_model.safetensors of timm/\S+.openai is not in the cache, and the hub cannot be reached",
    ),
    "a model of the hub offline": (
        lambda *_: "hf-hub:some/model",
        r"open_clip_config.json of some/model is not in the cache",
    ),
    "a truncated file": (lambda s, d, f: f"tiny-vit@{truncated(f)}", r"weights.safetensors is damaged"),
    "a truncated pickle": (
        lambda s, d, f: f"tiny-vit@{truncated(models.save_weights(s, f.with_suffix('.pt')))}",
        r"weights.pt is damaged or holds more than tensors",
    ),
    "another layout": (
        lambda s, d, f: f"tiny-vit@{models.save_weights({'vision_model.post_layernorm.weight': torch.ones(2)}, f)}",
        r"holds no weights of the layout open_clip; its names look like .*\(vision_model",
    ),
    "a key that is missing": (
        lambda s, d, f: f"tiny-vit@{models.save_weights({k: x for k, x in s.items() if k != 'visual.proj'}, f)}",
        r"does not fit the model: 1 missing: proj",
    ),
    "no scale": (
        lambda s, d, f: f"tiny-vit@{models.save_weights({k: x for k, x in s.items() if k != 'logit_scale'}, f)}",
        r"does not fit the model: 1 missing: logit_scale",
    ),
    "a key that is unknown": (
        lambda s, d, f: (
            f"tiny-vit@{models.save_weights({**s, 'visual.more': torch.ones(1), 'odd.one': torch.ones(1)}, f)}"
        ),
        r"does not fit tiny-vit: 1 unknown: odd.one",
    ),
    "a key that is unknown in a tower": (
        lambda s, d, f: f"tiny-vit@{models.save_weights({**s, 'visual.more': torch.ones(1)}, f)}",
        r"does not fit the model: 1 unknown: more",
    ),
    "another model": (
        lambda s, d, f: f"tiny-resnet@{f}",
        r"does not fit the model: \d+ missing: .*, and \d+ more; \d+ unknown: ",
    ),
    "another width": (
        lambda s, d, f: f"tiny-vit@{models.save_weights({**s, 'visual.proj': torch.ones(64, 32)}, f)}",
        r"1 tensors of another shape: proj \(64, 32\) instead of \(64, 64\)",
    ),
    "a folder without its configuration": (lambda s, d, f: str(f.parent), r"has no open_clip_config.json"),
    "a folder without weights": (
        lambda s, d, f: [(d / "open_clip_model.safetensors").unlink(), str(d)][1],
        r"no weights in .*; looked for open_clip_model.safetensors",
    ),
    "a configuration that is none": (
        lambda s, d, f: [(d / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8}}'), str(d)][1],
        r"open_clip_config.json is no configuration of open_clip: KeyError: 'vision_cfg'",
    ),
    "a configuration with an unknown key": (
        lambda s, d, f: [
            (d / "open_clip_config.json").write_text(
                json.dumps({"embed_dim": 64, "vision_cfg": {**models.VIT, "dpeth": 3}, "text_cfg": models.TEXT})
            ),
            str(d),
        ][1],
        r"open_clip cannot build .*: TypeError: .*'dpeth'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sources_are_one_line_and_nothing_is_written(case, wholes, tmp_path, capsys):
    whole, (source, message) = wholes("vit"), BAD[case]
    folder = models.save_folder(whole, "tiny-vit", tmp_path / "saved")
    state = whole.model.state_dict()
    file = models.save_weights(state, tmp_path / "weights.safetensors")
    assert main(["import", "open_clip", source(state, folder, file), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"saved", "weights.safetensors", "weights.pt"}


def test_a_tokenizer_of_another_vocabulary_is_refused(kinds, tmp_path):
    import hf_tokenizers

    folder = hf_tokenizers.roberta(tmp_path / "roberta")
    encoder = OpenClipText("tiny-siglip")
    wrong = align.preprocess.HFTokens(str(folder), 16)
    if wrong.vocabulary <= 400:
        pytest.fail("the tokenizer has to be larger than the table")
    with pytest.raises(ValueError, match=r"HFTokens gives vocabulary .*, OpenClipText takes at most 400"):
        align.Tower(wrong, encoder)
    with pytest.raises(ValueError, match="Bytes gives vocabulary 259, OpenClipText takes vocabulary 49408"):
        align.Tower(align.preprocess.Bytes(16), OpenClipText("tiny-vit"))
    with pytest.raises(ValueError, match=r"Image gives size \(224, 224\)"):
        align.Tower(align.preprocess.Image(preset="pe-core"), OpenClipImage("tiny-vit"))


def test_another_preprocessing_is_said(wholes, tmp_path):
    folder = str(models.save_folder(wholes("pe"), "tiny-pe", tmp_path / "saved"))
    encoder = OpenClipImage(folder)
    assert encoder.wants()["init_args"] == {"size": 384, "preset": "pe-core"}
    with pytest.warns(UserWarning, match="resize 'crop' instead of 'squash'"):
        align.Tower(align.preprocess.Image(384, preset="openai-clip"), encoder)


def test_a_local_folder_brings_its_weights(wholes, tmp_path):
    """``local-dir:`` once gave random weights without a word."""
    folder = models.save_folder(wholes("vit"), "tiny-vit", tmp_path / "saved")
    want = wholes("vit").model.visual.conv1.weight
    for name in (f"local-dir:{folder}", str(folder)):
        assert torch.equal(OpenClipImage(name).visual.conv1.weight, want)
    with pytest.raises(ValueError, match="brings its own weights; leave out pretrained='x'"):
        OpenClipText(str(folder), "x")
    file = str(folder / "open_clip_model.safetensors")
    kept = OpenClipImage(str(folder)).config or {"embed_dim": 64, "vision_cfg": models.VIT}
    assert torch.equal(OpenClipImage("mine", file, config=kept).visual.conv1.weight, want)


def test_what_a_checkpoint_keeps(wholes, tmp_path):
    """The name alone where open_clip knows the rest, else the architecture."""
    folder = str(models.save_folder(wholes("pe"), "tiny-pe", tmp_path / "saved"))
    assert OpenClipImage("tiny-pe").config is None
    kept = OpenClipImage(folder).config
    assert set(kept) == {"embed_dim", "vision_cfg", "preprocess_cfg"}
    again = OpenClipImage(folder, config=json.loads(json.dumps(kept)))
    assert (again.origin, again.config, again.wants()) == (None, kept, OpenClipImage(folder).wants())
    assert OpenClipText("tiny-roberta").config["text_cfg"]["hf_config"]["model_type"] == "roberta"


def test_sources():
    assert split_source("ViT-B/32") == ("ViT-B/32", None)
    assert split_source("ViT-B/32/openai") == ("ViT-B/32", "openai")
    assert split_source("RN50@a/b@c.pt") == ("RN50", "a/b@c.pt")
    assert split_source("hf-hub:owner/name@main") == ("hf-hub:owner/name@main", None)


def test_keys_of_other_layouts_do_not_fit():
    assert not fits(["vision_model.embeddings.class_embedding", "text_model.final_layer_norm.weight", "logit_scale"])
    assert not fits(["visual.proj"])
    assert not fits(["cls_token", "blocks.0.norm1.weight"])
    assert fits(["visual.proj", "text.ln_final.weight"])
    assert fits(["visual.proj", "positional_embedding", "transformer.resblocks.0.ln_1.weight"])


def test_a_url_is_checked_by_the_sum_in_it(tmp_path, monkeypatch):
    import hashlib

    from web import serving

    from align.encoders.open_clip import download as open_clip_download

    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    content = b"weights" * 1000
    whole = hashlib.sha256(content).hexdigest()
    (tmp_path / "site" / whole).mkdir(parents=True)
    names = [f"{whole}/RN50.pt", f"{'0' * 64}/RN51.pt", f"v/rn50-{whole[:8]}.pt", "v/rn50-00000000.pt"]
    for name in names:
        (tmp_path / "site" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "site" / name).write_bytes(content)
    with serving(tmp_path / "site") as web:
        urls = [f"{web.url}/{name}" for name in names]
        assert open_clip_download.download_url(urls[0]).read_bytes() == content
        assert open_clip_download.download_url(urls[2]).read_bytes() == content
        for url in (urls[1], urls[3]):
            with pytest.raises(OSError, match="did not give the file that is expected"):
                open_clip_download.download_url(url)
            assert not (tmp_path / "cache" / "open_clip" / url.rpartition("/")[2]).exists()
        about = {"url": urls[0]}
        assert open_clip_download.download_tag("RN50", "openai", about)[1] == urls[0]


@pytest.mark.sweep
def test_every_configuration_is_built():
    """Both towers of all of open_clip's configurations, without memory, have the names and shapes of its own models.

    Ten text towers are of transformers, and their architecture is on the hub. 49 tokenizers come from there.
    """
    import open_clip

    from align.encoders.open_clip.model import build_image, build_text
    from align.encoders.open_clip.source import find_model
    from align.encoders.open_clip.wants import describe_text

    names = [name for name in open_clip.list_models() if not name.startswith("tiny-") and not name.startswith("align-")]
    absent, tokenizers = [], {"Tokens": 0, "HFTokens": 0}
    for name in names:
        source = find_model(name)
        hub = source.config["text_cfg"].get("hf_model_name")
        with torch.device("meta"):
            ours = {f"visual.{key}": x.shape for key, x in build_image(source).state_dict().items()}
            if hub:
                absent.append(name)
                with pytest.raises(FileNotFoundError, match=f"config.json of {hub} is not in the cache") as error:
                    build_text(source)
                assert "\n" not in str(error.value)
            else:
                ours |= {f"text.{key}": x.shape for key, x in build_text(source).state_dict().items()}
                config = {key: x for key, x in source.config.items() if key not in ("preprocess_cfg", "custom_text")}
                kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
                whole = kind(**config).state_dict()
                theirs = {key: x.shape for key, x in whole.items() if key.startswith(("visual.", "text."))}
                assert ours == theirs, name
        wants = describe_text(name, source.config["text_cfg"])
        tokenizers[wants["class_path"].rpartition(".")[2]] += 1
    assert (len(names), len(absent), tokenizers) == (144, 10, {"Tokens": 95, "HFTokens": 49})


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["MobileCLIP-S1", "MobileCLIP-B"])
def test_apples_layout_is_read(kinds, name, pictures, tmp_path):
    import open_clip
    from open_clip_layouts import apple

    state = models.make(name).model.state_dict()
    file = tmp_path / "apple.pt"
    torch.save(apple(state, fast=name != "MobileCLIP-B"), file)
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(file))
    ours = load_published("open_clip", f"{name}@{file}")
    check(ours, models.Whole(model.eval(), preprocess, open_clip.get_tokenizer(name)), pictures)


REAL = {  # configuration -> a tag whose preprocessing it is compared with
    "ViT-B-32": "laion2b_s34b_b79k",
    "RN50": "yfcc15m",
    "PE-Core-T-16-384": "meta",
    "EVA02-B-16": "merged2b_s8b_b131k",
    "MobileCLIP2-S0": "dfndr2b",
    "MobileCLIP-B": "datacompdr",
    "ViTamin-S": "datacomp1b",
    "convnext_base": "laion400m_s13b_b51k",
    "coca_ViT-B-32": "laion2b_s13b_b90k",
    "ViT-B-16-SigLIP2": "webli",
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", REAL)
def test_a_configuration_of_open_clip_is_the_librarys(kinds, name, pictures, tmp_path, monkeypatch, capsys):
    """A model in its own size, with the preprocessing of a tag. SigLIP 2's tokenizer is a small one of its kind."""
    import open_clip
    from hf_tokenizers import siglip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    about = open_clip.get_pretrained_cfg(name, REAL[name])
    if "SigLIP" in name:
        config = open_clip.get_model_config(name)
        config["text_cfg"] |= {"hf_tokenizer_name": str(siglip(tmp_path / "tokenizer"))}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    whole = models.make(name, force_quick_gelu=about.get("quick_gelu", False))
    stated = {key: about[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    cfg = PreprocessCfg(size=whole.model.visual.image_size, **stated)
    whole = whole._replace(preprocess=image_transform_v2(cfg, is_train=False))
    file = models.save_weights(whole.model.state_dict(), tmp_path / "weights.safetensors")
    ours = load_published("open_clip", f"{name}/{REAL[name]}@{file}")
    if name == "RN50":  # random residual blocks pull pictures together
        squares = (
            Pil.fromarray(np.uint8([[0, 255], [255, 0]])).convert("RGB").resize((100, 100), Pil.Resampling.NEAREST)
        )
        pictures = [Pil.new("RGB", (90, 90), "black"), squares, Pil.new("RGB", (80, 60), "white")]
    figures = check(ours, whole, pictures)
    with capsys.disabled():
        for modality, found in figures.items():
            print(f"\n{name} {modality}: {found}", end="")


def test_a_folder_that_changed_is_imported_anew(wholes, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    folder = models.save_folder(wholes("vit"), "tiny-vit", tmp_path / "a@b")
    sources = (f"open_clip:{folder}", f"open_clip:local-dir:{folder}")
    first = [align.load(source).embed(image=pictures[:1])["image"] for source in sources]
    models.save_weights(models.make("tiny-vit", seed=1).model.state_dict(), folder / "open_clip_model.safetensors")
    for source, before in zip(sources, first, strict=True):
        assert (align.load(source).embed(image=pictures[:1])["image"] - before).abs().max() > 0.01


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_compiles_to_one_graph_and_is_exported(kind, kinds):
    n = torch.export.Dim("n", min=2, max=64)
    for encoder in (OpenClipImage(f"tiny-{kind}").eval(), OpenClipText(f"tiny-{kind}").eval()):
        preprocess = align.Tower(encoder=encoder).preprocess
        if isinstance(encoder, OpenClipImage):
            few, many = (torch.randn(rows, 3, encoder.size, encoder.size) for rows in (3, 5))
        else:
            few, many = (preprocess.collate([preprocess.row("hello " * (i + 1)) for i in range(m)]) for m in (3, 5))
        want = encoder(many).pooled
        torch._dynamo.reset()
        graph = torch.compile(encoder, fullgraph=True, backend="aot_eager", dynamic=False)
        torch.testing.assert_close(graph(many).pooled, want)
        shapes = {name: {0: n} for name in few} if isinstance(few, dict) else {0: n}
        exported = torch.export.export(encoder, (few,), dynamic_shapes=(shapes,)).module()
        torch.testing.assert_close(exported(many).pooled, want)


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_parts_of_one_storage_are_read_from_an_archive(tmp_path):
    from align.encoders.weights import pick_weights, read_keys

    class Views(torch.nn.Module):
        def __init__(self):
            super().__init__()
            base = torch.arange(12.0)
            self.register_buffer("row", base[5:9])
            self.register_buffer("turned", base.view(3, 4).T)

        def forward(self, x):
            return x * self.row + self.turned.sum()

    torch.jit.trace(Views(), torch.ones(4)).save(str(tmp_path / "views.pt"))
    assert read_keys(tmp_path / "views.pt") == ["row", "turned"]
    assert torch.equal(pick_weights(tmp_path / "views.pt", lambda name: name == "row")["row"], Views().row)
    assert torch.equal(pick_weights(tmp_path / "views.pt", lambda _: True)["turned"], Views().turned)


class Hostile:
    ran = False

    def __reduce__(self):
        return setattr, (Hostile, "ran", True)


def test_an_archive_runs_no_code(kinds, tmp_path):
    import pickle
    import zipfile

    with zipfile.ZipFile(tmp_path / "clip.pt", "w") as archive:
        archive.writestr("clip/data.pkl", pickle.dumps(Hostile(), protocol=2))
        archive.writestr("clip/constants.pkl", pickle.dumps(()))
    with pytest.raises(
        ValueError, match=r"clip.pt is damaged or holds more than tensors .*it names .*setattr, which is"
    ):
        OpenClipImage("tiny-vit", str(tmp_path / "clip.pt"))
    assert not Hostile.ran
