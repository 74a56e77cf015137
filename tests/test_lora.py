"""Adapters: on every encoder, merged in whatever is saved, whole in a checkpoint. The one file that imports peft."""

from __future__ import annotations

import copy
import sys
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from cut import Cut, Kill
from test_encoders import cases
from test_lit import exact, train
from tiny import made, write
from torch import nn

import align
from align import JointModel, Tower
from align.checkpoint import read_index, save
from align.encoders import ImageCNN, TransformerText
from align.encoders.weights import read_tensors
from align.lit.stages import Span, Stage
from align.lit.trained import apply_stage
from align.model.inside import weights
from align.optim import named_parameters
from align.preprocess import Bytes, Image
from align.preprocess.base import Preprocess
from align.tuning import Lora, Tuning, apply
from align.tuning.attention import FusedAttention

pytest.importorskip("peft")


class Given(Preprocess):
    """Rows of an encoder's test: none, as ``values`` makes them."""

    def __init__(self, values):
        self.values = values

    def decode(self, source):
        raise NotImplementedError

    def train(self, x, generator):
        return x

    def eval(self, x):
        return x

    def collate(self, rows):
        return self.values(0)


def alone(encoder: nn.Module, values: Any = None) -> JointModel:
    """A model of one tower."""
    return JointModel({"one": Tower(Given(values), encoder)}, 4).to(next(encoder.parameters()).dtype)


def randomize(model: nn.Module, seed: int = 0) -> None:
    """Give the second matrices of adapters, which begin at zero, values."""
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_" in name and "B" in name.rpartition("lora_")[2]:
            nn.init.normal_(p, std=0.1)


bare = {"Precomputed", "Precomputed-tokens"}
adapted = {name: case for name, case in cases.items() if name not in bare}


few = (
    "HFAudio-whisper",
    "HFText",
    "ImageCNN",
    "OpenClipImage",
    "OpenClipText",
    "TorchaudioWaves-wavlm",
    "TransformerText",
)


