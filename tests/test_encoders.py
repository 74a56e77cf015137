"""Encoders: one row alone is the row in company, no rows give zero gradients, published weights load or say why not."""

import inspect
import itertools
import json
import math

import pytest
import torch
from torch import nn

from align import Tower, encoders
from align.checkpoint.describe import build, describe
from align.encoders import (
    HTSAT,
    Blocks,
    HFAudio,
    HFCaption,
    HFImage,
    HFText,
    HFVisionLanguage,
    ImageBind,
    ImageCNN,
    Layered,
    Masked,
    OpenClipImage,
    OpenClipText,
    PointBERT,
    PointNet,
    PointNet2,
    PointTransformer,
    Precomputed,
    Prompted,
    PromptTokens,
    Series,
    SpectrogramCNN,
    SpectrogramImage,
    SpectrogramViT,
    TimmImage,
    TorchaudioWaves,
    TransformerText,
    Uni3D,
    Vector,
    VideoFrames,
)
from align.preprocess import Bytes
from align.values import Features

pytestmark = pytest.mark.usefixtures("tiny_clip")


def images(n, size=32):
    return torch.randn(n, 3, size, size, dtype=torch.float64)


def videos(n, frames=3):
    return torch.randn(n, frames, 3, 32, 32, dtype=torch.float64)


def texts(n, context=12):
    """Ids of different lengths, padding after them."""
    ids = torch.randint(1, 90, (n, context))
    for i in range(n):
        ids[i, 2 + i % (context - 1) :] = 0
    return ids


def clouds(n, channels=6, P=40):
    return torch.rand(n, P, channels, dtype=torch.float64)


def sounds(n, F=16, T=37):
    return torch.randn(n, 1, F, T, dtype=torch.float64)


def signals(n, T=37):
    return torch.randn(n, 3, T, dtype=torch.float64)


def table(n):
    """Rows of a table: column 1 holds ids from 0 to 3, and each row lacks one of its five values."""
    rows = torch.randn(n, 5, dtype=torch.float64)
    rows[:, 1] = torch.arange(n) % 4
    rows[torch.arange(n), torch.arange(n) % 5] = torch.nan
    return rows


