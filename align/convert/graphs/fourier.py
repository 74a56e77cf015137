"""Fourier transforms of ONNX graphs as products of matrices. onnxruntime's own are slow, and round more."""

from __future__ import annotations

from math import gcd, isqrt
from typing import Any, NamedTuple, final

import numpy as np

LARGEST = 1 << 20
"""Numbers that a table of cosines may have. Only sizes with a large prime factor need more."""


@final
class Tables(NamedTuple):
    """Constants of the transform of N = A · B real numbers x[B a + b] to its first N / 2 + 1 frequencies k = c + A d.

    X[c + A d] = Σ_b w(B, b d) · w(N, b c) · Σ_a w(A, a c) · x[B a + b] with w(n, t) = exp(-2πi t / n) (Cooley and
    Tukey 1965, equations 5 to 8). As x is real, c = 0 .. A / 2 are enough: X[N - k] is the conjugate of X[k].

    cosine, sine: (C, A), the sums over a, where C = A // 2 + 1. turn_real, turn_imaginary: (C, B), w(N, b c).
    of_real, of_imaginary: (B, 2 B), the sums over b, the two parts of a number side by side. place: (N // 2 + 1,), the
    place c · B + d of each frequency. sign: (N // 2 + 1, 2), -1 where the conjugate stands, times the scale.
    """

    cosine: np.ndarray
    sine: np.ndarray
    turn_real: np.ndarray
    turn_imaginary: np.ndarray
    of_real: np.ndarray
    of_imaginary: np.ndarray
    place: np.ndarray
    sign: np.ndarray


def factor(size: int) -> tuple[int, int]:
    """Return (A, B) with A · B = size, A ≥ B, as near to each other as they can be."""
    B = next(b for b in range(isqrt(size), 0, -1) if size % b == 0)
    return size // B, B


def has_tables(size: Any) -> bool:
    """Return True for a size that is known, and whose largest table has at most ``LARGEST`` numbers."""
    return isinstance(size, int) and size > 1 and (factor(size)[0] // 2 + 1) * factor(size)[0] <= LARGEST


def make_tables(size: int, dtype: Any, scale: float = 1.0) -> Tables:
    """Return the constants of a transform of ``size`` numbers, computed in float64. scale: of the result."""
    A, B = factor(size)
    C = A // 2 + 1
    frequency = np.arange(size // 2 + 1)
    mirrored = frequency % A >= C
    there = np.where(mirrored, size - frequency, frequency)
    real, imaginary = _wave(np.arange(B), np.arange(B), B)
    tables = (
        *_wave(np.arange(C), np.arange(A), A),
        *_wave(np.arange(C), np.arange(B), size),
        np.stack([real, imaginary], -1).reshape(B, 2 * B),
        np.stack([-imaginary, real], -1).reshape(B, 2 * B),
        there % A * B + there // A,
        scale * np.stack([np.ones(len(frequency)), np.where(mirrored, -1, 1)], -1),
    )
    return Tables(*(x if x.dtype == np.int64 else x.astype(dtype) for x in tables))


def _wave(rows: np.ndarray, columns: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the real and the imaginary part of exp(-2πi · row · column / size)."""
    angle = 2 * np.pi * (np.outer(rows, columns) % size) / size
    return np.cos(angle), -np.sin(angle)


def write_transform(op: Any, x: Any, rank: int, tables: Tables) -> Any:
    """Write the transform of (..., N) as ONNX's operators: (..., N // 2 + 1, 2), real and imaginary part.

    op: onnxscript's operators, that write. x: its value of the graph. rank: of x.
    """
    (C, A), B = tables.cosine.shape, len(tables.of_real)
    t = Tables(*(_constant(op, table) for table in tables))
    before = [0] * (rank - 1)  # those sizes stay
    x = op.Reshape(x, _constant(op, [*before, A, B]))
    real, imaginary = op.MatMul(t.cosine, x), op.MatMul(t.sine, x)  # (..., C, B)
    turned_real = op.Sub(op.Mul(real, t.turn_real), op.Mul(imaginary, t.turn_imaginary))
    turned_imaginary = op.Add(op.Mul(real, t.turn_imaginary), op.Mul(imaginary, t.turn_real))
    whole = op.Add(op.MatMul(turned_real, t.of_real), op.MatMul(turned_imaginary, t.of_imaginary))  # (..., C, 2 B)
    pairs = op.Reshape(whole, _constant(op, [*before, C * B, 2]))
    return op.Mul(op.Gather(pairs, t.place, axis=rank - 1), t.sign)


def write_frames(op: Any, x: Any, rank: int, size: int, hop: int) -> Any:
    """Write (..., F, size), the F = (T - size) // hop + 1 whole frames of (..., T), as ONNX's operators.

    Blocks of gcd(size, hop) numbers are copied as they are, which is faster than single numbers.
    """
    block = gcd(size, hop)
    minus, zero, one, wide = (_constant(op, [x]) for x in (-1, 0, 1, block))
    shape = op.Shape(x)
    length = op.Slice(shape, minus, _constant(op, [rank]))  # (1,), T
    blocks = op.Div(length, wide)
    whole = op.Slice(x, zero, op.Mul(blocks, wide), minus)
    parts = op.Reshape(whole, op.Concat(op.Slice(shape, zero, minus), blocks, wide, axis=0), allowzero=1)
    last = op.Div(op.Sub(length, _constant(op, [size])), _constant(op, [hop]))
    frame = op.Range(_constant(op, 0), op.Squeeze(op.Add(last, one), zero), _constant(op, 1))  # (F,)
    first = op.Unsqueeze(op.Mul(frame, _constant(op, hop // block)), one)
    at = op.Add(first, _constant(op, np.arange(size // block)))  # (F, size // block)
    found = op.Gather(parts, at, axis=rank - 1)  # (..., F, size // block, block)
    return op.Reshape(found, _constant(op, [*[0] * rank, size]))


def _constant(op: Any, numbers: Any) -> Any:
    import onnx_ir

    return op.Constant(value=onnx_ir.tensor(np.asarray(numbers)))