@pytest.mark.usefixtures("tiny_clip")
@pytest.mark.parametrize("name", [n if n in few else pytest.param(n, marks=pytest.mark.sweep) for n in adapted])
def test_an_adapted_encoder_is_the_encoder_with_its_merged_weights(name):
    make, values = adapted[name]
    torch.manual_seed(0)
    encoder = make().double()
    plain = copy.deepcopy(encoder).eval()
    model = alone(encoder, values).eval()
    x, before = values(3), weights(model)
    was = plain(x).pooled
    applied = apply(model, Tuning(lora={"one.encoder": Lora(rank=2, alpha=4)}))
    assert list(weights(model)) == list(before)
    assert all(torch.equal(now, before[n]) for n, now in weights(model).items())
    torch.testing.assert_close(encoder(x).pooled, was, rtol=0, atol=1e-12)
    randomize(model)
    out = encoder(x)
    out.pooled.square().sum().backward()
    moved = {n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {n for n, p in encoder.named_parameters() if p.requires_grad} >= moved
    assert all("lora_" in n for n in moved)
    assert len(moved) >= len(applied.adapters)
    plain.load_state_dict(
        {n.removeprefix("towers.one.encoder."): w for n, w in weights(model).items() if ".one.encoder." in n}
    )
    torch.testing.assert_close(plain(x).pooled, out.pooled, rtol=0, atol=1e-10)
    assert not torch.allclose(out.pooled, was, rtol=0, atol=1e-12)
    applied.check()
    applied.remove()
    assert all(torch.equal(w, weights(model)[f"towers.one.encoder.{n}"]) for n, w in plain.state_dict().items())
    assert not any("lora_" in n for n, _ in model.named_modules())


def slow_attention(layer: FusedAttention, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Attention of x with itself, row by row and head by head, with the summed weights."""
    base, scale = layer.base_layer, layer.scale
    into = base.in_proj_weight + scale * (layer.lora_B @ layer.lora_A)
    out = base.out_proj.weight + scale * (layer.lora_out_B @ layer.lora_out_A)
    rows = []
    for row, skip in zip(x, hidden, strict=True):
        q, k, v = (row @ into.T + base.in_proj_bias).chunk(3, -1)
        heads = []
        for a, b, c in zip(q.chunk(2, -1), k.chunk(2, -1), v.chunk(2, -1), strict=True):
            scores = (a @ b.T / a.shape[-1] ** 0.5).masked_fill(skip[None], float("-inf"))
            heads.append(scores.softmax(-1) @ c)
        rows.append(torch.cat(heads, -1) @ out.T + base.out_proj.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("batch_first", [True, False])
def test_fused_attention_is_attention_with_the_summed_weights(batch_first):
    torch.manual_seed(0)
    base = nn.MultiheadAttention(8, 2, batch_first=batch_first, dtype=torch.float64)
    layer, x = FusedAttention(base, 2, 1.5), torch.randn(3, 5, 8, dtype=torch.float64)
    nn.init.normal_(layer.lora_B), nn.init.normal_(layer.lora_out_B)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[1, 3:] = True
    given = x if batch_first else x.transpose(0, 1)
    was = {n: p.clone() for n, p in base.named_parameters()}
    out, seen = layer(given, given, given, key_padding_mask=hidden)
    assert seen is not None
    assert seen.shape == (3, 5, 5)
    out = out if batch_first else out.transpose(0, 1)
    torch.testing.assert_close(out, slow_attention(layer, x, hidden), rtol=0, atol=1e-12)
    out.sum().backward()
    assert all(torch.equal(p, was[n]) for n, p in base.named_parameters())  # peft's own changes their last bits
    assert all(p.grad is not None and p.grad.any() for n, p in layer.named_parameters() if n.startswith("lora_"))
    merged = copy.deepcopy(layer)
    merged.merge()
    plain = merged.base_layer(given, given, given, key_padding_mask=hidden)[0]
    torch.testing.assert_close(plain if batch_first else plain.transpose(0, 1), out, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


TUNING = Tuning(freeze=["audio"], lora={"image.encoder": Lora(rank=2, dropout=0.3), "text.encoder": Lora(rank=1)})


def state(run):
    """Hashes of a run, and the bytes of its adapters."""
    last = run / "checkpoints" / read_index(run)["last"]
    return exact(run) | {"adapters": (last / "training" / "adapters.safetensors").read_bytes()}


def test_a_killed_run_with_adapters_goes_on_to_the_bit_and_its_models_need_no_peft(shards, tmp_path, monkeypatch):
    from align.lit import Checkpoints

    model, _ = train(shards, tmp_path / "straight", 6, tuning=TUNING)
    with pytest.raises(Cut):
        cut = {"callbacks": [Kill(4)]}
        train(shards, tmp_path / "killed", 6, tuning=TUNING, trainer=cut, checkpoint=Checkpoints(every_steps=3))
    assert not (tmp_path / "killed" / "model").exists()
    train(shards, tmp_path / "killed", 6, tuning=TUNING, checkpoint=Checkpoints(every_steps=3))
    assert state(tmp_path / "killed") == state(tmp_path / "straight")
    monkeypatch.setitem(sys.modules, "peft", None)
    folder = tmp_path / "straight" / "checkpoints" / read_index(tmp_path / "straight")["last"]
    x = torch.randn(4, 6, dtype=torch.float64)
    names = list(dict(made()[0].named_parameters()))
    for place in (folder, tmp_path / "straight" / "model"):
        loaded = align.load(place, allow=("tiny",)).double()
        assert list(dict(loaded.named_parameters())) == names
        if place == folder:  # the best may be another
            saved = read_tensors(folder / "model.safetensors")
            assert all(torch.equal(saved[name], now) for name, now in weights(model).items())
            for m in ("image", "text", "audio"):
                torch.testing.assert_close(loaded.towers[m](x), model.eval().towers[m](x), rtol=0, atol=1e-5)


def test_an_adapter_of_another_rank_begins_anew_on_the_merged_weights(shards, tmp_path):
    run = tmp_path / "run"
    train(shards, run, 2, val=False, tuning=TUNING)
    before = read_tensors(run / "checkpoints" / "step-00000002" / "model.safetensors")
    other = Tuning(
        freeze=["audio", "image.head", "text.head"], lora={"image.encoder": Lora(3), "text.encoder": Lora(1)}
    )
    train(shards, run, 3, val=False, tuning=other)
    training = run / "checkpoints" / "step-00000003" / "training"
    kept = read_tensors(training / "adapters.safetensors")
    base = "towers.image.encoder.net.0/base_layer.weight"
    assert torch.equal(kept[base], before["towers.image.encoder.net.0.weight"])
    text = "towers.text.encoder.net.0"
    assert not torch.equal(kept[f"{text}/base_layer.weight"], before[f"{text}.weight"])
    assert kept["towers.image.encoder.net.0/lora_A.default.weight"].shape == (3, 6)
    steps = read_tensors(training / "optimizer.safetensors")
    assert steps["model.towers.image.encoder.net.0.lora_A.weight/step"] == 1
    assert steps[f"model.{text}.lora_A.weight/step"] == 3


def text_and_video() -> JointModel:
    torch.manual_seed(0)
    towers = {
        "image": Tower(Image(size=16), ImageCNN(width=16, widths=[8, 16])),
        "view": Tower(Image(size=16)),
        "text": Tower(Bytes(context=8), TransformerText(context=8, width=16, depth=2, heads=2)),
    }
    return JointModel(towers, 4, share={"view": "image"})


def test_towers_that_share_an_encoder_have_one_adapter():
    for name in ("view.encoder", "image.encoder"):
        model = text_and_video()
        applied = apply(model, Tuning(lora={name: Lora(2)}))
        assert {layer.split(".")[2] for layer in applied.adapters} == {"image"}
        randomize(model)
        x = torch.rand(2, 3, 16, 16)
        assert torch.equal(model.towers["image"].features(x).pooled, model.towers["view"].features(x).pooled)


def test_a_saved_model_with_adapters_in_place_is_merged(tmp_path):
    model = text_and_video().eval()
    apply(model, Tuning(lora={"image.encoder": Lora(2), "text.encoder.blocks.*.qkv": Lora(4, alpha=1)}))
    randomize(model)
    given = ["a b", "c"]
    out, saved = model.embed(text=given), align.load(save(model, tmp_path / "m"))
    torch.testing.assert_close(saved.embed(text=given)["text"], out["text"], rtol=0, atol=1e-5)
    assert not any("lora" in name for name in read_tensors(tmp_path / "m" / "model.safetensors"))
    assert not any("lora" in name for name, _ in saved.named_modules())


@pytest.mark.parametrize(
    ("bias", "trains"),
    [
        ("none", set()),
        ("lora_only", {"blocks.0.qkv.bias", "blocks.1.qkv.bias"}),
        (
            "all",
            {f"blocks.{i}.{x}.bias" for i in (0, 1) for x in ("qkv", "out", "up", "down", "norm1", "norm2")}
            | {"norm.bias"},
        ),
    ],
)
def test_biases_train_as_the_setting_says(bias, trains):
    model = text_and_video()
    apply(model, Tuning(lora={"text.encoder.*.qkv": Lora(2, bias=bias)}))
    start = "model.towers.text.encoder."
    found = {
        n.removeprefix(start)
        for n, p in named_parameters(model, nn.Module()).items()
        if p.requires_grad and n.startswith(start)
    }
    assert {n for n in found if "lora_" not in n} == trains
    assert {n for n in found if "lora_" in n} == {f"blocks.{i}.qkv.lora_{x}.weight" for i in (0, 1) for x in "AB"}
    heads = [p.requires_grad for n, p in model.named_parameters() if ".head." in n]
    assert all(heads)


class Reads(nn.Module):
    """An encoder that reads the weights of one of its layers, without calling it."""

    def __init__(self):
        super().__init__()
        self.width, self.called, self.read = 4, nn.Linear(4, 4), nn.Linear(4, 4)
        self.attn = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x):
        y = F.linear(self.called(x), self.read.weight)[:, None]
        return align.Features(self.attn(y, y, y)[0][:, 0])


def reads() -> JointModel:
    torch.manual_seed(0)
    return alone(Reads(), lambda n: torch.randn(n, 4))


def test_a_layer_that_is_not_called_has_no_adapter():
    model = reads()
    applied = apply(model, Tuning(lora={"one.encoder": Lora(2)}))
    assert [name.rpartition(".")[2] for name in applied.adapters] == ["called", "attn"]
    assert type(model.towers["one"].encoder.read) is nn.Linear


@pytest.mark.parametrize(
    ("lora", "says"),
    [
        ({"one.encoder.attn.out_proj": Lora()}, "name the attention: one.encoder.attn"),
        ({"*proj": Lora()}, "which a fused attention reads without calling it"),
        ({"one.encoder.read": Lora()}, "whose weights its encoder reads without calling it"),
        ({"on.encoder": Lora()}, "'on.encoder' names no part of the model; did you mean one.encoder?"),
        ({"one.encoder.attn.in_proj_bias": Lora()}, "names no layer that takes an adapter"),
        (
            {"one.encoder": Lora(), "one.encoder.called": Lora()},
            "an earlier pattern has every layer that 'one.encoder.c",
        ),
    ],
)
def test_a_pattern_that_no_adapter_can_follow_is_refused(lora, says):
    model = reads()
    with pytest.raises(ValueError) as refused:
        apply(model, Tuning(lora=lora))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert all(p.requires_grad for p in model.parameters())
    assert not any("lora" in name for name, _ in model.named_modules())


def test_without_peft_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model = text_and_video()
    with pytest.raises(ImportError, match=r"tuning.lora needs peft; pip install .*\[lora\]"):
        apply(model, Tuning(lora={"text.encoder": Lora()}))
    assert all(p.requires_grad for p in model.parameters())


def test_the_seed_draws_the_adapters_and_no_other_draw_changes():
    found = []
    for seed in (0, 0, 1):
        model = text_and_video()
        torch.manual_seed(5)
        apply(model, Tuning(lora={"text.encoder": Lora(2)}), seed=seed)
        layer: Any = cast(Any, model.towers["text"].encoder).blocks[0].qkv
        found.append((layer.lora_A["default"].weight.detach().clone(), torch.rand(1)))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[2][0])
    torch.manual_seed(5)
    assert all(draw == torch.rand(1) for _, draw in found[:1])


def test_a_frozen_layer_has_no_adapter(caplog):
    model = text_and_video()
    tuning = Tuning(
        freeze=["text.encoder.blocks.0", "image.encoder"], lora={"*.encoder": Lora(2), "view.encoder": Lora()}
    )
    with pytest.raises(ValueError, match="an earlier pattern"):
        apply(model, tuning)
    lora = {"text.encoder": Lora(2), "view.encoder": Lora()}
    applied = apply(model, Tuning(freeze=tuning.freeze, lora=lora))
    assert {name.split("encoder.")[1] for name in applied.adapters} == {
        f"blocks.1.{x}" for x in ("qkv", "out", "up", "down")
    }
    assert "'view.encoder' has no adapter, as every layer that it names is frozen" in caplog.text
    assert not any(p.requires_grad for p in model.towers["image"].encoder.parameters())


def test_an_adapter_counts_alpha_over_rank_times_behind_its_dropout():
    model = text_and_video().eval()
    apply(model, Tuning(lora={"text.encoder.blocks.0.up": Lora(rank=4, alpha=6.0, dropout=0.5)}))
    assert not any(part.training for part in model.modules())  # the adapters of a model that evaluates do so too
    randomize(model)
    layer: Any = cast(Any, model.towers["text"].encoder).blocks[0].up
    x = torch.randn(3, 16)
    added = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 1.5 * added)
    assert not torch.equal(layer.train()(x), layer(x))


def test_a_stage_adds_its_settings_to_those_of_the_run():
    """The adapters of a stage are drawn anew, and follow from its name."""
    model, objective = made()
    tuning = Tuning(freeze=["text.head"], lora={"image.encoder": Lora(rank=2)})
    stage = Stage(freeze=["audio"], lora={"text.encoder": Lora(rank=3)})
    drawn = []
    for name in ("a", "b", "a", ""):
        applied = apply_stage(Span(name, 0, 2, stage), tuning, model, objective, 0)
        assert applied is not None
        found = {at.split(".")[2]: lora.rank for at, lora in applied.adapters.items()}
        assert found == {"image": 2, "text": 3}
        still = {name for name, p in named_parameters(model, objective).items() if not p.requires_grad}
        assert {"model.towers.text.head.project.weight", "model.towers.audio.head.project.weight"} <= still
        assert "model.towers.image.head.project.weight" not in still
        drawn.append(next(p.detach().clone() for name, p in model.named_parameters() if "lora_A" in name))
        applied.remove()
        assert not any("lora" in name for name, _ in model.named_modules())
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[3])