small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
words = {**small, "vocab_size": 90, "max_position_embeddings": 12}
pixels = {**small, "image_size": 32, "patch_size": 16}
configs = {  # of transformers
    "bert": {"model_type": "bert", **words, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0},
    "llama": {"model_type": "llama", **words, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2},
    "clip": {"model_type": "clip_text_model", **words, "projection_dim": 24, "bos_token_id": 1, "eos_token_id": 2},
    "siglip": {"model_type": "siglip_vision_model", **small, "image_size": 32, "patch_size": 16},
    "clip-image": {
        "model_type": "clip_vision_model",
        **small,
        "image_size": 32,
        "patch_size": 16,
        "projection_dim": 24,
    },
}
configs["llava"] = {
    "model_type": "llava",
    "text_config": configs["llama"],
    "vision_config": {**configs["clip-image"], "num_hidden_layers": 3},
    "image_token_index": 89,
}
htsat = {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "depths": [1, 1], "num_attention_heads": [2, 2]}
htsat |= {"patch_embeds_hidden_size": 8, "hidden_size": 16, "projection_dim": 12, "hidden_dropout_prob": 0}
heads = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
codec = {"model_type": "dac", "encoder_hidden_size": 2, "hidden_size": 8, "codebook_dim": 4}
audio_models = {  # of transformers: config, arguments of Audio, and one row of values
    "clap": ({"model_type": "clap_audio_model", **htsat}, {"n_mels": 16}, (1, 16, 99)),
    "fusion": ({"model_type": "clap_audio_model", **htsat, "enable_fusion": True}, {"n_mels": 16}, (4, 16, 99)),
    "whisper": (
        {"model_type": "whisper", "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
        | {"encoder_ffn_dim": 16, "num_mel_bins": 8, "max_source_positions": 10, "pad_token_id": 0},
        {"n_mels": 8, "seconds": 0.2},
        (1, 8, 20),
    ),
    "ast": (
        {"model_type": "audio-spectrogram-transformer", **heads, "num_mel_bins": 24, "max_length": 32},
        {"n_mels": 24, "seconds": 0.335},
        (1, 24, 32),
    ),
    "pe": (
        {"model_type": "pe_audio_encoder", **heads, "head_dim": 8, "projection_dim": 12}
        | {"dac_config": codec | {"downsampling_ratios": [2, 8, 10, 12]}},
        {},
        (3840,),
    ),
}
wav2vec = {
    "extractor_conv_layer_config": [[8, 10, 5], [8, 3, 2], [8, 2, 2]],
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}
base = {"extractor_mode": "group_norm", "extractor_conv_bias": False, "encoder_layer_norm_first": False}
large = {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
wavlm = {"encoder_num_buckets": 8, "encoder_max_distance": 16}


point_bert = {"block_width": 16, "depth": 2, "heads": 2, "hidden": 24, "patch_width": 8, "groups": 6, "neighbours": 5}


def hf_audio(kind):
    config, preprocess, row = audio_models[kind]

    def values(n):
        return torch.randn(n, *row, dtype=torch.float64)

    return lambda: HFAudio(config=config, preprocess=preprocess), values


def waves(n, T=1200):
    return torch.randn(n, T, dtype=torch.float64)


class TextOfIds(HFText):
    """HFText of ids whose padding is 0."""

    def forward(self, values):
        return super().forward(masked(values))


class CaptionOfIds(HFCaption):
    """HFCaption of ids whose padding is 0."""

    def forward(self, values):
        return super().forward(masked(values))


def interleaved(n, L=12):
    """Rows of at most two pictures of four tokens (id 89) among ids; row 1 has no picture, and row 2 two."""
    ids, mask = torch.randint(3, 80, (n, L)), torch.ones(n, L, dtype=torch.int64)
    for i in range(n):
        for k in range((1, 0, 2)[i % 3]):
            ids[i, 1 + 5 * k : 5 + 5 * k] = 89
        ids[i, 12 - i % 2 :], mask[i, 12 - i % 2 :] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "pixels": torch.randn(n, 2, 3, 32, 32, dtype=torch.float64)}


def masked(ids):
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def small_cnn():
    return ImageCNN(width=24, widths=(8, 16), stem=2)


def uni3d(kind, **more):
    sizes = {"block_width": 16, "depth": 2, "heads": 2, "hidden": 20, "groups": 6, "neighbours": 5}
    return Uni3D(24, kind, **sizes | more, patch_widths=(8, 12, 10, 9))


balls = {"groups": [9, 4], "radius": [0.4, 0.8], "neighbours": [6, 5], "widths": [[8, 8], [12]], "hidden": [16]}

cases = {
    "HFText": (lambda: TextOfIds("bert", config=configs["bert"]), texts),
    "HFText-last": (lambda: TextOfIds("llama", config=configs["llama"], pooling="last"), texts),
    "HFText-both": (lambda: TextOfIds("llama", config=configs["llama"], bidirectional=True), texts),
    "HFVisionLanguage": (lambda: HFVisionLanguage("llava", config=configs["llava"]), interleaved),
    "HFImage": (lambda: HFImage("siglip", config=configs["siglip"]), images),
    "HFImage-clip": (lambda: HFImage("clip", config=configs["clip-image"]), images),
    "HFCaption": (lambda: CaptionOfIds("clip", config=configs["clip"]), texts),
    "HFAudio-clap": hf_audio("clap"),
    "HFAudio-fusion": hf_audio("fusion"),
    "HFAudio-whisper": hf_audio("whisper"),
    "HFAudio-ast": hf_audio("ast"),
    "HFAudio-pe": hf_audio("pe"),
    "HTSAT": (lambda: HTSAT(8, (2, 1), (2, 2), 16, 64, window=4), sounds),
    "HTSAT-fusion": (
        lambda: HTSAT(8, (1, 1), (2, 2), 16, 64, window=4, fusion=True, projection=12),
        lambda n: torch.randn(n, 4, 16, 37, dtype=torch.float64),
    ),
    "TorchaudioWaves": (lambda: TorchaudioWaves("WAV2VEC2_BASE", config={**wav2vec, **base}), waves),
    "TorchaudioWaves-large": (lambda: TorchaudioWaves("HUBERT_LARGE", layer=1, config={**wav2vec, **large}), waves),
    "TorchaudioWaves-wavlm": (lambda: TorchaudioWaves("WAVLM_BASE", config={**wav2vec, **base, **wavlm}), waves),
    "Blocks": (lambda: Blocks(TransformerText(90, 4, width=16, depth=1, heads=2), 3), lambda n: texts(n)),
    "Blocks-sound": (lambda: Blocks(SpectrogramCNN(16, n_mels=16, widths=(8,)), 3, depth=0), sounds),
    "Blocks-mask": (
        lambda: Blocks(HFText("x", config=configs["bert"]), 2),
        lambda n: {"input_ids": texts(n).clamp(min=1), "attention_mask": (texts(n) != 0).long()},
    ),
    "ImageCNN": (lambda: ImageCNN(width=24, widths=(8, 16), stem=2), images),
    "TimmImage-vit": (lambda: TimmImage("test_vit", size=32), images),
    "TimmImage-convnext": (lambda: TimmImage("test_convnext"), images),
    "Masked": (lambda: Masked(ImageCNN(width=24, widths=(8, 16), stem=2), [8, 8], ratio=0.0), images),
    "Prompted": (lambda: Prompted(TransformerText(90, 12, width=16, depth=2, heads=2), 3), texts),
    "PromptTokens": (lambda: PromptTokens(TimmImage("test_vit", size=32), 3, 2, "model.blocks"), images),
    "OpenClipImage": (lambda: OpenClipImage("align-tiny"), images),
    "OpenClipText": (lambda: OpenClipText("align-tiny"), texts),
    "TransformerText": (lambda: TransformerText(90, 12, width=16, depth=2, heads=2), texts),
    "TransformerText-last": (lambda: TransformerText(90, 12, width=16, depth=1, heads=2, pool="last"), texts),
    "SpectrogramViT": (lambda: SpectrogramViT("test_vit", n_mels=16, frames=32), sounds),
    "SpectrogramCNN": (lambda: SpectrogramCNN(width=24, n_mels=16, widths=(8, 16)), sounds),
    "SpectrogramImage": (lambda: SpectrogramImage(small_cnn(), (16, 24), 3.0), sounds),
    "PointNet": (lambda: PointNet(width=24, hidden=(8, 16)), clouds),
    "PointNet-few": (lambda: PointNet(width=24, hidden=(8, 16)), lambda n: clouds(n, P=9)),
    "PointNet2": (lambda: PointNet2(width=24, **balls), clouds),
    "PointNet2-plain": (lambda: PointNet2(16, 3, [5], [0.4], [6], [[8, 8]], []), lambda n: clouds(n, channels=3, P=4)),
    "PointTransformer": (
        lambda: PointTransformer(width=16, depth=2, heads=2, groups=6, neighbours=5, patch_width=8),
        clouds,
    ),
    "Uni3D": (lambda: uni3d("eva02"), clouds),
    "Uni3D-eva": (lambda: uni3d("eva"), clouds),
    "Uni3D-norm": (lambda: uni3d("eva02-norm"), clouds),
    "PointBERT": (lambda: PointBERT(**point_bert), clouds),
    "PointBERT-openshape": (lambda: PointBERT("openshape", **point_bert, radius=0.4), clouds),
    "PointBERT-xyz": (lambda: PointBERT(channels=3, **point_bert), lambda n: clouds(n, channels=3)),
    "Series": (lambda: Series(3, 32, width=16, depth=2, heads=2, patch=8), signals),
    "Series-conv": (lambda: Series(3, 37, width=16, depth=1, heads=2, patch=4, stem="conv"), signals),
    "Vector": (lambda: Vector(5, width=16, hidden=16, embed={1: 4}, embed_width=4, waves=3), table),
    "Vector-plain": (lambda: Vector(5, width=16, hidden=16, depth=2), table),
    "ImageBind-image": (
        lambda: ImageBind("image", 12, 16, 2, 2, [3, 2, 32, 32], [2, 16, 16], [2, 16, 16]),
        lambda n: torch.randn(n, 2, 3, 2, 32, 32, dtype=torch.float64),
    ),
    "ImageBind-text": (
        lambda: ImageBind("text", 12, 16, 2, 2, [12], vocabulary=90),
        lambda n: texts(n, 12),
    ),
    "ImageBind-audio": (
        lambda: ImageBind("audio", 12, 16, 2, 2, [1, 16, 37], [8, 8], [4, 4]),
        lambda n: sounds(n)[:, None].expand(-1, 3, -1, -1, -1),
    ),
    "ImageBind-imu": (lambda: ImageBind("imu", 12, 16, 1, 2, [3, 32], [8], [8]), lambda n: signals(n, 32)),
    "Layered": (lambda: Layered(TransformerText(90, 12, 16, 3, 2), [1, 3]), texts),
    "Layered-timm": (lambda: Layered(TimmImage("test_vit", size=32), [2, 6], "model.blocks"), images),
    "VideoFrames": (lambda: VideoFrames(small_cnn()), videos),
    "VideoFrames-unit": (lambda: VideoFrames(TimmImage("test_vit", size=32), "unit-mean"), videos),
    "VideoFrames-attention": (lambda: VideoFrames(small_cnn(), "attention"), videos),
    "VideoFrames-times": (lambda: VideoFrames(small_cnn(), "times", frames=4, depth=1, heads=2), videos),
    "VideoFrames-picture": (lambda: VideoFrames(small_cnn(), "times", frames=4, depth=1, heads=2), images),
    "Precomputed": (lambda: Precomputed(7), lambda n: torch.randn(n, 7, dtype=torch.float64)),
    "Precomputed-tokens": (lambda: Precomputed(7), lambda n: torch.randn(n, 3, 7, dtype=torch.float64)),
    "Precomputed-ragged": (
        lambda: Precomputed(7, tokens=True),
        lambda n: {
            "pooled": torch.randn(n, 7, dtype=torch.float64),
            "tokens": torch.randn(n, 3, 7, dtype=torch.float64),
            "mask": torch.ones(n, 3, dtype=torch.bool),
        },
    ),
}
every = pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def test_no_encoder_is_forgotten():
    """Regions and Mosaic, whose rows are made of another tower's tokens, have tests of their own."""
    public = {*encoders.__all__} - {"Encoder", "Mosaic", "Regions"}
    assert {name.split("-")[0] for name in cases} == public, "each encoder needs a line in `cases`"


@every
def test_what_comes_out(case):
    make, values = case
    torch.manual_seed(0)
    encoder, x = make().double(), values(5)
    pooled, tokens, mask = encoder(x)
    assert pooled.shape == (5, encoder.width)
    assert pooled.dtype == torch.float64
    if tokens is not None:
        assert tokens.shape[0] == 5
        assert tokens.shape[2] == encoder.width
    if mask is not None:
        assert mask.shape == tokens.shape[:2]
        assert mask.dtype == torch.bool
    if values is texts and not isinstance(encoder, Layered | Prompted):  # whose tokens are layers; which has more
        assert torch.equal(mask, x != 0)


def each(x, change):
    """Change a tensor, or the tensors of a dict."""
    return {name: change(part) for name, part in x.items()} if isinstance(x, dict) else change(x)


@every
@pytest.mark.parametrize("training", [False, True])
def test_a_row_is_the_same_alone_and_in_company(case, training):
    make, values = case
    torch.manual_seed(0)
    encoder, x = make().double().train(training), values(6)
    together = encoder(x)
    for i in range(6):
        alone = encoder(each(x, lambda part, i=i: part[i : i + 1]))
        for a, b in zip(alone, together, strict=True):
            if b is not None:
                torch.testing.assert_close(a[0], b[i], rtol=1e-10, atol=1e-10)


@every
def test_no_rows_give_zero_gradients(case):
    make, values = case
    torch.manual_seed(0)
    encoder = make().double()
    x = values(0)
    pooled, tokens, mask = encoder(each(x, lambda part: part.requires_grad_() if part.is_floating_point() else part))
    assert pooled.shape == (0, encoder.width)
    assert tokens is None or tokens.shape[0] == 0
    assert mask is None or mask.shape[0] == 0
    if not list(encoder.parameters()):
        return
    pooled.sum().backward()
    for name, parameter in encoder.named_parameters():
        if not parameter.requires_grad:  # Whisper's sinusoids
            continue
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name  # any() is true for nan


@every
def test_every_parameter_reaches_the_pooled_features(case):
    make, values = case
    torch.manual_seed(0)
    encoder = make().double()
    pooled = encoder(values(4)).pooled
    if list(encoder.parameters()):
        (pooled * torch.randn_like(pooled)).sum().backward()
    for name, parameter in encoder.named_parameters():
        if not parameter.requires_grad:  # Whisper's sinusoids
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@every
def test_arguments_are_kept_under_their_names(case):
    encoder = case[0]()
    names = inspect.signature(type(encoder)).parameters
    kept = {name: x if not isinstance(x := getattr(encoder, name), nn.Module) else describe(x) for name in names}
    said = json.loads(json.dumps(kept))  # what a checkpoint writes builds the same encoder
    again = type(encoder)(**{k: build(x) if isinstance(x, dict) and "class_path" in x else x for k, x in said.items()})
    shapes = {name: x.shape for name, x in encoder.state_dict().items()}
    assert {name: x.shape for name, x in again.state_dict().items()} == shapes
    assert not any(
        p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in inspect.signature(type(encoder)).parameters.values()
    )


@every
def test_half_precision_and_one_row_train(case):
    make, values = case
    encoder = make().bfloat16()
    x = values(1)
    pooled = encoder(each(x, lambda part: part.bfloat16() if part.is_floating_point() else part)).pooled
    assert pooled.dtype == torch.bfloat16
    assert pooled.isfinite().all()


@every
def test_every_parameter_learns_under_autocast(case):
    make, values = case
    torch.manual_seed(0)
    encoder, x = make(), values(3)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = encoder(each(x, lambda part: part.float() if part.is_floating_point() else part)).pooled
    if list(encoder.parameters()):
        (pooled * torch.randn_like(pooled)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "kind", [ImageCNN, SpectrogramCNN, TransformerText, PointNet, PointNet2, PointTransformer, Series, Vector]
)
def test_ours_have_no_batch_norm(kind):
    made = kind(3, 32) if kind is Series else kind(3) if kind is Vector else kind()
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in made.modules())


