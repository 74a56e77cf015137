"""Layers of an encoder: each is the encoder that ends there, and the loss over them is a plain sum."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from parts import in_parts, joined

from align import JointModel, Tower
from align.encoders import ImageCNN, Layered, Series, TimmImage, TransformerText
from align.encoders.layered import cut_after
from align.losses import Bank, InfoNCE, LateInteraction, Layers, Matryoshka, MemoryQueue, Symile, infonce
from align.model.layers import at_layer
from align.objective import Objective, Term
from align.preprocess import Bytes, Image
from align.values import Batch, Embeddings, Rows


def texts(n: int, context: int = 12) -> torch.Tensor:
    ids = torch.randint(1, 90, (n, context), generator=torch.Generator().manual_seed(n))
    for i in range(n):
        ids[i, 2 + i % (context - 1) :] = 0
    return ids


KINDS = {
    "text": (lambda depth: TransformerText(90, 12, 16, depth, 2), texts, "blocks", 3),
    "text, last": (lambda depth: TransformerText(90, 12, 16, depth, 2, pool="last"), texts, "blocks", 3),
    "text, checkpointing": (lambda d: TransformerText(90, 12, 16, d, 2, checkpointing=True), texts, "blocks", 3),
    "series": (lambda depth: Series(3, 32, 16, depth, 2), lambda n: torch.randn(n, 3, 37), "blocks", 3),
    "timm": (lambda _: TimmImage("test_vit", size=32), lambda n: torch.randn(n, 3, 32, 32), "model.blocks", 6),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_is_the_encoder_that_ends_there(name):
    make, values, path, depth = KINDS[name]
    torch.manual_seed(0)
    whole, x = make(depth).double(), values(4)
    x = x.double() if x.is_floating_point() else x
    layered = Layered(whole, [1, 2, depth], path)
    got = layered(x)
    assert got.tokens.shape == (4, 3, whole.width)
    torch.testing.assert_close(got.pooled, whole(x).pooled, rtol=0, atol=0)
    torch.testing.assert_close(got.tokens[:, -1], got.pooled, rtol=0, atol=0)
    state = whole.state_dict()
    for k, layer in enumerate([1, 2]):
        short = make(layer).double()
        blocks = short
        for part in path.split("."):
            blocks = getattr(blocks, part)
        del blocks[layer:]
        short.load_state_dict({key: state[key] for key in short.state_dict()})
        torch.testing.assert_close(got.tokens[:, k], short(x).pooled, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(cut_after(layered, layer)(x).pooled, short(x).pooled, rtol=1e-12, atol=1e-12)
    blocks = [*layered.encoder.modules()]
    got.tokens.sum().backward()
    assert [*layered.encoder.modules()] == blocks
    assert whole.state_dict().keys() == state.keys()
    assert any(p.grad is not None and p.grad.any() for p in whole.parameters())


def test_a_block_runs_once():
    whole, calls = TransformerText(90, 12, 16, 4, 2), []
    for i, block in enumerate(whole.blocks):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    Layered(whole, [1, 3, 4])(texts(2))
    assert calls == [0, 1, 2, 3]


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def rows(owners, seed: int = 0):
    """Embeddings, ids and tokens: the last of three layers is the embedding, of audio's too, which is not asked."""
    layers = [unit(len(o), 3, 6, seed=seed + i) for i, o in enumerate(owners)]
    ids = [torch.tensor(o) for o in owners]
    masks = [x.new_ones(x.shape[:2], dtype=torch.bool) for x in layers]
    return [x[:, -1] for x in layers], ids, [*zip(layers, masks, strict=True)]


owners = [[0, 1, 1, 3, -1], [0, 1, 2, 3]]


