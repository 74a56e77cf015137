"""Bank and Window against plain loops over the rows of a whole training set, one anchor and one candidate at a time."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from parts import in_parts, joined
from test_infonce import equal
from test_symile import everything
from test_symile import loop as symile_loop
from torch import Tensor

from align.losses import (
    Bank,
    Distill,
    HardNegatives,
    Hinge,
    InfoNCE,
    Matryoshka,
    MemoryQueue,
    MixGeodesic,
    SigLIP,
    Symile,
    Window,
)
from align.losses.kernels import dense, sigmoid, slabs

dim = 5
captions = [0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12]  # the sample of each row of text in the set
set_groups = {1: 4, 6: 4, 9: 4, 2: 8, 10: 8, 12: 4}  # the shard's groups
equal_rows = {2: 1, 13: 3, 6: 2, 15: 1}  # row -> the row that it equals, of another sample
batch_numbers = [3, 0, 6, 1, 10]  # samples of a batch. The image of 10 is missing
images = [3, 3, 0, 6, 1]
texts = [(3, 4), (3, 5), (0, 0), (0, 1), (6, 8), (1, 2), (10, 13)]  # (sample, row of the set)


def world(seed: int = 0):
    """The set's rows of text (R, D), and rows of images (n, D) that train; float64."""
    draw = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(len(captions), dim, dtype=torch.float64, generator=draw), dim=1)
    for row, other in equal_rows.items():
        rows[row] = rows[other]
    live = F.normalize(torch.randn(len(images), dim, dtype=torch.float64, generator=draw), dim=1)
    wrong = F.normalize(torch.randn(1, dim, dtype=torch.float64, generator=draw), dim=1)  # a hard negative of the batch
    return rows, live.requires_grad_(), wrong


def group(sample: int, grouped: bool) -> int:
    return set_groups.get(sample, -1) if grouped else -1


def call(loss, rows: Tensor, live: Tensor, wrong: Tensor, grouped: bool = True, **more):
    """The loss of the batch, by the interface that an objective uses."""
    place = {number: i for i, number in enumerate(batch_numbers)}
    text = torch.cat([rows[[row for _, row in texts]], wrong])
    samples = [torch.tensor([place[s] for s in images]), torch.tensor([*(place[s] for s, _ in texts), -1])]
    numbers = [torch.tensor(images), torch.tensor([*(s for s, _ in texts), -1])]
    groups = [torch.tensor([group(s, True) for s in n.tolist()]) for n in numbers] if grouped else None
    more |= {"numbers": numbers} if loss.needs_numbers else {}
    return loss([live, text], samples, groups=groups, **more)


def filled(loss, rows: Tensor, grouped: bool = True, **more) -> Bank:
    bank = Bank(loss, "1", **more).double()
    order = torch.randperm(len(captions), generator=torch.Generator().manual_seed(3))  # shards are read in any order
    numbers = torch.tensor(captions)
    groups = torch.tensor([group(s, True) for s in captions]) if grouped else None
    bank.fill(rows[order], numbers[order], None if groups is None else groups[order])
    return bank


def own(number: int) -> list[int]:
    return [r for r, s in enumerate(captions) if s == number]


def alike(number: int, other: int, row: int, rows: Tensor, grouped: bool) -> bool:
    """Row ``row`` of sample ``other`` is no negative of a sample: one group, or equal to one of its rows."""
    return (
        number == other
        or (group(number, grouped) >= 0 and group(number, grouped) == group(other, grouped))
        or any(torch.equal(rows[row], rows[r]) for r in own(number))
    )


def negatives(rows: Tensor, wrong: Tensor, live: Tensor, grouped: bool, keep=lambda number, vector: True):
    """For each image its negatives among the texts, and for each text of the batch its negatives among the images."""
    of_image = [
        [rows[r] for r, s in enumerate(captions) if not alike(n, s, r, rows, grouped) and keep(n, rows[r])]
        + [w for w in wrong if keep(n, w)]
        for n in images
    ]
    of_text = [
        [live[i] for i, n in enumerate(images) if not alike(n, s, row, rows, grouped) and keep(n, rows[row])]
        for s, row in texts
    ]
    return of_image, of_text


