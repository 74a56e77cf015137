"""Which parts train: frozen by pattern or depth, rates by layer. Adapters are in test_lora."""

from __future__ import annotations

import pytest
import torch
from test_lit import train
from tiny import Dense, made, modalities, write
from torch import nn

from align import JointModel, Tower
from align.checkpoint import read_index, save
from align.encoders import ImageCNN, SpectrogramViT, TransformerText
from align.encoders.weights import read_tensors
from align.optim import Optim, named_parameters
from align.preprocess import Array, Bytes, Image
from align.tuning import Lora, Tuning, apply
from align.tuning.depth import read_depths


def texts(depth: int = 3) -> JointModel:
    torch.manual_seed(0)
    encoder = TransformerText(context=8, width=16, depth=depth, heads=2)
    image = Tower(Image(size=16), ImageCNN(width=16, widths=[8, 16]))
    return JointModel({"text": Tower(Bytes(context=8), encoder), "image": image}, 4)


def frozen(model: nn.Module, objective: nn.Module) -> set[str]:
    return {name for name, p in named_parameters(model, objective).items() if not p.requires_grad}


@pytest.mark.parametrize(
    ("patterns", "parts"),
    [
        (["model.towers.image.encoder.*"], ["model.towers.image.encoder."]),
        (["towers.image.encoder.*"], ["model.towers.image.encoder."]),
        (["image.encoder"], ["model.towers.image.encoder."]),
        (["image"], ["model.towers.image."]),
        (["*.head.*", "objective.losses.all.log_scale"], ["model.towers.*.head.", "objective."]),
        (["*.encoder.net.0.bias"], ["*.net.0.bias"]),
    ],
)
def test_a_pattern_freezes_the_parameters_that_it_names(patterns, parts):
    model, objective = made()
    applied = apply(model, Tuning(freeze=patterns), objective=objective)
    named = named_parameters(model, objective)
    wanted = set()
    for name in named:
        for part in parts:
            step = part.strip("*").split("*")
            if (name.startswith(step[0]) or part[0] == "*") and step[-1] in name:
                wanted.add(name)
    assert frozen(model, objective) == wanted
    applied.remove()
    assert frozen(model, objective) == set()


def test_a_frozen_part_runs_without_a_graph_in_evaluation_mode_whatever_the_models_mode_is():
    model, objective = made(dropout=0.5)
    applied = apply(model, Tuning(freeze=["image", "text.encoder"]), objective=objective)
    model.train()
    still = {name for name, part in model.named_modules() if not part.training}
    assert "towers.image.encoder.net.2" in still  # the dropout
    assert {"towers.text.encoder", "towers.image.head"} <= still
    assert not still & {"", "towers", "towers.text.head", "towers.audio.encoder.net.2"}
    x = torch.randn(5, 6, dtype=torch.float64)
    out = {m: model.towers[m](x) for m in modalities}
    assert [out[m].requires_grad for m in modalities] == [False, True, True]
    assert torch.equal(out["image"], model.towers["image"](x))
    assert not torch.equal(out["audio"], model.towers["audio"](x))
    assert not model.towers["text"].features(x).pooled.requires_grad
    applied.remove()
    assert model.train().towers["image"].encoder.net[2].training


def test_borrowed_encoders_are_frozen_by_either_name():
    torch.manual_seed(0)
    towers = {"image": Tower(Array((6,)), Dense()), "video": Tower(Array((6,)), None)}
    model = JointModel(towers, 4, share={"video": "image"})
    for pattern in ("video.encoder", "image.encoder.*", "model.towers.video.encoder.*"):
        applied = apply(model, Tuning(freeze=[pattern]))
        assert frozen(model, nn.Module()) == {f"model.towers.image.encoder.net.0.{x}" for x in ("weight", "bias")}
        applied.remove()