@pytest.mark.parametrize("of", [None, ["text"]])
def test_the_loss_is_the_weighted_sum_over_layers_and_prefixes(of):
    xs, ids, tokens = rows(owners)
    loss = Layers(Matryoshka(InfoNCE(), [2, 6], [0.5, 1.0]), [1, 2, 4], of, [0.25, 1.0, 2.0]).double()
    loss.start(6, 2, 4)
    loss.between(["image", "text"])
    for i, each in enumerate([*loss.modules()]):
        if isinstance(each, InfoNCE):
            each.log_scale.data.fill_(0.1 * i)
    expected = 0.0
    for k, w in enumerate([0.25, 1.0, 2.0]):
        part = loss.earlier[k] if k < 2 else loss.loss
        image = xs[0] if of else tokens[0][0][:, k]
        text = tokens[1][0][:, k]
        for d, v, scale in ((2, 0.5, part.prefixes[0].scale), (6, 1.0, part.loss.scale)):
            a, b = F.normalize(image[:, :d], dim=1), F.normalize(text[:, :d], dim=1)
            expected = expected + w * v * infonce(a, b, scale, sample_a=ids[0], sample_b=ids[1])
    got = loss(xs, ids, tokens=tokens)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    assert len([*loss.parameters()]) == 6
    torch.testing.assert_close(loss.scale, loss.loss.loss.scale)


