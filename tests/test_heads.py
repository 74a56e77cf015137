"""Heads: features to embeddings, tokens too where they are asked for; a masked token is never read."""

import functools
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from align import Features, JointModel, Tower, heads
from align.checkpoint.describe import build, describe
from align.encoders import Precomputed
from align.heads import (
    MLP,
    AttentionPool,
    Average,
    Binary,
    Centered,
    Chain,
    Codebook,
    Concepts,
    Experts,
    Fuse,
    Identity,
    Lexical,
    Linear,
    Orthogonal,
    Padded,
    Resampler,
    Residual,
    Router,
    Streams,
)
from align.preprocess import Array
from align.published.ebind import ebind_name, our_name

W, D, L = 12, 5, 7
kinds = [
    Linear,
    MLP,
    AttentionPool,
    Average,
    Binary,
    Centered,
    Chain,
    Codebook,
    Experts,
    Fuse,
    Lexical,
    Orthogonal,
    Resampler,
    Router,
]
alike = [Identity, Residual]  # of a width that is the dim
wider = [Padded]  # of a width of at most the dim
named = [Concepts, Streams]  # of as many names as the dim; of heads by name, see `streams`


class Joined(nn.Module):
    """A head of a width that is its dim, and a matrix after it."""

    def __init__(self, first, dim):
        super().__init__()
        self.first, self.last = first, Linear(first.dim, dim)

    def forward(self, features, tokens=False):
        if not tokens:
            return self.last(Features(self.first(features)))
        return self.last(Features(*self.first(features, tokens=True)), tokens=True)


def average(width, dim):
    return Average(width, dim, [Linear, lambda w, d: Centered(w, d, MLP)], base=Linear, weight=0.8)


def streams(width, dim):
    pool = functools.partial(AttentionPool, heads=3)
    return Streams(width, dim, dict.fromkeys("abcde", pool))


def concepts(width, dim):
    return Concepts(width, dim, list("abcdefghijkl")[:dim], MLP)


every = pytest.mark.parametrize(
    "make",
    [
        *kinds,
        lambda w, d: Linear(w, d, bias=True),
        lambda w, d: MLP(w, d, hidden=9, depth=3, activation="relu"),
        lambda w, d: Joined(Residual(w, w, rank=3), d),
        lambda w, d: Joined(Padded(w, w + 2), d),
        lambda w, d: Orthogonal(w, d, lambda w, d: Resampler(w, d, latents=3, depth=1, heads=2)),
        lambda w, d: Centered(w, d, lambda w, d: Resampler(w, d, latents=3, depth=1, heads=2)),
        lambda w, d: Router(w, d, [5, w - 5], [Linear]),
        lambda w, d: Experts(w, d, 3, top=2),
        lambda w, d: Fuse(w, d, modalities=3, heads=2, dropout=0.0),
        average,
        streams,
        concepts,
    ],
)


def test_no_head_is_forgotten():
    found = {kind.__name__ for kind in kinds + alike + wider + named}
    assert found == {*heads.__all__}, "each head needs its place in `kinds`, `alike`, `wider` or `named`"


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
    latents = getattr(getattr(head, "head", head), "latents", None)
    assert getattr(head, "resamples", False) == (latents is not None)
    assert tokens.shape == (n, latents or L, D)


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


@pytest.mark.parametrize(
    "make", [*kinds, average, streams, concepts, lambda w, d: Residual(w, w), lambda w, d: Padded(w, w + 2)]
)
def test_arguments_are_kept_under_their_names(make):
    head = make(W, D)
    names = list(inspect.signature(type(head)).parameters)
    assert names[:2] == ["width", "dim"]
    assert all(hasattr(head, name) for name in names)
    again = build(describe(head))  # plain data, heads within heads included
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again(features32())[0], head(features32())[0])


def features32():
    return Features(*(x.float() if x.is_floating_point() else x for x in features()))


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


