"""Every wrapper around every loss, and around every other wrapper: it works, or it is refused where it is built."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from parts import in_parts, joined
from token_rows import token_rows
from torch import Tensor, nn

from align import losses
from align.losses import InfoNCE, LateInteraction, Loss, Matryoshka, MemoryQueue, SigLIP, Symile, Transport
from align.losses import late_interaction as late
from align.losses.kinds import KINDS
from align.losses.wrappers import Wrapper
from align.objective import Objective, Term
from align.values import Embeddings, Rows, TermInfo

dim = 6
names = ["audio", "image", "text", "touch"]
owners = [[0, 1, 1, 3, -1], [0, 1, 2, 3], [0, 0, 1, 3, 3, -1], [1, 2, 3, 4]]  # ragged: holes, several rows, negatives


class Foreign(nn.Module):
    """A loss of one's own that knows nothing of ours but its kind and its call."""

    kind = "pairwise"

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, embeddings, samples, *, groups=None, weights=None, generator=None):
        (a, b), (i, j) = embeddings, samples
        positive = (i[:, None] == j) & (i[:, None] >= 0)
        return F.binary_cross_entropy_with_logits(self.gain * a @ b.T, positive.to(a))


bare = {
    name: kind
    for name, kind in vars(losses).items()
    if isinstance(kind, type) and issubclass(kind, Loss) and not issubclass(kind, Wrapper) and kind is not Loss
} | {
    "Symile-all": lambda: Symile("all"),
    "Symile-shuffled": lambda: Symile("shuffled"),
    "Symile-K": lambda: Symile(5),
    "Symile-learned": lambda: Symile(missing="learned", spread=0.5),
    "Views": lambda: losses.Views(InfoNCE()),
    "Views-tokens": lambda: losses.Views(LateInteraction()),
    "Across": lambda: losses.Across(InfoNCE(), ["a", "b"], ["b", "a"]),
    "Across-tokens": lambda: losses.Across(LateInteraction(), ["a", "b"], ["a", "b"]),
    "Transport-none": lambda: Transport("none"),
    "Simplex": lambda: losses.Simplex(size=4, classes=["a", "b", "c"]),
    "Prototypes": lambda: losses.Prototypes(classes=["a", "b", "c"]),
    "Balance": lambda: losses.Balance(3),
    "Route": lambda: losses.Route(3, classes=["a", "b", "c"]),
    "CAPro": lambda: losses.CAPro(classes=["a", "b", "c"]),
    "Foreign": Foreign,
}


def filled(bank: losses.Bank) -> losses.Bank:
    draw = torch.Generator().manual_seed(9)
    bank.fill(F.normalize(torch.randn(7, dim, dtype=torch.float64, generator=draw), dim=1), torch.arange(7))
    return bank


def in_a_space(loss) -> losses.Spaces:
    """The second half of the coordinates; prefixes inside are those of the whole."""
    prefixes = isinstance(loss, nn.Module) and any(isinstance(part, Matryoshka) for part in loss.modules())
    names = ["whole"] if prefixes else ["first", "second"]
    return losses.Spaces(loss, names, names[-1])


