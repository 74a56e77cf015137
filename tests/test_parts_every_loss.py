"""Every loss of ours shares its work out: in threads, and on three ranks, each part's share sums to the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from few import few
from parts import in_parts, joined
from ranks import on_ranks
from torch import Tensor, nn
from torch.func import functional_call

from align import losses
from align.distributed import rank, world
from align.losses import (
    AlignUniform,
    Balance,
    CAPro,
    ConFu,
    Decouple,
    DeepCCA,
    Distill,
    Flops,
    GatedSymile,
    Gram,
    Hinge,
    InfoNCE,
    LateInteraction,
    Loss,
    MemoryQueue,
    OneVsAll,
    Prototypes,
    PullToMean,
    Regress,
    Route,
    Simplex,
    Symile,
    Transport,
    Triangle,
    VICReg,
    Wasserstein,
)
from align.losses.kernels.pairing import counterparts, same
from align.losses.kinds import KINDS
from align.losses.wrappers import Wrapper
from align.objective import Objective, Term
from align.values import Embeddings, Rows

dim = 6
EVERY = {
    "gram": Gram,
    "gram of one anchor": lambda: Gram(1),
    "triangle": Triangle,
    "hinge": Hinge,
    "hinge, sum": lambda: Hinge(negatives="sum"),
    "hinge, b": lambda: Hinge(sides="b", margin=0.5),
    "late": LateInteraction,
    "late, inside": lambda: LateInteraction("inside"),
    "late, sum": lambda: LateInteraction("sum"),
    "transport": Transport,
    "transport, none": lambda: Transport("none"),
    "distill": Distill,
    "regress": Regress,
    "regress, squared": lambda: Regress("squared"),
    "uniform": AlignUniform,
    "uniform, alpha": lambda: AlignUniform(alpha=1.0, t=0.5),
    "vicreg": VICReg,
    "one vs all": OneVsAll,
    "pull": PullToMean,
    "confu": ConFu,
    "gated": GatedSymile,
    "gated, neutral": lambda: GatedSymile("neutral"),
    "simplex": lambda: Simplex(size=6, classes=["a", "b", "c", "d"], start_scale=3.0),
    "prototypes": lambda: Prototypes(classes=["a", "b", "c", "d"]),
    "prototypes, sigmoid": lambda: Prototypes(form="sigmoid", classes=["a", "b", "c", "d"]),
    "balance": lambda: Balance(4),
    "route": lambda: Route(4, classes=["a", "b", "c", "d"]),
    "capro": lambda: CAPro(classes=["a", "b", "c", "d"], sure=0.4, sharp=3.0),
    "decouple": Decouple,
    "deep cca": DeepCCA,
    "deep cca, two": lambda: DeepCCA(2),
    "wasserstein": Wasserstein,
    "flops": lambda: Flops([0.5, 2.0]),
}
OWNERS = {
    "rows": [[0, 1, 1, 3, -1, 8, 4], [0, 1, 2, 3, 4, -1], [0, 0, 1, 3, 3, -1, 4], [1, 2, 3, 4, 0]],
    "few rows": [[5], [5, 2], [5], [2, 5]],  # fewer than parts
    "no pair": [[0, 1, 2], [3, 4, -1], [0, 1, 5, 6], [7, 8]],
    "equal rows": [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]],
}


def places(owners: list[int]) -> Tensor:
    """Two labels of each row's sample among four classes, one of every third, none of sample 4."""
    return torch.tensor([[-1 if s == 4 else s % 4, (s + 1) % 4 if s % 3 else -1] for s in owners])


