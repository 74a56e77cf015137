"""Streams and Spaces: several spaces of one tower, trained apart, and asked one by one."""

from __future__ import annotations

import math

import pytest
import tiny_index
import torch
import torch.nn.functional as F
from test_infonce import equal, ragged, rows
from test_infonce import loop as infonce_loop
from tiny import Dense

import align
from align import Features, JointModel, Objective, Term, Tower, score
from align.checkpoint.fingerprint import fingerprint
from align.data.captions import look_up
from align.data.rows import find_rows
from align.heads import MLP, AttentionPool, Linear, Resampler, Streams
from align.lit.spaces import check_spaces
from align.losses import Across, Bank, InfoNCE, Matryoshka, Spaces, Symile
from align.model.spaces import in_space
from align.preprocess import Array
from align.search.linear import one_vector
from align.search.memory import MemoryIndex
from align.search.searcher import Searcher
from align.search.where import Compare
from align.values import Batch, Rows, TermInfo

NAMES = ["shape", "material"]
D = tiny_index.D
ids = [ragged["sample_a"], ragged["sample_b"]]


def streams(width: int, dim: int) -> Streams:
    return Streams(width, dim, dict.fromkeys(NAMES, Linear))


def model(heads=(streams, streams, streams)) -> JointModel:
    torch.manual_seed(0)
    towers = {m: Tower(Array((6,)), Dense(), head) for m, head in zip(("image", "shape", "text"), heads, strict=True)}
    return JointModel(towers, D).double().eval()


def block(x, k: int, of: int = 2):
    """One row after the other: its k-th part of all coordinates, as a unit vector."""
    size = x.shape[1] // of
    return torch.stack([row[k * size : (k + 1) * size] / row[k * size : (k + 1) * size].norm() for row in x])


def test_the_head_is_its_heads_side_by_side():
    head, given = Streams(6, 8, {"a": Linear, "b": lambda w, d: AttentionPool(w, d, 2)}).double(), torch.randn(3, 5, 6)
    features = Features(given.mean(1).double(), given.double(), torch.ones(3, 5, dtype=torch.bool))
    out, tokens = head(features, tokens=True)
    for k, one in enumerate(head.inside):
        pooled, each = one(features, tokens=True)
        for i in range(3):
            torch.testing.assert_close(out[i, 4 * k : 4 * k + 4], pooled[i] / pooled[i].norm() / math.sqrt(2))
            want = each[i, 2] / each[i, 2].norm() / math.sqrt(2)
            torch.testing.assert_close(tokens[i, 2, 4 * k : 4 * k + 4], want)
    assert torch.equal(head(features), out)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("space", "sides"), [("material", (1, 1)), ({"image": "shape", "text": "material"}, (0, 1)), ("shape", (0, 0))]
)
def test_a_term_is_the_loss_of_the_blocks(space, sides):
    a, b = rows(6, 8, dim=6)
    halves = [torch.cat([block(x, 0), block(x, 1)], 1) / math.sqrt(2) for x in (a, b)]  # as Streams makes them
    loss = Spaces(InfoNCE(), NAMES, space).double()
    loss.start(6, 2, 8)
    loss.between(["image", "text"])
    more = {name: ragged[name] for name in ("group_a", "group_b", "weight_a", "weight_b")}
    groups, weights = [more["group_a"], more["group_b"]], [more["weight_a"], more["weight_b"]]
    got = loss(halves, ids, groups=groups, weights=weights)
    want = infonce_loop(block(a, sides[0]), block(b, sides[1]), loss.scale, *ids, **more)
    equal(got, torch.as_tensor(want), [a, b])
    assert loss.list_blocks(["image", "text"]) == tuple((3 * k, 3 * k + 3) for k in sides)


