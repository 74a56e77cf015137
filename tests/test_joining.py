"""Pseudo-pairs of unpaired sets, the router over spaces, and the decoupling of language, against plain loops."""

from __future__ import annotations

import io
import json
import math
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parts import in_parts
from torch import nn

import align
from align import Features, JointModel, Tower
from align.bind import join_rows, join_spaces
from align.bind.chaining import chain_items, find_nearest
from align.checkpoint.describe import build, describe
from align.data import Loader, Shards, ShardWriter
from align.embedding.features import write_cache
from align.encoders import Precomputed
from align.heads import Identity, Linear, Padded, Router
from align.losses import Decouple, InfoNCE, decouple
from align.preprocess import Array

# pseudo-pairs


def table(seed: int, n: int, *widths: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {f"s{k}": torch.randn(n, width, generator=draw) for k, width in enumerate(widths) if width}


def cosine(a, b) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_the_nearest_row_is_that_of_the_mean_cosine():
    asked, given = table(1, 5, 4, 3), table(2, 7, 4, 3)
    given = {k: torch.cat([x, x]) for k, x in given.items()}  # of equal rows the first
    row, best = find_nearest(asked, given)
    for i in range(5):
        each = [sum(cosine(asked[k][i], given[k][j]) for k in asked) / 2 for j in range(7)]
        assert int(row[i]) == int(np.argmax(each))
        assert float(best[i]) == pytest.approx(max(each), abs=1e-6)
    only = find_nearest(asked, {"s1": given["s1"]})[0]
    assert int(only[0]) == int(np.argmax([cosine(asked["s1"][0], x) for x in given["s1"][:7]]))
    with pytest.raises(ValueError, match="s0, s1 and s2 have no space in common"):
        find_nearest(asked, {"s2": given["s1"]})


@pytest.mark.parametrize("bound", [-1.0, 0.55])
def test_chains_are_those_of_a_loop(bound):
    """image in s0, audio in s1, points in s0 and s1, text in both."""
    sets = {"text": table(1, 6, 4, 3), "image": table(2, 5, 4), "audio": table(3, 4, 0, 3), "points": table(4, 3, 4, 3)}

    def nearest(m, i, other):
        common = [k for k in sets[m] if k in sets[other]]
        n = len(next(iter(sets[other].values())))
        each = [sum(cosine(sets[m][k][i], sets[other][k][j]) for k in common) / len(common) for j in range(n)]
        return int(np.argmax(each)), max(each)

    expected = []
    starts = ["image", "text", "points"]
    for number, m in enumerate(starts):
        for i in range(len(next(iter(sets[m].values())))):
            found = {m: (i, 1.0)}
            through = (i, 1.0) if m == "text" else nearest(m, i, "text")
            if through[1] >= bound:
                found["text"] = through
                for other in sets:
                    if other not in found:
                        at = nearest("text", through[0], other)
                        if at[1] >= bound:
                            found[other] = at
            if len(found) > 1:
                expected.append((number, found))
    chains = chain_items(sets, "text", starts, bound)
    assert len(chains.start) == len(expected)
    assert len(expected) == 14 if bound < 0 else 0 < len(expected) < 14
    holes = 0
    for s, (number, found) in enumerate(expected):
        assert int(chains.start[s]) == number
        for m in sets:
            row, score = found.get(m, (-1, 0.0))
            holes += row < 0
            assert int(chains.row[m][s]) == row
            assert float(chains.cosine[m][s]) == pytest.approx(score, abs=1e-6)
    assert (holes > 0) == (bound > 0)


def npy(x) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(x, np.float32))
    return out.getvalue()


def make_set(folder, modality: str, rows: list[list], per_shard: int = 4, about: bytes = b"{}") -> str:
    """Shards of samples, each with a list of rows."""
    with ShardWriter(folder, per_shard=per_shard) as writer:
        for i, some in enumerate(rows):
            members = {f"{modality}.{r}.npy": npy(x) for r, x in enumerate(some)}
            writer.write(f"{modality}{i:02d}", members | {"json": about})
    return str(folder / "train-*.tar")


