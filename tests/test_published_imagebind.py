"""The layout ``imagebind`` beside ImageBind itself: rows of every modality, and files and texts from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import proof
import pytest
import torch
import torch.nn.functional as F
from faint import make_faint
from fill import draw
from golden import imagebind as golden
from keys import read_keys
from safetensors.torch import load_file

import align
from align.checkpoint import save
from align.commands import main
from align.encoders import ImageBind
from align.encoders.imagebind.names import MASK, NAMES, published_name
from align.encoders.imagebind.sizes import HUGE
from align.encoders.imagebind.weights import read_origin
from align.published import load_published

FOLDER = Path(golden.__file__).parent
LENDERS = {"vision": "image", "video": "image"}
"""Name in the golden file, or video -> the modality whose encoder reads it."""
NOISE = 1.8e-6
"""Of float32, relative to the largest value."""


@pytest.fixture(scope="module")
def tiny():
    """Return (name -> tensor) of a small checkpoint."""
    return golden.make_state(read_keys(FOLDER / "imagebind-tiny.keys"))


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("imagebind") / "imagebind_huge.pth"
    torch.save(tiny, path)
    return path


@pytest.fixture(scope="module")
def model(file):
    return load_published("imagebind", str(file))


@pytest.fixture(scope="module")
def theirs():
    return load_file(FOLDER / "imagebind.safetensors")


def read(path, tensors):
    torch.save(tensors, path)
    return str(path)


@pytest.mark.parametrize("name", [*golden.ROWS, "text"])
def test_rows_have_the_published_vectors(name, model, theirs):
    encoder = model.towers[LENDERS.get(name, name)].encoder
    with torch.no_grad():
        proof.agree(encoder.scale * encoder(golden.make_inputs()[name]).pooled, theirs[name])


@torch.no_grad()
def test_every_epsilon_is_the_published_one(tiny, tmp_path, theirs):
    faint, given = load_published("imagebind", read(tmp_path / "x.pth", make_faint(tiny))), golden.make_inputs()
    for name, x in given.items():
        encoder = faint.towers[LENDERS.get(name, name)].encoder
        proof.agree(encoder.scale * encoder(x).pooled, theirs[f"{name}.faint"], 0.1)


@pytest.mark.parametrize(("name", "modality"), [("vision", "image"), ("text", "text"), ("audio", "audio")])
def test_files_have_the_published_vectors(name, modality, model, theirs):
    scale = model.towers[modality].encoder.scale
    ours = scale * model.embed(**{modality: golden.make_files()[modality]})[modality]
    proof.agree(ours, theirs[f"{name} of files"])


def test_scores_are_the_published_products(model, theirs):
    files = golden.make_files()
    found = model.embed(**files)
    for a, b in (("image", "text"), ("audio", "text"), ("image", "audio")):
        how = "objective"
        ours = align.score({a: found[a]}, found[b], of=b, how=how, terms=model.terms)
        one, other = (theirs[f"{'vision' if m == 'image' else m} of files"] for m in (a, b))
        assert (ours.softmax(1) - (one @ other.T).softmax(1)).abs().max() <= 1e-4


def test_imagebind_huge_has_the_published_names_and_shapes():
    found = {}
    with torch.device("meta"):
        for modality in NAMES:
            state = ImageBind(modality).state_dict()
            found |= {published_name(modality, name): tuple(x.shape) for name, x in state.items()}
    published = read_keys(FOLDER / "imagebind.keys")
    constants = {MASK: (77, 77)} | {NAMES[m].scale: () for m in NAMES if m != "image"}
    assert found | constants == published


def test_every_tensor_counts(model):
    """The biases of keys do too where there is an extra key, which has none."""
    given, generator = golden.make_inputs(), torch.Generator().manual_seed(99)
    for modality in NAMES:
        encoder, x = model.towers[modality].encoder, given["vision" if modality == "image" else modality][:1]
        with torch.no_grad():
            before = encoder(x).pooled
            for name, tensor in encoder.named_parameters():
                kept = tensor.clone()
                tensor.copy_(draw(name, tensor, generator))
                moved = (encoder(x).pooled - before).abs().max() / before.abs().max()
                tensor.copy_(kept)
                assert moved >= 10 * NOISE, (modality, name, moved)


def test_a_model_folder_holds_the_same_model(model, tmp_path):
    save(model, tmp_path / "ours")
    again = align.load(tmp_path / "ours")
    assert again.terms == model.terms
    assert again.normalize is model.normalize is False
    assert again.share == model.share == {"video": "image"}
    files = golden.make_files()
    for modality, found in again.embed(**files).items():
        assert torch.equal(found, model.embed(**{modality: files[modality]})[modality])
    for modality in NAMES:
        assert again.towers[modality].encoder.scale == model.towers[modality].encoder.scale
    parts = json.loads((tmp_path / "ours" / "model.json").read_text())["parts"]
    assert set(parts) == {f"{modality}.encoder" for modality in NAMES}
    assert {(part["licence"], part["changed"]) for part in parts.values()} == {("unstated", False)}


def test_only_imagebind_huge_has_its_licence(file):
    assert read_origin(file, "audio", HUGE["audio"]).licence == "CC-BY-NC-SA-4.0"
    assert read_origin(file, "text", HUGE["text"]._replace(scale=100.0)).licence == "CC-BY-NC-SA-4.0"
    assert read_origin(file, "text", HUGE["text"]._replace(depth=12)).licence == "unstated"


def test_some_towers_and_files_of_some_towers(file, tiny, tmp_path, model):
    some = load_published("imagebind", str(file), towers=["text", "audio"])
    assert some.modalities == ["text", "audio"]
    assert [term.modalities for term in some.terms] == [("text", "audio")]
    one = load_published("imagebind", read(tmp_path / "x.pt", {k: x for k, x in tiny.items() if ".audio." in k}))
    x = golden.make_inputs()["audio"]
    with torch.no_grad():
        assert torch.equal(one.towers["audio"](x), model.towers["audio"](x))
    assert (one.modalities, one.terms) == (["audio"], [])
    video = load_published("imagebind", str(file), towers=["video"])
    assert (video.modalities, video.share) == (["video"], None)
    frames = golden.make_inputs()["video"]
    with torch.no_grad():
        assert torch.equal(video.towers["video"].encoder(frames).pooled, model.towers["video"].encoder(frames).pooled)
    alone = ImageBind("audio", pretrained=str(file))
    assert (alone.pretrained, alone.origin.source) == (None, str(file))
    assert alone.scale == pytest.approx(20)


def test_a_row_of_clips_is_the_mean_of_their_unit_vectors(model):
    with torch.no_grad():
        x, encoder = golden.make_inputs()["audio"], model.towers["audio"].encoder
        loop = torch.stack([torch.stack([encoder(clip[None]).pooled[0] for clip in row]).mean(0) for row in x])
        torch.testing.assert_close(encoder(x).pooled, loop)
        pictures, encoder = golden.make_inputs()["vision"], model.towers["image"].encoder
        frames = pictures[:, :, None].repeat(1, 1, 2, 1, 1)
        for same in (frames, frames[:, None], pictures[:, None]):
            torch.testing.assert_close(encoder(same).pooled, encoder(pictures).pooled)
        assert (encoder(pictures).pooled.norm(dim=1) - 1).abs().max() < 1e-6


def test_the_extra_key_is_a_token_of_no_norm_and_no_matrix(model):
    """One block of the audio trunk, by torch's own attention."""
    block, x = model.towers["audio"].encoder.blocks[0], torch.randn(2, 5, 24)
    attention = torch.nn.MultiheadAttention(24, 12, add_bias_kv=True, batch_first=True)
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias", "bias_k": "extra_key", "bias_v": "extra_value"}
    names |= {"out_proj.weight": "out.weight", "out_proj.bias": "out.bias"}
    attention.load_state_dict({theirs: block.state_dict()[ours] for theirs, ours in names.items()})
    with torch.no_grad():
        y = F.layer_norm(x, (24,), block.norm1.weight, block.norm1.bias, 1e-6)
        z = x + attention(y, y, y, need_weights=False)[0]
        mlp = F.layer_norm(z, (24,), block.norm2.weight, block.norm2.bias, 1e-6)
        torch.testing.assert_close(block(x), z + block.down(F.gelu(block.up(mlp))))


