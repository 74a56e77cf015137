"""PointNet2: the features of a plain loop over levels, groups and points, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu

from align.encoders import PointNet2
from align.encoders.clouds.sampling import farthest_points

levels = {"groups": [9, 4], "radius": [0.4, 0.8], "neighbours": [6, 5], "widths": [[8, 8], [12]], "hidden": [16]}


def small():
    torch.manual_seed(0)
    return PointNet2(width=24, **levels).double(), torch.rand(3, 40, 6, dtype=torch.float64)


def one(net, cloud):
    """(pooled, tokens) of a cloud (P, 6), a point at a time."""
    xyz, features = list(cloud[:, :3]), [(c - 0.5) * 4 for c in cloud[:, 3:]]
    for level, radius, most in zip(net.levels, net.radius, net.neighbours, strict=True):
        count = min(level.groups, len(xyz))
        centres = [xyz[i] for i in farthest_points(torch.stack(xyz)[None], count)[0].tolist()]
        groups = []
        for centre in centres:
            inside = [j for j in range(len(xyz)) if (xyz[j] - centre).square().sum() < radius**2][:most]
            points = [level.each(torch.cat([(xyz[j] - centre) / radius, features[j]])) for j in inside]
            groups.append(gelu(level.norm(torch.stack(points).amax(0))))
        xyz, features = centres, groups
    tokens = torch.stack([net.last(torch.cat(pair)) for pair in zip(xyz, features, strict=True)])
    return net.all(tokens.amax(0)), tokens


@pytest.mark.parametrize("P", [40, 3, 1])
def test_the_features_are_those_of_a_plain_loop(P):
    net, values = small()
    pooled, tokens, _ = net(values[:, :P])
    assert tokens.shape == (3, min(4, P), 24)
    for i in range(3):
        want = one(net, values[i, :P])
        torch.testing.assert_close(pooled[i], want[0])
        torch.testing.assert_close(tokens[i], want[1])


def test_neither_order_nor_repetition_matters_where_no_ball_is_crowded():
    net, values = small()
    net.neighbours = [80, 80]
    for level in net.levels:
        level.neighbours = 80
    shuffled = values[:, torch.randperm(40)]
    torch.testing.assert_close(net(shuffled).pooled, net(values).pooled)
    torch.testing.assert_close(net(torch.cat([shuffled, values], 1)).pooled, net(values).pooled)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"groups": [9]}, r"have one entry a level, and a level has widths; got \[9\], \[0.4, 0.8\]"),
        ({"widths": [[8], []]}, "a level has widths"),
        ({"groups": [], "radius": [], "neighbours": [], "widths": []}, "have one entry a level"),
        ({"channels": 2}, "needs channels >= 3.*got 2"),
        ({"radius": [0.4, 0.0]}, "radius > 0"),
        ({"groups": [9, 0]}, "groups and neighbours >= 1"),
    ],
)
def test_levels_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        PointNet2(**levels | given)


@pytest.mark.parametrize("shape", [(2, 40, 3), (2, 0, 6), (40, 6)])
def test_other_values_are_refused(shape):
    with pytest.raises(ValueError, match=r"PointNet2 takes \(n, P, 6\), P >= 1, got"):
        small()[0](torch.zeros(shape, dtype=torch.float64))