@pytest.mark.parametrize("make", [lambda: TimmImage("test_resnet"), lambda: TimmImage("test_efficientnet")])
def test_batch_norm_stays_in_evaluation_with_a_warning(make):
    with pytest.warns(UserWarning, match="has batch normalisation; its statistics stay as they are"):
        encoder = make()
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [m.running_mean.clone() for m in norms]
    assert not any(m.training for m in [*norms, *encoder.train().modules()] if m in norms)
    encoder(images(3).float())
    assert encoder.training
    assert all(torch.equal(m.running_mean, old) for m, old in zip(norms, before, strict=True))
    x = images(3).float()
    torch.testing.assert_close(encoder(x).pooled[:1], encoder(x[:1]).pooled, rtol=1e-5, atol=1e-5)


def test_pointnet_and_its_gradient_are_those_of_all_points():
    torch.manual_seed(0)
    net, x = PointNet(width=5, hidden=(8, 16)).double(), clouds(3, P=50).requires_grad_()
    weight = torch.randn(3, 5, dtype=torch.float64)
    plain = net.all(torch.stack([torch.stack([net.each(p) for p in net._waves(row)]).amax(0) for row in x]))
    leaves = [x, *net.parameters()]
    want = torch.autograd.grad((plain * weight).sum(), leaves)
    pooled = net(x).pooled
    got = torch.autograd.grad((pooled * weight).sum(), leaves)
    torch.testing.assert_close(pooled, plain)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(net(x).pooled, plain)


