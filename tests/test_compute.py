"""Ways to compute towers: the same losses, gradients and names as without, fewer activations, one graph for all n."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from cut import Cut, Kill
from test_encoders import cases
from test_lit import exact, rows, train
from tiny import made, write
from torch import Tensor, nn

from align import JointModel, Tower
from align.checkpoint.layout import lay_out
from align.encoders import ImageCNN, PointNet, PointTransformer, TransformerText
from align.encoders.weights import read_tensors
from align.lit import Checkpoints
from align.model.checkpointed import checkpoint_blocks, find_blocks
from align.model.compute import Compute, computing
from align.model.eval_view import view_in_eval
from align.model.inside import weights
from align.optim import Optim
from align.optim.fused import fused_adamw
from align.preprocess import Bytes, Image, Points

EAGER = Compute(compile=True, backend="aot_eager")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def make_model(dropout: float = 0.3) -> JointModel:
    torch.manual_seed(0)
    return JointModel(
        {
            "image": Tower(Image(16), ImageCNN(16, widths=(8, 8, 16), stem=1)),
            "points": Tower(
                Points(32), PointTransformer(6, 16, 3, 2, groups=8, neighbours=4, patch_width=8, dropout=dropout)
            ),
            "text": Tower(Bytes(12), TransformerText(259, 12, width=16, depth=4, heads=2, dropout=dropout)),
        },
        8,
    )


def values(n: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(n)
    return {
        "image": torch.rand(n, 3, 16, 16, generator=draw),
        "points": torch.rand(n, 32, 6, generator=draw),
        "text": torch.randint(1, 200, (n, 12), generator=draw),
    }


def trained(model: JointModel, n: int) -> dict[str, Tensor]:
    """The outputs of the towers in training mode, and all gradients."""
    torch.manual_seed(1)
    model.zero_grad()
    given = values(n)
    outs = {m: tower(given[m]) for m, tower in model.towers.items()}
    sum((out.sin() * torch.arange(1.0, 9)).sum() for out in outs.values()).backward()  # pyright: ignore
    return {m: out.detach() for m, out in outs.items()} | {
        f"{name}.grad": p.grad for name, p in model.named_parameters()
    }  # pyright: ignore


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], check: Callable[..., Any] | None = None) -> None:
    assert list(found) == list(wanted)
    for name, x in wanted.items():
        torch.testing.assert_close(found[name], x, rtol=1e-4 if check else 0, atol=1e-5 if check else 0)


def kept_bytes(model: JointModel, name: str, n: int) -> int:
    """Bytes of the tensors that a tower keeps for its backward pass, without its weights."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    given = values(n)[name]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = model.towers[name](given)
    del out
    return sum(kept.values())


def test_checkpointing_keeps_every_bit_and_few_activations():
    model = make_model().train()
    wanted, plain = trained(model, 5), {m: kept_bytes(model, m, 64) for m in model.modalities}
    names = list(model.state_dict())
    with computing(model, Compute(checkpointing=True)):
        assert list(model.state_dict()) == names
        found = trained(model, 5)
        few = {m: kept_bytes(model, m, 64) for m in model.modalities}
        view = view_in_eval(model)
        assert not view.training
        assert torch.equal(
            view.towers["text"](values(3)["text"]), copy.deepcopy(model).eval().towers["text"](values(3)["text"])
        )
    same(found, wanted)
    same(trained(model, 5), wanted)
    assert few["text"] < 0.45 * plain["text"]
    assert few["points"] < 0.7 * plain["points"]  # the groups' small net is no stack
    assert few["image"] < 0.9 * plain["image"]
    assert not [m for m in model.modules() if "forward" in vars(m)]


@pytest.mark.usefixtures("tiny_clip")
@pytest.mark.parametrize(
    "name",
    [
        "TimmImage-vit",
        *(
            pytest.param(n, marks=pytest.mark.sweep)
            for n in ("HFText", "HFImage", "SpectrogramViT", "ImageBind-image", "Uni3D", "OpenClipText")
        ),
    ],
)
def test_encoders_of_others_keep_few_activations(name):
    make, given = cases[name]
    torch.manual_seed(0)
    encoder = make().double().train()

    def run() -> tuple[list[Tensor], int]:
        kept = 0

        def keep(x: Tensor) -> Tensor:
            nonlocal kept
            kept += x.numel()
            return x

        torch.manual_seed(2)
        encoder.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            out = encoder(given(3)).pooled
        out.sin().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)], kept

    (wanted, plain), undo = run(), checkpoint_blocks(encoder)
    found, few = run()
    undo()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert few < 0.8 * plain
    assert run()[1] == plain


