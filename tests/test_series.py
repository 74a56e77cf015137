"""Sensors and tables: their preprocesses, and towers of them that are saved, trained, and named by a config."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import align
from align import JointModel, Objective, Term, Tower
from align.commands import main
from align.commands.config import make_parser
from align.data import ShardWriter
from align.encoders import Series, TransformerText, Vector
from align.losses import InfoNCE
from align.preprocess import Array, Bytes, Signal
from align.values import BadSample, Batch, Rows

page = Path(__file__).parent.parent / "docs" / "new-modality.md"


def npy(array) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def wave(T=200, channels=3, seed=0):
    return np.random.default_rng(seed).normal(5, 2, (channels, T)).astype(np.float32)


# preprocesses


def test_a_window_of_a_recording():
    signal, x = Signal(3, 64), torch.from_numpy(wave())
    assert torch.equal(signal.eval(x), x[:, 68:132])
    starts = set()
    for seed in range(200):
        row = signal.train(x, torch.Generator().manual_seed(seed))
        start = int((x[0] == row[0, 0]).nonzero()[0])
        assert torch.equal(row, x[:, start : start + 64])
        starts.add(start)
    assert min(starts) < 5
    assert max(starts) > 131
    assert max(starts) <= 136


def test_a_short_recording_lies_in_zeros():
    signal = Signal(3, 64, mean=[5, 5, 5], std=2)
    row = signal.eval(torch.from_numpy(wave(10)))
    values = signal.device(signal.collate([row]))[0]
    torch.testing.assert_close(values[:, 27:37], (torch.from_numpy(wave(10)) - 5) / 2)
    assert not values[:, :27].any()
    assert not values[:, 37:].any()
    moved = {
        int(signal.train(torch.ones(3, 10), torch.Generator().manual_seed(s)).isnan()[0].int().argmin())
        for s in range(99)
    }
    assert min(moved) < 3
    assert max(moved) > 51


def test_recordings_of_both_layouts(tmp_path):
    x = wave()
    np.save(tmp_path / "a.npy", x.T)
    for source in (tmp_path / "a.npy", npy(np.asfortranarray(x.T)), x.T.astype(">f8"), torch.from_numpy(x.T)):
        assert torch.equal(Signal(3, 64, time_first=True).decode(source), torch.from_numpy(x))
    assert torch.equal(Signal(1, 64).decode(x[0]), torch.from_numpy(x[:1]))
    assert torch.equal(Signal(1, 64, time_first=True).decode(x[0]), torch.from_numpy(x[:1]))
    row = Signal(3, 64).decode(x)
    row[0, 0] = 99  # rows are copies
    assert x[0, 0] != 99


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "array/empty"),
        (b"not an array", "array/not-npy"),
        (wave().T, "array/shape"),
        (np.zeros((3, 0)), "array/shape"),
        (np.zeros((1, 3, 9)), "array/shape"),
        (np.zeros((3, 501)), "array/too-large"),
        (npy(np.zeros((3, 501))), "array/too-large"),
        (np.full((3, 9), "a"), "array/dtype"),
        (np.full((3, 9), np.nan), "array/non-finite"),
        (np.full((3, 9), 1e300), "array/non-finite"),
    ],
)
def test_reasons(source, reason):
    with pytest.raises(BadSample) as caught:
        Signal(3, 64, max_length=500).decode(source)
    assert caught.value.reason == reason


def test_missing_values_pass_and_infinity_does_not():
    x = wave(64)
    x[1, 5] = np.nan
    signal = Signal(3, 64, missing=True, mean=[5, 6, 7])
    values = signal.device(signal.collate([signal.row(x)]))[0]
    assert values[1, 5] == 0
    torch.testing.assert_close(values[2], torch.from_numpy(x[2]) - 7)
    row = np.array([1.0, np.nan, 3.0])
    array = Array((3,), missing=True, mean=[1, 2, 3], std=[1, 2, 4])
    values = array.device(array.collate([array.row(row), array.row(row + 4)]))
    torch.testing.assert_close(values, torch.tensor([[0, torch.nan, 0], [4, torch.nan, 1]]), equal_nan=True)
    for kind, source in ((signal, np.full((3, 9), -np.inf)), (array, np.array([1, 2, np.inf]))):
        with pytest.raises(BadSample, match="array/non-finite: infinity"):
            kind.decode(source)
    with pytest.raises(BadSample, match="array/non-finite: NaN or infinity"):
        Array((3,)).decode(row)


def test_standard_scores_of_arrays():
    x = torch.randn(4, 3, 5)
    assert Array((3, 5)).device(x) is x
    torch.testing.assert_close(Array((3, 5), mean=2).device(x), x - 2)
    each = torch.tensor([1.0, 2, 3]).view(3, 1)
    torch.testing.assert_close(Array((3, 5), mean=[1, 2, 3], std=[1, 2, 3]).device(x), (x - each) / each)
    assert Array((3, 5), dtype="float16", std=2).device(x.half()).dtype == torch.float32
    assert Array((3, 5), dtype="float64", std=2).device(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Array((3,), mean=[1, 2]), "mean has 2 numbers, a row has 3 features; give one number, or 3"),
        (lambda: Array((3,), std=[1, 0, 2]), "must be positive"),
        (lambda: Array((3,), "int64", missing=True), "missing, mean and std are for floats; dtype is 'int64'"),
        (lambda: Signal(2, 8, std=-1), "std=-1 must be positive"),
        (lambda: Signal(2, 8, mean=[0, math.nan]), r"mean=\[0, nan\] must be finite"),
        (lambda: Signal(2, 0), "length=0 is too small; it must be at least 1"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# towers


def towers() -> JointModel:
    torch.manual_seed(0)
    motion = Tower(Signal(3, 64, mean=[5, 5, 5], std=2), Series(3, 64, width=16, depth=1, heads=2, patch=8))
    row = Tower(
        Array((4,), missing=True, mean=[1, 0, 0, 0], std=[2, 1, 1, 1]),
        Vector(4, width=16, hidden=16, embed={3: 3}, embed_width=4, waves=2),
    )
    text = Tower(Bytes(8), TransformerText(context=8, width=16, depth=1, heads=2))
    return JointModel({"motion": motion, "row": row, "text": text}, 8)


def given(n=9):
    """Recordings of any length, rows with a value missing, and words: three classes, told apart by each of them."""
    draw, out = np.random.default_rng(1), {"motion": [], "row": [], "text": []}
    for i in range(n):
        kind = i % 3
        t = np.arange(draw.integers(40, 90))
        out["motion"].append((np.sin(t * (1 + kind) / 4) * np.ones((3, 1)) + 5).astype(np.float32))
        row = np.array([kind, draw.normal(), draw.normal(), kind])
        row[1 + i % 2] = np.nan
        out["row"].append(row)
        out["text"].append(("slow", "even", "fast")[kind])
    return out


def test_a_model_comes_back_the_same(tmp_path):
    model, inputs = towers(), given()
    align.save(model, tmp_path / "model")
    again = align.load(tmp_path / "model")
    assert again.towers["row"].encoder.embed == {3: 3}
    found, wanted = again.embed(**inputs), model.embed(**inputs)
    alone = model.embed(batch_size=1, **inputs)
    for name in inputs:
        assert torch.equal(found[name], wanted[name])
        torch.testing.assert_close(alone[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_no_rows_give_zero_gradients():
    model = towers()
    rows = {m: Rows(p.collate([]), torch.zeros(0, dtype=torch.long)) for m, p in model.preprocess.items()}
    out = model(Batch(rows, [], torch.zeros(0, dtype=torch.long)))
    sum(out[m].values.sum() for m in rows).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_training_lowers_the_loss():
    model, inputs = towers().train(), given()
    objective = Objective({"all": Term(InfoNCE(), "all")}, dim=8, batch=9, modalities=list(inputs))
    kinds = torch.arange(9) % 3  # rows of one kind are each other's positives
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(25):
        rows = {}
        for name, preprocess in model.preprocess.items():
            rows[name] = Rows(preprocess.collate([preprocess.row(x, generator) for x in inputs[name]]), kinds)
        loss, _ = objective(model(Batch(rows, [str(i) for i in range(9)], torch.arange(9))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < 0.6 * losses[0]


# the page


def config(folder: Path) -> Path:
    """A config with the towers of the page, a text tower, and a term of all."""
    found = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    shown: dict = {}
    for block in found:
        shown |= {name: tower for name, tower in yaml.safe_load(block).items() if name in ("motion", "weather")}
    assert set(shown) == {"motion", "weather"}
    shown["text"] = {
        "preprocess": {"class_path": "align.preprocess.Bytes", "init_args": {"context": 8}},
        "encoder": {"class_path": "align.encoders.TransformerText", "init_args": {"context": 8, "width": 16}},
    }
    content = {
        "model": {"dim": 8, "towers": shown},
        "objective": {"terms": {"all": {"loss": "align.losses.InfoNCE", "between": "all"}}},
        "data": {"train": str(folder / "train-*.tar"), "batch": 9, "workers": 0},
        "trainer": {"max_steps": 4},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "config.yaml"


def test_a_config_names_them(tmp_path):
    parser = make_parser()
    made = parser.instantiate(parser.parse_args(["--config", str(config(tmp_path)), "--run", "x"]))
    encoder = made.model.towers["weather"].encoder
    assert isinstance(encoder, Vector)
    assert encoder.embed == {3: 12}
    assert made.model.towers["motion"].preprocess.mean == (0, 0, 9.8)


@pytest.mark.slow  # it imports Lightning
def test_they_train_by_the_command(tmp_path):
    inputs = given(18)
    with ShardWriter(tmp_path, "train") as writer:
        for i, (motion, row, text) in enumerate(zip(*inputs.values(), strict=True)):
            writer.write(str(i), {"motion.npy": npy(motion), "weather.npy": npy(row), "text.txt": text.encode()})
    assert main(["train", "--config", str(config(tmp_path)), "--run", str(tmp_path / "run")]) == 0
    again = align.load(tmp_path / "run" / "model")
    embedded = again.embed(motion=inputs["motion"][:2], weather=inputs["row"][:2])
    assert all(x.shape == (2, 8) and x.isfinite().all() for x in embedded.values())
