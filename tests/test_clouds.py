"""Clouds in plain torch: sampling, neighbours and balls have the indices of plain loops, ties included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from align.encoders.clouds import near
from align.encoders.clouds.groups import take
from align.encoders.clouds.near import ball, neighbours
from align.encoders.clouds.sampling import farthest_points

kinds = pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16])


def made(name, kind=torch.float32, n=3, P=150):
    """(n, P, 3) clouds: drawn, on a grid (full of ties), or of a few points many times."""
    torch.manual_seed(0)
    if name == "grid":
        return torch.randint(-3, 4, (n, P, 3)).to(kind) / 4
    if name == "repeated":
        distinct = max(1, P // 20)
        return torch.randn(n, distinct, 3).to(kind)[:, torch.arange(P) % distinct]
    return (torch.randn(n, P, 3) * 0.3).to(kind)


def rows_of(cloud):
    """Points as numpy scalars, of float32 at least, so that a plain loop rounds as torch does."""
    return list(cloud.to(torch.promote_types(cloud.dtype, torch.float32)).numpy())


def square(a, b):
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2


def sampled(cloud, count, start):
    """Farthest points by a loop over the points."""
    points = rows_of(cloud)
    nearest, chosen = [math.inf] * len(points), [start]
    while len(chosen) < count:
        for j, point in enumerate(points):
            nearest[j] = min(nearest[j], square(point, points[chosen[-1]]))
        chosen.append(nearest.index(max(nearest)))
    return chosen


def sampled_by_threads(cloud, count):
    """Farthest points as the threads of a CUDA block find them: each its own points, then by halves."""
    points, chosen = rows_of(cloud), [0]
    P = len(points)
    threads = 1
    while threads * 2 <= min(P, 512):
        threads *= 2
    nearest = [np.float32(1e10)] * P
    while len(chosen) < count:
        best, place = [-1.0] * threads, [0] * threads
        for t in range(threads):
            for k in range(t, P, threads):
                x, y, z = points[k]
                if float(x * x + y * y + z * z) <= 1e-3:
                    continue
                nearest[k] = min(square(points[k], points[chosen[-1]]), nearest[k])
                if nearest[k] > best[t]:
                    best[t], place[t] = nearest[k], k
        half = threads // 2
        while half:
            for t in range(half):
                if best[t + half] > best[t]:
                    best[t], place[t] = best[t + half], place[t + half]
            half //= 2
        chosen.append(place[0])
    return chosen


@kinds
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", ["drawn", "grid", "repeated"])
def test_farthest_points_have_the_indices_of_a_plain_loop(name, batched, kind):
    clouds = made(name, kind)
    for start in (0, 149, 77):
        found = farthest_points(clouds, 12, start, batched=batched)
        assert found.tolist() == [sampled(cloud, 12, start) for cloud in clouds]


def test_the_first_point_is_by_default_the_farthest_from_the_mean():
    clouds = made("drawn")
    first = [max(range(150), key=lambda j, c=c: (c[j] - c.mean(0)).square().sum().item()) for c in clouds]
    for skip in (False, True):
        assert farthest_points(clouds, 1, skip_origin=skip)[:, 0].tolist() == first
    assert farthest_points(clouds, 5)[1].tolist() == sampled(clouds[1], 5, first[1])


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("P", [1, 2, 3, 40, 600, 1100])
@pytest.mark.parametrize("name", ["drawn", "grid", "repeated"])
def test_points_near_the_origin_are_skipped_as_the_kernel_does(name, P, batched):
    clouds = made(name, n=2, P=P)
    clouds[0, : max(1, P // 5)] *= 0.05  # near the origin, the first among them
    count = 9 if P > 9 else 2 * P + 1
    found = farthest_points(clouds, count, start=0, skip_origin=True, batched=batched)
    assert found.tolist() == [sampled_by_threads(cloud, count) for cloud in clouds]


@pytest.mark.parametrize("batched", [False, True])
def test_what_the_kernel_does_at_its_edges(batched):
    def choose(cloud, count):
        found = farthest_points(torch.tensor([cloud]), count, 0, skip_origin=True, batched=batched)[0].tolist()
        assert found == sampled_by_threads(torch.tensor(cloud), count)
        return found

    x, y = np.float32(0.01992), np.float32(0.02456)
    assert x * x + y * y == np.float32(1e-3)
    assert float(np.float32(1e-3)) > 1e-3  # the kernel's limit is a double, so it takes this point
    origin, edge = [0.0, 0, 0], [float(x), float(y), 0]
    assert choose([origin, origin, edge, [0.01, 0, 0]], 4) == [0, 2, 2, 2]
    assert choose([origin, origin, [0.0199, 0.0245, 0], [0.01, 0, 0]], 3) == [0, 0, 0]  # no other is left
    far = [[1.0, 0, 0], [6e5, 0, 0], [3e5, 0, 0], [2, 0, 0]]
    assert choose(far, 2) == [0, 2]  # above 1e10 both are as far, and 2 read in reverse is 1
    many = made("drawn", n=1, P=600)[0]
    many[300] = many[556] = torch.tensor([9.0, 0, 0])
    assert choose(many.tolist(), 2) == [0, 556]  # thread 44 of 512, before thread 300


@pytest.mark.parametrize("batched", [False, True])
def test_more_points_are_sampled_than_a_cloud_has(batched):
    cloud = torch.tensor([[[0.0, 0, 1], [0, 0, 3], [0, 0, 2]]])
    assert farthest_points(cloud, 6, 0, batched=batched).tolist() == [[0, 1, 2, 0, 0, 0]]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_no_clouds_and_no_samples_are_sampled(skip, batched):
    given = {"skip_origin": skip, "batched": batched}
    for start in (None, 0):
        assert farthest_points(torch.rand(0, 9, 3), 4, start, **given).shape == (0, 4)
        assert farthest_points(torch.rand(2, 9, 3), 0, start, **given).shape == (2, 0)
        assert farthest_points(torch.rand(0, 9, 3), 4, start, **given).dtype == torch.long


@pytest.mark.parametrize(("P", "start"), [(0, None), (9, 9), (9, -1)])
def test_a_start_is_a_point(P, start):
    with pytest.raises(ValueError, match=rf"start is the index of a point.*\(2, {P}, 3\); got start={start}"):
        farthest_points(torch.rand(2, P, 3), 3, start)


def test_sampling_gives_indices_that_autograd_takes():
    clouds = made("drawn").requires_grad_()
    index = farthest_points(clouds, 4)
    clouds.gather(1, index[..., None].expand(-1, -1, 3)).sum().backward()
    assert clouds.grad.sum() == 36


@kinds
@pytest.mark.parametrize("budget", [None, 700, 7])
@pytest.mark.parametrize("name", ["drawn", "grid", "repeated"])
def test_neighbours_are_at_the_distances_of_a_plain_loop(name, budget, kind):
    clouds = made(name, kind, P=60)
    centres = clouds[:, ::12] + torch.tensor(0.01, dtype=kind)
    ordered = neighbours(centres, clouds, 9, budget, ordered=True)
    found = neighbours(centres, clouds, 9, budget)
    for i, cloud in enumerate(clouds):
        points = rows_of(cloud)
        for g, centre in enumerate(rows_of(centres[i])):
            squares = [square(centre, point) for point in points]
            assert [squares[j] for j in ordered[i, g]] == sorted(squares)[:9]
            assert len(set(ordered[i, g].tolist())) == 9
            assert sorted(squares[j] for j in found[i, g]) == sorted(squares)[:9]
            assert len(set(found[i, g].tolist())) == 9
            if name == "drawn" and kind != torch.float16:  # no ties
                assert ordered[i, g].tolist() == sorted(range(60), key=squares.__getitem__)[:9]


def test_neighbours_are_exact_far_from_the_origin():
    clouds = torch.zeros(1, 500, 3)
    clouds[0, :, 0] = 1000 + torch.randperm(500) / 64  # |x|² + |c|² - 2 x·c would have lost the differences
    found = neighbours(clouds[:, :3], clouds, 3, ordered=True)
    assert found[..., 0].tolist() == [[0, 1, 2]]
    gap = (clouds[0, found[0], 0] - clouds[0, :3, None, 0]).abs()
    assert gap[:, 1:].max() <= 2 / 64


def test_no_more_neighbours_than_points():
    clouds = torch.rand(2, 4, 3)
    assert neighbours(clouds[:, :1], clouds, 4).sort().values.tolist() == [[[0, 1, 2, 3]]] * 2
    with pytest.raises(ValueError, match="clouds of 4 points have no 5 neighbours"):
        neighbours(clouds, clouds, 5)
    assert neighbours(torch.rand(0, 3, 3), torch.rand(0, 5, 3), 2).shape == (0, 3, 2)


def balled(centre, points, radius, count):
    """The points of a ball, by a loop as the kernel's."""
    radius = np.asarray(radius, points[0].dtype)
    chosen, met = [0] * count, 0
    for j, point in enumerate(points):
        if square(centre, point) < radius * radius and met < count:
            if not met:
                chosen = [j] * count
            chosen[met] = j
            met += 1
    return chosen


