"""Heads: features to embeddings, tokens too where they are asked for; a masked token is never read."""

import inspect

import pytest
import torch

from align import Features, heads
from align.heads import MLP, AttentionPool, Linear

W, D, L = 12, 5, 7
kinds = [Linear, MLP, AttentionPool]
every = pytest.mark.parametrize(
    "make", [*kinds, lambda w, d: Linear(w, d, bias=True), lambda w, d: MLP(w, d, hidden=9, depth=3, activation="relu")]
)


def test_no_head_is_forgotten():
    assert {kind.__name__ for kind in kinds} == {*heads.__all__} - {"Identity"}, "each head needs its place in `kinds`"


def features(n=4, *, tokens=True, mask=True):
    torch.manual_seed(0)
    real = torch.arange(L) < torch.randint(1, L + 1, (n, 1))
    return Features(
        torch.randn(n, W, dtype=torch.float64),
        torch.randn(n, L, W, dtype=torch.float64) if tokens else None,
        real if tokens and mask else None,
    )


@every
@pytest.mark.parametrize("n", [0, 1, 4])
def test_shapes(make, n):
    head = make(W, D).double()
    for given in (features(n), features(n, mask=False), features(n, tokens=False)):
        assert head(given).shape == (n, D)
    pooled, tokens = head(features(n), tokens=True)
    assert pooled.shape == (n, D)
    assert tokens.shape == (n, L, D)


@every
def test_no_rows_give_zero_gradients(make):
    head = make(W, D).double()
    head(features(0)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@every
def test_a_row_is_the_same_alone_and_in_company(make):
    head, given = make(W, D).double(), features()
    together = head(given)
    for i in range(4):
        alone = head(Features(*(x[i : i + 1] for x in given)))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)


@every
def test_tokens_of_an_encoder_without_any_are_refused(make):
    with pytest.raises(ValueError, match="the encoder gives pooled features only"):
        make(W, D).double()(features(tokens=False), tokens=True)


@pytest.mark.parametrize("kind", kinds)
def test_arguments_are_kept_under_their_names(kind):
    names = list(inspect.signature(kind).parameters)
    assert names[:2] == ["width", "dim"]
    head = kind(W, D)
    kept = {name: getattr(head, name) for name in names}
    assert all(isinstance(x, int | float | bool | str | None) for x in kept.values())
    assert {k: v.shape for k, v in kind(**kept).state_dict().items()} == {
        k: v.shape for k, v in head.state_dict().items()
    }


def test_linear_is_one_matrix():
    head, given = Linear(W, D).double(), features()
    assert len(list(head.parameters())) == 1
    torch.testing.assert_close(head(given), given.pooled @ head.project.weight.T)
    torch.testing.assert_close(head(given, tokens=True)[1][2, 3], head.project.weight @ given.tokens[2, 3])


def test_attention_pool_is_the_plain_loop_over_real_tokens():
    torch.manual_seed(1)
    head, given = AttentionPool(W, D, heads=3).double(), features()
    with torch.no_grad():
        head.query.copy_(torch.randn(W))
    for i, embedding in enumerate(head(given)):
        rows = head.key_value(head.norm(given.tokens[i][given.mask[i]]))  # (real tokens, 2 W)
        parts = []
        for h in range(3):
            at = slice(4 * h, 4 * h + 4)
            key, value = rows[:, :W][:, at], rows[:, W:][:, at]
            weight = torch.stack([(k @ head.query[at]) / 4**0.5 for k in key]).softmax(0)
            parts.append(sum(w * v for w, v in zip(weight, value, strict=True)))
        torch.testing.assert_close(embedding, head.project(torch.cat(parts)))


def test_attention_pool_takes_pooled_features_for_the_only_token():
    head, given = AttentionPool(W, D).double(), features(tokens=False)
    torch.testing.assert_close(head(given), head(Features(given.pooled, given.pooled[:, None])))
    only, each = head(Features(given.pooled, given.pooled[:, None]), tokens=True)
    torch.testing.assert_close(only, each[:, 0])


def test_a_row_without_a_real_token_is_finite():
    head, given = AttentionPool(W, D).double(), features()
    out = head(given._replace(mask=torch.zeros(4, L, dtype=torch.bool)))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionPool(10, 4, heads=3), "heads must divide width; 10 is no multiple of 3"),
        (lambda: MLP(10, 4, depth=0), "depth must be at least 1, not 0"),
        (lambda: MLP(10, 4, activation="tanh"), "activation is gelu or relu, not 'tanh'"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()