def test_across_is_the_loss_between_two_blocks_of_each_row():
    """Several rows of one sample, groups and weights; rows of id -1 are left out, whatever they are."""
    x, _ = rows(6, 8, dim=6)
    sample = torch.tensor([0, 1, 1, -1, 3, 4])
    group, weight = torch.tensor([0, 1, 1, 5, 0, 2]), torch.tensor([1.0, 2, 3, 9, 0.5, 1], dtype=torch.float64)
    names = ["a", "b", "c"]
    loss = Across(InfoNCE(), names, ["c", "a"]).double()
    loss.start(6, 1, 8)
    loss.between(["image"])
    whole = torch.cat([block(x, k, 3) for k in range(3)], 1) / math.sqrt(3)
    got = loss([whole], [sample], groups=[group], weights=[weight])
    kept = [0, 1, 2, 4, 5]
    c, a = (torch.stack([block(x, k, 3)[i] for i in kept]) for k in (2, 0))
    more = {f"{name}_{side}": v[kept] for name, v in (("group", group), ("weight", weight)) for side in "ab"}
    want = infonce_loop(c, a, loss.scale, sample[kept], sample[kept], **more)
    equal(got, torch.as_tensor(want), [x])
    assert loss.scale.item() == pytest.approx(Spaces(InfoNCE(), names, "a").scale.item())
    other = torch.where(sample[:, None] < 0, whole.flip(1), whole)
    assert torch.equal(loss([other], [sample], groups=[group], weights=[weight]), got)
    assert loss([whole[:0]], [sample[:0]]).item() == 0


def test_across_is_a_term_of_one_modality_that_scoring_does_not_read():
    terms = {
        "s": Term(Spaces(InfoNCE(), NAMES, "material"), ["image", "text"]),
        "x": Term(Across(InfoNCE(), NAMES, NAMES), ["image", "text"]),
    }
    objective = Objective(terms, dim=D, batch=4, modalities=["image", "text"])
    assert objective.columns == ["s", "s/scale", "x/image", "x/text", "x", "x/scale"]
    assert [info.modalities for info in objective.infos()] == [("image", "text")]
    x = torch.randn(3, 6)
    made = model().float()
    batch = Batch({m: Rows(x, torch.arange(3)) for m in ("image", "text")}, [""] * 3, torch.arange(3))
    value, logged = objective(made(batch))
    value.backward()
    assert logged["x"].item() == pytest.approx(logged["x/image"].item() + logged["x/text"].item(), rel=1e-5)
    assert made.towers["image"].head.inside[0].project.weight.grad.abs().sum() > 0
    assert objective.counts() == {"s": 0, "x": 0}


def test_prefixes_and_products_start_with_the_size_of_a_block():
    loss = Spaces(Matryoshka(Symile("all"), [2, 4]), NAMES, "shape")
    loss.start(8, 3, 5)
    assert loss.loss.dims == [2, 4]
    assert loss.scale.item() == pytest.approx(10 * math.sqrt(4), rel=1e-5)


def test_scoring_and_the_index_read_a_term_in_its_space():
    """Two terms between the same two modalities: the sum of both, in one vector too, against plain sums."""
    draw = [F.normalize(tiny_index.random(n, n), dim=1).double() for n in (3, 5)]
    q, c = (torch.cat([block(x, 0), block(x, 1)], 1) / math.sqrt(2) for x in draw)
    terms = [
        TermInfo(("image", "text"), "pairwise", 3.0, -1.0, ((0, 4), (0, 4))),
        TermInfo(("image", "text"), "pairwise", 5.0, 0.0, ((0, 4), (4, 8))),
    ]
    for query, of, swap in (("image", "text", False), ("text", "image", True)):
        got = score({query: q}, c, "objective", of=of, terms=terms)
        linear = one_vector({query: q}, "objective", of, terms)
        sides = (1, 0) if swap else (0, 1)
        for i in range(3):
            for j in range(5):
                one = 3 * float(block(q, 0)[i] @ block(c, 0)[j]) - 1
                two = 5 * float(block(q, sides[0])[i] @ block(c, sides[1])[j])
                assert float(got[i, j]) == pytest.approx(one + two, abs=1e-6)
        torch.testing.assert_close(linear.vector @ c.T + linear.constant, got)


