"""Codebook, Lexical, Concepts and Binary against plain loops, and the module that two towers share."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from align import Features, JointModel, Tower
from align.heads import Binary, Chain, Codebook, Concepts, Identity, Lexical, Linear
from align.heads.binary import take_sign
from align.heads.sparsemax import sparsemax
from align.preprocess import Array, Names

W, D, L = 6, 4, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def given(n=3):
    mask = torch.arange(L) < torch.tensor([2, 5, 0, 1])[:n, None]
    return Features(draw(n, W, seed=1), draw(n, L, W, seed=2), mask)


def project(x):
    """The nearest distribution: of every support the candidate, and the nearest of those that are distributions."""
    best = None
    for size in range(1, len(x) + 1):
        for support in itertools.combinations(range(len(x)), size):
            p = torch.zeros_like(x)
            some = list(support)
            p[some] = x[some] - (x[some].sum() - 1) / size
            if bool((p >= 0).all()) and (best is None or (p - x).norm() < (best - x).norm()):
                best = p
    return best


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 30.0])
def test_sparsemax_is_the_projection_on_the_simplex(spread):
    x = spread * draw(7, 5)
    x[0, 1] = x[0, 2]  # equal entries
    expected = torch.stack([project(row) for row in x])
    torch.testing.assert_close(sparsemax(x), expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_sparsemax_is_that_of_finite_differences():
    x = draw(4, 6).requires_grad_()
    assert torch.autograd.gradcheck(sparsemax, (x,))
    (grad,) = torch.autograd.grad((sparsemax(x) * draw(4, 6, seed=5)).sum(), x)
    assert bool((grad[sparsemax(x) == 0] == 0).all())
    assert (sparsemax(x) == 0).any()


def test_a_codebook_is_a_loop_over_codes_and_tokens():
    head, features = Codebook(W, D, codes=7).double(), given(4)
    head.project.bias.data.normal_(generator=torch.Generator().manual_seed(4))
    opposite = torch.linalg.pinv(head.project.weight) @ (-2 * head.project.bias)
    features.tokens[3, 0] = opposite.detach()  # of the bias, which is all that padding has
    codes, fired = head.table.codes, []
    for i in (0, 1, 3):  # row 2 is all padding
        tokens = [
            head.project.weight @ features.tokens[i, j] + head.project.bias for j in range(L) if features.mask[i, j]
        ]
        relevance = torch.stack([max(code @ token for token in tokens) / D**0.5 for code in codes])
        weights = project(relevance.detach())
        fired.append(int((weights > 0).sum()))
        torch.testing.assert_close(head.weigh(features)[i], weights, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(head(features)[i], sum(w * code for w, code in zip(weights, codes, strict=True)))
        alone = head(Features(features.pooled[i : i + 1], features.tokens[i : i + 1, :1]))
        torch.testing.assert_close(head(features, tokens=True)[1][i, 0], alone[0])
    assert 1 < max(fired) < 7


def test_without_tokens_the_pooled_features_are_the_token():
    for head in (Codebook(W, D, codes=7).double(), Lexical(W, D).double()):
        x = given(2)
        torch.testing.assert_close(head(Features(x.pooled)), head(Features(x.pooled, x.pooled[:, None])))


def test_lexical_is_a_loop_over_words_and_tokens():
    head, features = Lexical(W, D).double(), given(4)
    head.project.bias.data[0] = -9.0  # a word that no token has
    for i, d in itertools.product((0, 1, 3), range(D)):
        tokens = [features.tokens[i, j] for j in range(L) if features.mask[i, j]]
        x = [float((head.project.weight[d] @ token + head.project.bias[d]).detach()) for token in tokens]
        expected = max(torch.tensor(max(0.0, value), dtype=torch.float64).log1p() for value in x)
        torch.testing.assert_close(head(features)[i, d], expected)
        torch.testing.assert_close(
            head(features, tokens=True)[1][i, 0, d], torch.tensor(max(0.0, x[0]), dtype=torch.float64).log1p()
        )
    assert bool((head(features) == 0).any())


@pytest.mark.parametrize("make", [lambda: Codebook(W, D, codes=7), lambda: Lexical(W, D)])
def test_padding_is_never_read_and_a_row_of_padding_reads_all(make):
    head, features = make().double(), given()
    spoiled = features.tokens.clone()
    spoiled[0, 2:] = torch.nan
    got = head(features._replace(tokens=spoiled))
    torch.testing.assert_close(got[0], head(features)[0])
    got[:2].sum().backward()  # and no gradient is NaN
    assert all(bool(p.grad.isfinite().all()) for p in head.parameters())
    whole = head(features._replace(mask=None))
    torch.testing.assert_close(head(features)[2], whole[2])


def test_binary_is_the_sign_with_the_gradient_of_the_row():
    x = torch.tensor([[-2.0, -0.5, 0.0, 0.3, 3.0]], dtype=torch.float64, requires_grad=True)
    for limit, passed in ((None, [1, 1, 1, 1, 1]), (1.0, [0, 1, 1, 1, 0])):
        y = take_sign(x, limit)
        assert y.tolist() == [[-1, -1, 1, 1, 1]]
        (grad,) = torch.autograd.grad(y @ torch.arange(1.0, 6.0, dtype=torch.float64), x)
        assert grad.tolist() == [[passed[i] * (i + 1) for i in range(5)]]


def test_binary_of_the_dense_kind_takes_the_sign_in_evaluation_alone():
    inside = Linear(W, D).double()
    head, features = Binary(W, D, inside, through="dense"), given()
    torch.testing.assert_close(head.train()(features), inside(features))
    signs = head.eval()(features)
    assert torch.equal(signs, torch.where(inside(features) >= 0, 1.0, -1.0).double())
    trained = Binary(W, D, inside).train()
    assert torch.equal(trained(features), signs)
    assert torch.equal(trained(features, tokens=True)[1].abs().unique(), torch.ones(1, dtype=torch.float64))


def test_names_are_the_words_of_a_text():
    reader = Names(["cube", "red", "light blue", "blue", "C++"])
    rows = [reader.row(x) for x in ("A Red CUBE, cubes", "light-blue", "reddish", "nothing")]
    assert [row.tolist() for row in rows] == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0] * 5, [0] * 5]
    assert reader.collate([]).shape == (0, 5)
    assert reader.row(b"c ++ red").tolist() == [0, 1, 0, 0, 1]


def test_a_vocabulary_of_another_size_is_one_line():
    for names, message in (
        (["a", "b", "c"], "got 3 names for a dim of 4"),
        (["a", "b", "c", "a"], "the name 'a' comes twice in the vocabulary"),
    ):
        with pytest.raises(ValueError, match=message):
            Concepts(W, D, names)
    for names in ([], ["a", "A"], ["", "b"]):
        with pytest.raises(ValueError, match="a vocabulary has one name or more, each a single time"):
            Names(names)
    head = Concepts(D, D, list("abcd"), Identity)
    assert torch.equal(head.weigh(Features(draw(2, D))), draw(2, D).clamp(min=0))


class Dense(nn.Module):
    def __init__(self, width=W):
        super().__init__()
        self.width, self.net = width, nn.Linear(6, width)

    def forward(self, x):
        return Features(self.net(x))


def towers(first=lambda w, d: Codebook(w, d, codes=7), second=None):
    heads = {"image": first, "text": second or first, "audio": first}
    return {m: Tower(Array((6,)), Dense(W if m != "audio" else 5), head) for m, head in heads.items()}


TIED = {"text.head.table": "image.head.table", "audio.head.table": "image.head.table"}


def read(model, seed=3):
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    return {m: model.towers[m](x) for m in model.modalities}


def test_a_tied_part_is_one_module_with_the_sum_of_the_gradients():
    torch.manual_seed(0)
    model = JointModel(towers(), D, tied=TIED)
    tables = [name for name, _ in model.named_parameters() if "table" in name]
    assert tables == ["towers.image.head.table.codes"]
    assert tables == [name for name in model.state_dict() if "table" in name]
    shared = model.towers["image"].head.table.codes
    parts = [torch.autograd.grad(x.square().sum(), shared)[0] for x in read(model).values()]
    sum(x.square().sum() for x in read(model).values()).backward()
    assert all(bool(part.any()) for part in parts)
    torch.testing.assert_close(shared.grad, sum(parts))


def test_a_tied_model_is_saved_copied_and_read_in_evaluation(tmp_path):
    import copy

    import align
    from align.checkpoint import save

    torch.manual_seed(0)
    model = JointModel(
        {m: Tower(Array((6,)), align.encoders.Precomputed(6), lambda w, d: Codebook(w, d, 7)) for m in "ab"}, D
    )
    before = model.state_dict()
    assert len([name for name in before if "table" in name]) == 2
    tied = JointModel(dict(model.towers.items()), D, tied={"b.head.table": "a.head.table"})
    x = [draw(6, seed=i).float().numpy() for i in range(3)]
    expected = tied.embed(a=x, b=x)
    save(tied, tmp_path / "m")
    again = align.load(tmp_path / "m")
    assert again.tied == {"b.head.table": "a.head.table"}
    assert again.towers["b"].head.table is again.towers["a"].head.table
    assert sum("table" in name for name in again.state_dict()) == 1
    for other in (again, copy.deepcopy(tied)):
        got = other.train().embed(a=x, b=x)
        assert all(torch.equal(got[m], expected[m]) for m in "ab")
    twin = copy.deepcopy(tied)
    with torch.no_grad():
        twin.towers["a"].head.table.codes.add_(1.0)
    assert twin.towers["b"].head.table is twin.towers["a"].head.table
    assert torch.equal(tied.embed(b=x)["b"], expected["b"])
    loose = JointModel(dict(tied.towers.items()), D)  # a new model without the tie loses no weight
    assert sum("table" in name for name in loose.state_dict()) == 2
    assert torch.equal(loose.embed(b=x)["b"], expected["b"])


@pytest.mark.parametrize(
    ("tied", "message"),
    [
        ({"text.head.tabel": "image.head.table"}, "tied names 'text.head.tabel'; text.head has project, table"),
        ({"words.head.table": "image.head.table"}, "a path is TOWER.head.PART, and the towers are image, text, audio"),
        ({"text": "image"}, "a path is TOWER.head.PART"),
        ({"text.head.table": "audio.head.table", "audio.head.table": "image.head.table"}, "name the owner"),
        (
            {"audio.head.project": "image.head.project"},
            r"Linear of \(4, 5\), \(4,\), and image.head.project is Linear of \(4, 6\)",
        ),
        ({"text.head.table": "image.head.project"}, "a module that two towers share has one shape"),
    ],
)
def test_a_tie_that_does_not_fit_is_one_line(tied, message):
    with pytest.raises(ValueError, match=message):
        JointModel(towers(), D, tied=tied)


def test_any_part_of_a_head_can_be_tied():
    model = JointModel(
        towers(lambda w, d: Chain(w, d, Linear, Lexical, middle=3)), D, tied={"text.head.then": "image.head.then"}
    )
    assert model.towers["text"].head.then is model.towers["image"].head.then
    assert not [name for name in model.state_dict() if name.startswith("towers.text.head.then")]
    assert model.towers["audio"].head.then is not model.towers["image"].head.then