@pytest.mark.parametrize("make", [InfoNCE, Symile, lambda: MemoryQueue(InfoNCE(), 4)])
def test_it_is_shared_out_and_goes_through_an_objective(make):
    xs, ids, tokens = rows(owners)
    loss = Layers(make(), [1, 2, 4]).double()
    whole = [t.clone().requires_grad_() for t, _ in tokens]
    masks = [mask for _, mask in tokens]

    def call(*layers, part=(0, 1), merge=None):
        here = copy.deepcopy(loss)
        here.start(6, 2, 4)
        here.between(["image", "text"])
        return here([x[:, -1] for x in layers], ids, tokens=[*zip(layers, masks, strict=True)], part=part, merge=merge)

    value = call(*whole)
    grads = torch.autograd.grad(value, whole)
    assert all(float(grad[:, k].abs().max()) > 1e-4 for grad in grads for k in range(3))
    got, summed = joined(in_parts(call, [x.detach() for x in whole], 2))
    torch.testing.assert_close(got, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(summed, [*grads], rtol=1e-10, atol=1e-12)
    made = Objective({"one": Term(loss, "all")}, dim=6, batch=4, modalities=["image", "text"])
    assert made.tokens == ["image", "text"]
    frame = {m: Rows(x, i, *t) for m, x, i, t in zip(["image", "text"], xs, ids, tokens, strict=True)}
    total, _ = made(Embeddings(frame, [*"abcd"], torch.arange(4)))
    torch.testing.assert_close(total.detach(), value.detach(), rtol=1e-9, atol=1e-9)


def model() -> JointModel:
    torch.manual_seed(1)
    text = Tower(Bytes(context=12), Layered(TransformerText(259, 12, 16, 3, 2), [1, 3]))
    return JointModel({"text": text, "image": Tower(Image(28), ImageCNN(16, 3, [8], 4)), "title": Tower(Bytes(12))},
                      8, share={"title": "text"})  # fmt: skip


def test_a_model_trains_its_layers_and_ends_after_one(tmp_path):
    import align

    whole, words = model(), ["a red cone", "blue", "a green one", "two"]
    reader = whole.preprocess["text"]
    made = Objective({"clip": Term(Layers(InfoNCE(), [1, 3], ["text"]), ["image", "text"])}, dim=8, batch=3)
    batch = Batch(
        {"text": Rows(reader.collate([reader.eval(reader.decode(w)) for w in words[:3]]), torch.arange(3)),
         "title": Rows(reader.collate([]), torch.arange(0)),
         "image": Rows(torch.randint(0, 255, (3, 3, 28, 28), dtype=torch.uint8), torch.arange(3))},
        [*"abc"], torch.arange(3),
    )  # fmt: skip
    embeddings = whole(batch, tokens=made.tokens)
    made(embeddings)[0].backward()
    assert all(p.grad is not None for name, p in whole.named_parameters() if "title" not in name)
    first = at_layer(whole, 1)
    layers = embeddings["text"].tokens.detach()
    for m in ("text", "title"):
        got = first.embed(**{m: words[:3]})[m]
        if m == "text":
            torch.testing.assert_close(got, layers[:, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.embed(text=words[:3])["text"], layers[:, 1], rtol=1e-5, atol=1e-6)
    assert len(first.towers["title"].encoder.blocks) == 1
    assert len(whole.towers["title"].encoder.encoder.blocks) == 3
    align.save(whole, tmp_path / "whole")
    align.save(first, tmp_path / "first")
    again = at_layer(align.load(tmp_path / "whole"), 1)
    torch.testing.assert_close(again.embed(text=words), first.embed(text=words), rtol=0, atol=0)
    torch.testing.assert_close(
        align.load(tmp_path / "first").embed(text=words), first.embed(text=words), rtol=0, atol=0
    )


def test_a_tower_without_tokens_meets_one_with_layers():
    """The objective asks for the tokens of ``of`` alone, and the value is the plain sum over the layers."""
    made = Objective({"clip": Term(Layers(InfoNCE(), [1, 3], ["text"]), ["text", "image"])}, dim=8, batch=3)
    assert made.tokens == ["text"]
    layers, image = F.normalize(torch.randn(3, 2, 8), dim=-1), F.normalize(torch.randn(3, 8), dim=-1)
    text = Rows(layers[:, 1], torch.arange(3), layers, torch.ones(3, 2, dtype=torch.bool))
    total, _ = made(Embeddings({"text": text, "image": Rows(image, torch.arange(3))}, [*"abc"], torch.arange(3)))
    scale = float(made.losses["clip"].scale.detach())
    want = sum(infonce(layers[:, k], image, scale) for k in (0, 1))
    torch.testing.assert_close(total, want)


def test_what_does_not_fit_is_one_line():
    xs, ids, tokens = rows(owners)
    wrong_of = Layers(InfoNCE(), [1, 2, 4], ["txt"])
    for wrong, words in (
        (lambda: Layered(TransformerText(90, 12, 16, 3, 2), [1, 2]), r"numbers from 1 to 3, the last of all blocks"),
        (lambda: Layered(TransformerText(90, 12, 16, 3, 2), [2, 1, 3]), r"got \[2, 1, 3\]"),
        (lambda: Layered(ImageCNN(16, 3, [8], 4), [1]), "ImageCNN has no list of blocks at 'blocks'"),
        (lambda: cut_after(Layered(TransformerText(90, 12, 16, 3, 2), [1, 3]), 2), "the layers are 1, 3; got 2"),
        (lambda: at_layer(model(), 2), "the layers are 1, 3; got 2"),
        (lambda: at_layer(model(), 1, "image"), "the towers with layers are text, title; got image"),
        (lambda: Layers(InfoNCE(), [2, 1]), "layers are growing numbers"),
        (lambda: Layers(InfoNCE(), [1, 2], weights=[1.0]), "one number for each of the 2 layers; got 1"),
        (lambda: Layers(InfoNCE(), [1], weights=[-1.0]), "numbers of at least 0"),
        (lambda: Layers(LateInteraction(), [1, 2]), "LateInteraction reads tokens"),
        (lambda: Layers(Bank(InfoNCE(), "image"), [1, 2]), "Layers goes not around Bank"),
        (lambda: wrong_of.between(["image", "text"]), "of names txt; a call is between image, text"),
        (lambda: Layers(InfoNCE(), [1, 2])(xs, ids, tokens=tokens), "each row of 0 has 3 of them"),
        (lambda: Layers(InfoNCE(), [1, 2, 4])(xs, ids), "Layers reads layers as tokens"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)