def test_a_term_of_an_objective_states_its_blocks_and_a_folder_keeps_them(tmp_path):
    made = model()
    terms = {
        "s": Term(Spaces(InfoNCE(), NAMES, "material"), ["image", "text"]),
        "w": Term(InfoNCE(), ["image", "shape"]),
    }
    objective = Objective(terms, dim=D, batch=4, modalities=made.modalities)
    made.terms = objective.infos()
    assert [term.blocks for term in made.terms] == [((4, 8), (4, 8)), ()]
    made = made.float()
    align.save(made, tmp_path / "model")
    again = align.load(tmp_path / "model", allow=("tiny",))
    assert again.terms == made.terms
    assert '"blocks": []' not in (tmp_path / "model" / "model.json").read_text()
    x = {m: list(torch.randn(3, 6).numpy()) for m in made.modalities}
    for m, rows_ in made.eval().embed(**x).items():
        assert torch.equal(again.embed(**{m: x[m]})[m], rows_)
    view = in_space(again, "material")
    assert fingerprint(view) == fingerprint(again)
    assert view.terms == [made.terms[0]._replace(blocks=())]


@pytest.mark.parametrize("training", [False, True])
def test_the_model_in_a_space_is_its_block(training):
    """A tower without Streams too; its dropout is off in ``embed``, and the model itself stays as it is."""
    torch.manual_seed(0)
    heads = {"shape": Linear, "material": lambda w, d: MLP(w, d, dropout=0.5)}
    towers = {
        "image": Tower(Array((6,)), Dense(dropout=0.5), lambda w, d: Streams(w, d, heads)),
        "text": Tower(Array((6,)), Dense(), Linear),
    }
    whole = JointModel(towers, D).double().train(training)
    view = in_space(whole, "material")
    x = {m: list(torch.randn(3, 6).numpy()) for m in whole.modalities}
    before, inside, after = whole.embed(**x), view.embed(**x), whole.embed(**x)
    for m in whole.modalities:
        assert torch.equal(before[m], after[m])
        for row, of_whole in zip(inside[m], before[m], strict=True):
            want = torch.cat([torch.zeros(4).double(), of_whole[4:] / of_whole[4:].norm()])
            torch.testing.assert_close(row, want)
    assert whole.training == training


def test_an_index_of_whole_rows_is_searched_in_a_space():
    made = model()
    index = MemoryIndex()
    items = [tiny_index.Item(f"k{i}", {"shard": "/s.tar", "key": f"k{i}"}) for i in range(9)]
    stored = made.embed(image=list(torch.randn(12, 6).numpy()))["image"]
    owner = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8])
    index.add("image", stored.float(), owner, items)
    whole = Searcher(index, made)
    query = {"image": torch.randn(6).numpy(), "text": torch.randn(6).numpy()}
    asked = {m: made.embed(**{m: [x]})[m] for m, x in query.items()}
    for k, name in enumerate(NAMES):
        found = whole.in_space(name).search(query, "image", 4)
        cosines = {m: (block(x, k) @ block(stored, k).T)[0].tolist() for m, x in asked.items()}
        best: dict[int, float] = {}
        for i, number in enumerate(owner.tolist()):
            best[number] = max(best.get(number, -9.0), cosines["image"][i] + cosines["text"][i])
        want = sorted(best.items(), key=lambda pair: -pair[1])[:4]
        assert [hit.item.key for hit in found.hits] == [f"k{number}" for number, _ in want]
        assert [hit.score for hit in found.hits] == pytest.approx([value for _, value in want], abs=1e-5)
        hit = found.hits[0]
        assert hit.cosines["image"] + hit.cosines["text"] == pytest.approx(hit.score, abs=1e-5)
        like = whole.in_space(name).like(index.numbers(None, Compare("key", "eq", "k1")).item(), "image", 3)
        row = (block(stored[2:3], k) @ block(stored, k).T)[0]
        assert like.hits[0].score == pytest.approx(max(row[j].item() for j in range(12) if j != 2), abs=1e-5)
    assert whole.subspace is None


