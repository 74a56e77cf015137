"""The evaluator ``probe``: training shards and official folds, groups, few labels, targets, and its refusals."""

from __future__ import annotations

import json

import pytest
import tiny_space
import torch
import torch.nn.functional as F
from torch import nn

import align
from align.commands import main
from align.data import Shards
from align.evaluation import Probe, Space, evaluate
from align.evaluation.probe import choose
from align.evaluation.probe.choose import COSTS, Trials, fit
from align.evaluation.probe.design import Design
from align.evaluation.probe.plan import make_plan
from align.page.section import Curve, Table
from align.values import Features

QUICK = {"neighbours": (5, 500), "shots": (1, 3), "shares": (0.1, 1.0), "seeds": 2}


def world(seed, n=24, change=lambda i, about: None, noise=0.4):
    """Samples of ``tiny_space``, with keys of their own, a size, and what ``change`` states."""
    made = {}
    for i, (key, members) in enumerate(tiny_space.world(n, seed=seed, noise=noise).items()):
        about = json.loads(members["json"])
        about["size"] = float(i % 6)
        change(i, about)
        made[f"{seed}-{key}"] = {**members, "json": json.dumps(about).encode()}
    return made


@pytest.fixture(autouse=True)
def few_costs(monkeypatch):
    """Probes choose among every third value of C."""
    monkeypatch.setattr(choose, "COSTS", COSTS[::3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("shards")
    for seed in range(3):
        tiny_space.write_tar(
            place / f"fold{seed + 1}-000000.tar", world(seed, change=lambda i, a, s=seed: a.update(f=s))
        )
    tiny_space.write_tar(place / "train-000000.tar", world(7, n=48))
    tiny_space.write_tar(place / "test-000000.tar", world(8))
    return place


def opened(folder, pattern):
    return Shards(str(folder / f"{pattern}.tar"), shuffle=False)


@pytest.fixture(scope="module")
def trained(folder):
    """Results of a probe on the training shards."""
    probe = Probe(targets=["size"], **QUICK)
    model = tiny_space.model("pairwise")
    return evaluate(model, opened(folder, "test-*"), with_=[probe], train=opened(folder, "train-*"), draws=50)


@pytest.mark.sweep
def test_the_accuracy_is_scikit_learns_at_the_chosen_c(folder, trained):
    from sklearn.linear_model import LogisticRegression

    space = Space(tiny_space.model(), opened(folder, "test-*"), train=opened(folder, "train-*"))
    sets = []
    for split in ("train", "test"):
        table = space.table("features", split)
        rows = table["image"]
        kinds = [table.labels[s]["kind"] if table.labels[s] else None for s in rows.sample.tolist()]
        kept = [i for i, kind in enumerate(kinds) if kind is not None]
        sets.append((F.normalize(rows.values[kept].double(), dim=1).numpy(), [kinds[i] for i in kept]))
    (cost,) = trained.protocol["probe"]["chosen C"]["probe/kind/image/tower"]
    theirs = LogisticRegression(C=cost, tol=1e-10, solver="newton-cg").fit(*sets[0])
    assert trained.scores["probe/kind/image/tower/accuracy"] == pytest.approx(theirs.score(*sets[1]), abs=1e-3)
    assert trained.scores["probe/kind/image/tower/accuracy"] > 0.6


def test_scores_samples_and_intervals(trained):
    names = {name.removeprefix("probe/kind/image/") for name in trained.scores if name.startswith("probe/kind/image/")}
    few = {"shots@1", "shots@3", "labels@0.1", "labels@1"}
    plain = {"accuracy", "mean_per_class", "knn@5", "chance", *few}
    assert names == plain | {f"tower/{name}" for name in plain}
    scores = trained.scores
    assert scores["probe/kind/image/labels@1"] == scores["probe/kind/image/accuracy"]
    assert scores["probe/kind/image/shots@1"] < scores["probe/kind/image/accuracy"]
    assert scores["probe/kind/image/chance"] == 1 / 6
    for name, (value, sample) in trained.samples.items():
        assert len(value) == len(sample)
        low, high = trained.intervals[name]
        assert low <= scores[name] + 1e-9
        assert scores[name] <= high + 1e-9
    value, sample = trained.samples["probe/kind/image/accuracy"]
    assert float(value.mean()) == pytest.approx(scores["probe/kind/image/accuracy"])
    assert {3, 4, 5} - set(sample.tolist()) == {4, 5}  # sample 4 has no image, sample 5 no label
    assert (
        "probe of kind from image, head: there are fewer training rows than neighbours for k = 500"
        in (trained.protocol["notes"])
    )


def test_numbers_are_predicted(trained):
    """The size is the number of the class, which an image tells and half of the noise does not."""
    scores = trained.scores
    assert 0.3 < scores["probe/size/image/r2"] < 1
    assert scores["probe/size/image/spearman"] > 0.5
    pairs, _ = trained.samples["probe/size/image/r2"]
    assert scores["probe/size/image/mae"] == pytest.approx(float((pairs[:, 0] - pairs[:, 1]).abs().mean()))
    true, told = pairs.T
    assert scores["probe/size/image/r2"] == pytest.approx(
        1 - float(((true - told) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    )


def test_the_section_has_tables_and_curves(trained):
    (section,) = trained.sections
    tables = [block for block in section.blocks if isinstance(block, Table)]
    curves = [block for block in section.blocks if isinstance(block, Curve)]
    assert [table.title for table in tables] == ["Classes", "Numbers"]
    assert [table.head[0] for table in tables] == ["attribute", "key"]
    assert tables[0].head[3:] == ["accuracy", "mean per class", "knn@5"]
    assert [curve.title for curve in curves] == [
        f"{name} by {x}" for name in ("half", "kind") for x in ("labels a class", "share of the labels")
    ]
    for curve in curves:
        for name, points in curve.lines.items():
            for (x, y), (at, low, high) in zip(points, curve.bands[name], strict=True):
                assert x == at
                assert low <= y <= high


@pytest.mark.parametrize("by", ["shards", "f"])
def test_folds_are_told_by_probes_on_the_others(folder, by):
    from sklearn.linear_model import LogisticRegression

    probe = Probe(folds=by, of=["head"], neighbours=(), shots=(), shares=())
    space = Space(tiny_space.model(), opened(folder, "fold*"), draws=0)
    found = probe.run(space)
    table = space.table()
    rows = table["audio"]
    kept = [i for i, s in enumerate(rows.sample.tolist()) if table.labels[s]]
    x = F.normalize(rows.values[kept].double(), dim=1).numpy()
    y = [table.labels[s]["kind"] for s in rows.sample[kept].tolist()]
    fold = [int(table.ids[s][0]) for s in rows.sample[kept].tolist()]
    right = {}
    for number, cost in enumerate(found.protocol["probe"]["chosen C"]["probe/kind/audio"]):
        train, test = ([i for i, f in enumerate(fold) if (f == number) is side] for side in (False, True))
        theirs = LogisticRegression(C=cost, tol=1e-10, solver="newton-cg").fit(x[train], [y[i] for i in train])
        right[number] = [float(a == y[i]) for a, i in zip(theirs.predict(x[test]), test, strict=True)]
    every = [one for some in right.values() for one in some]
    assert found.scores["probe/kind/audio/accuracy"] == pytest.approx(sum(every) / len(every), abs=1e-3)
    assert found.section is not None
    (of_folds,) = [block for block in found.section.blocks if isinstance(block, Table) and block.head[3] != "accuracy"]
    assert of_folds.head[3:] == (["fold1", "fold2", "fold3"] if by == "shards" else ["0", "1", "2"])
    (cells,) = [row for row in of_folds.rows if list(row[:3]) == ["kind", "audio", "head"]]
    assert cells[3:] == pytest.approx([sum(one) / len(one) for one in right.values()], abs=1e-3)


def test_labels_that_say_nothing_are_told_by_chance(tmp_path):
    """A leak between training and test rows would be seen: the labels are drawn anew."""
    draw = torch.Generator().manual_seed(0)

    def shuffle(i, about):
        about["label"] = {"kind": tiny_space.classes[int(torch.randint(6, (1,), generator=draw))]}

    for seed in range(3):
        tiny_space.write_tar(tmp_path / f"fold{seed}-000000.tar", world(seed, 100, shuffle))
    probe = Probe(folds="shards", of=["head"], neighbours=(5,), shots=(), shares=())
    scores = probe.run(Space(tiny_space.model(), opened(tmp_path, "fold*"), draws=0)).scores
    for name in ("accuracy", "knn@5"):
        assert abs(scores[f"probe/kind/image/{name}"] - 1 / 6) < 0.09  # 4 standard errors of 300 answers


class Same(nn.Module):
    """An encoder to which all values are the same."""

    width = tiny_space.D

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        return Features(torch.ones(len(values), self.width) * self.gain)


def test_a_constant_space_tells_nothing(folder):
    model = tiny_space.model()
    model.towers["image"].encoder = Same()
    model.eval()
    space = Space(model, opened(folder, "test-*"), train=opened(folder, "train-*"), draws=0)
    found = Probe(targets=["size"], **QUICK).run(space)
    for prefix in ("probe/kind/image/", "probe/half/image/tower/"):
        for name in ("accuracy", "mean_per_class", "knn@5", "shots@1", "shots@3", "labels@0.1", "labels@1"):
            assert found.scores[prefix + name] == 0, prefix + name
    assert found.scores["probe/size/image/spearman"] == 0
    assert found.scores["probe/size/image/r2"] <= 0
    assert (
        "probe of kind from image, head: the training rows are all equal, so it tells nothing"
        in (found.protocol["notes"])
    )


def test_samples_of_several_classes(tmp_path):
    def both(i, about):
        first = tiny_space.classes[i % 6]
        about["label"] = {"kind": [first, "bbb"] if i % 4 == 0 else [first]}

    tiny_space.write_tar(tmp_path / "train-000000.tar", world(1, 60, both))
    tiny_space.write_tar(tmp_path / "test-000000.tar", world(2, 30, both))
    space = Space(tiny_space.model(), opened(tmp_path, "test-*"), train=opened(tmp_path, "train-*"), draws=20)
    found = Probe(of=["head"]).run(space)
    assert 0.5 < found.scores["probe/kind/image/map"] < 1
    assert not any("knn" in name or "shots" in name for name in found.scores)
    assert (
        "kind: samples have several classes, so neighbours and few labels are not measured" in found.protocol["notes"]
    )
    assert set(found.intervals) == {f"probe/kind/{m}/map" for m in ("image", "audio", "text")}


# refusals


def refusal(probe, folder, pattern, train=None):
    given = opened(folder, train) if train else None
    with pytest.raises(ValueError) as caught:
        probe.run(Space(tiny_space.model(), opened(folder, pattern), train=given, draws=0))
    return str(caught.value)


def test_no_training_rows(folder):
    assert refusal(Probe(), folder, "test-*").startswith("the probe has no training shards: --train SHARDS, or --folds")
    assert "not from both" in refusal(Probe(folds="shards"), folder, "fold*", "train-*")
    assert "gives ['test']; a probe needs two folds" in refusal(Probe(folds="shards"), folder, "test-*")
    assert "gives no fold" in refusal(Probe(folds="nothing"), folder, "fold*")
    said = refusal(Probe(targets=["sise"]), folder, "test-*", "train-*")
    assert said == "--targets sise: no sample of the train split has a number there; size has one"


@pytest.mark.parametrize("key", ["recording", "group", "cut"])
def test_folds_that_share_a_group_are_refused(tmp_path, key):
    for seed in range(3):
        changed = world(seed, change=lambda i, about, s=seed: about.update({key: i + 100 * s if i else 7}))
        tiny_space.write_tar(tmp_path / f"fold{seed + 1}-000000.tar", changed)
    asked = Probe(folds="shards", group=key if key == "cut" else "auto")
    said = refusal(asked, tmp_path, "fold*")
    assert said.startswith(f"the folds share a {key}: 7 is in fold1 (sample 0-0000) and in fold2 (sample 1-0000)")
    if key == "cut":
        plan = make_plan(Space(tiny_space.model(), opened(tmp_path, "fold*"), draws=0), "shards", "none")
        assert plan.key == ""
        assert len(plan.parts) == 3


def test_training_rows_that_share_a_recording_with_the_test_rows_are_refused(tmp_path):
    for seed, split in enumerate(("train", "test")):
        made = world(seed, change=lambda i, about, s=seed: about.update(recording=i + 23 * s))
        tiny_space.write_tar(tmp_path / f"{split}-000000.tar", made)
    said = refusal(Probe(), tmp_path, "test-*", "train-*")
    assert "share a recording: 23 is in train (sample 0-0023) and in test (sample 1-0000)" in said


def test_a_group_that_is_the_label_is_none(tmp_path):
    for seed, split in enumerate(("train", "test")):
        made = world(seed, change=lambda i, a: a.update(group=a["label"]["kind"]) if "label" in a else None)
        tiny_space.write_tar(tmp_path / f"{split}-000000.tar", made)
    space = Space(tiny_space.model(), opened(tmp_path, "test-*"), train=opened(tmp_path, "train-*"), draws=0)
    assert make_plan(space, None, "auto").key == ""


def test_odd_settings():
    for settings, why in [
        ({"shares": (0.0,)}, "a share of the labels is above 0"),
        ({"shots": (0,)}, "k is at least 1"),
        ({"seeds": 0}, "one draw at least"),
        ({"of": ("feet",)}, "of head, of tower, or of both, not of feet"),
        ({"rows": "round"}, "unit or raw, not 'round'"),
    ]:
        with pytest.raises(ValueError, match=why):
            Probe(**settings)


def test_the_command(folder, tmp_path, capsys):
    align.save(tiny_space.model("pairwise"), tmp_path / "model")
    given = [
        str(tmp_path / "model"),
        str(folder / "fold*-*.tar"),
        "--out",
        str(tmp_path / "r"),
        "--allow",
        "tiny_space",
    ]
    given += ["--with", "probe", "--json", "--no-report", "--draws", "20"]
    few = ["--probe-of", "head", "--shots", "", "--shares", "", "--neighbours", "3"]
    assert main(["evaluate", *given, "--folds", "shards", *few]) == 0
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["probe/kind/image/knn@3"] > 0.3
    assert results["protocol"]["probe"]["learns from"] == (
        "3 folds, each told by a probe on the others: fold1, fold2, fold3"
    )
    capsys.readouterr()
    assert main(["evaluate", *given]) == 2
    assert capsys.readouterr().err.startswith("align: --with: the probe has no training shards: --train SHARDS")
    assert main(["evaluate", *given, "--shots", "one"]) == 2
    assert "--shots is numbers separated by commas, as in 1,2,4, not 'one'" in capsys.readouterr().err


@pytest.mark.sweep
def test_the_accuracy_on_pictures_is_scikit_learns(monkeypatch):
    """The pixels of the handwritten digits that scikit-learn carries, with all 45 values of C."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(choose, "COSTS", COSTS)
    x, y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    x = x.float()
    learns, asked = torch.arange(1200), torch.arange(1200, len(x))
    trials = Trials(torch.ones(1, 1200).bool(), (torch.arange(1200) % 5)[None], 5)
    (ours,) = fit(Design(x, learns), y[learns], 10, trials)
    unit = F.normalize(x.double(), dim=1).numpy()
    theirs = LogisticRegression(C=ours.cost, tol=1e-8, max_iter=5000).fit(unit[:1200], y[:1200].numpy())
    told = ours.logits(x, asked, True).argmax(dim=1)
    assert float((told == y[asked]).double().mean()) == pytest.approx(theirs.score(unit[1200:], y[1200:]), abs=1e-3)
