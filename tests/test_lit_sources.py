"""Named sources in a config: what they open, what a run logs of each, and that a mixture continues to the bit."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
import yaml
from cut import Cut, Kill
from test_commands_train import changed, refused
from test_lit import exact, rows
from tiny import Dense, made, write

import align
from align.checkpoint import read_index
from align.commands import main
from align.data import Concat, Mixture, Resampled, Shards
from align.data.bad import Bad
from align.lit import AlignData, Checkpoints, fit
from align.lit.by_source import losses
from align.lit.opened import Opened
from align.lit.sources import Mix, Source
from align.losses import InfoNCE
from align.objective import Objective, Term
from align.optim import AdamW
from align.preprocess import Array
from align.values import Embeddings, Rows

trainer = {"accelerator": "cpu", "precision": "64-true", "logger": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sets of shards, a and b, and one for validation."""
    folder = tmp_path_factory.mktemp("sources")
    write(folder / "a")
    write(folder / "b", samples=30, missing=0.2)
    write(folder, "test", 20)
    return folder


def named(folder: Path, **b) -> dict[str, Source]:
    return {"a": Source(str(folder / "a" / "train-*.tar")), "b": Source(str(folder / "b" / "train-*.tar"), **b)}


def data(train, *, batch: int = 12, **options) -> AlignData:
    return AlignData(train, batch=batch, workers=options.pop("workers", 0), **options)


def opened(train, **options) -> Opened:
    return data(train, **options).open(made()[0], seed=0)


def test_opened_data_go_on_from_an_account_and_stay_as_they_are(folder):
    pattern = str(folder / "a" / "train-*.tar")
    first = opened(pattern)
    first.ledger.add_lost("a.tar", "sample/cut", 3)
    first.budget.add([Bad("image/truncated", "a.tar", "k", "image.png", 0)], seen=12)
    assert first.account() != opened(pattern).account()
    again = data(pattern).open(made()[0], 0, {"step": 1, "bad": first.account()})
    assert again.account() == first.account()
    assert again.order == {"seed": 0, "samples": 48, "data.batch": 12, "data.streams": 48, "data.block": 1}
    with pytest.raises(FrozenInstanceError):
        again.batch = 6


def train(source, run: Path, steps: int, **options):
    model, objective = made(dropout=0.2)
    mix = options.pop("mix", Mix())
    workers = options.pop("workers", 0)
    given = {**trainer, "max_steps": steps, **options.pop("trainer", {})}
    return fit(
        model, objective, data(source, mix=mix, workers=workers), run, optim=AdamW(lr=0.01), trainer=given, **options
    )


def test_a_plain_pattern_stays_one_set(folder):
    pattern = str(folder / "a" / "train-*.tar")
    assert isinstance(opened(pattern).train, Shards)
    assert isinstance(opened([pattern]).train, Shards)
    drawn = opened(pattern, resampled=True, samples=96)
    assert isinstance(drawn.train, Resampled)
    assert drawn.steps_per_epoch == 8


def test_named_sources_become_a_mixture(folder):
    sources = named(folder, members={"text": ["json:caption"]}, preprocess={"image": Array((6,))})
    sources["c"] = Source(str(folder / "a" / "train-*.tar"), resampled=True, samples=48)
    mixture = opened(sources, mix=Mix(alpha=0.0), members={"text": ["txt"]}, streams=12).train
    assert isinstance(mixture, Mixture)
    assert [type(source) for source in mixture.sources.values()] == [Shards, Shards, Resampled]
    assert mixture.sources["b"].members["text"] == ["json:caption"]
    assert mixture.sources["a"].members["text"] == ["txt"]
    assert list(mixture.overrides) == ["b"]
    assert len({source.seed for source in mixture.sources.values()}) == 3
    assert mixture.count_given(3) == {"a": 12, "b": 12, "c": 12}
    weighted = {
        name: Source(source.urls, weight=w) for (name, source), w in zip(named(folder).items(), (2, 1), strict=True)
    }
    assert opened(weighted).train.count_given(5) == {"a": 40, "b": 20}
    late = Mix(weights={0: {"a": 1}, 2: {"a": 1, "b": 3}}, until="last", unit="batch")
    assert opened(named(folder), mix=late).train.count_given(6) == {"a": 36, "b": 36}