@kinds
@pytest.mark.parametrize("budget", [None, 700, 7])
@pytest.mark.parametrize("name", ["drawn", "grid", "repeated"])
def test_balls_have_the_points_of_a_plain_loop(name, budget, kind):
    clouds = made(name, kind, P=60)
    centres = torch.cat([clouds[:, ::12], clouds[:, :1] + 50], 1)  # the last ball is empty
    for radius in (0.25, 0.5, 1.0, 9.0):  # on the grid many points are just at the edge
        for count in (1, 5, 70):
            found = ball(centres, clouds, radius, count, budget)
            for i, cloud in enumerate(clouds):
                points = rows_of(cloud)
                want = [balled(centre, points, radius, count) for centre in rows_of(centres[i])]
                assert found[i].tolist() == want
                assert found[i, -1].tolist() == [0] * count


def test_a_ball_does_not_reach_its_edge():
    cloud = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]]])
    assert ball(cloud[:, :1], cloud, 0.5, 3).tolist() == [[[0, 2, 0]]]
    assert ball(torch.rand(0, 2, 3), torch.rand(0, 5, 3), 0.5, 3).shape == (0, 2, 3)


@pytest.mark.parametrize("find", [neighbours, lambda c, x, k, budget: ball(c, x, 0.3, k, budget)])
def test_no_more_distances_are_held_than_the_budget(find, monkeypatch):
    held = []
    squares = near._squares

    def count(centres, planes):
        out = squares(centres, planes)
        held.append(out.numel())
        return out

    monkeypatch.setattr(near, "_squares", count)
    clouds = made("drawn", P=50)
    for budget, most in ((10_000, 1500), (600, 500), (199, 150), (7, 50)):
        held.clear()
        find(clouds[:, :10], clouds, 4, budget)
        assert max(held) == most
        assert sum(held) == 3 * 10 * 50


class Searched(torch.nn.Module):
    """Samples of clouds, their neighbours and their balls."""

    def forward(self, xyz):
        chosen = farthest_points(xyz, 5, 0, skip_origin=True)
        centres = take(xyz, chosen)
        return chosen, neighbours(centres, xyz, 4, ordered=True), ball(centres, xyz, 0.3, 4)


def test_a_graph_of_any_number_of_clouds_has_the_same_indices():
    clouds, n = made("drawn", torch.float64, P=30), torch.export.Dim("n", min=1)
    graph = torch.export.export(Searched(), (clouds[:2],), dynamic_shapes=({0: n},), strict=False).module()
    for given in (clouds, clouds[:1]):
        for found, want in zip(graph(given), Searched()(given), strict=True):
            assert torch.equal(found, want)


def test_rows_are_taken_at_indices_of_any_shape():
    values = torch.arange(24).view(2, 4, 3)
    assert take(values, torch.tensor([[3, 0], [1, 1]])).tolist() == [[[9, 10, 11], [0, 1, 2]], [[15, 16, 17]] * 2]
    assert take(values, torch.zeros(2, 5, 7, dtype=torch.long)).shape == (2, 5, 7, 3)
