"""Experts chosen by the labels of the samples: in a batch, in chunks, in a saved model, and in the view of a domain."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from tiny import Dense

import align
from align import Features, JointModel, Objective, Term, Tower
from align.data import Shards
from align.embedding.embed import embed_shards
from align.grad_cache import Chunks
from align.heads import MLP, Chain, Experts, Linear
from align.lit import AlignData, fit
from align.losses import InfoNCE
from align.losses.kernels.labels import find_places
from align.model.domains import in_domain, list_domains, name_domains
from align.preprocess import Array
from align.values import Batch, Rows

NAMES = ["digits", "solids"]
LABELS = [{"domain": "solids"}, {"domain": "digits", "n": 3}, {"domain": ["digits", "solids"]}, {"n": 1}, None]


def experts(width: int, dim: int, unlabelled="refuse", **more) -> Experts:
    more = {"attribute": "domain", "classes": NAMES, **more}
    return Experts(width, dim, 2, [MLP], unlabelled=unlabelled, **more)


def make(unlabelled="refuse", **more) -> JointModel:
    torch.manual_seed(0)
    heads = {"image": lambda w, d: experts(w, d, unlabelled, **more), "text": Linear}
    towers = {m: Tower(Array((6,)), Dense(), head) for m, head in heads.items()}
    return JointModel(towers, 4).eval()


def table(sample: list[int], labels=LABELS) -> Batch:
    x, n = torch.randn(len(sample), 6, generator=torch.Generator().manual_seed(1)), len(LABELS)
    rows = {"image": Rows(x, torch.tensor(sample)), "text": Rows(x[:2], torch.tensor([0, 3]))}
    return Batch(rows, [str(i) for i in range(n)], torch.arange(n), [*labels])


@pytest.mark.parametrize("top", [0, 1])
@torch.no_grad()
def test_a_row_goes_to_the_expert_of_its_class_and_others_to_the_gate(top):
    torch.manual_seed(2)
    head, x = experts(6, 4, "gate", top=top), torch.randn(5, 6)
    head.gate.weight.normal_()
    pooled, tokens = head(Features(x, x[:, None]), tokens=True, labels=find_places(LABELS, "domain", NAMES))
    for i, of in enumerate([[1], [0], [0, 1], [], []]):
        each = [F.normalize(one(Features(x[i : i + 1])), dim=-1)[0] for one in head.inside]
        soft = (head.gate.weight @ x[i] + head.gate.bias).softmax(0)
        by_gate = [float(k == int(soft.argmax())) for k in range(2)] if top else soft.tolist()
        weights = [float(k in of) / len(of) for k in range(2)] if of else by_gate
        torch.testing.assert_close(pooled[i], weights[0] * each[0] + weights[1] * each[1])
        torch.testing.assert_close(tokens[i, 0, :2], soft)  # what Route teaches, for labelled rows as well
    assert torch.equal(head(Features(x)), head(Features(x), labels=torch.full((5, 1), -1)))


def test_labelled_rows_teach_their_expert_alone_and_no_gradient_is_none():
    head, x = experts(6, 4, "gate", top=1), torch.randn(3, 6)
    head(Features(x), labels=torch.tensor([[1], [1], [1]])).sum().backward()
    assert all(p.grad is not None for p in head.parameters())
    grads = [sum(float(p.grad.abs().sum()) for p in one.parameters()) for one in (*head.inside, head.gate)]
    assert grads[1] > 0
    assert grads[0] == grads[2] == 0


@torch.no_grad()
def test_rows_of_a_batch_have_the_label_of_their_sample():
    """Several rows of one sample, a hard negative behind its row, samples without a label; in chunks too."""
    model = make("gate")
    batch = table([0, 0, -1, 1, 3, 4])
    rows = model(batch)["image"].values
    alone = model.embed(image=list(batch["image"].values.numpy()))["image"]
    views = {name: in_domain(model, name).embed(image=list(batch["image"].values.numpy()))["image"] for name in NAMES}
    for i, name in enumerate(["solids", "solids", "solids", "digits", None, None]):
        torch.testing.assert_close(rows[i], views[name][i] if name else alone[i])
    assert not torch.allclose(views["digits"], views["solids"], atol=1e-3)
    chunked = model(batch, run=Chunks(2, model.modalities))["image"].values
    torch.testing.assert_close(chunked, rows)
    assert torch.equal(model(table([0, 0, -1, 1, 3, 4], []))["image"].values, rows.new_tensor(alone.tolist()))
    assert torch.equal(model(batch)["text"].values, in_domain(model, "digits")(batch)["text"].values)


def test_values_that_are_a_dict_keep_their_other_columns():
    from align.model.row_labels import add_labels, take_labels

    head, given = experts(6, 4), {"ids": torch.ones(2, 3), "mask": torch.ones(2, 3)}
    made = add_labels(head, Rows(given, torch.tensor([0, 1])), LABELS)
    rest, labels = take_labels(made)
    assert {*rest} == {*given}
    assert labels is not None
    assert labels[:, 0].tolist() == [1, 0]
    assert add_labels(Linear(6, 4), Rows(given, torch.tensor([0, 1])), LABELS) is given


def test_a_folder_keeps_the_classes_and_the_view_saves_the_whole_model(tmp_path):
    model = make(classes=None)
    name_domains(model, {"domain": NAMES, "n": ["1"]})
    x = list(torch.randn(3, 6).numpy())
    before = in_domain(model, "solids").embed(image=x)["image"]
    for i, one in enumerate((model, in_domain(model, "solids"))):
        align.save(one, tmp_path / str(i))
        again = align.load(tmp_path / str(i), allow=("tiny",))
        assert list_domains(again) == {"image": NAMES}
        assert torch.equal(in_domain(again, "solids").embed(image=x)["image"], before)
        assert in_domain(again, "solids")(table([0, 1, 3]))["image"].n == 3  # whatever the labels are
    assert list_domains(model) == {"image": NAMES}


def test_a_graph_needs_a_domain(tmp_path):
    from align.convert.graphs.graph import trace

    model = make()
    with pytest.raises(ValueError, match=r"in_domain\(model, NAME\)"):
        trace(model, "image")
    x = torch.randn(3, 6)
    graph = trace(in_domain(model, "digits"), "image").graph
    torch.testing.assert_close(graph(x), in_domain(model, "digits").embed_values("image", x))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda: make().embed(image=[torch.zeros(6).numpy()]),
            r"'domain' \(digits, solids\), and these rows name none",
        ),
        (lambda: make()(table([0, 1, 3, 3])), r"tower 'image': .*one of digits, solids; 2 of 4 rows .* \{'n': 1\}"),
        (
            lambda: make(classes=None)(table([0])),
            "tower 'image': its head reads the classes of 'domain' and knows none",
        ),
        (lambda: in_domain(make(), "digit"), "no domain 'digit'; there are digits, solids"),
        (lambda: in_domain(JointModel({"a": Tower(Array((6,)), Dense())}, 4), "x"), "no head of the model chooses"),
        (lambda: name_domains(make(), {"n": ["1"]}), "tower 'image': .*attribute 'domain'; there are n"),
        (lambda: name_domains(make(), {}), "the labels of the training set have none"),
        (lambda: name_domains(make(), {"domain": ["digits", "faces"]}), "no expert for 'domain' 'faces'"),
        (lambda: name_domains(make(classes=None), {"domain": ["a", "b", "c"]}), "3 classes of 'domain' need as many"),
        (lambda: experts(6, 4, "ask"), "unlabelled is 'refuse' or 'gate'; got 'ask'"),
        (lambda: Experts(6, 4, classes=["a"]), r"classes are those of an attribute .* got \['a'\]"),
        (
            lambda: JointModel({"a": Tower(Array((6,)), Dense(), lambda w, d: Chain(w, d, Linear, experts))}, 4),
            "Chain passes no labels on to the Experts inside it; make Experts the tower's head",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(run, message):
    with pytest.raises(ValueError, match=message) as error:
        run()
    assert "\n" not in str(error.value)


def test_a_gate_that_was_trained_takes_shards_without_the_attribute():
    name_domains(make("gate"), {})
    name_domains(JointModel({"a": Tower(Array((6,)), Dense())}, 4), {})


def test_a_run_names_the_classes_of_its_head_and_evaluates_by_the_labels(tmp_path):
    """The labels are those of the shards, "0" to "2"; rows of the run are the view's of each class."""
    shards = tiny.write(tmp_path / "shards", samples=24)
    tiny.write(shards, "test", samples=12)
    torch.manual_seed(0)
    heads = {"image": lambda w, d: Experts(w, d, 3, [MLP], attribute="label"), "audio": Linear, "text": Linear}
    model = JointModel({m: Tower(Array((6,)), Dense(), head) for m, head in heads.items()}, 4)
    objective = Objective({"all": Term(InfoNCE(), "all")}, dim=4, batch=12, modalities=model.modalities)
    trainer = {"max_steps": 2, "enable_progress_bar": False, "accelerator": "cpu"}
    data = AlignData(str(shards / "train-*.tar"), batch=12)
    fit(model, objective, data, tmp_path / "run", trainer=trainer, chunk=5)
    again = align.load(tmp_path / "run", allow=("tiny",))
    assert list_domains(again) == {"image": ["0", "1", "2"]}
    table = embed_shards(again, Shards(str(shards / "test-*.tar"), shuffle=False))
    assert table["image"].n > 3
    for row, sample in zip(table["image"].values, table["image"].sample.tolist(), strict=True):
        (member,) = (s["image.npy"] for s in stored(shards) if s["__key__"] == table.ids[sample])
        (want,) = in_domain(again, str(table.labels[sample])).embed(image=[member])["image"]
        torch.testing.assert_close(row, want)


def stored(folder) -> list[dict[str, Any]]:
    shards = Shards(str(folder / "test-*.tar"), shuffle=False)
    return [shards.read(i)[0] for i in range(len(shards))]