def infonce_loop(rows, live, wrong, scale, grouped=True, keep=lambda number, vector: True):
    of_image, of_text = negatives(rows, wrong, live, grouped, keep)
    sides = []
    for anchors, found, positives in (
        (live, of_image, [[rows[r] for r in own(n)] for n in images]),
        ([rows[r] for _, r in texts], of_text, [[live[i] for i, n in enumerate(images) if n == s] for s, _ in texts]),
    ):
        costs = []
        for x, against, right in zip(anchors, found, positives, strict=True):
            if not right:
                continue
            every = sum(torch.exp(scale * (x * y).sum()) for y in [*right, *against])
            costs.append(sum(torch.log(every) - scale * (x * y).sum() for y in right) / len(right))
        sides.append(sum(costs) / len(costs))
    return sum(sides) / 2


def small_tiles(monkeypatch):
    """Slabs of four rows, and no matrix of all logits."""
    monkeypatch.setattr(dense, "ENTRIES", 0)
    monkeypatch.setattr(slabs, "height_of", lambda *_: 4)
    monkeypatch.setattr(sigmoid, "ROWS", 3)
    monkeypatch.setattr(sigmoid, "TILE", 1)


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_infonce_equals_a_loop_over_the_whole_set(grouped, tiles, monkeypatch):
    if tiles:
        small_tiles(monkeypatch)
    rows, live, wrong = world()
    bank = filled(InfoNCE(start_scale=7.0), rows, grouped)
    got = call(bank, rows, live, wrong, grouped)
    equal(got, infonce_loop(rows, live, wrong, bank.scale, grouped), [live, *bank.parameters()])
    assert abs(got.item() - call(bank.loss, rows, live, wrong, grouped=grouped).item()) > 0.1


def siglip_loop(rows, live, wrong, scale, bias, keep=lambda number, vector: True):
    """A pair with a row of the bank counts half: the image has weight 1, the row 0."""
    in_batch = {s for s, _ in texts}
    total = 0.0
    for x, n in zip(live, images, strict=True):
        for r in own(n):
            total = total + torch.log1p(torch.exp(-(scale * (x * rows[r]).sum() + bias)))
        for r, s in enumerate(captions):
            if alike(n, s, r, rows, True) or not keep(n, rows[r]):
                continue
            total = total + (1 if s in in_batch else 0.5) * torch.log1p(torch.exp(scale * (x * rows[r]).sum() + bias))
        for w in wrong:
            total = total + keep(n, w) * torch.log1p(torch.exp(scale * (x * w).sum() + bias))
    return total / ((len(live) + len(texts) + 1) / 2)


@pytest.mark.parametrize("tiles", [False, True])
def test_siglip_equals_a_loop_over_the_whole_set(tiles, monkeypatch):
    if tiles:
        small_tiles(monkeypatch)
    rows, live, wrong = world(1)
    bank = filled(SigLIP(start_scale=6.0, start_bias=-2.0), rows)
    got = call(bank, rows, live, wrong)
    equal(got, siglip_loop(rows, live, wrong, bank.scale, bank.bias), [live, *bank.parameters()])