def test_orthogonal_turns_and_leaves_all_products():
    """Q by the series Σ S^k / k! of S = A - Aᵀ; before a step it is the identity."""
    torch.manual_seed(1)
    head, given = Orthogonal(W, D).double(), features()
    torch.testing.assert_close(head(given), head.head(given))
    with torch.no_grad():
        head.turn.copy_(torch.randn(D, D) / 3)
    skew = head.turn - head.turn.T
    power = series = torch.eye(D, dtype=torch.float64)
    for k in range(1, 40):
        power = power @ skew / k
        series = series + power
    torch.testing.assert_close(head.rotation(), series)
    pooled, each = head(given, tokens=True)
    before, before_each = head.head(given, tokens=True)
    for i, row in enumerate(before):
        turned = torch.stack([sum(series[k, j] * row[j] for j in range(D)) for k in range(D)])
        torch.testing.assert_close(pooled[i], turned)
    torch.testing.assert_close(each[2, 3], series @ before_each[2, 3])
    torch.testing.assert_close(pooled @ pooled.T, before @ before.T)
    assert not torch.allclose(pooled, before)
    head.bfloat16()
    assert head(Features(given.pooled.bfloat16())).dtype == torch.bfloat16
    assert head.rotation().dtype == torch.float32
    pooled[0, 0].backward()
    assert head.turn.grad is not None
    assert head.turn.grad.abs().max() > 0


def test_padded_puts_zeros_behind():
    head, given = Padded(W, W + 3), features()
    pooled, each = head(given, tokens=True)
    torch.testing.assert_close(pooled, torch.cat([given.pooled, torch.zeros(4, 3)], dim=1))
    torch.testing.assert_close(each[..., :W], given.tokens)
    assert not each[..., W:].any()
    other = torch.randn(W + 3, dtype=torch.float64)
    torch.testing.assert_close(pooled @ other, given.pooled @ other[:W])
    with pytest.raises(ValueError, match="dim is width at least; got 12 and 11"):
        Padded(W, W - 1)


def test_centered_takes_the_centroid_off_pooled_features_and_tokens():
    torch.manual_seed(1)
    rows, given = torch.randn(9, W, dtype=torch.float64), features()
    head = Centered(W, D).double().fit_([rows[:4], rows[4:]])
    assert int(head.count) == 9
    mean = sum(rows) / 9
    torch.testing.assert_close(head.centroid, mean)
    torch.testing.assert_close(head(given), torch.stack([head.head.project.weight @ (x - mean) for x in given.pooled]))
    torch.testing.assert_close(
        head(given, tokens=True)[1][2, 3], head.head.project.weight @ (given.tokens[2, 3] - mean)
    )
    assert "centroid" in head.state_dict()
    assert not head.centroid.requires_grad


def test_centered_of_another_modality_has_the_same_head_and_another_centroid():
    head = Centered(W, D).double().fit_(torch.ones(2, W))
    other = head.with_centroid(torch.full((3, W), 5.0))
    assert other.centroid.tolist() == [5.0] * W
    assert head.centroid.tolist() == [1.0] * W
    assert torch.equal(other.head.project.weight, head.head.project.weight)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(2, W + 1), rf"a centroid is of rows \(n, {W}\), got \(2, {W + 1}\)"),
        (torch.zeros(0, W), "a centroid is the mean of one row at least, got none"),
        ([torch.zeros(2, W), torch.full((1, W), torch.nan)], "the mean of 3 rows is not finite"),
    ],
)
def test_a_bad_centroid_is_refused_and_the_old_one_stays(rows, message):
    head = Centered(W, D).fit_(torch.ones(2, W))
    with pytest.raises(ValueError, match=message):
        head.fit_(rows)
    assert (head.centroid.tolist(), int(head.count)) == ([1.0] * W, 2)