def test_pointnet_has_the_bits_of_the_whole_last_layer():
    torch.manual_seed(0)
    net, x = PointNet(width=24, hidden=(32, 64, 128)), clouds(8, P=200).float().requires_grad_()
    leaves = [x, *net.parameters()]
    found = []
    for encode in (lambda: net(x).pooled, lambda: net.all(whole(net, net._waves(x)))):
        pooled = encode()
        found.append([pooled.detach(), *torch.autograd.grad(pooled.square().sum(), leaves)])
    for got, want in zip(*found, strict=True):
        assert torch.equal(got, want)
    net, x = PointNet(width=2, hidden=(3, 4)).double(), clouds(2, P=9).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: net(x).pooled, x)


def whole(net: PointNet, values: torch.Tensor) -> torch.Tensor:
    """Return the maxima (n, C) as the diagonal of the last layer over the points that hold them."""
    holder = net.each(values).argmax(1)
    points = values.gather(1, holder[..., None].expand(-1, -1, values.shape[2]))
    return net.each(points).diagonal(dim1=1, dim2=2)


@pytest.mark.parametrize("name", ["PointNet", "PointTransformer"])
def test_the_order_of_points_does_not_matter(name):
    torch.manual_seed(0)
    encoder, x = cases[name][0]().double(), clouds(3)
    shuffled = torch.stack([row[torch.randperm(40)] for row in x])
    torch.testing.assert_close(encoder(x).pooled, encoder(shuffled).pooled)