@pytest.mark.parametrize("kind", ["all", "partial", 9])
def test_symile_meets_the_bank_in_its_tuples(kind):
    """Against the same rows laid out by hand, with one group for samples that share a group or content."""
    rows, live, wrong = world(2)
    draw = torch.Generator().manual_seed(5)
    sound = F.normalize(torch.randn(3, dim, dtype=torch.float64, generator=draw), dim=1).requires_grad_()
    bank = Bank(Symile(kind), "text").double()
    bank.start(dim, 3, 5)
    bank.between(["image", "sound", "text"])
    bank.fill(rows, torch.tensor(captions), torch.tensor([group(s, True) for s in captions]))
    heard = [0, 6, 8]
    text = torch.cat([rows[[r for _, r in texts]], wrong])
    numbers = [torch.tensor(images), torch.tensor(heard), torch.tensor([*(s for s, _ in texts), -1])]
    got = bank([live, sound, text], numbers, numbers=numbers, generator=torch.Generator().manual_seed(2))
    # 1, 4, 6, 9 and 12 are of one group, 12 has a row of 0's and 4 one of 1's; 2 and 10 too
    family = {0: 50, 1: 50, 4: 50, 6: 50, 9: 50, 12: 50, 2: 60, 10: 60}
    rest = [r for r, s in enumerate(captions) if s not in {s for s, _ in texts}]
    every = torch.cat([text, rows[rest]])
    ids = [*numbers[:2], torch.cat([numbers[2], torch.full((len(rest),), -1)])]
    owners = [images, heard, [*(s for s, _ in texts), -1, *(captions[r] for r in rest)]]
    groups = [torch.tensor([family.get(s, 100 + s) if s >= 0 else -1 for s in each]) for each in owners]
    weights = [torch.tensor([1.0] * len(e) + [0.0] * (len(r) - len(e))) for e, r in
               zip((images, heard, text), ids, strict=True)]  # fmt: skip
    xs = [live, sound, every]
    if kind == "all":
        expected = symile_loop(xs, bank.scale, everything(xs), ids, groups, weights)
    else:
        expected = bank.loss(xs, ids, groups=groups, weights=weights, generator=torch.Generator().manual_seed(2))
    equal(got, expected, [live, sound, *bank.parameters()])


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / a.norm() / b.norm())


def inside(rows: Tensor, low: float, high: float):
    """A negative counts where the nearest of the anchor's captions is between low and high."""

    def keep(number: int, vector: Tensor) -> bool:
        best = max(cosine(rows[r], vector) for r in own(number))
        return low <= best <= high

    return keep


@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.35), (-0.2, 1.0), (-0.3, 0.4)])
@pytest.mark.parametrize("tiles", [False, True])
def test_a_window_over_batch_and_bank_equals_a_loop(low, high, tiles, monkeypatch):
    if tiles:
        small_tiles(monkeypatch)
    rows, live, wrong = world(3)
    keep = inside(rows, low, high)
    bank = filled(Window(InfoNCE(start_scale=5.0), "1", low, high), rows * 3)  # lengths do not count in a cosine
    bank.fill(rows, torch.tensor(captions), torch.tensor([group(s, True) for s in captions]))
    got = call(bank, rows, live, wrong)
    equal(got, infonce_loop(rows, live, wrong, bank.scale, True, keep), [live, *bank.parameters()])
    bank = filled(Window(SigLIP(start_scale=5.0), "1", low, high), rows)
    got = call(bank, rows, live, wrong)
    equal(got, siglip_loop(rows, live, wrong, bank.scale, bank.bias, keep), [live, *bank.parameters()])


def test_a_window_reads_the_first_side_too_and_directions_of_any_length():
    rows, live, wrong = world(4)
    loss = Window(InfoNCE(start_scale=5.0), "text", -0.2, 0.4).double()
    loss.between(["image", "text"])
    place = {number: i for i, number in enumerate(batch_numbers)}
    text = torch.cat([rows[[row for _, row in texts]] * 2, wrong])
    samples = [torch.tensor([place[s] for s in images]), torch.tensor([*(place[s] for s, _ in texts), -1])]
    expected = loss([live, text], samples)
    assert expected.item() != loss.loss([live, text], samples).item()
    loss.between(["text", "image"])
    torch.testing.assert_close(loss([text, live], samples[::-1]), expected, rtol=1e-12, atol=1e-12)
    loss.between(["image", "sound"])  # the modality is not in it
    assert torch.equal(loss([live, text], samples), loss.loss([live, text], samples))
    loss.between(["image", "text"])
    loss.eval()
    assert torch.equal(loss([live, text], samples), loss.loss([live, text], samples))


