"""Views: several augmentations of a row, a loss between the rows of one modality, and votes of an item's rows."""

from __future__ import annotations

import pytest
import tiny_space
import torch
import torch.nn.functional as F
from test_data_collate import equal, sample
from test_infonce import equal as equal_loss
from test_infonce import loop as infonce_loop
from test_infonce import rows
from tiny_data import holed, png, readers, write

import align
from align import Objective, Term
from align.data import Loader, Shards
from align.data.collate import piece
from align.data.names import FOREIGN
from align.data.views import check_views
from align.evaluation import Votes
from align.losses import Bank, InfoNCE, Symile, VICReg, Views
from align.losses.loss import has_complete
from align.objective.grades import Facts, apply_grades
from align.scoring import vote
from align.values import GRADES, Embeddings, Rows

OWNERS = torch.tensor([3, 0, 0, 1, -1, 1, 1, 4])  # samples of one, two and three rows, and a hard negative
FIRST = [0, 1, 3, 7]  # by hand
OTHERS = [2, 4, 5, 6]


@pytest.mark.parametrize("extra", [False, True])
def test_it_is_the_loss_of_first_rows_and_the_others(extra):
    (x, _) = rows(8, 8, dim=6)
    weights, groups = torch.arange(8) + 0.5, torch.tensor([7, 7, 7, -1, -1, 2, 2, 7])
    loss = Views(InfoNCE()).double()
    loss.start(6, 1, 8)
    loss.between(["audio"])
    more = {"groups": [groups], "weights": [weights]} if extra else {}
    got = loss([x], [OWNERS], **more)
    given = {
        "group_a": groups[FIRST],
        "group_b": groups[OTHERS],
        "weight_a": weights[FIRST],
        "weight_b": weights[OTHERS],
    }
    ids = (OWNERS[FIRST], OWNERS[OTHERS])
    want = infonce_loop(x[FIRST], x[OTHERS], loss.scale, *ids, **(given if extra else {}))
    equal_loss(got, torch.as_tensor(want), [x])
    one_way = Views(InfoNCE(directions=(1.0, 0.0))).double()
    one_way.start(6, 1, 8)
    want = InfoNCE(directions=(1.0, 0.0)).double()([x[FIRST], x[OTHERS]], [OWNERS[FIRST], OWNERS[OTHERS]])
    torch.testing.assert_close(one_way([x], [OWNERS]), want)  # the first rows are the anchors
    told: list[list[str]] = []
    one_way.loss.between = told.append
    one_way.between(["audio"])
    assert told == [["audio", "audio_views"]]  # a queue inside keeps the two apart


def test_rows_without_a_partner_give_zero_and_are_counted():
    x = torch.randn(3, 4, requires_grad=True)
    objective = Objective({"v": Term(Views(InfoNCE()), ["audio"])}, dim=4, batch=3)
    frame = Embeddings({"audio": Rows(x, torch.tensor([0, 1, 2]))}, ["a", "b", "c"], torch.arange(3))
    total, _ = objective(frame)
    total.backward()
    assert (total.item(), x.grad.abs().sum().item()) == (0.0, 0.0)
    assert objective.counts() == {"v": 1}
    assert objective.infos() == []
    found = [has_complete([torch.tensor(ids)]).item() for ids in ([], [-1, -1], [0, -1, 2], [0, 2, 0])]
    assert found == [False, False, False, True]


def test_a_grade_of_other_pairs_changes_nothing():
    x = torch.randn(4, 4, dtype=torch.float64)
    terms = {"v": Term(Views(InfoNCE()), ["audio"]), "p": Term(InfoNCE(), ["audio", "text"])}
    objective = Objective(terms, dim=4, batch=2).double()
    table = {"audio": Rows(x, torch.tensor([0, 0, 1, 1])), "text": Rows(x[::2], torch.tensor([0, 1]))}
    frame = Embeddings(table, ["a", "b"], torch.arange(2))
    plain = objective(frame)[1]["v"]
    frame.grade = {"audio+text": torch.tensor([GRADES.index("bad"), 0])}
    assert objective(frame)[1]["v"] == plain
    facts = Facts(torch.arange(2), [], torch.zeros(2, 0, dtype=torch.long), None)
    assert apply_grades([], facts, ["audio"], 0.5) == []


def collated(samples, views, *, train=True):
    more = {"positions": [*range(len(samples))], "train": train, "seed": 3, "epoch": 1, "members": FOREIGN}
    return piece(samples, readers(), views=views, **more)