def test_validation_may_have_named_sources_too(folder, tmp_path):
    test = str(folder / "test-*.tar")
    named_val = {"x": Source(test, preprocess={"image": Array((6,))}), "y": Source(test, members={"text": ["txt"]})}
    val = opened(test, val=named_val).val
    assert isinstance(val, Concat)
    assert len(val) == 40
    assert list(val.overrides) == ["x"]
    model, objective = made()
    source = AlignData(named(folder), {"x": Source(test)}, batch=12, workers=0)
    fit(model, objective, source, tmp_path, trainer={**trainer, "max_steps": 2})
    again = AlignData(named(folder), test, batch=12, workers=0)
    model, objective = made()
    fit(model, objective, again, tmp_path / "plain", trainer={**trainer, "max_steps": 2})
    assert rows(tmp_path)[-1]["val/loss"] == rows(tmp_path / "plain")[-1]["val/loss"] != ""
    for wrong in (Source(test, weight=1), Source(test, resampled=True, samples=48)):
        with pytest.raises(ValueError, match=r"source 'x' of data.val: weight and resampled belong to data.train"):
            opened(test, val={"x": wrong})


@pytest.mark.sweep
def test_a_run_logs_what_each_source_gave(folder, tmp_path):
    train(named(folder), tmp_path / "mixed", 6, mix=Mix(alpha=0.0, losses_every=3))
    table = rows(tmp_path / "mixed")
    assert [row["source/a/samples"] for row in table] == ["6", "12", "18", "24", "30", "36"]
    assert [row["source/b/epoch"] for row in table] == ["0", "0", "0", "0", "1", "1"]  # 30 samples, 6 a step
    for name in "ab":
        assert [row["step"] for row in table if row[f"source/{name}/loss"]] == ["1", "4"]
    train(named(folder), tmp_path / "quiet", 2, mix=Mix(alpha=0.0, losses_every=0))
    quiet = rows(tmp_path / "quiet")
    assert not [name for name in quiet[0] if name.startswith("source/") and name.endswith("/loss")]
    train(named(folder), tmp_path / "often", 2, mix=Mix(alpha=0.0, losses_every=1))
    assert [row["loss"] for row in rows(tmp_path / "often")] == [row["loss"] for row in quiet]  # it draws nothing
    train(named(folder), tmp_path / "whole", 4, mix=Mix(alpha=0.0, unit="batch"))
    for row, name, other in zip(rows(tmp_path / "whole"), "abab", "baba", strict=True):
        assert row[f"source/{name}/loss"] == row["loss"]
        assert row[f"source/{other}/loss"] == ""
    train(named(folder), tmp_path / "late", 3, mix=Mix(weights={0: {"b": 1}, 2: {"a": 1, "b": 1}}))
    late = rows(tmp_path / "late")
    assert [row["source/b/loss"] for row in late] == [late[0]["loss"], late[1]["loss"], ""]
    plain = train(str(folder / "a" / "train-*.tar"), tmp_path / "plain", 1)
    assert plain.step == 1
    assert not [name for name in rows(tmp_path / "plain")[0] if name.startswith("source/")]


def test_the_losses_of_the_sources_are_their_anchors_among_all_negatives():
    """Against the formula by hand; counted by their samples, they are the loss of the batch."""
    source = ["a"] * 5 + ["b"] * 3
    x, y = (torch.nn.functional.normalize(torch.randn(8, 4, dtype=torch.float64), dim=1) for _ in range(2))
    embeddings = Embeddings(
        {"x": Rows(x, torch.arange(8)), "y": Rows(y, torch.arange(8))},
        ids=list("01234567"),
        position=torch.arange(8),
        source=source,
    )
    objective = Objective({"pairs": Term(InfoNCE(), ["x", "y"])}, dim=4, batch=8)
    found = losses(objective, embeddings, ["a", "b"], torch.Generator)
    logits = float(objective.infos()[0].scale) * x @ y.T
    for name in "ab":
        mine = [i for i in range(8) if source[i] == name]
        each = [logits[i].logsumexp(0) + logits[:, i].logsumexp(0) - 2 * logits[i, i] for i in mine]
        assert float(found[name]) == pytest.approx(float(sum(each)) / len(each) / 2, rel=1e-12)
    whole = objective(embeddings)[0].detach()
    assert float(whole) == pytest.approx((5 * float(found["a"]) + 3 * float(found["b"])) / 8, rel=1e-12)
    assert objective.training


