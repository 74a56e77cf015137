"""Recall while training: which rows are hits for each other, over batches and ranks."""

from __future__ import annotations

import pytest
import torch

from align.lit import recalls as module
from align.lit.recalls import recalls
from align.values import Embeddings, Rows, TermInfo

term = TermInfo(("image", "text"), "pairwise", 1.0)


def batch(images: list[int], texts: list[int], group: list[int] | None = None) -> Embeddings:
    """One row a sample, of the unit vectors with these numbers."""
    eye, samples = torch.eye(8), torch.arange(len(images))
    rows = {"image": Rows(eye[images], samples), "text": Rows(eye[texts], samples)}
    given = None if group is None else torch.tensor(group)
    return Embeddings(rows, [str(i) for i in range(len(images))], samples, group=given)


@pytest.mark.parametrize("turn", [False, True])
def test_a_samples_number_is_no_group(turn):
    """What each row is nearest to is of a group whose id is the row's own number in the set; it is not its partner."""
    plain, grouped = batch([2, 3], [0, 1]), batch([0, 1], [2, 3], [2, 3] if turn else [0, 1])
    got = recalls([grouped, plain] if turn else [plain, grouped], [term])
    assert got == {"val/image_to_text/recall@1": 0.0, "val/text_to_image/recall@1": 0.0}


def test_equal_groups_hit_over_batches_and_samples_without_one_hit_themselves():
    found = recalls([batch([0, 5], [1, 5], [7, -1]), batch([1], [0], [7]), batch([6], [6])], [term])
    assert found == {"val/image_to_text/recall@1": 1.0, "val/text_to_image/recall@1": 1.0}


def test_keys_of_two_ranks_meet_only_in_a_group(monkeypatch):
    keys = []
    for rank in (0, 1):
        monkeypatch.setattr(module, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(module, "world", lambda: 2)
        monkeypatch.setattr(module, "gather", lambda x: x)
        batches = [batch([0, 1], [0, 1]), batch([2, 3, 4], [2, 3, 4], [0, -1, 5 + rank])]
        keys.append(module._all_rows(batches, "image")[2].tolist())
    assert set(keys[0]) & set(keys[1]) == {0}  # the group that both have
    assert all(len(set(of_rank)) == 5 for of_rank in keys)