def test_a_key_inside_an_object_is_a_text():
    stated = {"label": {"shape": ["cone", "cube"], "n": 3}, "a.b": "whole"}
    members = {"shape": ["json:label.shape"]}
    found = find_rows({"json": b""}, "shape", ("txt",), members, stated)
    assert [row.data for row in found] == [b"cone", b"cube"]
    assert look_up(stated, "a.b") == "whole"
    assert [look_up(stated, key) for key in ("label.no", "no.shape", "label.n.x", "a.c", "label.")] == [None] * 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Streams(6, 8, {}), "spaces are different names, one at least; got"),
        (
            lambda: Streams(6, 8, dict.fromkeys("abc", Linear)),
            r"3 spaces \(a, b, c\) share dim equally; 8 is no multiple",
        ),
        (lambda: Streams(6, 8, {"a": lambda w, d: Resampler(w, d, heads=1)}), "the head of 'a' chooses the number"),
        (lambda: Spaces(InfoNCE(), NAMES, "size"), "no space 'size'; there are shape, material"),
        (lambda: Spaces(InfoNCE(), NAMES, "shape").start(7, 2, 4), "7 is no multiple"),
        (lambda: Matryoshka(Across(InfoNCE(), NAMES, NAMES), [4, 8]), "Matryoshka goes inside Across"),
        (lambda: Spaces(Across(InfoNCE(), NAMES, NAMES), NAMES, "shape"), "Spaces goes around a loss without Across"),
        (lambda: Across(Spaces(InfoNCE(), NAMES, "shape"), NAMES, NAMES), "Across goes around a loss without Spaces"),
        (lambda: Across(Bank(InfoNCE(), "text"), NAMES, NAMES), "Across goes around a loss without Bank"),
        (lambda: Across(Symile(), NAMES, NAMES), "a loss between two modalities; Symile is none"),
        (lambda: Across(InfoNCE(), NAMES, ["shape"] * 2), r"pair names two spaces; got \['shape', 'shape'\]"),
        (lambda: Across(InfoNCE(), NAMES, ["shape", "size"]), "no space 'size'; there are shape, material"),
        (lambda: Across(InfoNCE(), NAMES, NAMES).start(7, 1, 4), "7 is no multiple"),
        (lambda: Matryoshka(Spaces(InfoNCE(), NAMES, "shape"), [4, 8]), "Matryoshka goes inside Spaces"),
        (lambda: in_space(model((Linear,) * 3), "shape"), "the model has no spaces"),
        (lambda: in_space(model(), "size"), "no space 'size'; there are shape, material"),
        (lambda: in_space(model((streams, streams, swapped)), "shape"), "that of text material, shape"),
        (lambda: Searcher(MemoryIndex(), model()).in_space("size"), "no space 'size'"),
        (lambda: searched(), "the head of text has no space 'shape'; search among image, shape"),
        (lambda: searched("image", how="objective"), "a space is read by cosines; how='objective'"),
        (lambda: searched("image", threshold="calibrated"), "the calibrated threshold is of the whole"),
        (
            lambda: check_spaces(model(), named(["material", "shape"])),
            "term 't' has the spaces material, shape; the head",
        ),
        (
            lambda: check_spaces(model(), named(["material", "shape"], across=True)),
            "term 't' has the spaces material, shape; the head",
        ),
        (lambda: called_without(), "space names no space of 'text'; it has image"),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def swapped(width, dim):
    return Streams(width, dim, {"material": Linear, "shape": Linear})


def searched(of="text", **options):
    index = MemoryIndex()
    item = tiny_index.Item("k", {"shard": "/s.tar", "key": "k"})
    for m in ("image", "text"):
        index.add(m, torch.eye(D)[:1], torch.zeros(1, dtype=torch.long), [item])
    Searcher(index, model((streams, streams, Linear))).in_space("shape").search(
        {"image": torch.eye(D)[0]}, of, **options
    )


def named(spaces, across=False):
    loss = Across(InfoNCE(), spaces, spaces) if across else Spaces(InfoNCE(), spaces, "shape")
    terms = {"t": Term(loss, ["image", "text"])}
    return Objective(terms, dim=D, batch=4, modalities=["image", "text"])


def called_without():
    loss = Spaces(InfoNCE(), NAMES, {"image": "shape"})
    loss.between(["image", "text"])
    loss([torch.eye(4), torch.eye(4)], [torch.arange(4)] * 2)


def test_terms_that_name_the_heads_spaces_are_taken():
    check_spaces(model(), named(NAMES))
    check_spaces(model((Linear,) * 3), named(["other", "shape"]))
