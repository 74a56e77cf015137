"""Pictures, masks and clouds of scenes. Each solid is drawn as it is alone, the nearest in front."""

from __future__ import annotations

import numpy as np

from align.quickstart.cloud import points
from align.quickstart.render import backdrop, colour, develop, enlarge, floor, march, rays, stain, view
from align.quickstart.scene import SHRINK, Scene
from align.quickstart.shapes import SOLIDS

HEIGHT = 0.2  # that the camera looks at


def render_scene(scene: Scene, size: int = 64, *, oversample: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture (size, size, 3) uint8 of a scene, and its mask (size, size) uint8.

    The mask has the number of the solid that most of a pixel shows, from the left from 1 on, and 0 for the floor.
    """
    rng = scene.generator(1)
    pixels, elevation = size * oversample, np.radians(rng.uniform(30, 48))
    tone, glow = backdrop(rng, pixels)
    ground = tone * glow
    nearest = np.full(pixels * pixels, np.inf, np.float32)
    owner = np.zeros(pixels * pixels, np.uint8)
    drawn = np.zeros((3, pixels * pixels), np.float32)
    for number, (solid, place) in enumerate(zip(scene.solids, scene.places, strict=True), 1):
        body = solid.body()
        v = view(rng.uniform(0, 2 * np.pi), elevation, body.scale * SHRINK, place, HEIGHT)
        shape = SOLIDS[solid.shape]
        ground = ground * stain(solid, enlarge(floor(shape, v, size // 2), pixels))
        d = rays(v, pixels)
        hit, t = march(shape, v.eye, d)
        depth = t * np.float32(body.scale * SHRINK)  # in the room's units, which all solids share
        front = depth < nearest[hit]
        hit, t = hit[front], t[front]
        nearest[hit], owner[hit] = depth[front], number
        if len(hit):
            drawn[:, hit] = colour(solid, body, v, d[:, hit], t, tone[:, 0])
    image = np.where(owner > 0, drawn, ground.reshape(3, -1))
    parts = owner.reshape(size, oversample, size, oversample)
    shares = np.stack([(parts == k).sum((1, 3)) for k in range(len(scene.solids) + 1)])
    return develop(image, size, oversample), shares.argmax(0).astype(np.uint8)


def boxes(mask: np.ndarray, solids: int) -> list[list[float] | None]:
    """Return the box of each solid in a mask: left, top, right, bottom as fractions of the picture. None: unseen."""
    found: list[list[float] | None] = []
    for number in range(1, solids + 1):
        rows, columns = np.nonzero(mask == number)
        if not len(rows):
            found.append(None)
            continue
        ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        found.append([round(float(end) / len(mask), 6) for end in ends])
    return found


def scene_points(scene: Scene, n: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Return a cloud of the scene, (n, 6) float16, and the number of each point's solid from 1 on, (n,) uint8."""
    count = len(scene.solids)
    shares = [n // count + (i < n % count) for i in range(count)]
    clouds, numbers = [], []
    for number, (solid, place, share) in enumerate(zip(scene.solids, scene.places, shares, strict=True), 1):
        cloud = points(solid, share).astype(np.float32)
        cloud[:, :3] *= SHRINK
        cloud[:, :2] += place
        clouds.append(cloud)
        numbers.append(np.full(share, number, np.uint8))
    order = scene.generator(2).permutation(n)
    return np.concatenate(clouds)[order].astype(np.float16), np.concatenate(numbers)[order]