def given(kind: str, count: int, extras: bool) -> tuple[list[Tensor], list[Tensor], list[Tensor], dict[str, Any]]:
    """Rows, tokens, ids, and groups and weights of M modalities."""
    draw = torch.Generator().manual_seed(1)
    owners = OWNERS[kind][:count]
    xs = [F.normalize(torch.randn(len(o), dim, dtype=torch.float64, generator=draw), dim=1) for o in owners]
    tokens = [F.normalize(torch.randn(len(o), 3, dim, dtype=torch.float64, generator=draw), dim=2) for o in owners]
    if kind == "equal rows":  # of two parts: the hardest negatives are equal
        xs = [x[[0, 1, 0, 1]] for x in xs]
    more = {
        "groups": [torch.tensor([s // 2 if s >= 0 else -1 for s in o]) for o in owners],
        "weights": [torch.tensor([0.5 + s if s >= 0 else 1.0 for s in o]) for o in owners],
    }
    return xs, tokens, [torch.tensor(o) for o in owners], more if extras else {}


@pytest.mark.parametrize("extras", [False, True], ids=["plain", "extras"])
@pytest.mark.parametrize("kind", OWNERS)
@pytest.mark.parametrize("name", few(EVERY, 12))
def test_the_parts_sum_to_the_whole(name, kind, extras):
    loss = EVERY[name]().double()
    assert loss.in_parts
    count = KINDS[loss.kind].most or 3
    xs, tokens, ids, more = given(kind, count, extras)
    loss.start(dim, count, 5)
    scale = [p.detach().clone() for p in loss.parameters()]
    size = len(tokens) if loss.needs_tokens else 0

    def call(*inputs: Tensor, part: tuple[int, int] = (0, 1), merge: Any = None) -> Tensor:
        own, split = EVERY[name]().double(), inputs[len(xs) : len(xs) + size]
        own.start(dim, count, 5)
        leaves = dict(zip(dict(own.named_parameters()), inputs[len(xs) + size :], strict=True))  # of this part
        read = {}
        if own.needs_tokens:
            masks = [torch.arange(3) < 1 + torch.arange(len(x))[:, None] % 3 for x in xs]
            read["tokens"] = [*zip(split, masks, strict=True)]
        if own.needs_labels:
            read["labels"] = [places(i.tolist()) for i in ids]
        return functional_call(own, leaves, (inputs[: len(xs)], ids), {"part": part, "merge": merge} | more | read)

    inputs = [*xs, *tokens[:size], *scale]
    whole = [x.clone().requires_grad_() for x in inputs]
    value = call(*whole)
    grads = torch.autograd.grad(value, whole)
    for parts in (1, 2, 3):
        got, summed = joined(in_parts(call, inputs, parts))
        torch.testing.assert_close(got, value.detach(), rtol=1e-12, atol=1e-12)
        for mine, theirs in zip(summed, grads, strict=True):
            assert float((mine - theirs).abs().max()) <= 1e-12 * max(1.0, float(theirs.abs().max()))
    if kind == "rows":
        assert any(float(grad.abs().max()) > 1e-3 for grad in grads)


def test_every_loss_of_ours_is_in_parts():
    found = {
        kind
        for kind in vars(losses).values()
        if isinstance(kind, type) and issubclass(kind, Loss) and not issubclass(kind, Wrapper) and kind is not Loss
    }
    assert all(kind.in_parts for kind in found)
    assert {type(make()) for make in EVERY.values()} | {
        InfoNCE,
        losses.SigLIP,
        losses.MaskedTokens,
        Symile,
    } == found


@pytest.mark.parametrize("name", EVERY)
def test_a_part_that_nothing_merges_is_refused(name):
    loss = EVERY[name]().double()
    count = KINDS[loss.kind].most or 3
    xs, tokens, ids, _ = given("rows", count, False)
    masks = [x.new_ones(x.shape[:2], dtype=torch.bool) for x in tokens]
    more = {"tokens": [*zip(tokens, masks, strict=True)]} if loss.needs_tokens else {}
    more |= {"labels": [places(i.tolist()) for i in ids]} if loss.needs_labels else {}
    with pytest.raises(ValueError, match=r"part=\(0, 2\) is one share of several: merge= must join"):
        loss(xs, ids, part=(0, 2), **more)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [*EVERY, "components", "metrix"])
def test_a_row_that_is_not_finite_is_no_error(name, number):
    """A run skips a step whose loss is not finite, so none may end in LAPACK. Losses of tokens read the tokens."""
    more = {
        "components": lambda: losses.PrimaryComponents(InfoNCE(), 2, "0"),
        "metrix": lambda: losses.Metrix(InfoNCE()),
    }
    loss = (EVERY | more)[name]().double()
    count = KINDS[loss.kind].most or 3
    xs, tokens, ids, _ = given("rows", count, False)
    loss.start(dim, count, 5)
    xs[0][0], tokens[0][0] = number, number
    xs = [x.requires_grad_() for x in xs]
    masks = [x.new_ones(x.shape[:2], dtype=torch.bool) for x in tokens]
    read: dict[str, Any] = {"tokens": [*zip(tokens, masks, strict=True)]} if loss.needs_tokens else {}
    read |= {"labels": [places(i.tolist()) for i in ids]} if loss.needs_labels else {}
    value = loss(xs, ids, generator=torch.Generator().manual_seed(0), **read)
    value.backward()
    found = [value, *(x.grad for x in xs if x.grad is not None)]
    assert loss.needs_tokens or not all(torch.isfinite(each).all() for each in found)


def test_a_part_of_a_regression_takes_its_pairs_alone():
    """Parts that all took every pair would sum to the same mean."""
    xs, _, ids, _ = given("rows", 2, False)
    found = in_parts(lambda *x, part, merge: Regress()(x, ids, part=part, merge=merge), xs, 2)
    touched = torch.stack([grads[0].abs().sum(1) > 0 for _, grads in found])  # (2, n)
    assert touched.any(1).all()
    assert not touched.all(0).any()


def test_counterparts_by_sorting_are_those_of_the_matrix():
    draw = torch.Generator().manual_seed(3)
    for n, k in ((0, 4), (4, 0), (9, 12), (30, 25), (40, 40)):
        a, b = (torch.randint(-1, 8, (m,), generator=draw) for m in (n, k))
        turns = [same(ids, ids).tril(-1).sum(1) for ids in (a, b)]
        expected = (same(a, b) & (turns[0][:, None] == turns[1])).nonzero(as_tuple=True)
        assert all(torch.equal(x, y) for x, y in zip(counterparts(a, b), expected, strict=True))


owners = {  # on three ranks, the first has no audio
    "audio": [1, 1, 4, 7, 2],
    "image": [0, 1, 2, 4, 6, 7],
    "text": [0, 0, 1, 2, 2, 4, 5, 6, 7],
    "teacher_image": [0, 1, 2, 4, 6, 7],
    "teacher_text": [0, 1, 2, 2, 4, 6, 7],
}


class Model(nn.Module):
    """A linear tower a modality, whose rows have three tokens each, and an objective."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.towers = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(4, dim, dtype=torch.float64, generator=draw)) for m in owners}
        )
        three, pair = ["audio", "image", "text"], ["image", "text"]
        teachers = {"distill": ["image", "text", "teacher_image", "teacher_text"], "regress": ["text", "teacher_text"]}
        terms = {}
        for name, make in EVERY.items():
            between = dict.fromkeys(("gram", "triangle", "one vs all", "pull", "confu", "gated"), three) | teachers
            terms[name] = Term(make(), between.get(name.split(",")[0].split(" of")[0], pair))
        terms["queue"] = Term(MemoryQueue(LateInteraction(), 5), pair)
        terms["prefixes"] = Term(losses.Matryoshka(Hinge(), [3, dim]), three)
        terms["views"] = Term(losses.Views(LateInteraction()), ["text"])
        terms["space"] = Term(losses.Spaces(Hinge(), ["a", "b"], {"image": "a", "text": "b"}), pair)
        terms["layers"] = Term(losses.Layers(Hinge(), [1, 2, 3]), pair)
        terms["means"] = Term(Prototypes(vectors="means", classes=["a", "b", "c", "d"]), pair)
        terms["mixed"] = Term(losses.MixGeodesic(Hinge()), pair)
        terms["soft"] = Term(losses.Metrix(InfoNCE()), pair)
        terms["components"] = Term(losses.PrimaryComponents(InfoNCE(), 2, "image"), pair)
        torch.manual_seed(4)  # for losses with heads: every rank begins with the same
        self.objective = Objective(terms, dim=dim, batch=8, modalities=[*owners]).double()

    def forward(self, inputs: dict[str, Tensor], frame: Embeddings) -> tuple[Tensor, dict[str, Tensor]]:
        for m, x in inputs.items():
            tokens = F.normalize(x @ self.towers[m], dim=2)  # (n, 3, dim)
            mask = torch.ones(len(x), 3, dtype=torch.bool)
            frame.rows[m] = Rows(F.normalize(tokens.mean(1), dim=1), frame.rows[m].sample, tokens, mask)
        return self.objective(frame, generator=torch.Generator().manual_seed(11))


def outcome(extras: bool) -> dict[str, Any]:
    """Value, logged values and DDP's mean of the gradients of two steps, so that the queue has rows."""
    model, part, parts = Model(), rank(), world()
    loss, values = torch.zeros(()), {}
    for step in range(2):
        draw = torch.Generator().manual_seed(7 + step)
        inputs, rows = {}, {}
        for modality, owner in owners.items():
            values = torch.randn(len(owner), 3, 4, dtype=torch.float64, generator=draw)
            owner = torch.tensor(owner)
            inputs[modality] = values[owner % parts == part]
            rows[modality] = Rows(inputs[modality], (owner // parts)[owner % parts == part])
        samples = torch.arange(part, 8, parts)
        labels = [None if s == 6 else "abcd"[s % 4] if s % 3 else ["a", "d"] for s in samples.tolist()]
        frame = Embeddings(rows, [str(int(s)) for s in samples], samples, labels)
        if extras:
            frame.group, frame.weight = samples // 3, 0.5 + samples.double()
        model.zero_grad()
        loss, values = model(inputs, frame)
        loss.backward()
    grads = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grads[name] = parameter.grad.clone()
        if parts > 1:
            dist.all_reduce(grads[name])
            grads[name] /= parts
    return {"loss": loss.detach(), "values": values, "grads": grads}


def case_extras() -> Any:
    return outcome(True)


def case_plain() -> Any:
    return outcome(False)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return on_ranks([case_extras, case_plain], tmp_path_factory.mktemp("ranks"), world=3)


@pytest.mark.parametrize("case", ["extras", "plain"])
def test_three_ranks_are_one_process(three, case):
    alone = outcome(case == "extras")
    for result in three[f"case_{case}"]:
        torch.testing.assert_close(result["loss"], alone["loss"], rtol=1e-12, atol=0)
        torch.testing.assert_close(result["values"], alone["values"], rtol=1e-12, atol=1e-13)
        for name, grad in alone["grads"].items():
            assert float((result["grads"][name] - grad).abs().max()) <= 1e-12 * max(1.0, float(grad.abs().max())), name
    assert all(float(alone["grads"][f"towers.{m}"].abs().max()) > 0 for m in ("audio", "image", "text"))