def test_views_are_the_same_rows_augmented_anew():
    """The first views are the rows without the key, to the bit; text has no augmentation, so its views are equal."""
    samples = [sample(i, holed(i)) for i in range(8)]
    plain, before = collated(samples, None)
    found, bad = collated(samples, {"image": 3, "text": 2})
    again, _ = collated(samples, {"image": 3, "text": 2})
    assert bad == before
    assert torch.equal(found["audio"].values, plain["audio"].values)
    assert torch.equal(found["image"].values, again["image"].values)
    one, many = plain["image"], found["image"]
    changed = 0
    for i in range(8):
        row, views = one.values[one.sample == i], many.values[many.sample == i]
        assert len(views) == 3 * len(row)
        assert torch.equal(views[: len(row)], row)
        changed += sum(not torch.equal(a, b) for a, b in zip(views[len(row) :], [*row, *row], strict=True))
    assert changed > 0
    assert found["text"].n == plain["text"].n + int((plain["text"].sample >= 0).sum())
    assert int((found["text"].sample < 0).sum()) == int((plain["text"].sample < 0).sum())  # hard negatives have one
    equal(collated(samples, {"image": 3}, train=False)[0], collated(samples, None, train=False)[0])


def test_a_bad_row_is_counted_once():
    samples = [sample(0, {"image.0.png": png(0), "image.1.png": b"no picture", "text.txt": b"x"})]
    found, bad = collated(samples, {"image": 2})
    assert [fault.reason.partition("/")[0] for fault in bad] == ["image"]
    assert found["image"].sample.tolist() == [0, 0]


def test_a_loader_hands_them_out_in_training_alone(tmp_path):
    shards = Shards(write(tmp_path, samples=12))
    counts = {}
    for train in (True, False):
        for views in (None, {"image": 2}):
            loader = Loader(shards, readers(), batch=6, train=train, steps=2, views=views)
            counts[train, views is None] = sum(found["image"].n for found in loader)
    assert counts[True, False] == 2 * counts[True, True] > 0
    assert counts[False, False] == counts[False, True] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Views(Bank(InfoNCE(), "text")), "Views goes around a loss without Bank"),
        (lambda: Views(Symile()), "Views goes around a loss between two modalities; Symile is none"),
        (lambda: Views(Views(InfoNCE())), "Views goes around a loss once"),
        (
            lambda: Objective({"v": Term(Views(InfoNCE()), [["audio", "text"]])}, dim=4, batch=2),
            "the rows of one modality",
        ),
        (lambda: check_views({"imag": 2}, ["image"], None), "views names the modality 'imag'; did you mean 'image'"),
        (lambda: check_views({"image": 0}, ["image"], None), "views of image are 0; a row has one view at least"),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def of_two():
    Objective({"v": Term(Views(InfoNCE()), [["audio", "text"]])}, dim=4, batch=2)


def test_a_regulariser_takes_two_views():
    """VICReg's two branches are two views of one modality, as in its paper."""
    x = torch.randn(6, 4, dtype=torch.float64)
    loss = Views(VICReg()).double()
    owner = torch.tensor([0, 0, 1, 1, 2, 2])
    want = VICReg().double()([x[::2], x[1::2]], [torch.arange(3)] * 2)
    torch.testing.assert_close(loss([x], [owner]), want)


def ballot(scores, query_item, candidate_item, how, skip_own):
    """Each pair of items by plain loops: {(query item, candidate item): score}."""
    out = {}
    items = sorted({c for c in candidate_item if c >= 0})
    for a in sorted({q for q in query_item if q >= 0}):
        mine = [i for i, q in enumerate(query_item) if q == a]
        allowed = [b for b in items if not (skip_own and a == b)]
        for b in items:
            places = [j for j, c in enumerate(candidate_item) if c == b]
            if b not in allowed:
                out[a, b] = -float("inf")
            elif how == "mean":
                out[a, b] = sum(scores[i][j] for i in mine for j in places) / len(mine) / len(places)
            elif how == "best":
                out[a, b] = sum(max(scores[i][j] for j in places) for i in mine) / len(mine)
            else:
                share = 0.0
                for i in mine:
                    best = {x: max(scores[i][j] for j, c in enumerate(candidate_item) if c == x) for x in allowed}
                    tied = [x for x, value in best.items() if value == max(best.values())]
                    share += (b in tied) / len(tied)
                out[a, b] = share / len(mine)
    return out