def space_of(seed: int, modality: str, dim: int) -> JointModel:
    torch.manual_seed(seed)
    towers = {m: Tower(Array([6]), Precomputed(6), Linear) for m in (modality, "text")}
    return JointModel(towers, dim).eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two models, unpaired pictures (6) and sounds (5), and 7 texts, of which sample 2 has two and sample 4 none."""
    folder, draw = tmp_path_factory.mktemp("joined"), np.random.default_rng(0)
    texts = [[draw.normal(size=6)] for _ in range(6)]
    texts[2].append(draw.normal(size=6))
    texts[4] = []
    texts[5] = [texts[0][0]]  # the same words again
    raw = {
        "image": make_set(folder / "image", "image", [[draw.normal(size=6)] for _ in range(6)]),
        "audio": make_set(folder / "audio", "audio", [[draw.normal(size=6)] for _ in range(5)]),
        "text": make_set(folder / "text", "text", texts),
    }
    models = {"a": space_of(1, "image", 5), "b": space_of(2, "audio", 4)}
    spaces = {}
    for name, m in (("a", "image"), ("b", "audio")):
        for part, features in ((m, False), ("text", False), (m, True)):
            cache = folder / ("features" if features else "embeddings") / part
            write_cache(models[name], raw[part], cache, name=name, features=features, dtype="float32", towers=[part])
        spaces[name] = {x: f"{folder}/embeddings/{x}/{name}:{x}" for x in (m, "text")}
    return folder, spaces


def read_pairs(out) -> list[dict]:
    found = []
    for path in sorted(out.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, name = info.name.partition(".")
                if not found or found[-1]["key"] != key:
                    found.append({"key": key})
                data = tar.extractfile(info).read()  # pyright: ignore[reportOptionalMemberAccess]
                found[-1][name] = json.loads(data) if name == "json" else np.load(io.BytesIO(data))
    return found


def test_the_shards_of_pseudo_pairs(world, tmp_path):
    _, spaces = world
    done = join_spaces(spaces, tmp_path / "out", per_shard=5)
    rows = {m: join_rows({k: own[m] for k, own in spaces.items() if m in own}) for m in ("text", "image", "audio")}
    assert done.samples == {"text": 6, "image": 6, "audio": 5}
    assert done.rows == {"text": 17, "image": 17, "audio": 17}
    assert done.widths == {"text": [5, 4], "image": [5], "audio": [4]}
    pairs = read_pairs(tmp_path / "out")
    assert len(pairs) == 17
    chains = chain_items({m: x.values for m, x in rows.items()}, "text", ["text", "image", "audio"], -1.0)
    for s, pair in enumerate(pairs):
        for m, joined in rows.items():
            at = int(chains.row[m][s])
            np.testing.assert_array_equal(pair[f"{m}.npy"], joined.side_by_side[at : at + 1].numpy())
            assert pair["json"]["pseudo"][m][0] == int(joined.sample[at])
        if s < 6:
            assert "space.npy" not in pair
        else:
            np.testing.assert_array_equal(pair["space.npy"], [[1, 0]] if s < 12 else [[0, 1]])
    groups = [pair["json"]["group"] for pair in pairs]
    assert groups[0] == groups[5]  # equal texts of two samples
    assert len({*groups[:6]}) == 5
    for pair in pairs:
        text = pair["json"]["pseudo"]["text"][0]
        assert (pair["json"]["group"] == groups[0]) == (text in (0, 5))
    record = json.loads((tmp_path / "out" / "joined.json").read_text())
    assert record["spaces"] == {"text": {"a": 5, "b": 4}, "image": {"a": 5}, "audio": {"b": 4}}
    assert join_spaces(spaces, tmp_path / "out", starts=["audio"]).samples == {"audio": 5}  # replaced as a whole
    assert len(read_pairs(tmp_path / "out")) == 5


def test_they_train(world, tmp_path):
    """The pairs are shards like any other: a run reads them, and the joined model embeds."""
    _, spaces = world
    join_spaces(spaces, tmp_path / "out")
    widths = {"image": [5], "audio": [4], "text": [5, 4]}
    towers = {
        m: Tower(Array([1, sum(w)]), Precomputed(sum(w)), lambda width, dim, w=w: Router(width, dim, w))
        for m, w in widths.items()
    }
    towers["space"] = Tower(Array([1, 2]), Precomputed(2), Padded)
    torch.manual_seed(0)
    model = JointModel(towers, 6)
    terms = {
        "overall": align.Term(InfoNCE(), ["audio", "image", "text"]),
        "language": align.Term(Decouple(), ["text", "space"], 0.5),
    }
    objective = align.Objective(terms, dim=6, batch=8, modalities=[*towers])
    shards = Shards(str(tmp_path / "out" / "train-*.tar"))
    losses, language = [], []
    for batch in Loader(shards, model.preprocess, batch=8, train=True, steps=30):
        value, logged = objective(model(batch, tokens=objective.tokens))
        grads = torch.autograd.grad(value, [*model.parameters()])
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter -= 0.3 * grad
        losses.append(float(value.detach()))
        language.append(float(logged["language"]))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert language[0] == pytest.approx(math.log(2), abs=1e-5)  # equal weights
    assert min(language) < 0.65
    align.save(model, tmp_path / "model")
    text = join_rows({k: own["text"] for k, own in spaces.items()}).side_by_side
    again = align.load(tmp_path / "model").embed(text=[x[None].numpy() for x in text])["text"]
    torch.testing.assert_close(again, F.normalize(model.towers["text"](text[:, None]), dim=1).detach())


def test_a_pair_has_the_group_of_its_text(world, tmp_path):
    _, spaces = world
    draw = np.random.default_rng(1)
    raw = make_set(tmp_path / "text", "text", [[draw.normal(size=6)] for _ in range(4)], about=b'{"group": 71}')
    grouped = {}
    for seed, (name, parts) in enumerate(spaces.items(), 1):
        model = space_of(seed, *(m for m in parts if m != "text"), 6 - seed)
        write_cache(model, raw, tmp_path / "cache", name=name, features=False, dtype="float32", towers=["text"])
        grouped[name] = parts | {"text": f"{tmp_path}/cache/{name}:text"}
    join_spaces(grouped, tmp_path / "out")
    assert {pair["json"]["group"] for pair in read_pairs(tmp_path / "out")} == {71}


def without(spaces, name, modality):
    return {k: {m: c for m, c in own.items() if (k, m) != (name, modality)} for k, own in spaces.items()}


@pytest.mark.parametrize(
    ("message", "change", "options"),
    [
        ("two spaces or more are joined; got a", lambda s, f: {"a": s["a"]}, {}),
        (
            "the space b has no column of text, the shared modality; it has audio",
            lambda s, f: without(s, "b", "text"),
            {},
        ),
        ("the space a has text alone", lambda s, f: without(s, "a", "image"), {}),
        ("no pseudo-pair has a cosine of 1 or more", lambda s, f: s, {"bound": 1.0}),
        ("bound is a cosine, -1 to 1; got 2", lambda s, f: s, {"bound": 2.0}),
        ("starts names touch, which no space has; there are text, image, audio", lambda s, f: s, {"starts": ["touch"]}),
        ("starts names no modality", lambda s, f: s, {"starts": []}),
        (
            "the space a has no column of words, the shared modality; it has image, text",
            lambda s, f: s,
            {"via": "words"},
        ),
        (
            "are of two models",
            lambda s, f: {**s, "a": {**s["a"], "text": s["b"]["text"]}},
            {},
        ),
        (
            "has features; a space has one model's embeddings",
            lambda s, f: {**s, "a": {**s["a"], "image": f"{f}/features/image/a:image"}},
            {},
        ),
        ("has a modality named 'space'", lambda s, f: {**s, "a": {**s["a"], "space": s["a"]["image"]}}, {}),
        (
            "different shards|has no shard",
            lambda s, f: {**s, "c": {"image": s["a"]["image"], "text": s["a"]["image"]}},
            {},
        ),
    ],
)
def test_bad_spaces_leave_nothing(world, tmp_path, message, change, options):
    folder, spaces = world
    with pytest.raises(ValueError, match=message) as error:
        join_spaces(change(spaces, folder), tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_another_folder_is_not_replaced(world, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("three years")
    with pytest.raises(ValueError, match=r"is there and has no joined\.json"):
        join_spaces(world[1], tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").is_file()


# the head


def test_the_router_is_a_weighted_sum():
    torch.manual_seed(0)
    head = Router(7, 5, [4, 3], hidden=6).double()
    gate = head.gate
    assert gate is not None
    x = torch.randn(3, 7, dtype=torch.float64)
    assert head.find_weights(x).allclose(torch.full((3, 2), 0.5, dtype=torch.float64))  # they begin equal
    nn.init.normal_(gate[2].weight)
    x[1, 4:] = 0  # absent in the second space
    x[2] = 0
    pooled, tokens = head(Features(x, x[:, None].repeat(1, 2, 1)), tokens=True)
    for i in range(2):
        logits = gate[2](F.relu(gate[0](x[i]))).detach()
        if i == 1:
            logits = torch.stack([logits[0], logits[1] - math.inf])
        w = [float(logits[k].exp() / logits.exp().sum()) for k in range(2)]
        total = torch.zeros(5, dtype=torch.float64)
        for k, part in enumerate((x[i, :4], x[i, 4:])):
            y = head.heads[k](Features(part[None]))[0]
            total = total + w[k] * y / y.norm()
        torch.testing.assert_close(pooled[i], total)
        torch.testing.assert_close(tokens[i], torch.tensor([[*w, 0, 0, 0]] * 2, dtype=torch.float64))
    assert not pooled[2].any()
    assert not tokens[2].any()
    torch.testing.assert_close(head(Features(x[:1])), pooled[:1])  # alone as in company
    again = build(describe(head)).double()
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again(Features(x)), pooled)


def test_a_router_of_one_space_or_without_a_route():
    torch.manual_seed(0)
    one, equal = Router(4, 5), Router(7, 5, [4, 3], route=False)
    assert one.gate is None
    assert equal.gate is None
    x = torch.randn(2, 7)
    torch.testing.assert_close(one(Features(x[:, :4])), F.normalize(one.heads[0](Features(x[:, :4])), dim=1))
    assert equal.find_weights(x).eq(0.5).all()
    for head, width in ((one, 4), (Router(7, 5, [4, 3]), 7)):
        value = head(Features(torch.zeros(0, width), torch.zeros(0, 1, width)), tokens=True)
        sum(part.sum() for part in value).backward()
        assert value[1].shape == (0, 1, 5)
        assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
    with pytest.raises(ValueError, match="the encoder gives pooled features only"):
        one(Features(x[:, :4]), tokens=True)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        (r"widths \[4, 4\] sum to 8; a row has 7 numbers", lambda: Router(7, 5, [4, 4])),
        (r"widths \[7, 0\]", lambda: Router(7, 5, [7, 0])),
        ("2 spaces take one callable, or a head for each; got 3 heads", lambda: Router(7, 5, [4, 3], [Linear] * 3)),
        ("2 spaces take one callable", lambda: Router(7, 5, [4, 3], [Linear(4, 5)])),
        ("at most dim, 2; got 3", lambda: Router(6, 2, [2, 2, 2])),
        ("dim is width at least; got 6 and 5", lambda: Padded(6, 5)),
    ],
)
def test_bad_heads_are_refused(message, make):
    with pytest.raises(ValueError, match=message):
        make()


def test_padded_adds_zeros():
    x = torch.randn(2, 3)
    assert torch.equal(Padded(3, 5)(Features(x)), torch.cat([x, torch.zeros(2, 2)], 1))
    assert torch.equal(Padded(3, 3)(Features(x, x[:, None]), tokens=True)[1], x[:, None])
    assert not list(Padded(3, 5).parameters())
    assert type(build(describe(Padded(3, 5)))) is Padded
    assert torch.equal(Padded(3, 3)(Features(x)), Identity(3, 3)(Features(x)))


# the loss

owners = [[0, 1, 1, 3, -1, 4], [0, 1, 2, 3, 3, 4]]


def loss_rows():
    draw = torch.Generator().manual_seed(5)
    shares = torch.rand(6, 4, dtype=torch.float64, generator=draw)
    shares[5] = 0  # a row in no space
    spaces = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 2], [0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    return shares.requires_grad_(), F.pad(spaces, (0, 1))


@pytest.mark.parametrize("weighted", [False, True])
def test_decouple_equals_the_loop(weighted):
    shares, spaces = loss_rows()
    weights = [torch.arange(1.0, 7), torch.arange(3.0, 9)] if weighted else [torch.ones(6)] * 2
    total, count = 0.0, 0.0
    for i in range(6):
        for j in range(6):
            right = [k for k in range(4) if spaces[j, k] > 0]
            if owners[0][i] >= 0 and owners[0][i] == owners[1][j] and right and shares[i].sum() > 0:
                w = float(weights[0][i] + weights[1][j]) / 2
                total = total - w * torch.log(sum(shares[i, k] for k in right) / shares[i].sum())
                count += w
    ids = {f"sample_{side}": torch.tensor(owner) for side, owner in zip("ab", owners, strict=True)}
    more = {"weight_a": weights[0], "weight_b": weights[1]} if weighted else {}
    got = decouple(shares, spaces, **ids, **more)
    torch.testing.assert_close(got, total / count)
    grads = [torch.autograd.grad(x, shares)[0] for x in (got, total / count)]
    torch.testing.assert_close(*grads)
    assert not grads[0][5].any()


def test_the_module_reads_the_weights_of_tokens_of_any_length():
    shares, spaces = loss_rows()
    ids = [torch.tensor(owner) for owner in owners]
    unit = F.normalize(torch.stack([shares, shares.flip(1), torch.ones_like(shares)], 1), dim=2)  # (6, 3, 4)
    mask = torch.tensor([True, False, False]).repeat(6, 1)
    other = (torch.zeros(6, 1, 4), torch.ones(6, 1, dtype=torch.bool))
    x = torch.zeros(6, 4, requires_grad=True)
    got = Decouple()([x, spaces], ids, tokens=[(unit, mask), other], weights=[torch.ones(6)] * 2)
    torch.testing.assert_close(got, decouple(shares, spaces, sample_a=ids[0], sample_b=ids[1]))
    assert not torch.autograd.grad(got, x, retain_graph=True)[0].any()
    both = Decouple()([x, spaces], ids, tokens=[(unit, mask | (torch.arange(3) < 2)), other])
    each = [s / s.sum(1, keepdim=True).clamp(min=1e-9) for s in (shares, shares.flip(1))]
    torch.testing.assert_close(both, decouple(sum(each), spaces, sample_a=ids[0], sample_b=ids[1]))
    nothing = decouple(shares, 0 * spaces)
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, shares)[0].any()
    wrong = decouple(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert wrong.item() == pytest.approx(-math.log(1e-6))


def test_a_part_takes_its_pairs_alone():
    """Parts that all took every pair would have the same mean."""
    shares, spaces = loss_rows()
    ids = {f"sample_{side}": torch.tensor(owner) for side, owner in zip("ab", owners, strict=True)}
    found = in_parts(lambda x, part, merge: decouple(x, spaces, **ids, part=part, merge=merge), [shares], 2)
    touched = torch.stack([grads[0].abs().sum(1) > 0 for _, grads in found])  # (2, n)
    assert touched.any(1).all()
    assert not touched.all(0).any()
