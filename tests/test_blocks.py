"""Blocks: a long row is its pieces, each read alone, and a transformer over what is there."""

from __future__ import annotations

import pytest
import torch
from test_encoders import configs
from torch import nn

from align import JointModel, Tower
from align.checkpoint.describe import build, describe
from align.encoders import Blocks, HFText, SpectrogramCNN, TransformerText
from align.heads import AttentionPool
from align.preprocess import Bytes
from align.values import Features

D = 8


def text(real: list[int], context: int = 12) -> torch.Tensor:
    x = torch.randint(3, 88, (len(real), context))
    return x.where(torch.arange(context) < torch.tensor(real)[:, None], 0)


def made(depth: int = 1, dropout: float = 0.0) -> Blocks:
    torch.manual_seed(0)
    inside = TransformerText(90, 4, D, 1, 2)
    encoder = Blocks(inside, 3, depth=depth, heads=2, dropout=dropout).double().eval()
    if encoder.position is not None:
        nn.init.normal_(encoder.position)
    return encoder


def loop(encoder: Blocks, row, pieces) -> tuple[torch.Tensor, torch.Tensor]:
    """One row, piece after piece; a piece that holds nothing is not there."""
    real = [k for k, piece in enumerate(pieces) if k == 0 or bool(piece.any())]
    x = torch.stack([encoder.encoder(pieces[k][None]).pooled[0] for k in real])
    if encoder.depth:
        x = (x + encoder.position[real])[None]
        for layer in encoder.layers:
            x = layer(x)
        x = encoder.norm(x)[0]
    return x.mean(0), x


@pytest.mark.parametrize("depth", [0, 1, 2])
@torch.no_grad()
def test_a_row_is_its_pieces_one_after_the_other(depth):
    encoder, x = made(depth), text([12, 9, 8, 3, 0])
    x[0, 4:8] = 0  # a hole: the piece between two others
    pooled, tokens, mask = encoder(x)
    assert mask.tolist() == [
        [True, False, True],
        [True] * 3,
        [True, True, False],
        [True, False, False],
        [True, False, False],
    ]
    for i, row in enumerate(x):
        want, each = loop(encoder, row, row.view(3, 4))
        torch.testing.assert_close(pooled[i], want, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(tokens[i][mask[i]], each, rtol=1e-10, atol=1e-12)
        assert not tokens[i][~mask[i]].any()


@torch.no_grad()
def test_sounds_are_cut_in_time_with_zeros_at_the_end():
    torch.manual_seed(0)
    encoder = Blocks(SpectrogramCNN(D, n_mels=4, widths=(8,)), 3, depth=0).double()
    x = torch.randn(2, 1, 4, 25, dtype=torch.float64)
    x[1, ..., 9:] = 0
    pooled, _, mask = encoder(x)
    assert mask.tolist() == [[True] * 3, [True, False, False]]
    pieces = torch.cat([x, x.new_zeros(2, 1, 4, 2)], -1)
    want = [encoder.encoder(pieces[:1, ..., 9 * k : 9 * k + 9]).pooled[0] for k in range(3)]
    torch.testing.assert_close(pooled[0], torch.stack(want).mean(0))
    torch.testing.assert_close(pooled[1], encoder.encoder(x[1:, ..., :9]).pooled[0])
    series = Blocks(Mean(), 3, depth=0, axis=1)
    x = torch.randn(2, 6, 3)
    torch.testing.assert_close(series(x).tokens[:, 1], x[:, 2:4].mean(1))


class Mean(nn.Module):
    """(n, T, 3), or waves and their lengths, to means."""

    width = 3

    def forward(self, values) -> Features:
        if isinstance(values, dict):
            x, lengths = values["values"], values["lengths"]
            real = torch.arange(x.shape[1]) < lengths[:, None]
            return Features(((x * real).sum(1) / lengths)[:, None].expand(-1, 3))
        return Features(values.mean(1))


class Ids(nn.Module):
    """Ids and their mask to the mean of the real ids."""

    width = 1

    def forward(self, values) -> Features:
        ids, mask = values["input_ids"], values["attention_mask"]
        return Features(((ids * mask).sum(1) / mask.sum(1))[:, None])


def test_lengths_and_masks_are_cut_with_their_values():
    x, lengths = torch.rand(3, 10) + 1, torch.tensor([10, 7, 2])
    x = x * (torch.arange(10) < lengths[:, None])
    pooled, _, mask = Blocks(Mean(), 4, depth=0)({"values": x, "lengths": lengths})
    for i, L in enumerate(lengths.tolist()):
        parts = [x[i, k : min(k + 3, L)].mean() for k in range(0, L, 3)]
        torch.testing.assert_close(pooled[i, 0], torch.stack(parts).mean())
        assert mask[i].sum() == len(parts)
    torch.manual_seed(0)
    encoder = Blocks(HFText("x", config=configs["bert"]), 3, heads=2).double().eval()
    ids = text([30, 11, 12, 0], 30)
    values = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    pooled, _, mask = encoder(values)
    assert pooled.isfinite().all()
    assert mask.sum(1).tolist() == [3, 2, 2, 1]
    first = encoder.encoder({name: each[1:2, :10] for name, each in values.items()}).pooled
    assert Blocks(Ids(), 3, depth=0)(values).pooled.isfinite().all()  # an encoder that divides by its real tokens
    alone = Blocks(encoder.encoder, 3, depth=0)({name: each[1:2, :] for name, each in values.items()}).tokens
    torch.testing.assert_close(alone[:, 0], first)
    pooled.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_a_tower_of_blocks_has_a_preprocess_of_whole_rows_and_comes_back():
    encoder = made()
    again = build(describe(encoder)).double().eval()
    again.load_state_dict(encoder.state_dict())
    x = text([12, 5])
    assert torch.equal(again(x).pooled, encoder(x).pooled)
    inside = TransformerText(259, 4, D, 1, 2)
    model = JointModel(
        {"text": Tower(Bytes(context=12), Blocks(inside, 3, heads=2), lambda w, d: AttentionPool(w, d, 2))}, 4
    )
    assert model.embed(text=["a long text of twelve", "a"])["text"].isfinite().all()
    with pytest.raises(ValueError, match="Bytes gives context 16, Blocks takes context 12"):
        Tower(Bytes(context=16), Blocks(inside, 3))
    with pytest.raises(ValueError, match="Blocks goes around an encoder, which has a width; Tanh has none"):
        Blocks(nn.Tanh(), 3)
    with pytest.raises(ValueError, match="blocks is at least 1 and depth at least 0, not 0 and 1"):
        Blocks(inside, 0)