def related(loss) -> losses.Relatives:
    """One concept, the third of the classes, is a child of the first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "concepts.json")
        path.write_text('{"c": {"parents": ["a"]}}')
        made = losses.Relatives(loss, str(path))
    made.name_classes(["a", "b", "c"])
    return made


wrap = {
    "HardNegatives": lambda loss: losses.HardNegatives(loss, 2.0),
    "Matryoshka": lambda loss: Matryoshka(loss, [3, dim]),
    "MemoryQueue": lambda loss: MemoryQueue(loss, 4),
    "MixGeodesic": losses.MixGeodesic,
    "Metrix": losses.Metrix,
    "Window": lambda loss: losses.Window(loss, "image", -0.7, 0.7),
    "Bank": lambda loss: filled(losses.Bank(loss, "image")),
    "Spaces": in_a_space,
    "PrimaryComponents": lambda loss: losses.PrimaryComponents(loss, 2, "audio"),
    "Relatives": related,
}
chains = [(name,) for name in wrap]
pairs = [*itertools.permutations(wrap, 2)]  # the innermost first


def refused(name: str, chain: tuple[str, ...]) -> bool:
    """What the documentation says does not go together."""
    kind = KINDS[bare[name]().kind]
    across = name.split("-")[0] == "Across"
    return (
        (across and chain[0] in ("Matryoshka", "Spaces"))
        or (across and {*chain} & {"Matryoshka", "Spaces"} != set())
        or ("HardNegatives" in chain and name.split("-")[0] not in ("InfoNCE", "SigLIP", "Symile"))
        or ("HardNegatives" in chain and name == "Symile-learned")
        or "HardNegatives" in chain[1:]
        or ("MixGeodesic" in chain and bare[name]().kind != "pairwise")
        or ("Metrix" in chain and (bare[name]().kind != "pairwise" or name == "CAPro"))
        or chain in (("MemoryQueue", "Metrix"), ("Bank", "Metrix"), ("Relatives", "Metrix"))
        or ("MemoryQueue" in chain and not kind.contrasts)
        or chain == ("MemoryQueue", "MixGeodesic")
        or ("Relatives" in chain and name not in ("InfoNCE", "SigLIP"))
        or ("Window" in chain and name not in ("InfoNCE", "SigLIP"))
        or ("Bank" in chain and name.split("-")[0] not in ("InfoNCE", "SigLIP", "Symile"))
        or ("Bank" in chain and name == "Symile-shuffled")
        or chain in (("MemoryQueue", "Bank"), ("Bank", "Matryoshka"), ("Bank", "MixGeodesic"))
        or chain in (("Bank", "Spaces"), ("Spaces", "Matryoshka"))
        or chain in (("Bank", "PrimaryComponents"), ("MemoryQueue", "PrimaryComponents"))
    )


def given(count: int, seed: int) -> dict:
    draw = torch.Generator().manual_seed(seed)
    n = [len(owner) for owner in owners[:count]]
    return {
        "embeddings": [F.normalize(torch.randn(k, dim, dtype=torch.float64, generator=draw), dim=1) for k in n],
        "samples": [torch.tensor(owner) for owner in owners[:count]],
        "groups": [torch.tensor([s // 2 if s >= 0 else -1 for s in owner]) for owner in owners[:count]],
        "weights": [torch.tensor([1.0 + s if s >= 0 else 1.0 for s in owner]) for owner in owners[:count]],
        "tokens": [token_rows(k, 3 + seed, dim, seed=seed + m) for m, k in enumerate(n)],
    }


def paired(name: str, rows: dict) -> dict:
    """An even number of tokens, where a loss reads them in pairs."""
    if name != "MaskedTokens":
        return rows
    return rows | {"tokens": [(x.detach()[:, :2].clone().requires_grad_(), mask[:, :2]) for x, mask in rows["tokens"]]}


def call(loss, rows: dict, **more) -> Tensor:
    tokens = {"tokens": rows["tokens"]} if loss.needs_tokens else {}
    rest = {k: v for k, v in rows.items() if k in ("groups", "weights")}
    rest |= {"numbers": rows["samples"]} if loss.needs_numbers else {}
    rest |= {"labels": [torch.where(s >= 0, s % 3, -1)[:, None] for s in rows["samples"]]} if loss.needs_labels else {}
    draw = torch.Generator().manual_seed(1)
    return loss(rows["embeddings"], rows["samples"], generator=draw, **rest, **tokens, **more)


@pytest.mark.parametrize(
    "chain", [*chains, *(pytest.param(pair, marks=pytest.mark.sweep) for pair in pairs)], ids="-".join
)
@pytest.mark.parametrize("name", bare)
def test_it_works_or_is_refused_at_construction(name, chain):
    def make():
        loss = bare[name]()
        for wrapper in chain:
            loss = wrap[wrapper](loss)
        return loss.double()

    if refused(name, chain):
        with pytest.raises(
            ValueError, match=chain[0] if len(chain) == 1 else "goes|keeps|mixes|adds|leaves|shuffled"
        ) as error:
            make()
        assert "\n" not in str(error.value)
        return
    loss, inner = make(), bare[name]()
    if name == "Foreign":
        inner = losses.adopt.as_loss(inner)
    count = KINDS[loss.kind].most or 3
    kinds = tuple(kind for kind in inner.negative_kinds if kind != "shuffled" or "Bank" not in chain)
    assert (loss.kind, loss.needs_tokens, loss.in_parts, loss.negative_kinds) == (
        inner.kind, inner.needs_tokens, inner.in_parts, kinds,
    )  # fmt: skip
    loss.start(dim, count, 5)
    loss.between(names[:count])
    assert loss.scale.shape == (1,)
    assert {p.shape for p in loss.parameters() if p.ndim < 2} <= {(1,)}
    call(loss, paired(name, given(count, 0)))  # a queue now has rows
    before, rows = copy.deepcopy(loss), paired(name, given(count, 1))
    leaves = [x.requires_grad_() for x in rows["embeddings"]]
    value = call(loss, rows)
    value.backward()
    assert value.shape == ()
    assert value.isfinite()
    grads = [x.grad for x in leaves] + [x.grad for x, _ in rows["tokens"] if loss.needs_tokens]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
    assert any(grad.abs().max() > 0 for grad in grads)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters() if p.requires_grad)
    if loss.in_parts:
        copies = [copy.deepcopy(before) for _ in range(2)]
        found = in_parts(
            lambda *xs, part, merge: call(copies[part[0]], rows | {"embeddings": [*xs]}, part=part, merge=merge),
            [x.detach() for x in leaves],
            2,
        )
        got, summed = joined(found)
        torch.testing.assert_close(got, value.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(summed, [x.grad for x in leaves], rtol=1e-10, atol=1e-12)
    through_an_objective(before, rows, count, value)
    loss.clamp_()
    for kind in loss.negative_kinds:
        loss.set_negatives(7 if kind == "K" else kind)
        assert call(loss, given(count, 2)).isfinite()


def through_an_objective(loss, rows: dict, count: int, expected: Tensor) -> None:
    """The same value, from rows of samples with their groups and weights."""
    start, loss.start = loss.start, lambda *_: None  # it has begun
    made = Objective({"one": Term(loss, [names[:count]])}, dim=dim, batch=5, modalities=names)
    loss.start = start
    table = {
        m: Rows(x.detach(), s, *(t if loss.needs_tokens else ()))
        for m, x, s, t in zip(names, rows["embeddings"], rows["samples"], rows["tokens"], strict=False)
    }
    assert made.tokens == (names[:count] if loss.needs_tokens else [])
    group, weight = torch.arange(5) // 2, torch.arange(5) + 1.0
    frame = Embeddings(
        table,
        [str(i) for i in range(5)],
        torch.arange(5),
        [*"abcab"],
        group=group,
        weight=weight,
        number=torch.arange(5),
    )
    total, logged = made(frame, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(total.detach(), expected.detach(), rtol=1e-12, atol=1e-12)
    assert logged["one/scale"] == loss.scale.item()
    kind = KINDS[loss.kind]
    shown = [tuple(names[: 2 if kind.read == "pairwise" else count])]
    if kind.pairs:
        shown = [*itertools.combinations(names[:count], 2)]
    bias = 0.0 if loss.bias is None else loss.bias.item()
    blocks = [loss.list_blocks(m) if isinstance(loss, Wrapper) else () for m in shown]
    prefixes = loss.list_prefixes() if isinstance(loss, Wrapper) else ()
    infos = [TermInfo(m, kind.read, loss.scale.item(), bias, b, prefixes) for m, b in zip(shown, blocks, strict=True)]
    assert made.infos() == (infos if kind.read else [])


def test_prefixes_of_tokens_are_cut_and_normalised():
    rows = given(2, 0)
    loss = Matryoshka(LateInteraction(), [2, dim], [0.5, 1.0]).double()
    loss.start(dim, 2, 5)
    (a, mask_a), (b, mask_b) = rows["tokens"]
    expected = 0.0
    prefixes = [x[:, :, :2] / x[:, :, :2].square().sum(2, keepdim=True).sqrt() for x in (a, b)]
    for cut, weight in ((prefixes, 0.5), ((a, b), 1.0)):
        ids = {"sample_a": rows["samples"][0], "sample_b": rows["samples"][1]}
        expected = expected + weight * late(*cut, loss.scale, mask_a=mask_a, mask_b=mask_b, **ids)
    got = loss(rows["embeddings"], rows["samples"], tokens=rows["tokens"])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    grads = [torch.autograd.grad(x, [a, b], retain_graph=True) for x in (got, expected)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


def test_a_queue_of_tokens_is_the_past_rows_tokens():
    """Rows of 3, then of 4 tokens, against the function of all rows laid together by hand; saved and loaded between."""
    loss = MemoryQueue(LateInteraction(), 4).double()
    first, second = given(2, 0), given(2, 1)
    call(loss, first)
    again = MemoryQueue(LateInteraction(), 4).double()
    again.load_state_dict(loss.state_dict())
    got = loss(second["embeddings"], second["samples"], tokens=second["tokens"])
    tokens, masks, ids, weights = [], [], [], []
    for m in range(2):
        (old, old_mask), (new, new_mask) = first["tokens"][m], second["tokens"][m]
        old, old_mask = F.pad(old[-4:].detach(), (0, 0, 0, 1), value=9.0), F.pad(old_mask[-4:], (0, 1))
        tokens.append(torch.cat([new, old]))
        masks.append(torch.cat([new_mask, old_mask]))
        ids.append(torch.tensor([*owners[m], -1, -1, -1, -1]))
        weights.append(torch.tensor([1.0] * len(owners[m]) + [0.0] * 4))
    expected = late(
        *tokens, loss.scale, mask_a=masks[0], mask_b=masks[1], sample_a=ids[0], sample_b=ids[1],
        weight_a=weights[0], weight_b=weights[1],
    )  # fmt: skip
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    assert torch.equal(again(second["embeddings"], second["samples"], tokens=second["tokens"]), got)
    assert loss.state_dict()["tokens/0-1/0"].shape == (4, 4, dim)


def test_a_schedule_reaches_every_loss_inside():
    loss = MemoryQueue(Matryoshka(Symile("all"), [3, dim]), 4)
    loss.set_negatives("shuffled")
    assert [part.negatives for part in loss.modules() if isinstance(part, Symile)] == ["shuffled"] * 2


def test_a_foreign_loss_gets_the_defaults_and_survives_a_pickle():
    made = Objective({"one": Term(Foreign(), ["image", "text"])}, dim=dim, batch=4)
    assert [*made.state_dict()] == ["losses.one.gain"]
    assert made.infos() == [TermInfo(("image", "text"), "pairwise", 1.0, 0.0)]
    again = pickle.loads(pickle.dumps(made))
    again.clamp_()
    assert again.losses["one"].needs_tokens is False


class Plain(Foreign):
    """As others write them: numbers, not tensors; kinds of negatives, nothing that sets them."""

    scale, bias, negative_kinds = 20.0, -1, ("easy", "hard")


def test_a_foreign_loss_may_keep_plain_numbers_and_gets_its_kind_of_negatives():
    for wrapper, prefixes in ((lambda loss: loss, ()), (lambda loss: Matryoshka(MemoryQueue(loss, 4), [3, dim]), (3,))):
        made = Objective({"one": Term(wrapper(Plain()), names[1:3])}, dim=dim, batch=4)
        _, logged = made(frame(2), generator=torch.Generator())
        assert logged["one/scale"] == 20
        assert made.infos() == [TermInfo(("image", "text"), "pairwise", 20.0, -1.0, prefixes=prefixes)]
        assert made.losses["one"].negative_kinds == ("easy", "hard")
        again = pickle.loads(pickle.dumps(made))
        again.load_state_dict(made.state_dict())
        for each in (copy.deepcopy(made), again, made):
            each.losses["one"].set_negatives("hard")
            assert {part.negatives for part in each.modules() if isinstance(part, Plain)} == {"hard"}


def frame(shared: int, text: int = 3) -> Embeddings:
    """Four samples: rows of an image for two of them, of a text for so many; so many samples have both."""
    table = {}
    for name, owner in (("image", [0, 1]), ("text", [*range(2 - shared, 2 - shared + text)])):
        x = F.normalize(torch.randn(len(owner), dim), dim=1).requires_grad_()
        table[name] = Rows(x, torch.tensor(owner, dtype=torch.long))
    return Embeddings(table, [str(i) for i in range(4)], torch.arange(4))


class Mean(Foreign):
    """A mean over the pairs alone: NaN where there is none."""

    def forward(self, embeddings, samples, **_):
        (a, b), (i, j) = embeddings, samples
        return 1 - (self.gain * a @ b.T)[i[:, None] == j].mean()


@pytest.mark.parametrize("kind", [Foreign, Mean])
@pytest.mark.parametrize("rows", [frame(0), frame(2, text=0)], ids=["no pair", "no text"])
def test_a_foreign_loss_of_nothing_that_fits_is_zero_with_zero_gradients(kind, rows):
    for wrapper in (lambda loss: loss, lambda loss: Matryoshka(loss, [3, dim]), losses.MixGeodesic):
        made = Objective({"one": Term(wrapper(kind()), names[1:3])}, dim=dim, batch=4)
        leaves = [rows["image"].values, rows["text"].values, *made.parameters()]
        total, _ = made(rows, generator=torch.Generator())
        assert total == 0
        assert all(not grad.any() for grad in torch.autograd.grad(total, leaves))  # zeros, never None
        assert made.counts() == {"one": 1}
        assert made(frame(2), generator=torch.Generator())[0] > 0


class Each(Foreign):
    def forward(self, embeddings, samples, **_):
        return embeddings[0].square().sum(1)


class Nothing(Foreign):
    def forward(self, embeddings, samples, **_):
        return 0.0


@pytest.mark.parametrize(("kind", "got"), [(Each, r"a tensor \(2,\)"), (Nothing, "float")])
def test_a_loss_that_returns_something_else_is_named(kind, got):
    made = Objective({"one": Term(kind(), names[1:3])}, dim=dim, batch=4)
    with pytest.raises(TypeError, match=f"{kind.__name__} returned {got}; a loss is one number, a 0-d tensor"):
        made(frame(2))


class Wrong(nn.Module):
    kind = "pairwise"

    def forward(self, a, b):
        return a @ b


class Unheard(nn.Module):
    kind = "paired"


class Listed(Foreign):
    kind = ("pairwise",)


class Started(Foreign):
    def start(self):
        """Others are told nothing."""


class Clamped(Foreign):
    clamp_ = True


class Spread(Foreign):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


class Unbegun(Loss):
    kind = "pairwise"

    def __init__(self):
        nn.Module.__init__(self)

    forward = Foreign.forward


@dataclasses.dataclass
class Compared(nn.Module):
    kind: str = "pairwise"

    def __post_init__(self):
        super().__init__()


@pytest.mark.parametrize(
    ("message", "error", "loss"),
    [
        ("Linear has no kind; kinds are pairwise, tokens", ValueError, lambda: nn.Linear(1, 1)),
        ("Unheard has the kind 'paired'; kinds are pairwise, tokens", ValueError, Unheard),
        (r"Wrong.forward is called as forward\(embeddings, samples, groups=, weights=, generator=\): got an unexpected",
         TypeError, Wrong),
        (r"Listed has the kind \('pairwise',\); kinds are pairwise, tokens", ValueError, Listed),
        (r"Started.start is called as start\(dim, modalities, batch\): too many", TypeError, Started),
        (r"Clamped.clamp_ is called as clamp_\(\): True is not a callable object", TypeError, Clamped),
        (r"Spread.scale is a tensor \(3,\); it is one number, a tensor \(1,\)", TypeError, Spread),
        (r"Unbegun.scale is not there: call super\(\).__init__\(\) first", TypeError, Unbegun),
        (r"Compared cannot be hashed, as torch asks of modules; a dataclass does with eq=False", TypeError, Compared),
        (r"a loss is a torch.nn.Module; got the class Foreign, not one of its objects", TypeError, lambda: Foreign),
        (r"a loss is a torch.nn.Module; got <function infonce", TypeError, lambda: losses.infonce),
    ],
)  # fmt: skip
def test_what_is_no_loss_is_refused_in_one_line(message, error, loss):
    for build in (
        lambda x: Objective({"one": Term(x, ["image", "text"])}, dim=2, batch=2),
        lambda x: Matryoshka(x, [2]),
    ):
        with pytest.raises(error, match=message) as found:
            build(loss())
        assert "\n" not in str(found.value)


def test_tokens_that_are_missing_are_asked_for():
    rows = given(2, 0)
    with pytest.raises(
        ValueError, match=r"LateInteraction reads tokens: call it with tokens=\[\(tokens, mask\), ...\]"
    ):
        MemoryQueue(LateInteraction(), 3)(rows["embeddings"], rows["samples"])


@pytest.mark.slow  # imports dynamo
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo looks at it
def test_a_compiled_loss_is_a_loss():
    rows = given(2, 0)
    plain, compiled = InfoNCE().double(), torch.compile(InfoNCE().double(), backend="eager")
    torch.testing.assert_close(
        Matryoshka(compiled, [dim])(rows["embeddings"], rows["samples"]), plain(rows["embeddings"], rows["samples"])
    )
    assert SigLIP().double().scale.dtype == torch.float64
