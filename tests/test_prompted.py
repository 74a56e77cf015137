"""Learned prompts: vectors before a text, tokens beside the input of blocks."""

from __future__ import annotations

import pytest
import torch
from test_encoders import configs

from align import JointModel, Objective, Term, Tower, load, save
from align.checkpoint import start_from
from align.encoders import HFText, Prompted, PromptTokens, TimmImage, TransformerText
from align.losses import Regress
from align.preprocess import Bytes

bytes_of = Bytes(context=40)


def ids_of(*texts: str) -> torch.Tensor:
    return torch.stack([bytes_of.eval(text) for text in texts])


def plain(pool: str = "mean") -> TransformerText:
    torch.manual_seed(0)
    return TransformerText(context=40, width=16, depth=2, heads=2, pool=pool).double()


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_a_prompt_of_tokens_is_the_text_with_them(pool):
    words = ids_of("a photo of a ")[0, 1:14].tolist()
    prompted = Prompted(plain(pool), ids=words).double()
    got, expected = (
        prompted(ids_of("cat", "red torus")),
        plain(pool)(ids_of("a photo of a cat", "a photo of a red torus")),
    )
    torch.testing.assert_close(got.pooled, expected.pooled, rtol=0, atol=0)
    torch.testing.assert_close(got.tokens, expected.tokens, rtol=0, atol=0)
    assert prompted.encoder(ids_of("cat")).pooled.equal(plain(pool)(ids_of("cat")).pooled)


def test_a_long_text_is_cut_and_keeps_its_end():
    words = ids_of("of ")[0, 1:4].tolist()
    prompted = Prompted(plain("last"), ids=words).double()
    for n in range(30, 60):  # at and over the limit
        text = "x" * n
        torch.testing.assert_close(
            prompted(ids_of(text)).pooled, plain("last")(ids_of("of " + text)).pooled, rtol=0, atol=0
        )


def test_the_mask_of_transformers_has_room_too():
    torch.manual_seed(0)
    encoder = HFText("bert", config=configs["bert"]).double().eval()
    ids = torch.tensor([[2, 7, 9, 3, 0, 0, 0], [2, 8, 3, 0, 0, 0, 0]])
    with_words = torch.tensor([[2, 5, 6, 7, 9, 3, 0], [2, 5, 6, 8, 3, 0, 0]])
    prompted = Prompted(encoder, ids=[5, 6]).double().eval()
    got = prompted({"input_ids": ids, "attention_mask": (ids != 0).long()})
    expected = encoder({"input_ids": with_words, "attention_mask": (with_words != 0).long()})
    torch.testing.assert_close(got.pooled, expected.pooled, rtol=1e-12, atol=1e-12)


def test_the_prompt_alone_learns():
    prompted = Prompted(plain(), 3).double()
    prompted.encoder.requires_grad_(False)
    prompted(ids_of("cat", "dog")).pooled.square().sum().backward()
    assert prompted.prompt.grad is not None
    assert all(row.abs().sum() > 0 for row in prompted.prompt.grad)
    assert prompted.encoder.token.weight.grad is None


def test_tokens_are_seen_in_the_blocks_alone():
    """A loop over the blocks: tokens are put behind, replaced for two layers, and dropped."""
    torch.manual_seed(0)
    encoder = TimmImage("test_vit", size=32).double().eval()
    prompted = PromptTokens(encoder, 3, 2, "model.blocks").double().eval()
    x, model = torch.randn(2, 3, 32, 32, dtype=torch.float64), encoder.model
    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
    length = tokens.shape[1]
    for layer, block in enumerate(model.blocks):
        if layer < 2:
            tokens = torch.cat([tokens[:, :length], prompted.prompt[layer].expand(2, -1, -1)], 1)
        tokens = block(tokens)
    expected = model.forward_head(model.norm(tokens[:, :length]), pre_logits=True)
    torch.testing.assert_close(prompted(x).pooled, expected)
    assert prompted(x).tokens.shape == encoder(x).tokens.shape
    assert not torch.allclose(prompted(x).pooled, encoder(x).pooled)
    assert prompted.grid == encoder.grid
    assert prompted.grid_of(x) == encoder.grid_of(x)


def test_a_model_with_prompts_is_saved_and_starts_from_one_without(tmp_path):
    def model(wrapped: bool) -> JointModel:
        torch.manual_seed(wrapped)
        text = TransformerText(context=40, width=16, depth=1, heads=2)
        towers = {"text": Tower(bytes_of, Prompted(text, ids=[5, 6]) if wrapped else text)}
        return JointModel({**towers, "other": Tower(bytes_of, TransformerText(context=40, width=4, heads=1))}, 4)

    frozen, prompted = model(False), model(True)
    save(frozen, tmp_path / "frozen")
    terms = {"copy": Term(Regress(), [["text", "other"]])}
    start_from(prompted, Objective(terms, dim=4, batch=8, modalities=["text", "other"]), str(tmp_path / "frozen"))
    inside = prompted.towers.text.encoder
    assert inside.encoder.token.weight.equal(frozen.towers.text.encoder.token.weight)
    assert inside.prompt.equal(frozen.towers.text.encoder.token.weight[[5, 6]])
    save(prompted, tmp_path / "prompted")
    again = load(tmp_path / "prompted")
    torch.testing.assert_close(again.embed(text=["cat"])["text"], prompted.eval().embed(text=["cat"])["text"])


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("one vector or more, from place 0 on; got length=0, at=1", lambda: Prompted(plain(), 0)),
        (r"ids=\[900\] are tokens from 0 to 258", lambda: Prompted(plain(), ids=[900])),
        ("Linear has no table of tokens", lambda: Prompted(torch.nn.Linear(2, 2))),
        ("40 tokens has no room for 40 vectors", lambda: Prompted(plain(), 40).double()(ids_of("cat"))),
        ("from 1 to 2 layers; got length=2, layers=3", lambda: PromptTokens(plain(), 2, 3)),
        ("has no list of blocks at 'layers'", lambda: PromptTokens(plain(), blocks="layers")),
    ],
)
def test_bad_prompts_are_one_line(message, call):
    with pytest.raises(ValueError, match=message):
        call()