@pytest.mark.parametrize("name", ["PointNet2", "PointTransformer"])
def test_odd_clouds_are_finite(name):
    torch.manual_seed(0)
    encoder = cases[name][0]()
    for x in (torch.zeros(2, 40, 6), torch.rand(2, 1, 6), torch.rand(2, 4, 6), torch.ones(1, 40, 6)):
        pooled = encoder(x).pooled
        pooled.sum().backward()
        assert pooled.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


checkpointed = {
    "TransformerText": (lambda **o: TransformerText(90, 12, width=16, depth=3, heads=2, dropout=0.2, **o), texts),
    "PointTransformer": (
        lambda **o: PointTransformer(
            width=16, heads=2, depth=3, groups=6, neighbours=5, patch_width=4, dropout=0.2, **o
        ),
        clouds,
    ),
    "Uni3D": (lambda **o: uni3d("eva02-norm", depth=3, **o), clouds),
    "PointBERT": (lambda **o: PointBERT(**point_bert, **o), clouds),
    "Series": (lambda **o: Series(3, 37, width=16, depth=3, heads=2, patch=4, dropout=0.2, **o), signals),
    "SpectrogramViT": (lambda **o: SpectrogramViT("test_vit", n_mels=16, frames=32, **o), sounds),
    "ImageBind": (lambda **o: ImageBind("imu", 12, 16, 3, 2, [3, 37], [4], [4], **o), signals),
}


