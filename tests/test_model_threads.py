"""One model in several threads: they embed while it trains, and no one sees another's mode."""

from __future__ import annotations

import functools
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny_space import D, Straight
from torch import Tensor, nn

from align import Features, JointModel, Tower
from align.encoders import TimmImage
from align.model.eval_view import view_in_eval
from align.preprocess import Array, Audio, Tokens
from align.preprocess.byte_pairs import read_byte_pairs


class Slow(nn.Module):
    """Numbers times a gain, zero in training mode; other threads run in the middle of it."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))
        self.drop = nn.Dropout(1.0)

    def forward(self, values: Tensor) -> Features:
        time.sleep(0.001)
        return Features(self.drop(values) * self.gain)


def made(encoder: Any = None) -> JointModel:
    return JointModel({"image": Tower(Array([D]), encoder or Slow())}, dim=D).train()


rows = list(torch.nn.functional.normalize(torch.randn(20, D, generator=torch.Generator().manual_seed(0)), dim=1))


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_eight_threads_on_a_model_in_training_mode():
    model = made()
    before, alone = modes(model), model.embed(image=rows)["image"]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: model.embed(image=rows, batch_size=4)["image"], range(40)))
    assert modes(model) == before
    assert all(torch.equal(x, alone) for x in found)  # 800 rows
    assert alone.abs().sum() > 0


def test_a_thread_that_trains_stays_in_training_mode():
    model, seen, wrong, stop = made(), [], [], threading.Event()
    alone = model.embed(image=rows)["image"]
    model.towers["image"].encoder.drop.register_forward_hook(lambda m, x, y: seen.append((m.training, y.abs().sum())))

    def embed() -> None:
        while not stop.is_set():
            wrong.append(not torch.equal(model.embed(image=rows, batch_size=7)["image"], alone))

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(embed) for _ in range(3)]
        for _ in range(40):
            model.towers["image"](torch.stack(rows)).sum().backward()
        stop.set()
        [x.result() for x in running]
    assert len(wrong) > 3
    assert not any(wrong)
    trained = [total for training, total in seen if training]
    assert len(trained) == 40  # no step of the trainer was run in evaluation mode
    assert not any(trained)
    assert model.towers["image"].encoder.gain.grad is not None


def test_a_model_that_begins_to_train_while_it_embeds():
    """It is in evaluation mode when embed begins, as in a validation, and another thread goes on training."""
    model = made().eval()
    alone, calls = model.embed(image=rows)["image"], []

    def train(*_: Any) -> None:
        calls.append(model.training)
        if len(calls) == 2:
            model.train()

    model.towers["image"].encoder.drop.register_forward_pre_hook(train)
    assert torch.equal(model.embed(image=rows, batch_size=5)["image"], alone)
    assert len(calls) == 5  # of four batches the second again, through a view
    assert modes(model) == [True] * len(modes(model))


def same(model: JointModel) -> None:
    """The view computes what the model does in evaluation mode, and leaves the model's modes alone."""
    values, before = torch.stack(rows), modes(model)
    got = view_in_eval(model).towers["image"](values)
    assert modes(model) == before
    model.eval()
    assert torch.equal(got, model.towers["image"](values))
    assert view_in_eval(model) is model


class Held(nn.Module):
    """A module that also holds its parts in ways that are no submodules."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.drop = nn.Dropout(0.5)
        self.parts = [self.drop, (nn.Identity(),), {"a": [self.drop]}]
        self.call = self.inside
        self.later = functools.partial(self.inside, plus=1.0)
        self.norm = nn.BatchNorm1d(width)

    def inside(self, x: Tensor, plus: float = 0.0) -> Tensor:
        assert self.training == self.parts[0].training == self.parts[2]["a"][0].training
        return self.parts[0](x) + plus

    def forward(self, values: Tensor) -> Features:
        return Features(self.norm(self.call(values) + self.later(values)))


def test_the_view_of_modules_held_in_lists_methods_and_partials():
    encoder = Held()
    same(made(encoder))
    assert encoder.norm.num_batches_tracked == 0


def test_the_view_has_the_models_own_parameters():
    model = made()
    view = view_in_eval(model)
    assert type(view) is JointModel
    assert [*view.state_dict()] == [*model.state_dict()]
    assert all(a is b for a, b in zip(view.parameters(), model.parameters(), strict=True))
    assert not any(modes(view))


def test_a_shared_encoder_is_shared_in_the_view():
    towers = {"image": Tower(Array([D]), Straight()), "video": Tower(Array([D]))}
    model = JointModel(towers, dim=D, share={"video": "image"}).train()
    view = view_in_eval(model)
    assert view.towers["video"].encoder is view.towers["image"].encoder
    assert view.towers["video"].encoder is not model.towers["image"].encoder


@pytest.mark.slow  # imports timm
def test_a_model_of_timm():
    encoder = TimmImage("vit_tiny_patch16_224", size=32)
    encoder.model.pos_drop = nn.Dropout(0.9)
    model = JointModel({"image": Tower(Array([3, 32, 32]), encoder)}, dim=8).train()
    x = torch.randn(2, 3, 32, 32)
    got = view_in_eval(model).towers["image"](x)
    torch.testing.assert_close(got, model.eval().towers["image"](x))


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_part():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.width, self.inner = D, torch.jit.script(nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5)))

        def forward(self, values):
            return Features(self.inner(values))

    same(made(Around()))


@pytest.mark.slow  # imports dynamo
def test_a_compiled_model_and_compiled_parts():
    for compiled in ("tower", "encoder", "in place"):
        model = made()
        if compiled == "tower":
            model.towers["image"] = torch.compile(model.towers["image"], backend="eager")
        elif compiled == "encoder":
            model.towers["image"].encoder = torch.compile(model.towers["image"].encoder, backend="eager")
        else:
            model.towers["image"].compile(backend="eager")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.towers["image"](torch.stack(rows))  # compiled in training mode
            same(model)


def test_a_constant_is_one_for_all_threads():
    class Slowly(Array):
        def device(self, values, generator=None):
            def make() -> Tensor:
                time.sleep(0.01)
                return torch.ones(1)

            return self.constant("one", values.device, make)

    preprocess, barrier = Slowly([D]), threading.Barrier(8)

    def ask(_: int) -> Tensor:
        barrier.wait()
        return preprocess.device(torch.zeros(1))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len({id(x) for x in found}) == 1


@pytest.mark.slow  # two imports of seconds
def test_tokens_and_waves_in_threads_that_all_begin():
    """The tokenizer and the constants of a spectrogram are made when they are first needed."""
    texts = [f"a {word} thing number {i}" for i, word in enumerate(["red", "green", "blue", "round"] * 8)]
    waves = torch.randn(4, 80000, generator=torch.Generator().manual_seed(0))
    alone = Tokens().collate([Tokens().row(text) for text in texts])
    mel = Audio().device(waves)
    read_byte_pairs.cache_clear()
    audio, barrier = Audio(), threading.Barrier(8)

    def run(_: int) -> tuple[Tensor, Tensor]:
        barrier.wait()
        return Tokens().collate([Tokens().row(text) for text in texts]), audio.device(waves)

    with ThreadPoolExecutor(8) as pool:
        for ids, spectra in pool.map(run, range(8)):
            assert torch.equal(ids, alone)
            assert torch.equal(spectra, mel)
