"""Banks that a run fills: from shards, from several sources and from a cache; after a stop to the bit."""

from __future__ import annotations

import copy
import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cut import Cut, Kill
from made_cache import write_cache
from test_lit import exact
from tiny import Dense, dim, npy
from torch import Tensor

from align import JointModel, Objective, Term, Tower
from align.data import Loader, Mixture, Shards, ShardWriter
from align.encoders import Precomputed
from align.lit import AlignData, Checkpoints, fit
from align.lit.banks import read_rows
from align.lit.sources import Source
from align.lit.stages import Stage
from align.losses import Bank, InfoNCE, MemoryQueue
from align.optim import AdamW
from align.preprocess import Array

trainer = {"accelerator": "cpu", "precision": "64-true", "logger": False}
count, batch = 32, 8


def text(i: int, k: int) -> np.ndarray:
    """Row k of text of sample i. The texts of 7 are those of 3, and 21 has the first of 5."""
    i, k = (3, k) if i == 7 else (5, 0) if (i, k) == (21, 1) else (i, k)
    return np.random.default_rng(1000 * k + i).normal(size=6).astype(np.float32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Samples with an image, and one or two texts, but for a few; groups, hard negatives, a text that is no array."""
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, "train", per_shard=12) as writer:
        for i in range(count):
            members = {"image.npy": npy(np.random.default_rng(i).normal(size=6))}
            members |= {f"text.{k}.npy": npy(text(i, k)) for k in range(1 + i % 2) if i % 9 != 4}
            members |= {"text.neg.0.npy": npy(text(i, 5))} if i % 6 == 1 else {}
            members |= {"text.0.npy": b"no array"} if i == 11 else {}
            members |= {"json": json.dumps({"group": f"g{i % 4}"}).encode()} if i % 5 == 2 else {}
            writer.write(f"{i:04d}", members)
    return folder


def made(wrap=lambda loss: Bank(loss, "text"), *, frozen: bool = True) -> tuple[JointModel, Objective]:
    torch.manual_seed(0)
    model = JointModel({m: Tower(Array((6,)), Dense()) for m in ("image", "text")}, dim).double()
    model.towers["text"].requires_grad_(not frozen)
    term = Term(wrap(InfoNCE(start_scale=5.0)), ["image", "text"])
    return model, Objective({"pair": term}, dim=dim, batch=batch, modalities=["image", "text"]).double()


def train(data, run, steps: int, *, model=None, objective=None, **options):
    if model is None:
        model, objective = made()
    data = AlignData(data, batch=batch, workers=options.pop("workers", 0), max_bad=0.2)
    given = {**trainer, "max_steps": steps, **options.pop("trainer", {})}
    fit(model, objective, data, run, trainer=given, optim=AdamW(lr=0.01), **options)
    return objective.losses["pair"]


def by_hand(folder, model: JointModel) -> dict[int, Tensor]:
    """Number of a sample -> its rows of text, read one by one."""
    source, rows = Shards(f"{folder}/train-*.tar", shuffle=False), {}
    for number in range(len(source)):
        sample, _ = source.read(number)
        members = [sample[m] for m in sorted(sample) if m.startswith("text.") and "neg" not in m]
        members = [x for x in members if x != b"no array"]
        if members:
            rows[number] = model.embed(text=members)["text"]
    return rows


def test_a_run_fills_its_bank_with_every_row(shards, tmp_path, capsys):
    model, objective = made()
    bank = train(f"{shards}/train-*.tar", tmp_path, 3, model=model, objective=objective)
    wanted = by_hand(shards, model)
    stored = bank._stored
    assert stored.numbers.tolist() == [n for n, rows in wanted.items() for _ in rows]
    torch.testing.assert_close(stored.rows, torch.cat([*wanted.values()]), rtol=1e-12, atol=1e-12)
    assert f"bank of text: {bank.size} rows in" in capsys.readouterr().err
    of = {n: [*stored.equals[stored.numbers == n].tolist()] for n in wanted}
    assert of[3] == of[7]
    assert len({i for ids in of.values() for i in ids}) == bank.size - 3
    groups = {n: {*stored.groups[stored.numbers == n].tolist()} for n in wanted}
    assert groups[7] == groups[27] != {-1}
    assert groups[3] == {-1}


def test_the_loss_of_a_step_equals_a_loop_over_the_set(shards, tmp_path):
    model, _ = made()
    before = copy.deepcopy(model)
    train(f"{shards}/train-*.tar", tmp_path, 1, model=model, objective=made()[1])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        first = float(next(csv.DictReader(file))["loss"])
    texts, source = by_hand(shards, before), Shards(f"{shards}/train-*.tar", shuffle=False)
    loader = Loader(Shards(f"{shards}/train-*.tar", max_bad=1), before.preprocess, batch=batch, train=True, steps=1)
    given = next(iter(loader))
    numbers = [int(key) for key in given.ids]
    images = F.normalize(before.towers["image"](given["image"].values.double()), dim=1)
    group = {n: json.loads(source.read(n)[0].get("json", b"{}")).get("group") for n in range(count)}
    extra = [F.normalize(before.towers["text"](x[None].double()), dim=1)[0]
             for x, s in zip(given["text"].values, given["text"].sample, strict=True) if s < 0]  # fmt: skip

    def apart(n: int, other: int, row: Tensor) -> bool:
        equal = any(torch.allclose(row, r, rtol=1e-12, atol=0) for r in texts.get(n, []))
        return not (n == other or equal or (group[n] is not None and group[n] == group[other]))

    there, back = [], []
    for x, n in zip(images, numbers, strict=True):
        if n not in texts:
            continue
        against = [r for o, rows in texts.items() for r in rows if apart(n, o, r)] + extra
        every = torch.stack([5 * (x * y).sum() for y in [*texts[n], *against]]).logsumexp(0)
        there.append(sum(every - 5 * (x * y).sum() for y in texts[n]) / len(texts[n]))
        for y in texts[n]:
            others = [z for z, o in zip(images, numbers, strict=True) if apart(o, n, y)]
            every = torch.stack([5 * (y * z).sum() for z in [x, *others]]).logsumexp(0)
            back.append(every - 5 * (y * x).sum())
    assert first == pytest.approx(((sum(there) / len(there) + sum(back) / len(back)) / 2).item(), rel=1e-6)


def test_a_stopped_run_continues_to_the_bit(shards, tmp_path):
    train(f"{shards}/train-*.tar", tmp_path / "straight", 7)
    stop = {"checkpoint": Checkpoints(every_steps=2), "trainer": {"callbacks": [Kill(5)]}}
    with pytest.raises(Cut):
        train(f"{shards}/train-*.tar", tmp_path / "run", 7, **stop)
    train(f"{shards}/train-*.tar", tmp_path / "run", 7)
    assert exact(tmp_path / "run") == exact(tmp_path / "straight")
    model, objective = made(lambda loss: loss)
    train(f"{shards}/train-*.tar", tmp_path / "plain", 7, model=model, objective=objective)
    assert exact(tmp_path / "plain") != exact(tmp_path / "straight")


def test_sources_are_numbered_one_after_another(shards, tmp_path):
    parts = {name: Shards(f"{shards}/train-00000{i}.tar", seed=i, max_bad=1) for i, name in enumerate(("a", "b"))}
    mixture = Mixture(parts, {"a": 3.0, "b": 1.0}, batch=batch)
    model, _ = made()
    wanted = {n: rows for n, rows in by_hand(shards, model).items() if n < 24}
    found = read_rows(model, mixture, "text", workers=2)
    assert found.numbers.tolist() == [n for n, rows in wanted.items() for _ in rows]
    torch.testing.assert_close(found.values, torch.cat([*wanted.values()]), rtol=1e-12, atol=1e-12)
    for given in Loader(mixture, model.preprocess, batch=batch, train=True, steps=4, numbers=True):
        assert given.number.tolist() == [int(key) for key in given.ids]
    named = {name: Source(f"{shards}/train-00000{i}.tar") for i, name in enumerate(("a", "b"))}
    assert train(named, tmp_path, 1).size == len(found.numbers)


def test_a_cached_column_gives_the_bank_of_the_live_tower(shards, tmp_path):
    model, objective = made()
    cache = write_cache(tmp_path / "cache", "dense", model, f"{shards}/train-*.tar", towers=("text",))
    live = train(f"{shards}/train-*.tar", tmp_path / "live", 1, model=model, objective=objective)
    head = copy.deepcopy(model.towers["text"].head)
    image = Tower(Array((6,)), Dense())
    cached = JointModel({"image": image, "text": Tower(Array((6,)), Precomputed(6))}, dim).double()
    cached.towers["text"].head.load_state_dict(head.state_dict())
    cached.towers["text"].requires_grad_(False)
    data = Source(f"{shards}/train-*.tar", columns={"text": f"{cache}/dense:text"})
    bank = train(data, tmp_path / "run", 1, model=cached, objective=made()[1])
    for name in ("numbers", "groups"):
        assert torch.equal(getattr(bank._stored, name), getattr(live._stored, name))
    equals = [x._stored.equals[:, None] == x._stored.equals for x in (bank, live)]
    assert torch.equal(*equals)
    torch.testing.assert_close(bank._stored.rows, live._stored.rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "wrap", "message"),
    [
        (
            {"frozen": False},
            lambda loss: Bank(loss, "text"),
            "bank of 'text' would be out of date: text.encoder.net.0.weight",
        ),
        ({}, lambda loss: MemoryQueue(Bank(loss, "image"), 4), "tuning.freeze: [model.towers.image.*]"),
    ],
)
def test_refused(shards, tmp_path, options, wrap, message):
    model, objective = made(wrap, **options)
    with pytest.raises(ValueError) as error:
        train(f"{shards}/train-*.tar", tmp_path, 2, model=model, objective=objective)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_samples_without_numbers_are_refused(shards, tmp_path):
    drawn = {"a": Source(f"{shards}/train-*.tar", resampled=True, samples=48)}
    with pytest.raises(ValueError, match="by its number, and resampled samples have no number"):
        train(drawn, tmp_path, 1)


def test_a_bank_whose_term_is_off_in_a_stage_lets_its_tower_train(shards, tmp_path, capsys):
    """The term trains in the second stage, whose bank has the rows of the tower as the first one has left it."""

    def two() -> tuple[JointModel, Objective]:
        model, _ = made(frozen=False)
        terms = {"pair": Term(Bank(InfoNCE(), "text"), ["image", "text"]), "plain": Term(InfoNCE(), ["image", "text"])}
        return model, Objective(terms, dim=dim, batch=batch, modalities=["image", "text"]).double()

    def go(run, stages, **options):
        model, objective = two()
        given = {"model": model, "objective": objective, "stages": stages, **options}
        return train(f"{shards}/train-*.tar", tmp_path / run, 4, **given), model

    stages = {"first": Stage(until=2, terms={"plain": 1}), "second": Stage(freeze=["text"])}
    bank, model = go("straight", stages)
    assert capsys.readouterr().err.count("bank of text") == 1
    torch.testing.assert_close(bank._stored.rows, read_rows(model, Shards(f"{shards}/train-*.tar"), "text").values)
    with pytest.raises(Cut):
        go("killed", stages, trainer={"callbacks": [Kill(3)]})
    go("killed", stages)
    assert exact(tmp_path / "killed") == exact(tmp_path / "straight")
    with pytest.raises(ValueError, match=r"^stages\.second: the bank of 'text' would be out of date"):
        go("stale", {"first": stages["first"], "second": Stage()})
    assert not (tmp_path / "stale").exists()