def test_a_row_without_counterpart_keeps_its_negatives():
    """An image of sample id -1 has no caption that could be compared, an empty side has no rows."""
    loss = Window(SigLIP(), "1", -0.5, 0.5).double()
    x = torch.eye(3, dtype=torch.float64)
    sample = torch.tensor([0, 1, -1])
    alone = loss([x[2:], x[:2]], [sample[2:], sample[:2]])
    assert torch.equal(alone, loss.loss([x[2:], x[:2]], [sample[2:], sample[:2]]))
    assert loss([x, x[:0]], [sample, sample[:0]]).item() == 0


def test_a_hard_negative_is_no_counterpart_of_a_row_without_a_sample():
    """An image and two texts of sample id -1: the image has no caption, so the window leaves none of its pairs out."""
    scale, bias, high = 3.0, -1.0, 0.5
    loss = Window(SigLIP(start_scale=scale, start_bias=bias), "1", high=high).double()
    images = torch.eye(4, dtype=torch.float64)[[0, 1, 3]]
    texts = torch.eye(4, dtype=torch.float64)[[0, 1, 0, 2]]
    a, b = torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1, -1])
    total = 0.0
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            positive = i == j and a[i] >= 0
            if not positive and a[i] >= 0 and (texts[i] * text).sum() > high:
                continue
            total += F.softplus((scale * (image * text).sum() + bias) * (-1 if positive else 1))
    assert loss([images, texts], [a, b]).item() == pytest.approx(float(total) / 3.5, rel=1e-6)


@pytest.mark.parametrize("length", [0.0, 1e-30])
def test_a_row_without_a_length_is_a_negative_of_all(length):
    """A float32 row of 1e-30 has a length of 0, since its squares are below the smallest number."""
    x = torch.eye(4)[:3]
    texts = torch.stack([x[0], x[1], length * (x[0] + x[1])])
    samples = [torch.tensor([0, 1]), torch.tensor([0, 1, -1])]
    for low, high in ((0.2, 1.0), (-1.0, 0.5), (-1.0, -0.2)):
        loss = Window(SigLIP(start_bias=-1.0), "1", low, high)
        kept, alone = (loss([x[:2], rows], [samples[0], samples[1][: len(rows)]]) for rows in (texts, texts[:2]))
        more = 2 * math.log1p(math.exp(-1.0))
        assert 2.5 * kept.item() - 2 * alone.item() == pytest.approx(more, rel=1e-5)


def test_a_row_far_from_its_sample_s_rows_has_the_content_of_the_nearest():
    """Its cosine with them is below 0, and another sample has more rows than its own."""
    eye = torch.eye(dim, dtype=torch.float64)
    rows, numbers = eye[[0, 0, 1, 2]], torch.tensor([0, 1, 2, 2])
    values = []
    for groups, content in ((None, [0, 0, 1, 2]), ([5, 5, -1, -1], [0, 1, 2, 3])):
        bank = Bank(InfoNCE(start_scale=3.0), "1").double()
        bank.fill(rows, numbers, None if groups is None else torch.tensor(groups), torch.tensor(content))
        ids = torch.tensor([0, 1])
        given = None if groups is None else [torch.tensor([5, 5])] * 2
        value = bank([eye[[0, 3]], -eye[[0, 0]]], [ids] * 2, groups=given, numbers=[ids] * 2)
        values.append(value.item())
    assert values[0] == pytest.approx(values[1], rel=1e-12)


@pytest.mark.parametrize("make", [InfoNCE, SigLIP], ids=["infonce", "siglip"])
def test_parts_of_ranks_sum_to_the_whole(make):
    rows, live, wrong = world(5)
    bank = filled(Window(make(), "1", -0.6, 0.6), rows)
    whole = call(bank, rows, live, wrong)
    copies = [copy.deepcopy(bank) for _ in range(3)]
    parts = in_parts(lambda x, part, merge: call(copies[part[0]], rows, x, wrong, part=part, merge=merge), [live], 3)
    value, grads = joined(parts)
    torch.testing.assert_close(value, whole.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grads, [torch.autograd.grad(whole, live)[0]], rtol=1e-10, atol=1e-12)