class Careless(torch.optim.SGD):
    """An optimiser that writes to a parameter that is not its own."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.other.data[0, 0] *= -1
        return loss


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def test_a_run_leaves_frozen_weights_as_they_were_and_moves_the_others(shards, tmp_path):
    start = {name: p.detach().clone() for name, p in made(dropout=0.2)[0].named_parameters()}
    tuning = Tuning(freeze=["image.encoder", "audio"])
    train(shards, tmp_path / "run", 3, tuning=tuning)
    last = read_tensors(tmp_path / "run" / "checkpoints" / read_index(tmp_path / "run")["last"] / "model.safetensors")
    still = ("towers.image.encoder.", "towers.audio.")
    for name, was in start.items():
        assert torch.equal(last[name], was) == name.startswith(still), name
    optimizer = read_tensors(tmp_path / "run" / "checkpoints" / "step-00000003" / "training" / "optimizer.safetensors")
    assert not any(name.startswith(tuple(f"model.{x}" for x in still)) for name in optimizer)


def test_a_frozen_tensor_that_changes_is_an_error():
    model, objective = made()
    model.towers["text"].encoder.register_buffer("mean", torch.zeros(3))
    applied = apply(model, Tuning(freeze=["text"]), objective=objective)
    applied.check()
    weight = model.towers["text"].encoder.net[0].weight
    weight.data[0, 0] *= -1
    with pytest.raises(
        ValueError, match=r"1 frozen tensors were changed by training, model\.towers\.text\.encoder\.net"
    ):
        applied.check()
    applied.remember()
    applied.check()
    model.towers["text"].encoder.mean += 1
    with pytest.raises(ValueError, match="a buffer mean of frozen part"):
        applied.check()


@pytest.mark.parametrize("blocks", [0, 2, 3])
def test_the_first_blocks_are_frozen_with_what_is_before_them(blocks):
    model = texts()
    apply(model, Tuning(freeze_first={"text": blocks}))
    start = "model.towers.text.encoder."
    wanted = {f"{start}position", f"{start}token.weight"}
    wanted |= {n for n in named_parameters(model, nn.Module()) for i in range(blocks) if f".blocks.{i}." in n}
    assert frozen(model, nn.Module()) == wanted


def test_rates_fall_by_layer():
    model, objective = texts(), nn.Module()
    apply(model, Tuning(layer_decay={"text": 0.5}))
    optim = Optim(lr=1.0, warmup=0, groups={"*.norm1.*": {"lr": 0.1}} and None)
    optimizer = optim.build(model, objective)
    optim.set_rates(optimizer, 0, 10)
    found = {n: group["lr"] for group in optimizer.param_groups for n in group["param_names"]}
    at_first = optim.at(0, 10)
    for name, lr in found.items():
        factor = 1.0
        if ".text.encoder." in name:
            factor = 0.5**3 if ".blocks." not in name else 0.5 ** (3 - 1 - int(name.split(".blocks.")[1][0]))
            factor = 1.0 if ".norm." in name else factor
        assert lr == pytest.approx(at_first * factor), name
    assert len({round(lr, 9) for lr in found.values()}) == 4


def test_a_swins_stages_count_by_their_blocks():
    encoder = nn.Module()
    encoder.stem = nn.Linear(2, 2)
    stages = [nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(4, 4) for _ in range(n))}) for n in (2, 3)]
    stages[1]["down"] = nn.Linear(2, 2, bias=False)
    encoder.stages = nn.ModuleList(stages)
    encoder.norm = nn.LayerNorm(2)
    depths = read_depths(encoder)
    assert depths.blocks == 5
    assert depths.of["stem.weight"] == 0
    assert [depths.of[f"stages.0.blocks.{i}.weight"] for i in range(2)] == [1, 2]
    assert [depths.of[f"stages.1.blocks.{i}.bias"] for i in range(3)] == [3, 4, 5]
    assert depths.of["stages.1.down.weight"] == 3
    assert depths.of["norm.bias"] == 6


def test_depths_of_a_spectrogram_transformer_and_of_a_cnn():
    vit = read_depths(SpectrogramViT(name="test_vit"))
    assert vit.blocks > 1
    assert {d for name, d in vit.of.items() if "patch_embed" in name or "pos_embed" in name} == {0}
    assert read_depths(ImageCNN(width=16, widths=[8, 16])).blocks == 0


@pytest.mark.parametrize(
    ("tuning", "says"),
    [
        ({"freeze": ["imag.encoder.*"]}, "'imag.encoder.*' names no parameter; did you mean image.encoder.*?"),
        ({"freeze": ["towers.image.encodr"]}, "did you mean towers.image.encoder?"),
        ({"freeze": ["zzz"]}, "the parts are text.encoder, text.head, image.encoder, image.head"),
        ({"freeze": ["model"]}, "freezes every parameter of the model (52), so nothing would train"),
        ({"freeze_first": {"txt": 1}}, "freeze_first: no tower 'txt'; did you mean text?"),
        ({"freeze_first": {"text": 4}}, "freeze_first.text: 4 blocks, but its encoder has 3"),
        ({"layer_decay": {"sound": 0.5}}, "layer_decay: no tower 'sound'; the towers are text, image"),
        ({"layer_decay": {"image": 0.5}}, "layer_decay.image: its encoder has no blocks"),
    ],
)
def test_settings_that_fit_nothing_are_refused_and_leave_the_model(tuning, says):
    model = texts()
    with pytest.raises(ValueError) as refused:
        apply(model, Tuning(**tuning))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert frozen(model, nn.Module()) == set()
    assert model.rates == {}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Lora(rank=0), "rank of tuning.lora is at least 1; got 0"),
        (lambda: Lora(alpha=0.0), "alpha"),
        (lambda: Lora(dropout=1.0), "dropout"),
        (lambda: Tuning(freeze_first={"text": -1}), "at least 0; got -1"),
        (lambda: Tuning(layer_decay={"text": 1.5}), "at most 1; got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_refused_run_writes_nothing(shards, tmp_path):
    with pytest.raises(ValueError, match="did you mean"):
        train(shards, tmp_path / "run", 3, tuning=Tuning(freeze=["imag"]))
    assert not (tmp_path / "run").exists()
    save(texts(), tmp_path / "m")
