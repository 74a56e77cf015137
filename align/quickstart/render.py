"""Pictures of solids on a studio floor, ray-marched with numpy."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from align.quickstart.materials import FINISH, albedo, grain, lattice, shade
from align.quickstart.shapes import SOLIDS, Shape, normals
from align.quickstart.world import Body, Solid

DISTANCE = 5.2  # of the camera. It never moves, so a large solid looks large
TARGET = 0.74  # the height it looks at
FIELD = 0.255  # tangent of half its field of view
BACKDROPS = ((0.76, 0.76, 0.78), (0.71, 0.75, 0.80), (0.80, 0.76, 0.72), (0.73, 0.77, 0.74), (0.77, 0.74, 0.79))


class View(NamedTuple):
    """The place of the eye and the lamp, in the object's units and axes (its size is 1)."""

    eye: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3): right, up, forward
    light: np.ndarray  # (3,) towards the lamp


def view(azimuth: float, elevation: float, scale: float, place: np.ndarray, height: float = TARGET) -> View:
    """Return the fixed camera and lamp as an object at place (2,), turned by azimuth, sees them. Radians.

    height: that the camera looks at, over the middle of the floor.
    """
    ce, se = np.cos(elevation), np.sin(elevation)
    axes = np.array([[1, 0, 0], [0, se, ce], [0, ce, -se]])
    eye = np.array([0, 0, height]) - DISTANCE * axes[2]
    light = np.array([-0.55, -0.42, 0.75])
    ca, sa = np.cos(azimuth), np.sin(azimuth)
    turn = np.array([[ca, sa, 0], [-sa, ca, 0], [0, 0, 1]])
    eye = turn @ (eye - np.array([*place, 0])) / scale
    light = turn @ (light / np.linalg.norm(light))
    return View(eye.astype(np.float32), (axes @ turn.T).astype(np.float32), light.astype(np.float32))


def rays(v: View, pixels: int) -> np.ndarray:
    """Return unit directions (3, pixels * pixels), row by row from the top left."""
    u = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels * 2 - 1
    right, up = np.tile(u, pixels) * FIELD, np.repeat(-u, pixels) * FIELD
    d = v.axes[0][:, None] * right + v.axes[1][:, None] * up + v.axes[2][:, None]
    return d / np.sqrt(1 + right * right + up * up)