def test_it_is_the_loss_itself_in_eval_mode_and_elsewhere():
    rows, live, wrong = world()
    bank = filled(InfoNCE(), rows)
    bank.eval()
    assert torch.equal(call(bank, rows, live, wrong), call(bank.loss, rows, live, wrong))
    bank.train()
    bank.between(["image", "sound"])
    assert torch.equal(call(bank, rows, live, wrong), call(bank.loss, rows, live, wrong))
    assert not [*bank.buffers()] or all("bank" not in name for name, _ in bank.named_buffers())
    assert not any("stored" in name for name in bank.state_dict())


def test_wrappers_around_and_inside():
    rows, live, wrong = world()
    for make in (
        lambda: Bank(Matryoshka(InfoNCE(), [3, dim]), "1"),
        lambda: Bank(MixGeodesic(InfoNCE()), "1"),
        lambda: Bank(HardNegatives(SigLIP(), 2.0), "1"),
        lambda: Bank(Window(MixGeodesic(HardNegatives(InfoNCE(), 2.0)), "1", high=0.8), "1"),
        lambda: Window(Bank(InfoNCE(), "1"), "1", high=0.8),
        lambda: MemoryQueue(Bank(InfoNCE(), "1"), 6),
    ):
        loss = make().double()
        bank = next(part for part in loss.modules() if isinstance(part, Bank))
        bank.fill(rows, torch.tensor(captions))
        for _ in range(2):
            value = call(loss, rows, live, wrong, generator=torch.Generator().manual_seed(0))
            (grad,) = torch.autograd.grad(value, live)
            assert value.isfinite()
            assert grad.abs().max() > 0
    # a window outside sees the rows of the batch alone, one inside those of the bank too
    both = [
        filled(Window(InfoNCE(), "1", high=0.2), rows),
        Window(filled(InfoNCE(), rows), "1", high=0.2),
    ]
    inner, outer = (call(loss, rows, live, wrong).item() for loss in both)
    assert inner < outer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bank(Hinge(), "text"), "Bank goes around a loss that reads its rows in tiles"),
        (lambda: Bank(Distill(), "text"), "Distill does not"),
        (lambda: Bank(MemoryQueue(InfoNCE(), 4), "text"), "MemoryQueue(Bank(loss))"),
        (lambda: Bank(InfoNCE(label_smoothing=0.1), "text"), "label_smoothing"),
        (lambda: Bank(Symile("shuffled"), "text"), "'shuffled' of Symile, which draw"),
        (lambda: Bank(Symile(), "text").set_negatives("shuffled"), "take 'partial', 'all'"),
        (lambda: Bank(Bank(InfoNCE(), "text"), "image"), "goes around a loss once"),
        (lambda: Window(Symile(), "text"), "by pairs, InfoNCE or SigLIP; Symile does not"),
        (lambda: Window(InfoNCE(), "text", 0.5, 0.5), "low < high <= 1; got 0.5 and 0.5"),
        (lambda: Window(InfoNCE(), "text", -2.0), "got -2.0 and 1.0"),
        (lambda: Window(InfoNCE(label_smoothing=0.1), "text"), "label_smoothing"),
        (lambda: call(Bank(InfoNCE(), "1"), *world()), "bank of '1' is empty: call fill"),
        (lambda: call(Bank(InfoNCE(), "text"), *world()), "name them with between"),
        (lambda: filled(InfoNCE(), world()[0])([torch.rand(2, 3)] * 2, [torch.arange(2)] * 2), "D = 5; got D = 3"),
        (lambda: filled(InfoNCE(), world()[0])([torch.rand(2, 5)] * 2, [torch.arange(2)] * 2), "give numbers="),
        (lambda: Bank(InfoNCE(), "1").fill(torch.ones(2, 3), torch.tensor([0, -1])), "number 0 or more; got -1"),
        (lambda: Bank(InfoNCE(), "1").fill(torch.ones(2, 3), torch.arange(3)), "numbers has shape (3,)"),
        (lambda: Bank(InfoNCE(), "1").fill(torch.tensor([[1.0], [math.nan]]), torch.arange(2)), "sample 1, is not fin"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
