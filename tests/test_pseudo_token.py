"""Pseudo-tokens: a vector in place of a token, by a loop over rows; gradients, other encoders and bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from align.encoders import TransformerText
from align.heads import Linear
from align.model import Tower
from align.model.pseudo_token import PseudoToken, compose, find_place, find_table, insert, map_to
from align.preprocess import Bytes

D, W = 6, 8


def make():
    torch.manual_seed(0)
    return Tower(Bytes(context=16), TransformerText(context=16, width=W, depth=1, heads=2), Linear)


@pytest.fixture
def tower():
    from align import JointModel

    return JointModel({"text": make()}, D).eval().towers["text"]


TEXTS = ["* red", "a *", "so * b"]


def test_a_row_is_that_of_a_tower_with_its_vector_in_the_table(tower):
    vectors = torch.randn(3, W)
    found = compose(tower, TEXTS, vectors)
    table, place = find_table(tower.encoder), find_place(tower)
    assert place == ord("*") + 3
    for i, text in enumerate(TEXTS):
        kept = table.weight.detach().clone()
        with torch.no_grad():
            table.weight[place] = vectors[i]
            alone = tower(tower.preprocess.collate([tower.preprocess.eval(text)]))[0]
            table.weight.copy_(kept)
        torch.testing.assert_close(found[i], alone)


def test_the_tower_is_as_before_afterwards(tower):
    values = tower.preprocess.collate([tower.preprocess.eval(text) for text in TEXTS])
    before = tower(values)
    compose(tower, TEXTS, torch.randn(3, W))
    assert torch.equal(tower(values), before)
    with pytest.raises(RuntimeError), insert(find_table(tower.encoder), 45, torch.randn(2, W)):
        tower(values)  # another number of rows
    assert torch.equal(tower(values), before)


def test_gradients_reach_vectors_and_tower_row_by_row(tower):
    vectors = torch.randn(3, W, requires_grad=True)
    compose(tower, TEXTS, vectors)[1].sum().backward()
    assert vectors.grad is not None
    assert vectors.grad[1].any()
    assert not vectors.grad[[0, 2]].any()
    place = find_place(tower)
    grad = find_table(tower.encoder).weight.grad
    assert not grad[place].any()  # the table's row of the word is not read
    assert grad[ord("a") + 3].any()


def test_no_rows(tower):
    assert compose(tower, [], torch.zeros(0, W)).shape == (0, D)


def test_a_map_starts_at_the_length_of_the_tables_rows(tower):
    mapped = map_to(tower, D)
    length = find_table(tower.encoder).weight.norm(dim=1).mean().detach()
    vectors = mapped(torch.randn(5, D))
    assert vectors.shape == (5, W)
    torch.testing.assert_close(vectors.norm(dim=1), length.expand(5))
    assert PseudoToken(D, W, hidden=3).layers[0].weight.shape == (3, D)


def test_an_encoder_of_another_library_has_its_largest_table():
    encoder = nn.ModuleDict({"position": nn.Embedding(5, W), "token": nn.Embedding(50, W), "kind": nn.Embedding(2, W)})
    assert find_table(encoder) is encoder["token"]


@pytest.mark.parametrize(
    ("texts", "rows", "word", "says"),
    [
        (["a b"], 1, "*", r"the text 'a b' has the word '\*' 0 times within its length; it has it once"),
        (["* *"], 1, "*", r"has the word '\*' 2 times"),
        (["far too long for this *"], 1, "*", "0 times within its length"),
        (["*"], 2, "*", r"each text has one vector for its '\*'; got 1 texts, 2 vectors"),
        (["ab"], 1, "ab", "a pseudo-token stands for one token; 'ab' has 2 in this tower's text"),
    ],
)
def test_bad_input_is_one_line(tower, texts, rows, word, says):
    with pytest.raises(ValueError, match=says):
        compose(tower, texts, torch.randn(rows, W), word)


def test_an_encoder_without_a_table_is_refused():
    with pytest.raises(ValueError, match=r"Linear has no token table \(nn.Embedding\)"):
        find_table(nn.Linear(2, 2))