def march(shape: Shape, eye: np.ndarray, d: np.ndarray, steps: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return the rays (n,) that hit, and their distances in the order of the hits, by sphere tracing."""
    middle = eye - np.array([0, 0, shape.middle], np.float32)
    b = middle[0] * d[0] + middle[1] * d[1] + middle[2] * d[2]
    inside = b * b - (float(middle @ middle) - shape.radius**2)
    alive = np.flatnonzero(inside > 0)
    half = np.sqrt(inside[alive])
    near, far = -b[alive] - half, -b[alive] + half
    hits, found = [alive[:0]], [near[:0]]
    dx, dy, dz = d[:, alive]
    for step in range(steps):
        gap = shape.distance(eye[0] + near * dx, eye[1] + near * dy, eye[2] + near * dz)
        close = gap < 0.006
        near = near + np.where(close, 0, gap)
        if step % 3 == 2 or step == steps - 1:
            done = close if step < steps - 1 else close | (gap < 0.03)
            hits.append(alive[done])
            found.append(near[done])
            stay = ~close & (near < far)
            alive, near, far, dx, dy, dz = (a[stay] for a in (alive, near, far, dx, dy, dz))
            if not len(alive):
                break
    return np.concatenate(hits), np.concatenate(found)


def floor(shape: Shape, v: View, pixels: int) -> np.ndarray:
    """Return the light on the floor seen through each pixel, (pixels, pixels), 1 where nothing stands in its way."""
    d = rays(v, pixels)
    down = np.minimum(d[2], -0.02)
    t = -v.eye[2] / down
    x, y = v.eye[0] + t * d[0], v.eye[1] + t * d[1]
    near = np.flatnonzero((x * x + y * y < 9) & (d[2] < -0.02))
    reach = np.linspace(0.03, 1.45, 12, dtype=np.float32)[:, None] ** 2
    x, y, z = x[near] + reach * v.light[0], y[near] + reach * v.light[1], reach * v.light[2] + 0 * x[near]  # (12, n)
    gap = shape.distance(x.reshape(-1), y.reshape(-1), z.reshape(-1)).reshape(12, -1)
    lamp = np.clip(0.45 + 1.5 * (gap / (reach + 0.12)).min(0), 0, 1)
    contact = np.clip(0.35 + gap[0] * 1.6, 0, 1)
    light = np.ones(pixels * pixels, np.float32)
    light[near] = (0.40 + 0.60 * lamp * lamp * (3 - 2 * lamp)) * (0.55 + 0.45 * contact)
    return light.reshape(pixels, pixels)


def enlarge(a: np.ndarray, pixels: int) -> np.ndarray:
    """Return an image (m, m) enlarged to (pixels, pixels), bilinear."""
    m = len(a)
    at = np.clip((np.arange(pixels, dtype=np.float32) + 0.5) * m / pixels - 0.5, 0, m - 1)
    low = np.minimum(at.astype(np.int64), m - 2)
    part = (at - low).astype(np.float32)
    a = a[low] + (a[low + 1] - a[low]) * part[:, None]
    return a[:, low] + (a[:, low + 1] - a[:, low]) * part


def colour(solid: Solid, body: Body, v: View, d: np.ndarray, t: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """Return linear colours (3, n) of a solid where rays d (3, n) meet it at t (n,). tone: (3, 1), the backdrop's."""
    shape = SOLIDS[solid.shape]
    p = v.eye[:, None] + t * d
    n = normals(shape.distance, p)
    q = p * body.scale
    pattern = grain(solid.material, q + body.offset[:, None], q[2])
    bump = FINISH[solid.material].bump
    if solid.material == "rubber":
        n[2] += bump * np.cos(q[2] * 44)
    elif bump:
        g = q + body.offset[:, None]
        n += bump * (np.stack([lattice(g + k, 0.065) for k in (1.7, 5.1, 9.4)]) - 0.5)
    if bump:
        n /= np.sqrt((n * n).sum(0))
    open_sky = np.clip(0.30 + 4.5 * shape.distance(*(p + 0.16 * n)), 0, 1) * np.clip(0.66 + 0.7 * p[2], 0, 1)
    tint = albedo(solid.material, solid.color, pattern)
    clear = FINISH[solid.material].clear
    depth = np.clip(-2.4 * shape.distance(*(p + 0.4 * d)), 0, 1) if clear else pattern
    brushed = 0.35 * (pattern - 0.5) if solid.material == "metal" else 0
    seen = (1.05 - 0.25 * (n * v.light[:, None]).sum(0)) * tone
    return shade(solid.material, tint, n, -d, v.light[:, None], open_sky, seen, p[2] + brushed, depth)


def stain(solid: Solid, shadow: np.ndarray) -> np.ndarray:
    """Return factors (3, pixels, pixels) of the floor's colour under a shadow. Clear matter casts a coloured one."""
    clear = FINISH[solid.material].clear
    through = 0.6 * clear * albedo(solid.material, solid.color, np.ones(1, np.float32))[:, :, None]
    return 1 - (1 - shadow) * (1 - through)


def backdrop(rng: np.random.Generator, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tone of a studio (3, 1, 1), and the glow of its floor (pixels, pixels)."""
    u = np.linspace(-1, 1, pixels, dtype=np.float32)
    tone = np.array(BACKDROPS[rng.integers(len(BACKDROPS))], np.float32)[:, None, None] ** 2.2
    return tone, 1.12 - 0.16 * (u[:, None] + 0.3) ** 2 - 0.22 * u**2


def develop(image: np.ndarray, size: int, oversample: int) -> np.ndarray:
    """Return linear colours (3, pixels * pixels) as a picture (size, size, 3) uint8."""
    image = image.reshape(3, size, oversample, size, oversample).mean((2, 4))
    image = np.clip(image, 0, 1) ** np.float32(1 / 2.2)
    return (image * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def render(solid: Solid, size: int = 64, *, oversample: int = 2) -> np.ndarray:
    """Return the picture of a solid, (size, size, 3) uint8. Its azimuth is any, its elevation 15 to 50 degrees."""
    rng = solid.generator(1)
    body = solid.body()
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(15, 50))
    v = view(azimuth, elevation, body.scale, rng.uniform(-0.08, 0.08, 2))
    shape, pixels = SOLIDS[solid.shape], size * oversample

    tone, glow = backdrop(rng, pixels)
    shadow = enlarge(floor(shape, v, size // 2), pixels)
    image = (tone * glow * stain(solid, shadow)).reshape(3, -1)

    d = rays(v, pixels)
    hit, t = march(shape, v.eye, d)
    if len(hit):
        image[:, hit] = colour(solid, body, v, d[:, hit], t, tone[:, 0])
    return develop(image, size, oversample)


def picture(solid: Solid, size: int = 64) -> bytes:
    """Return the picture of a solid as a PNG file. It is compressed quickly: a third of its making would go there."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(render(solid, size))).save(file, "PNG", compress_level=1)
    return file.getvalue()