def test_residual_begins_as_the_identity_and_adds_along_few_directions():
    torch.manual_seed(1)
    head, given = Residual(W, W, rank=2).double(), features()
    assert torch.equal(head(given), given.pooled)
    assert torch.equal(head(given, tokens=True)[1], given.tokens)
    with torch.no_grad():
        head.u.normal_()
    for x, y in zip(given.pooled, head(given), strict=True):
        torch.testing.assert_close(y, x + sum(head.u[:, r] * (head.v[:, r] @ x) for r in range(2)))
    assert torch.linalg.matrix_rank(head(given) - given.pooled) == 2


def test_resampler_is_the_plain_loop_over_real_tokens():
    torch.manual_seed(1)
    head, given = Resampler(W, D, latents=3, depth=2, heads=3).double(), features()
    for i, embedding in enumerate(head(given)):
        x = head.begin
        for layer in head.layers:
            rows = torch.cat([layer.norm_tokens(given.tokens[i][given.mask[i]]), layer.norm_latents(x)])
            asked, read = layer.query(layer.norm_latents(x)), layer.key_value(rows)
            parts = []
            for h in range(3):
                at = slice(4 * h, 4 * h + 4)
                key, value = read[:, :W][:, at], read[:, W:][:, at]
                weight = (asked[:, at] @ key.T / 4**0.5).softmax(1)
                parts.append(torch.stack([sum(w * v for w, v in zip(row, value, strict=True)) for row in weight]))
            x = x + layer.out(torch.cat(parts, 1))
            x = x + layer.down(F.gelu(layer.up(layer.norm(x))))
        torch.testing.assert_close(embedding, sum(head.project(head.norm(latent)) for latent in x) / 3)


def test_resampler_never_reads_padding():
    head, given = Resampler(W, D).double(), features()
    other = given._replace(tokens=torch.where(given.mask[..., None], given.tokens, 1e6))
    for a, b in zip(head(given, tokens=True), head(other, tokens=True), strict=True):
        assert torch.equal(a, b)


def test_latents_are_the_tokens_of_a_tower_and_all_real():
    tower = Tower(Array([L, W]), Precomputed(W), lambda w, d: Centered(w, d, lambda w, d: Resampler(w, d, latents=L)))
    JointModel({"audio": tower}, D)
    pooled, tokens, mask = tower(torch.randn(2, L, W), tokens=True)
    torch.testing.assert_close(pooled, tokens.mean(1))
    assert mask.shape == (2, L)
    assert mask.all()


def unit(x):
    return x / x.norm()


def test_chain_reads_the_embeddings_of_the_first_head():
    torch.manual_seed(1)
    given, first, then = features(), AttentionPool(W, 6).double(), MLP(6, D).double()
    head = Chain(W, D, first, then, middle=6)
    wanted = torch.stack([then.project(unit(x)) for x in first(given)])
    torch.testing.assert_close(head(given), wanted)
    torch.testing.assert_close(head(given, tokens=True)[0], wanted)
    torch.testing.assert_close(Chain(W, D, first, then, 6, unit=False)(given), then.project(first(given)))
    sampled = Chain(W, D, Resampler(W, 6, latents=3).double(), AttentionPool(6, D, heads=2).double(), middle=6)
    assert sampled.resamples
    assert sampled(given, tokens=True)[1].shape == (4, 3, D)


def test_average_is_freebinds_mean_direction_mixed_with_the_base():
    given = features()
    parts = [Linear(W, D).double(), MLP(W, D).double(), AttentionPool(W, D).double()]
    mean = [unit(sum(unit(head(given)[i]) for head in parts) / 3) for i in range(4)]
    torch.testing.assert_close(Average(W, D, parts).double()(given), torch.stack(mean))
    base = Linear(W, D).double()
    mixed = torch.stack([unit(0.9 * m + 0.1 * unit(b)) for m, b in zip(mean, base(given), strict=True)])
    torch.testing.assert_close(Average(W, D, parts, base, 0.9).double()(given), mixed)
    alone = Average(W, D, parts, base, 0.0).double()(given)
    torch.testing.assert_close(alone, F.normalize(base(given), dim=-1))