def test_blocks_of_stages_are_those_inside():
    layers = nn.ModuleList(
        nn.ModuleDict({"blocks": nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 8) for _ in range(2)))})
        for _ in range(3)
    )
    assert len(list(find_blocks(nn.ModuleDict({"layers": layers})))) == 6
    assert not list(find_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))))


class Graphs:
    """A backend of torch.compile that counts the graphs it is given."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph: Any, examples: Any) -> Any:
        self.count += 1
        return graph.forward


def test_one_graph_serves_any_number_of_rows(monkeypatch):
    torch.compiler.reset()
    encoder, graphs = TransformerText(259, 12, width=16, depth=1, heads=2).train(), Graphs()
    from align.model.compiled import compile_encoder

    undo = compile_encoder(encoder, graphs)  # pyright: ignore[reportArgumentType]
    plain = copy.deepcopy(encoder)
    assert plain._compiled_call_impl is None
    for n in (3, 7, 0, 1, 16, 12, 2, 5):  # 12 and 16 are the context and the width
        x = values(n)["text"]
        torch.testing.assert_close(encoder(x).pooled, plain(x).pooled)
    assert graphs.count == 1
    encoder(values(0)["text"]).pooled.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())
    undo()
    encoder(values(4)["text"])
    assert graphs.count == 1
    assert encoder._compiled_call_impl is None


@pytest.mark.sweep
def test_compiled_runs_train_as_plain_ones_and_go_on_to_the_bit(shards, tmp_path):
    torch.compiler.reset()
    model, _ = train(shards, tmp_path / "plain", 4)
    train(shards, tmp_path / "straight", 4, compute=EAGER)
    plain, compiled = (rows(tmp_path / name) for name in ("plain", "straight"))
    for one, other in zip(plain, compiled, strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-9)
        assert list(one) == list(other)
    with pytest.raises(Cut):
        stop = {"callbacks": [Kill(3)]}
        train(shards, tmp_path / "cut", 4, compute=EAGER, checkpoint=Checkpoints(every_steps=2), trainer=stop)
    model, _ = train(shards, tmp_path / "cut", 4, compute=EAGER)
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")
    saved = read_tensors(tmp_path / "cut" / "model" / "model.safetensors")
    assert list(saved) == sorted(weights(model))
    assert not [m for m in model.modules() if m._compiled_call_impl is not None]


def test_compiled_in_chunks(shards, tmp_path):
    torch.compiler.reset()
    train(shards, tmp_path / "plain", 2, chunk=3, val=False)
    train(shards, tmp_path / "compiled", 2, chunk=3, val=False, compute=EAGER)
    for one, other in zip(rows(tmp_path / "plain"), rows(tmp_path / "compiled"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-9)
        assert float(one["grad_norm"]) == pytest.approx(float(other["grad_norm"]), rel=1e-9)


def test_channels_last_changes_the_order_in_memory_alone(tmp_path):
    model = make_model(0.0).train()
    wanted = trained(model, 5)
    with computing(model, Compute(channels_last=True)):
        convolutions = [p for p in model.towers["image"].encoder.parameters() if p.ndim == 4]
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
        seen = []
        handle = model.towers["image"].encoder.maps.register_forward_pre_hook(
            lambda m, args: seen.append(args[0].stride())
        )
        found = trained(model, 5)
        handle.remove()
        assert seen[0][1] == 1  # the channels of a pixel lie side by side
        optimizer = Optim().build(model, nn.Module())
        optimizer.step()
        from align import load, save

        saved = save(model, tmp_path / "model")
        kept = read_tensors(saved / "model.safetensors")
        assert all(x.is_contiguous() and torch.equal(x, weights(model)[name]) for name, x in kept.items())
        assert load(saved).towers["image"].encoder.maps.first.conv.weight.is_contiguous()
    assert all(p.is_contiguous() for p in model.parameters())
    same(found, wanted, check=torch.testing.assert_close)


def test_a_state_lies_as_its_parameter():
    """Fused AdamW pairs elements by their place in memory: a state in another order would be another state."""
    weight = torch.randn(4, 3, 2, 2)
    state = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    moved = lay_out(state, weight)
    assert torch.equal(moved, state)
    assert moved.stride() == weight.stride()
    assert lay_out(moved, weight) is moved
    assert lay_out(state, weight[:2]) is state


def test_a_run_goes_on_in_another_memory_order(tmp_path):
    """The steps after the change are those of a run without it, up to rounding."""
    from align.checkpoint import load_training, save_training

    def step(model, optimizer, seed):
        draw = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=draw))
        optimizer.step()

    model, objective = make_model(), made()[1].float()
    with computing(model, Compute(channels_last=True)):
        optimizer = Optim(lr=0.1).build(model, objective)
        step(model, optimizer, 0)
        folder = save_training(tmp_path, model, objective, optimizer, {"step": 1})
        step(model, optimizer, 1)
    other = make_model()
    resumed = Optim(lr=0.1).build(other, objective)
    load_training(folder, other, objective, resumed)
    step(other, resumed, 1)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"compile": ["imgae"]}, r"compute.compile names 'imgae', the model has towers of .*; did you mean 'image'\?"),
        ({"compile": True, "backend": "inducter"}, "compute.backend 'inducter' is no backend of torch.compile; it has"),
        (
            {"channels_last": ["text"]},
            "compute.channels_last names 'text', whose TransformerText is no encoder that has a conv",
        ),
        ({"compile": ["text"], "checkpointing": True}, "compute.compile and compute.checkpointing of 'text'"),
    ],
)
def test_what_it_cannot_do(settings, says):
    with pytest.raises(ValueError, match=says):
        Compute(**settings).check(make_model())


def test_no_encoder_at_all():
    model = JointModel({"points": Tower(Points(32), PointNet(16, hidden=(8,)))}, 4)
    with pytest.raises(ValueError, match=r"compute.checkpointing: no encoder of points has blocks"):
        Compute(checkpointing=True).check(model)


def test_a_shared_encoder_is_named_by_either_tower():
    torch.manual_seed(0)
    towers = {"image": Tower(Image(16), ImageCNN(16, widths=(8,), stem=2)), "depth": Tower(Image(16))}
    model = JointModel(towers, 4, share={"depth": "image"})
    with computing(model, Compute(channels_last=["depth", "image"])):
        assert len(model.towers["image"].encoder._forward_pre_hooks) == 1


def test_the_rate_of_another_batch(shards, tmp_path, capsys):
    linear, root = Optim(lr=0.01, lr_batch=3), Optim(lr=0.01, lr_batch=3, lr_rule="sqrt")
    assert linear.for_batch(12).lr == pytest.approx(0.04)
    assert root.for_batch(12).lr == pytest.approx(0.02)
    assert Optim(lr=0.01).for_batch(12).lr == 0.01
    train(shards, tmp_path / "scaled", 2, val=False, optim=root)
    said = capsys.readouterr().err
    assert "the learning rate 0.01 is stated for a batch of 3; a batch of 12 has 0.02 (optim.lr_rule sqrt)" in said
    train(shards, tmp_path / "plain", 2, val=False, optim=Optim(lr=0.02))
    assert "is stated for a batch" not in capsys.readouterr().err
    assert exact(tmp_path / "scaled") == exact(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"optim.lr_batch is a number of samples, at least 1; got 0"):
        Optim(lr_batch=0)


def test_adamw_without_a_fused_kernel_says_so(capsys):
    model, objective = made()
    assert Optim().build(model, objective).defaults["fused"]
    assert capsys.readouterr().err == ""
    odd = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    optimizer = fused_adamw([{"params": [odd]}], lr=0.1)
    assert capsys.readouterr().err == "torch has no fused AdamW for complex64 on cpu; it takes its steps in a loop\n"
    odd.grad = torch.ones_like(odd)
    optimizer.step()
    assert odd.detach().abs().sum() > 0