def test_the_losses_of_the_sources_stay_on_the_device():
    class Seen(torch.nn.Module):
        def forward(self, embeddings, *, generator):
            return embeddings.weight, {}

    position = torch.arange(2, device="meta")
    for weight in (None, torch.ones(2, device="meta")):
        embeddings = Embeddings({}, ids=["0", "1"], position=position, source=["a", "b"], weight=weight)
        found = losses(Seen(), embeddings, ["a", "b"], torch.Generator)  # pyright: ignore[reportArgumentType]
        assert [value.device.type for value in found.values()] == ["meta", "meta"]


def test_a_run_that_goes_on_with_more_sources_logs_them(folder, tmp_path):
    plain = train({"a": named(folder)["a"]}, tmp_path, 2)
    assert plain.step == 2
    model, objective = made(dropout=0.2)
    more = AlignData(named(folder), str(folder / "test-*.tar"), batch=12, workers=0)
    fit(model, objective, more, tmp_path, optim=AdamW(lr=0.01), trainer={**trainer, "max_steps": 4})
    table = rows(tmp_path)
    assert [row["step"] for row in table] == ["1", "2", "3", "4"]
    assert [row["source/a/samples"] for row in table][:2] == ["12", "24"]
    for column in ("source/b/samples", "val/loss"):
        assert table[1][column] == ""
        assert float(table[3][column]) > 0


def test_a_run_that_goes_on_in_another_order_says_so(folder, tmp_path, capsys):
    pattern = str(folder / "a" / "train-*.tar")
    train(pattern, tmp_path, 2)
    train(pattern, tmp_path, 3)
    assert "order" not in capsys.readouterr().err
    model, objective = made(dropout=0.2)
    given = {**trainer, "max_steps": 4}
    fit(model, objective, data(pattern, batch=6, streams=4), tmp_path, optim=AdamW(lr=0.01), trainer=given)
    line = "goes on in another order of samples: data.batch was 12, is 6; data.streams was 48, is 4\n"
    assert line in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["sample", pytest.param("batch", marks=pytest.mark.sweep)])
def test_a_mixture_continues_to_the_bit(folder, tmp_path, unit, capsys):
    """Straight against stopped after step 7, saved at 6; a curriculum, a resampled source, and other workers."""

    def go(run, **options):
        sources = {**named(folder), "c": Source(str(folder / "a" / "train-*.tar"), resampled=True, samples=48)}
        mix = Mix(weights={0: {"a": 2, "b": 1}, 4: {"a": 1, "b": 1, "c": 2}}, unit=unit)
        return train(sources, run, 12, mix=mix, **options)

    go(tmp_path / "straight")
    with pytest.raises(Cut):
        go(tmp_path / "cut", checkpoint=Checkpoints(every_steps=3), trainer={"callbacks": [Kill(7)]})
    last = tmp_path / "cut" / "checkpoints" / read_index(tmp_path / "cut")["last"]
    state = json.loads((last / "training" / "state.json").read_text())
    assert state["step"] == 6
    assert list(state["data"]) == ["c"]
    assert len(state["data"]["c"]) == 48
    go(tmp_path / "cut")
    assert "continuing at step 6" in capsys.readouterr().err
    assert exact(tmp_path / "cut") == exact(tmp_path / "straight")
    columns = ["source/a/samples", "source/b/epoch", "source/c/samples"]
    both = [[[row[c] for c in columns] for row in rows(tmp_path / name)] for name in ("cut", "straight")]
    assert both[0] == both[1]
    go(tmp_path / "workers", workers=3)
    assert exact(tmp_path / "workers") == exact(tmp_path / "straight")