def test_ebinds_head_is_an_mlp_whose_names_map_both_ways():
    torch.manual_seed(1)
    published = nn.Module()
    published.net = nn.Sequential(nn.Linear(W, 9), nn.ReLU(), nn.Linear(9, D))  # EBind's own
    head = MLP(W, D, hidden=9, activation="relu")
    there = {f"projectors.audio.{name}": x for name, x in published.state_dict().items()}
    assert {ebind_name("audio", name) for name in head.state_dict()} == {*there}
    assert {our_name(name) for name in there} == {*head.state_dict()}
    assert all(our_name(ebind_name("points", name)) == name for name in head.state_dict())
    head.load_state_dict({our_name(name): x for name, x in there.items()})
    x = torch.randn(4, W)
    torch.testing.assert_close(head(Features(x)), published.net(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"'project\.9\.weight' is no weight or bias of EBind's two layers"):
        ebind_name("audio", "project.9.weight")
    with pytest.raises(ValueError, match="EBind has heads of audio and points, not 'image'"):
        ebind_name("image", "project.0.weight")
    with pytest.raises(ValueError, match=r"'projectors\.audio\.net\.1\.weight' is no name of EBind's checkpoint"):
        our_name("projectors.audio.net.1.weight")


def test_attention_pool_takes_pooled_features_for_the_only_token():
    head, given = AttentionPool(W, D).double(), features(tokens=False)
    torch.testing.assert_close(head(given), head(Features(given.pooled, given.pooled[:, None])))
    only, each = head(Features(given.pooled, given.pooled[:, None]), tokens=True)
    torch.testing.assert_close(only, each[:, 0])


@pytest.mark.parametrize("kind", [AttentionPool, Resampler])
def test_a_row_without_a_real_token_is_finite(kind):
    head, given = kind(W, D).double(), features()
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
        (lambda: Residual(10, 4), "width and dim are equal; got 10 and 4"),
        (lambda: Residual(4, 4), "rank is 1 to the width, 4; got 8"),
        (lambda: Resampler(10, 4, heads=3), "heads must divide width; 10 is no multiple of 3"),
        (lambda: Resampler(12, 4, latents=0), "latents must be at least 1, not 0"),
        (lambda: Centered(10, 4, Linear(9, 4)), "the head inside, Linear, has width 9, the one around it 10"),
        (lambda: Average(10, 4, []), "an average needs one head at least; got none"),
        (lambda: Average(10, 4, weight=1.5), "weight is 0 to 1, the share of the heads beside the base; got 1.5"),
        (lambda: Average(10, 4, weight=0.9), "weight 0.9 leaves 0.1 to a base, and there is none"),
        (lambda: Average(10, 10, base=Identity), "weight 1 leaves nothing to the base"),
        (lambda: Average(12, 4, [Linear, Resampler]), "cannot be averaged with heads that do not"),
        (
            lambda: JointModel({"a": Tower(Array([6]), Precomputed(6), Linear(5, 4))}, 4),
            "tower 'a': has a head of width 5, Precomputed gives 6 numbers",
        ),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: Resampler(8, 4, latents=3), lambda: AttentionPool(8, 4)])
@pytest.mark.parametrize("value", [3e4, 1e30, float("inf"), float("nan")])
def test_a_head_over_tokens_reads_no_padding_whatever_stands_there(value, make):
    torch.manual_seed(0)
    head = make()
    tokens, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    plain = head(Features(tokens[:, 0], tokens, mask))
    tokens = torch.where(mask[..., None], tokens, value).requires_grad_()
    found = head(Features(tokens[:, 0], tokens, mask))
    assert torch.equal(found, plain)
    found.sum().backward()
    assert not tokens.grad[0, 3:].any()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_the_rotation_of_a_graph_is_the_exponential():
    from align.heads.orthogonal import _exponential

    for size in (0.1, 1.0, 3.0):
        a = size * torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(_exponential(a - a.T), torch.linalg.matrix_exp(a - a.T), rtol=0, atol=1e-9)
