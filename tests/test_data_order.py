"""The order of an epoch is a permutation, a function of its key, and fair."""

from __future__ import annotations

import numpy as np
import pytest

from align.data.order import WINDOW, order, permutation


@pytest.mark.parametrize("lengths", [[1], [10], [7, 0, 30, 12], [100, 100]])
@pytest.mark.parametrize("block", [1, 4, 256])
@pytest.mark.parametrize("streams", [1, 6, 48])
def test_every_sample_exactly_once(lengths, block, streams):
    found = order(lengths, seed=3, epoch=1, streams=streams, block=block)
    assert sorted(found.tolist()) == list(range(sum(lengths)))


def test_it_follows_from_seed_epoch_streams_and_block_alone():
    def of(**change):
        return order([40, 60], **{"seed": 0, "epoch": 0, "streams": 6, "block": 1, **change}).tolist()

    assert of() == of()
    others = [of(seed=1), of(epoch=1), of(streams=7), of(block=5)]
    assert all(other != of() for other in others)


def test_the_order_does_not_change_with_a_library():
    assert order([5, 7], seed=0, epoch=0, streams=4).tolist() == EXPECTED


EXPECTED = [9, 10, 2, 0, 6, 8, 4, 7, 5, 11, 3, 1]


@pytest.mark.parametrize(("block", "streams"), [(1, 5), (4, 3)])
def test_round_robin_over_equal_pieces(block, streams):
    """Recomputed with plain loops: cut the permuted blocks, shuffle in windows, deal one from each piece in turn."""
    lengths, seed, epoch = [30, 21], 2, 4
    blocks, start = [], 0
    for length in lengths:
        blocks += [list(range(start + i, start + min(i + block, length))) for i in range(0, length, block)]
        start += length
    line = [s for b in permutation(len(blocks), seed, epoch, "blocks") for s in blocks[b]]
    pieces, at = [], 0
    for s in range(streams):
        size = len(line) // streams + (s < len(line) % streams)
        piece, at = line[at : at + size], at + size
        if block > 1:
            windows = [piece[i : i + WINDOW * block] for i in range(0, size, WINDOW * block)]
            piece = [w[j] for n, w in enumerate(windows) for j in permutation(len(w), seed, epoch, s, n)]
        pieces.append(piece)
    expected = [pieces[p % streams][p // streams] for p in range(sum(lengths))]
    assert order(lengths, seed=seed, epoch=epoch, streams=streams, block=block).tolist() == expected


def test_with_block_1_any_two_samples_meet():
    """One shard of 320 sorted by class, batches of 32: every pair shares a batch within 200 epochs."""
    met = np.zeros((320, 320), dtype=bool)
    for epoch in range(200):
        for batch in order([320], seed=0, epoch=epoch).reshape(10, 32):
            met[np.ix_(batch, batch)] = True
    assert met.all()


def test_with_blocks_neighbours_stay_within_a_window_of_every_stream():
    """As docs/remote-shards.md says. 1 in 50 is parted by an edge of a piece or a window. The blocks go anywhere."""
    lengths, block, streams = [1000] * 64, 16, 12
    place = np.argsort(order(lengths, seed=0, epoch=0, streams=streams, block=block))
    apart = np.abs(np.diff(place.reshape(-1, 1000)))[:, np.arange(999) % block != block - 1]  # of one block
    assert (apart <= WINDOW * block * streams).mean() > 0.98
    assert (apart > WINDOW * block * streams / 2).mean() > 0.2
    blocks = np.abs(np.diff(place[:: 1000 // 8]))
    assert blocks.max() > 0.9 * sum(lengths)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="streams=0"):
        order([4], seed=0, epoch=0, streams=0)
