"""Long texts: positions that are stretched, and a loss on the large components of a picture's row."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from test_encoders import configs

from align import JointModel, Objective, Term, Tower
from align.checkpoint import save, start_from
from align.checkpoint.describe import build, describe
from align.encoders import HFText, OpenClipText, TransformerText
from align.encoders.positions import stretch_positions, stretch_table
from align.losses import InfoNCE, MemoryQueue, PrimaryComponents, infonce
from align.preprocess import Bytes


def loop(table, context, keep):
    """Position after position."""
    out, L = [], len(table)
    for p in range(context):
        if p < keep:
            out.append(table[p])
            continue
        at = keep + (p - keep) * (L - keep) / (context - keep)
        low = min(math.floor(at), L - 2)
        out.append(table[low] + (at - low) * (table[low + 1] - table[low]))
    return torch.stack(out)


@pytest.mark.parametrize(("L", "context", "keep"), [(77, 248, 20), (6, 7, 0), (6, 23, 4), (5, 5, 3)])
def test_a_table_is_stretched_as_the_loop_says(L, context, keep):
    table = torch.randn(L, 3, dtype=torch.float64)
    got = stretch_table(table, context, keep)
    torch.testing.assert_close(got, loop(table, context, keep), rtol=1e-12, atol=1e-12)
    assert torch.equal(got[:keep], table[:keep])


def test_clip_s_positions_go_four_times_as_far():
    """Of 77 positions 248, each fourth of the new ones an old one."""
    table = torch.randn(77, 2, dtype=torch.float64)
    assert torch.equal(stretch_table(table, 248)[20::4], table[20:])


TINY = {
    "embed_dim": 8,
    "vision_cfg": {"layers": 1, "width": 8, "image_size": 8, "head_width": 8, "patch_size": 8},
    "text_cfg": {"layers": 1, "width": 8, "context_length": 12, "vocab_size": 90, "heads": 2},
}
ENCODERS = {
    "ours": lambda: TransformerText(90, 12, 8, 1, 2),
    "open_clip": lambda: OpenClipText("tiny", config=TINY),
    "bert": lambda: HFText("x", config=configs["bert"]),
    "clip": lambda: HFText("x", config=configs["clip"]),
    "roberta": lambda: HFText("x", config={**configs["bert"], "model_type": "roberta", "max_position_embeddings": 14}),
}


def ids(name: str, n: int, L: int, real: int):
    x = torch.zeros(n, L, dtype=torch.long)
    x[:, :real] = torch.randint(3, 88, (n, real), generator=torch.Generator().manual_seed(real))
    if name in ("ours", "open_clip"):
        return x
    return {"input_ids": x.where(x > 0, 1), "attention_mask": (x > 0).long()}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_short_text_is_read_as_before_and_a_long_one_at_all(name):
    torch.manual_seed(0)
    encoder = ENCODERS[name]().double().eval()
    with torch.no_grad():
        before = encoder(ids(name, 3, 12, 7)).pooled
        stretch_positions(encoder, 30, keep=8)
        after, long = (encoder(ids(name, 3, 30, real)).pooled for real in (7, 29))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)
    assert long.isfinite().all()
    assert encoder.context == 30
    for context in (29, 12):
        with pytest.raises(ValueError, match=f"30 positions is stretched to 30 or more, not to {context}"):
            stretch_positions(encoder, context)
    with pytest.raises(ValueError, match=r"from 0 to 28, as the table has 30; got 29"):
        stretch_positions(encoder, 40, 29)


MADE = {
    "open_clip": lambda: OpenClipText("tiny", config=TINY, context=30, keep=8),
    "bert": lambda: HFText("x", config=configs["bert"], context=30, keep=8),
}


@pytest.mark.parametrize("name", MADE)
def test_an_encoder_is_made_long_and_comes_back_from_its_description(name):
    torch.manual_seed(0)
    encoder = MADE[name]().eval()
    again = build(describe(encoder)).eval()
    again.load_state_dict(encoder.state_dict())
    x = ids(name, 2, 30, 25)
    assert torch.equal(again(x).pooled, encoder(x).pooled)


def test_a_longer_context_without_keep_and_a_model_without_a_table_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"tiny reads 12 tokens a row, not 30; keep: 20 stretches its positions"):
        OpenClipText("tiny", config=TINY, context=30)
    with pytest.raises(ValueError, match=r"x has no table of learned positions.*leave keep out"):
        HFText("x", config=configs["llama"], context=30, keep=8)
    with pytest.raises(ValueError, match=r"keep=8 stretches the positions of x to a context; give context too"):
        HFText("x", config=configs["bert"], keep=8)
    with pytest.raises(ValueError, match="Linear has no table of learned positions"):
        stretch_positions(torch.nn.Linear(2, 2), 30)


def model(context: int, keep: int | None = None, width: int = 8) -> JointModel:
    tower = Tower(Bytes(context=context), TransformerText(259, context, width, 1, 2, keep=keep))
    return JointModel({"text": tower, "other": Tower(Bytes(context=4), TransformerText(259, 4, 8, 1, 2))}, 4)


def test_a_run_starts_from_a_model_of_shorter_texts(tmp_path):
    torch.manual_seed(0)
    old = model(12).eval()
    save(old, tmp_path / "old")
    terms = {"clip": Term(InfoNCE(), ["text", "other"])}
    objective = Objective(terms, dim=4, batch=4, modalities=old.modalities)
    new = model(30, keep=8).eval()
    assert "text.encoder" in start_from(new, objective, str(tmp_path / "old")).taken
    table = new.towers["text"].encoder.position
    torch.testing.assert_close(table, loop(old.towers["text"].encoder.position, 30, 8))
    short = ["a cat", "dogs"]
    torch.testing.assert_close(new.embed(text=short)["text"], old.embed(text=short)["text"])
    for wrong, line in (
        (model(30), r"text.encoder.position is \(12, 8\) there and \(30, 8\) in this model; give both one width"),
        (model(10, keep=8), r"text.encoder: a table of 12 positions is stretched to 12 or more, not to 10"),
        (model(30, keep=8, width=4), r"there and"),
    ):
        with pytest.raises(ValueError, match=line):
            start_from(wrong, objective, str(tmp_path / "old"))


def coarse(x, k):
    """Component after component, of a singular value decomposition."""
    mean = x.mean(0)
    _, _, axes = torch.linalg.svd(x - mean, full_matrices=False)
    rows = []
    for row in x:
        near = mean + sum(((row - mean) @ axis * axis for axis in axes[:k]), torch.zeros_like(mean))
        rows.append(near / near.norm())
    return torch.stack(rows)


def test_the_loss_reads_the_large_components_of_one_side():
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(n, 6, dtype=torch.float64), dim=1) for n in (9, 8))
    samples = [torch.tensor([0, 1, 2, 3, 4, 5, 6, 6, -1]), torch.arange(8)]
    more = {"sample_a": samples[0], "sample_b": samples[1]}
    for k in (1, 3):
        loss = PrimaryComponents(InfoNCE(), k, "image").double()
        loss.between(["text", "image"])
        want = infonce(b, coarse(a, k), loss.scale, sample_a=samples[1], sample_b=samples[0])
        torch.testing.assert_close(loss([b, a], [*reversed(samples)]), want)
    free = 3 * a  # rows that are no unit vectors keep their length
    loss = PrimaryComponents(InfoNCE(), 5, "0").double()
    mean = free.mean(0)
    axis = torch.linalg.svd(free - mean, full_matrices=False)[2][5]
    want = infonce(free - ((free - mean) @ axis)[:, None] * axis, b, loss.scale, **more)
    torch.testing.assert_close(loss([free, b], samples), want)
    whole = PrimaryComponents(InfoNCE(), 6, "0").double()
    assert torch.equal(whole([a, b], samples), infonce(a, b, whole.scale, **more))


def test_the_components_are_constants_in_the_gradient():
    """Also of equal rows, where an eigenvector has no derivative; two rows are their two components."""
    x = F.normalize(torch.randn(7, 6, dtype=torch.float64), dim=1)
    x = torch.cat([x, x[:3]]).requires_grad_()
    loss = PrimaryComponents(InfoNCE(), 2, "0").double()
    other = torch.randn(10, 6, dtype=torch.float64)
    (got,) = torch.autograd.grad(loss([x, other], [torch.arange(10)] * 2), x)
    assert got.isfinite().all()
    axes = torch.linalg.svd((x - x.mean(0)).detach(), full_matrices=False)[2][:2]
    mean = x.detach().mean(0)
    near = F.normalize(mean + (x - mean) @ axes.T @ axes, dim=1)
    (want,) = torch.autograd.grad(infonce(near, other, loss.scale), x)
    torch.testing.assert_close(got, want)
    few = PrimaryComponents(InfoNCE(), 1, "0").double()
    assert torch.equal(few([x[:2], other[:2]], [torch.arange(2)] * 2), infonce(x[:2], other[:2], few.scale))


def test_what_does_not_fit_is_one_line():
    for make, line in (
        (lambda: PrimaryComponents(InfoNCE(), 0, "image"), "k is a number of components of at least 1; got 0"),
        (lambda: PrimaryComponents(MemoryQueue(InfoNCE(), 4), 2, "image"), "goes inside MemoryQueue and Bank"),
        (
            lambda: Objective({"t": Term(PrimaryComponents(InfoNCE(), 2, "imag"), ["image", "text"])}, dim=4, batch=4),
            "term 't' names the modality 'imag'; .* did you mean 'image'",
        ),
        (
            lambda: PrimaryComponents(InfoNCE(), 2, "image")([torch.eye(3)] * 2, [torch.arange(3)] * 2),
            "PrimaryComponents reads 'image'; the call has 0, 1",
        ),
    ):
        with pytest.raises(ValueError, match=line):
            make()