@pytest.mark.parametrize("name", checkpointed)
def test_checkpointing_changes_no_gradient_and_keeps_fewer_numbers(name):
    make, values = checkpointed[name]
    torch.manual_seed(0)
    x, results = values(4), []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        encoder = make(checkpointing=checkpointing).double().train()
        assert encoder.checkpointing is checkpointing
        kept = []
        torch.manual_seed(2)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            pooled = encoder(x).pooled
        drawn = torch.get_rng_state()
        pooled.square().sum().backward()
        assert torch.equal(drawn, torch.get_rng_state())  # drawing dropout again moves no generator
        gradients = [p.grad for p in encoder.parameters()]
        results.append((sum(kept), pooled, gradients))
        with torch.no_grad():
            results[-1] += (encoder.eval()(x).pooled,)
    plain, less = results
    assert less[0] < 0.75 * plain[0]
    assert torch.equal(less[1], plain[1])
    assert all(torch.equal(a, b) for a, b in zip(less[2], plain[2], strict=True))
    assert torch.equal(less[3], plain[3])


def test_a_series_of_another_length_has_interpolated_positions():
    torch.manual_seed(0)
    encoder = Series(3, 32, width=16, depth=1, heads=2, patch=8).double()
    for T, L in ((1, 1), (8, 1), (9, 2), (32, 4), (64, 8), (70, 9)):
        assert encoder(signals(2, T)).tokens.shape == (2, L, 16)
    with torch.no_grad():
        encoder.position.copy_(torch.arange(4.0)[:, None].expand(4, 16))
    assert encoder._positions(8)[:, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert encoder._positions(4) is encoder.position
    x = signals(2, 30)
    filled = torch.cat([x, torch.zeros(2, 3, 2, dtype=torch.float64)], 2)
    assert torch.equal(encoder(x).pooled, encoder(filled).pooled)


def test_a_patch_is_one_matrix_over_its_steps_and_channels():
    encoder, x = Series(3, 32, width=16, patch=8).double(), signals(2, 32)
    weight, bias = encoder.read.weight.flatten(1), encoder.read.bias
    for i in range(4):
        token = x[:, :, 8 * i : 8 * i + 8].flatten(1) @ weight.T + bias
        torch.testing.assert_close(encoder.read(x)[:, :, i], token)


def test_a_vector_is_the_plain_loop_over_its_columns():
    torch.manual_seed(0)
    encoder, rows = cases["Vector"][0]().double(), table(6)
    found = encoder(rows).pooled
    ids = encoder.tables[0].weight
    for row, out in zip(rows.tolist(), found, strict=True):
        numbers, missing, waves = [], [], []
        for k, i in enumerate((0, 2, 3, 4)):
            lost = row[i] != row[i]
            numbers.append(0.0 if lost else row[i])
            missing.append(float(lost))
            turns = [2 * torch.pi * row[i] * rate for rate in encoder.rates[k].tolist()]
            waves += [0.0] * 6 if lost else [math.sin(t) for t in turns] + [math.cos(t) for t in turns]
        plain = torch.tensor([*numbers, *missing, *waves], dtype=torch.float64)
        code = ids[4 if row[1] != row[1] else int(row[1])]
        torch.testing.assert_close(out, encoder.layers(torch.cat([plain, code])))


def test_ids_out_of_range_are_missing_ones():
    encoder = cases["Vector"][0]().double().eval()
    row = torch.tensor([[0.5, torch.nan, 1.0, torch.nan, -2.0]], dtype=torch.float64)
    for odd in (-1.0, 4.0, 1e30):
        other = row.clone()
        other[0, 1] = odd
        assert torch.equal(encoder(other).pooled, encoder(row).pooled)
    other[0, 1] = 3
    assert not torch.equal(encoder(other).pooled, encoder(row).pooled)


def test_padding_is_not_read():
    torch.manual_seed(0)
    encoder = TransformerText(90, 12, width=16, depth=2, heads=2).double()
    ids = texts(4)
    rows = [encoder.norm(_blocks(encoder, row[row != 0])) for row in ids]  # each text alone, without padding
    torch.testing.assert_close(encoder(ids).pooled, torch.stack([r.mean(0) for r in rows]))
    encoder.pool = "last"
    torch.testing.assert_close(encoder(ids).pooled, torch.stack([r[-1] for r in rows]))
    assert encoder(torch.zeros(2, 12, dtype=torch.long)).pooled.isfinite().all()


def _blocks(encoder, ids):
    x = (encoder.token(ids) + encoder.position[: len(ids)])[None]
    for block in encoder.blocks:
        x = block(x)
    return x[0]


def test_spectrograms_of_any_length():
    for name in ("SpectrogramCNN", "SpectrogramViT"):
        encoder = cases[name][0]()
        for T in (1, 15, 16, 200):
            assert encoder(torch.randn(2, 1, 16, T)).pooled.shape == (2, encoder.width)


def test_a_spectrogram_is_a_grey_picture_whose_loudest_point_is_white():
    """Each pixel of the picture by a plain loop, where the scale is 1, and no level changes it."""
    seen = []

    class Camera(torch.nn.Module):
        width = 3

        def forward(self, picture):
            seen.append(picture)
            return Features(picture.mean((2, 3)))

    encoder = SpectrogramImage(Camera(), (4, 6), reach=2.0, mean=0.25, std=0.5)
    values = torch.randn(2, 1, 4, 6, dtype=torch.float64)
    assert encoder(values).pooled.shape == (2, 3)
    encoder(values + 7)
    assert torch.allclose(*seen, atol=1e-12)
    for n, c, row, column in itertools.product(range(2), range(3), range(4), range(6)):
        sound = float(values[n, 0, 3 - row, column])  # the lowest band is the last row
        grey = max(1 - (float(values[n].max()) - sound) / 2.0, 0.0)
        assert float(seen[0][n, c, row, column]) == pytest.approx((grey - 0.25) / 0.5)


def test_a_pitch_is_not_pooled_away():
    """Two tones a whole number of strides apart and far from the edges: one map moved, which pooling would not see."""
    torch.manual_seed(0)
    encoder = SpectrogramCNN(n_mels=64, widths=(8,), stem=4)
    low, high = torch.zeros(2, 1, 1, 64, 32)
    low[..., 20, :], high[..., 40, :] = 1, 1
    assert (encoder(low).pooled - encoder(high).pooled).abs().max() > 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageCNN(widths=(12,)), "widths are multiples of 8"),
        (lambda: ImageCNN(stem=0), "stem, the first stride, must be at least 1, not 0"),
        (lambda: TransformerText(pool="max"), "pool is 'mean' or 'last', not 'max'"),
        (lambda: TransformerText(heads=3), "heads must divide width; 128 is no multiple of 3"),
        (lambda: PointNet(hidden=()), "needs hidden widths"),
        (lambda: Series(0, 8), "channels, length, patch and depth are at least 1, not 0, 8, 16, 4"),
        (lambda: Series(1, 8, stem="fft"), "stem is 'patches' or 'conv', not 'fft'"),
        (lambda: Series(1, 8, patch=6, stem="conv"), "patch is a power of two, not 6"),
        (lambda: Series(3, 8)(torch.zeros(2, 2, 8)), r"Series takes \(n, 3, T\), T >= 1, got \(2, 2, 8\)"),
        (lambda: Vector(3, depth=0), "at least 1, waves at least 0; got 3, 256, 0, 16 and 0"),
        (lambda: Vector(3, embed={3: 9}), "embed has column 3 of 9 ids; columns go from 0 to 2"),
        (lambda: Vector(3)(torch.zeros(2, 4)), r"Vector takes \(n, 3\), got \(2, 4\)"),
        (
            lambda: Vector(2, embed={0: 999}).bfloat16()(torch.zeros(2, 2).bfloat16()),
            "bfloat16 does not hold ids up to 999; keep the model in float32",
        ),
        (lambda: PointTransformer(groups=0), "groups, neighbours and depth are at least 1, not 0, 32, 12"),
        (
            lambda: Precomputed(3)({"pooled": torch.zeros(2, 4), "tokens": torch.zeros(2, 1, 4)}),
            r"takes pooled \(n, 3\), tokens and mask; got pooled \(2, 4\), tokens \(2, 1, 4\)",
        ),
        (lambda: Precomputed(3)(torch.zeros(2, 4)), r"takes values of shape \(n, 3\) or \(n, L, 3\), got \(2, 4\)"),
        (lambda: PointNet()(torch.zeros(2, 9, 3)), r"PointNet takes \(n, P, 6\), P >= 1, got \(2, 9, 3\)"),
        (lambda: PointTransformer()(torch.zeros(2, 0, 6)), r"takes \(n, P, 6\), P >= 1, got \(2, 0, 6\)"),
        (lambda: SpectrogramCNN()(torch.zeros(2, 1, 32, 9)), "made for 64 mel bands, got"),
        (lambda: SpectrogramImage(small_cnn())(torch.zeros(2, 3, 8, 9)), r"takes spectrograms \(n, 1, n_mels, T\)"),
        (lambda: SpectrogramImage(small_cnn(), reach=0), "reach=0 must be above 0"),
        (lambda: SpectrogramImage(torch.nn.ReLU()), "wraps an image encoder, which has a width; ReLU has none"),
        (lambda: TransformerText()(torch.ones(2, 65, dtype=torch.long)), "made for 64 ids a row, got"),
        (lambda: TimmImage("vit_tiny_patch16_24"), "timm has no model .*; did you mean 'vit_tiny_patch16_224'"),
        (lambda: TimmImage("test_vit", pretrained="nosuch"), "no file and no tag of test_vit; its tags: r160_in1k"),
        (
            lambda: TimmImage("vit_giant_patch14_224", pretrained=True),
            "timm has no weights for 'vit_giant_patch14_224'",
        ),
        (lambda: SpectrogramViT("test_convnext"), "test_convnext is no vision transformer of timm"),
        (lambda: OpenClipText("ViT-B-23"), "open_clip has no model 'ViT-B-23'; did you mean 'ViT-B-"),
        (lambda: OpenClipImage("align-tiny", "laion"), "no file and no tag of align-tiny; its tags: none"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="Bytes gives vocabulary 259, OpenClipText takes vocabulary 90"):
        Tower(Bytes(12), OpenClipText("align-tiny"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TimmImage("test_vit", pretrained=True),
        lambda: TimmImage("test_vit", pretrained="r160_in1k"),
        lambda: SpectrogramViT("test_vit", pretrained=True),
        lambda: OpenClipImage("ViT-B-32", "laion2b_s34b_b79k"),
        lambda: OpenClipText("ViT-B-32", "laion2b_s34b_b79k"),
    ],
)
def test_weights_that_cannot_be_fetched_are_one_line(make, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(OSError, match=r"cannot be (fetched|reached).*: go online once") as caught:
        make()
    assert "\n" not in str(caught.value)


def _no_network(*_, **__):
    raise OSError("no network")


def saved(state, path):
    from safetensors.torch import save_file

    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_open_clip_weights_load_in_their_published_layout(tmp_path, suffix):
    import open_clip

    torch.manual_seed(1)
    whole = open_clip.CLIP(**open_clip.get_model_config("align-tiny"))
    path = saved(whole.state_dict(), tmp_path / f"weights{suffix}")
    image, text = OpenClipImage("align-tiny", path), OpenClipText("align-tiny", path)
    assert (image.pretrained, image.size, image.width) == (None, 32, 16)
    assert (text.pretrained, text.vocabulary, text.context, text.width) == (None, 90, 12, 16)
    x, ids = images(3).float(), texts(3)
    torch.testing.assert_close(image(x).pooled, whole.encode_image(x))
    torch.testing.assert_close(text(ids).pooled, whole.encode_text(ids))
    last = text(ids).tokens[torch.arange(3), ids.argmax(1)]  # pooled is the token with the largest id, the end mark
    torch.testing.assert_close(last, text(ids).pooled)


@pytest.mark.parametrize("classes", [1000, 10, 0])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_timm_weights_load_from_a_file(tmp_path, classes, suffix):
    import timm

    torch.manual_seed(1)
    whole = timm.create_model("test_vit", num_classes=classes)
    path = saved(whole.state_dict(), tmp_path / f"weights{suffix}")
    encoder = TimmImage("test_vit", pretrained=path)
    assert encoder.pretrained is None
    assert encoder.size == 160
    x = images(2, 160).float()
    want = whole.forward_head(whole.forward_features(x), pre_logits=True)
    torch.testing.assert_close(encoder(x).pooled, want)


def test_spectrogram_vit_takes_image_weights_from_a_file(tmp_path):
    import timm

    torch.manual_seed(1)
    whole = timm.create_model("test_vit")
    path = saved(whole.state_dict(), tmp_path / "weights.safetensors")
    encoder = SpectrogramViT("test_vit", n_mels=16, frames=32, pretrained=path)
    torch.testing.assert_close(encoder.model.blocks[0].attn.qkv.weight, whole.blocks[0].attn.qkv.weight)
    summed = whole.patch_embed.proj.weight.sum(1, keepdim=True)
    torch.testing.assert_close(encoder.model.patch_embed.proj.weight, summed)
    assert encoder(sounds(2).float()).pooled.shape == (2, encoder.width)


def test_a_file_of_other_weights_is_refused(tmp_path):
    path = saved({"a.weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    for make in (lambda: TimmImage("test_vit", path), lambda: OpenClipImage("align-tiny", path)):
        with pytest.raises(ValueError, match="does not hold the weights of") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_file_that_lacks_a_key_is_refused(tmp_path):
    import timm

    for classes, lost in ((0, "norm.weight"), (10, "blocks.1.attn.qkv.bias")):
        state = timm.create_model("test_vit", num_classes=classes).state_dict()
        path = saved({k: v for k, v in state.items() if k != lost}, tmp_path / f"weights{classes}.safetensors")
        with pytest.raises(ValueError, match=f"does not hold the weights of test_vit: .*{lost}"):
            TimmImage("test_vit", path)


class Hostile:
    ran = False

    def __reduce__(self):
        return setattr, (Hostile, "ran", True)


@pytest.mark.parametrize("make", [lambda p: TimmImage("test_vit", p), lambda p: OpenClipText("align-tiny", p)])
def test_a_file_runs_no_code(tmp_path, make):
    torch.save({"state_dict": Hostile()}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"does not hold the weights of|holds more than tensors"):
        make(str(tmp_path / "weights.pt"))
    assert not Hostile.ran