def test_a_video_is_the_mean_of_its_views_through_the_image_tower(model):
    frames = torch.randint(0, 256, (4, 3, 40, 60), dtype=torch.uint8)
    tower = model.towers["video"]
    views = tower.preprocess.device(tower.preprocess.collate([tower.preprocess.row(frames)]))[0]
    assert views.shape == (15, 3, 2, 224, 224)
    with torch.no_grad():
        loop = torch.stack([model.towers["image"].encoder(view[None]).pooled[0] for view in views]).mean(0)
    torch.testing.assert_close(model.embed(video=[frames])["video"][0], loop)
    assert loop.norm() < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("modality_trunks.audio.blocks.1.attn.bias_k"), "1 missing: .*audio.blocks.1.attn.bias_k"),
        (lambda x: x.pop(NAMES["depth"].scale), "1 missing: modality_postprocessors.depth.1.log_logit_scale"),
        (lambda x: x.pop("modality_preprocessors.vision.rgbt_stem.proj.1.weight"), "1 missing: .*rgbt_stem.proj.1.w"),
        (lambda x: x.update({"modality_heads.sonar.0.weight": torch.ones(2)}), "1 unknown: modality_heads.sonar.0.w"),
        (lambda x: x.update({"modality_heads.imu.9.weight": torch.ones(2)}), "1 unknown: modality_heads.imu.9.weight"),
        (lambda x: x.update({NAMES["text"].position: torch.ones(1, 5)}), "1 tensors of another shape: .*text.pos_emb"),
        (lambda x: x.update({NAMES["imu"].read: torch.ones(3, 5)}), "tensors of another shape: .*imu.imu_stem.proj"),
        (lambda x: x.update({NAMES["text"].scale: torch.tensor(99.0)}), "log_logit_scale of 99; it is the logarithm"),
        (
            lambda x: x.update({MASK: torch.zeros(77, 77)}),
            "another constant than ours: modality_preprocessors.text.mask",
        ),
        (lambda x: x.update({NAMES["text"].scale: torch.tensor(torch.nan)}), "holds NaN or infinite weights, in"),
    ],
)
def test_names_and_shapes_that_do_not_fit_are_listed(tiny, tmp_path, change, message):
    tensors = dict(tiny)
    change(tensors)
    with pytest.raises(ValueError, match=message) as caught:
        load_published("imagebind", read(tmp_path / "x.pth", tensors))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: ImageBind("sound"), "ImageBind has no tower 'sound'; its towers are image, text, audio, depth"),
        (lambda _: ImageBind("imu", heads=5), "heads must divide trunk_width; 512 is no multiple of 5"),
        (lambda m: m["audio"](torch.zeros(2, 1, 64, 204)), r"audio takes \(n, 1, 128, 204\) or \(n, clips, 1, 128"),
        (lambda m: m["audio"](torch.zeros(2, 0, 1, 128, 204)), r"got \(2, 0, 1, 128, 204\)"),
        (lambda m: m["image"](torch.zeros(2, 3, 4, 224, 224)), r"image takes \(n, 3, 224, 224\) or \(n, clips, 3, 224"),
        (lambda m: m["text"](torch.ones(2, 76, dtype=torch.long)), r"text takes \(n, 77\) .* got \(2, 76\)"),
    ],
)
def test_errors_say_what_came(model, make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make({name: tower.encoder for name, tower in model.towers.items()})
    assert "\n" not in str(caught.value)


def test_a_tower_that_a_file_lacks(tiny, tmp_path):
    path = read(tmp_path / "x.pth", {k: x for k, x in tiny.items() if ".audio." in k})
    with pytest.raises(
        ValueError, match=r"holds no tower 'imu' of ImageBind; no name begins with modality_trunks\.imu"
    ):
        ImageBind("imu", pretrained=path)


def test_half_precision_weights_become_float32(tiny, tmp_path, model):
    path = read(tmp_path / "x.pth", {k: x.half() for k, x in tiny.items() if ".imu." in k})
    encoder = load_published("imagebind", path).towers["imu"].encoder
    assert {x.dtype for x in encoder.parameters()} == {torch.float32}
    assert encoder.scale == pytest.approx(5, rel=1e-3)


def test_import_prints_towers_and_scales(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    assert main(["import", "imagebind", str(file), str(tmp_path / "out"), "--towers", "audio,text"]) == 0
    assert align.load(tmp_path / "out").modalities == ["text", "audio"]
    assert "audio" in capsys.readouterr().out