def test_sources_that_do_not_fit_are_refused(folder, tmp_path):
    pattern = str(folder / "a" / "train-*.tar")
    cases = [
        (r"sources b have no weight and a have one", {"a": Source(pattern, weight=1), "b": Source(pattern)}, {}),
        (r"data.mix.weights too: give one", {"a": Source(pattern, weight=1)}, {"mix": Mix(weights={0: {"a": 1}})}),
        (r"source 'b': resampled=True and samples=None", {"b": Source(pattern, resampled=True)}, {}),
        (r"source 'b': resampled=False and samples=9", {"b": Source(pattern, samples=9)}, {}),
        (r"data.mix mixes named sources; data.train names one set", pattern, {"mix": Mix(alpha=0.5)}),
        (r"belong to the single sources", {"a": Source(pattern)}, {"resampled": True, "samples": 48}),
        (
            r"a step takes up to 40 samples of source 'b', which has 30",
            named(folder),
            {"batch": 80, "mix": Mix(alpha=0.0)},
        ),
    ]
    for message, sources, options in cases:
        with pytest.raises(ValueError, match=message):
            opened(sources, **options)
    with pytest.raises(FileNotFoundError, match=r"source 'a': no shard matches"):
        opened({"a": Source(str(tmp_path / "no-*.tar"))})
    write(tmp_path / "plain", samples=12, missing=1.0)
    with pytest.raises(ValueError, match=r"the shards of .*plain.* have none of the model's modalities"):
        opened({**named(folder), "c": Source(str(tmp_path / "plain" / "train-*.tar"))})
    model = align.JointModel({"depth": align.Tower(Array((6,)), Dense())}, 4)
    with pytest.raises(ValueError, match=r"none of the model's modalities \(depth\); they have .*image"):
        data(named(folder)).open(model, 0)


def test_the_page_mixes_two_sets(folder, tmp_path, monkeypatch, capsys):
    """The keys of docs/mixing.md, read by `align train`."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shards" / "digits")
    write(tmp_path / "shards" / "photos")
    write(tmp_path / "shards", "test", 20)
    text = (Path(__file__).parent.parent / "docs" / "mixing.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL) if "mix:" in block]
    changed(tmp_path / "config.yaml", data={**yaml.safe_load(block)["data"], "val": None})
    args = ["train", "--config", "config.yaml", "--run", "run", "--trainer.max_steps", "2"]
    assert main([*args, "--checkpoint.monitor", "val/loss"]) == 0
    assert [row["source/digits/samples"] for row in rows(tmp_path / "run")] == ["12", "24"]
    assert [row["source/photos/samples"] for row in rows(tmp_path / "run")] == ["0", "0"]


def test_a_config_names_sources_and_a_typo_is_refused(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    a = {"urls": "a/train-*.tar", "weight": 2}
    own = {"image": {"class_path": "align.preprocess.Array", "init_args": {"shape": [6]}}}
    b = {"urls": ["b/train-*.tar"], "weight": 1, "preprocess": own, "members": {"text": ["txt"]}}
    path = tmp_path / "config.yaml"

    def config(train, **mix):
        changed(path, data={"train": train, **({"mix": mix} if mix else {})})
        return ["train", "--config", str(path), "--run", str(tmp_path / "run")]

    assert main([*config({"a": a, "b": b}, unit="batch"), "--data.train.a.weight", "3"]) == 0
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (kept["train"]["a"]["weight"], kept["mix"]["unit"]) == (3, "batch")
    assert [row["source/b/samples"] for row in rows(tmp_path / "run")][-1] == "12"
    capsys.readouterr()
    cases = [
        ({"a": {**a, "wieght": 2}}, {}, "no key 'data.train.a.wieght'; did you mean weight?"),
        ({"a": {"url": "a/train-*.tar"}}, {}, "no key 'data.train.a.url'; did you mean urls?"),
        ({"a": {"weight": 2}}, {}, "source 'a' in data.train has no urls"),
        ({"a": "a/x.tar"}, {}, "source 'a' in data.train is 'a/x.tar'; write {urls: a/x.tar}"),
        ({"a": {**a, "weight": "much"}}, {}, "weight: expected float"),
        ({"a": a}, {"alhpa": 1}, "no key 'data.mix.alhpa'; did you mean alpha?"),
        ({"a": a}, {"unit": "row"}, "data.mix.unit: expected one of 'sample', 'batch'; got row"),
    ]
    for sources, mix, message in cases:
        assert message in refused(capsys, config(sources, **mix), 1)
    for option, message in [
        ("--data.train.a.wieght=3", "no key 'data.train.a.wieght'; did you mean weight?"),
        ("--data.mix.utnil=first", "no option --data.mix.utnil; did you mean --data.mix.until?"),
    ]:
        assert message in refused(capsys, [*config({"a": a}), option], 2)