@pytest.mark.parametrize("how", ["mean", "best", "count"])
@pytest.mark.parametrize("skip_own", [False, True])
def test_a_vote_is_the_plain_loop(how, skip_own):
    query_item, candidate_item = [4, 0, 0, 2, -1, 4, 4], [2, 2, 5, -1, 0, 4, 0]
    scores = (torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) * 4).round()  # ties
    got, asking, found = vote(scores, torch.tensor(query_item), torch.tensor(candidate_item), how, skip_own=skip_own)
    assert (asking.tolist(), found.tolist()) == ([0, 2, 4], [0, 2, 4, 5])
    want = ballot(scores.tolist(), query_item, candidate_item, how, skip_own)
    for i, a in enumerate(asking.tolist()):
        for j, b in enumerate(found.tolist()):
            assert got[i, j].item() == pytest.approx(want[a, b])


def test_a_vote_of_nothing_and_a_bad_rule():
    none = torch.zeros(0, dtype=torch.long)
    assert vote(torch.zeros(0, 2), none, torch.tensor([0, 1]))[0].shape == (0, 2)
    assert vote(torch.zeros(2, 0), torch.tensor([0, 1]), none, "count")[0].shape == (2, 0)
    with pytest.raises(ValueError, match="a vote is by mean, best, count; got 'sum'"):
        vote(torch.zeros(1, 1), none, none, "sum")
    with pytest.raises(ValueError, match=r"scores are \(q, c\) = \(0, 0\); got \(1, 1\)"):
        vote(torch.zeros(1, 1), none, none)


def test_the_evaluator_lets_all_rows_of_a_sample_ask(tmp_path):
    """Pictures of three rows and sounds of one, by the mean vote and against plain loops."""
    samples = {}
    for number, (key, members) in enumerate(tiny_space.world(12, noise=1.0).items()):
        draw = torch.Generator().manual_seed(number)
        about = {name: content for name, content in members.items() if name in ("audio.npy", "json")}
        rows_ = [torch.randn(8, generator=draw) for _ in range(3)] if "image.npy" in members else []
        samples[key] = about | {f"image.{i}.npy": tiny_space.npy(row) for i, row in enumerate(rows_)}
    shards = align.Shards(str(tiny_space.write_tar(tmp_path / "test-000000.tar", samples)), shuffle=False)
    results = align.evaluate(tiny_space.model(), shards, with_=["votes"], draws=0)
    names = {name.split("/")[-2] for name in results.scores}
    assert names == {"image_to_image", "image_to_audio", "audio_to_image"}  # a sound has one row
    table = results.embeddings
    x, y, of_x, of_y = (*(F.normalize(table[m].values.double(), dim=1) for m in ("image", "audio")), *(
        table[m].sample.tolist() for m in ("image", "audio")
    ))  # fmt: skip
    right = []
    for a in sorted({*of_x} & {*of_y}):
        means = {b: sum(float(x[i] @ y[of_y.index(b)]) for i, owner in enumerate(of_x) if owner == a) / 3 for b in of_y}
        right.append(max(means, key=means.__getitem__) == a)
    assert results.scores["votes/image_to_audio/recall@1"] == pytest.approx(sum(right) / len(right))
    kind = [label and label["kind"] for label in table.labels]
    found = []
    for a in sorted({*of_x}):
        means = {
            b: sum(float(x[i] @ x[j]) for i, p in enumerate(of_x) for j, q in enumerate(of_x) if (p, q) == (a, b)) / 9
            for b in {*of_x} - {a}
        }
        order = sorted(means, key=lambda b: -means[b])
        hits = [kind[b] == kind[a] and kind[a] is not None for b in order]
        if any(hits):
            shares = [sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]
            found.append(sum(shares) / len(shares))
    assert results.scores["votes/class/kind/image_to_image/map"] == pytest.approx(sum(found) / len(found), abs=1e-6)
    assert "votes/image_to_image/recall@1" not in results.scores  # the only right answer is the sample itself
    assert len(results.sections) == 1


def test_an_evaluator_without_rows_to_join_says_so(tmp_path):
    members = {key: {"image.npy": x["image.npy"], "json": x["json"]} for key, x in tiny_space.world(3).items()}
    shards = align.Shards(str(tiny_space.write_tar(tmp_path / "test-000000.tar", members)), shuffle=False)
    with pytest.raises(ValueError, match="votes are not measured: no sample has several rows of a modality"):
        align.evaluate(tiny_space.model(), shards, with_=["votes"], draws=0)
    with pytest.raises(ValueError, match="a vote is by mean, best, count; got 'sum'"):
        Votes("sum")
