"""Worlds with a known answer: modalities whose dependence is of one kind, for docs/which-loss.md.

A finite world is the table of all its cases, so its best possible accuracy and every mutual information are sums over
that table. A Gaussian world has both in closed form. All draw inputs of plain floats, modality -> (n, W).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LOG2 = math.log(2)


class Finite(NamedTuple):
    """Modalities of whole numbers, with the probability of each combination."""

    names: tuple[str, ...]
    target: str
    bits: int  # of each modality
    codes: Tensor  # (K, M) int64, the cases
    chance: Tensor  # (K,) float64, their probabilities

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return modality -> (n, bits) inputs of -1 and 1."""
        found = self.codes[torch.multinomial(self.chance, n, replacement=True, generator=generator)]  # (n, M)
        return {m: as_bits(found[:, i], self.bits) for i, m in enumerate(self.names)}

    @property
    def query(self) -> tuple[str, ...]:
        """Modalities that the target is searched by: all others."""
        return tuple(m for m in self.names if m != self.target)

    def joint(self, *sets: Sequence[str]) -> Tensor:
        """Return the probabilities of the values of sets of modalities, one axis a set."""
        place = torch.zeros(len(self.codes), dtype=torch.int64)
        shape = []
        for names in sets:
            columns = self.codes[:, [self.names.index(m) for m in names]]
            value = torch.unique(columns, dim=0, return_inverse=True)[1]
            shape.append(int(value.max()) + 1)
            place = place * shape[-1] + value
        flat = torch.zeros(math.prod(shape), dtype=torch.float64).index_add_(0, place, self.chance)
        return flat.view(shape)

    def information(self, a: Sequence[str], b: Sequence[str]) -> float:
        """Return the mutual information of two sets of modalities, in nats."""
        both = self.joint(a, b)
        alone = both.sum(1, keepdim=True) * both.sum(0, keepdim=True)
        seen = both > 0
        return float((both[seen] * (both[seen] / alone[seen]).log()).sum())

    @property
    def ceiling(self) -> float:
        """Best possible accuracy of the target from all other modalities: the likeliest value of each query."""
        return float(self.joint(self.query, [self.target]).max(1).values.sum())

    @property
    def candidates(self) -> Tensor:
        """(k, bits) every value that the target takes."""
        return as_bits(self.codes[:, self.names.index(self.target)].unique(), self.bits)


def as_bits(codes: Tensor, bits: int) -> Tensor:
    """Return (n, bits) of -1 and 1 for (n,) whole numbers."""
    return ((codes[:, None] >> torch.arange(bits)) & 1) * 2.0 - 1


def tabulate(names: str, target: str, bits: int, cases: list[tuple[float, tuple[int, ...]]]) -> Finite:
    """Return the world of cases (probability, a value of each modality)."""
    codes = torch.tensor([values for _, values in cases])
    chance = torch.tensor([p for p, _ in cases], dtype=torch.float64)
    return Finite(tuple(names), target, bits, codes, chance / chance.sum())


def xor(p: float, bits: int = 5) -> Finite:
    """Return a, b fair and c = a xor b with probability p, else c = a; b is searched for.

    It is Symile's own test (Saporta et al. 2024, arXiv 2411.01053, section 4.1). A pair (a, b) or (b, c) says nothing
    for p = 1. The ceiling is p + (1 - p) / 2^bits.
    """
    pairs = list(itertools.product(range(2**bits), repeat=2))
    cases = [(p, (a, b, a ^ b)) for a, b in pairs] + [(1 - p, (a, b, a)) for a, b in pairs]
    return tabulate("abc", "b", bits, [case for case in cases if case[0]])


def swapped(p: float, marked: bool) -> Finite:
    """Return shared and XNOR bits where a or b is another sample's with probability p; c is searched for.

    Each modality has three bits that all share and two of its kind, those of c being the XNOR of those of a and b. A
    swapped modality is all new, its shared bits too. marked: a sixth bit of it says so, as a bad photograph is seen to
    be bad; then the ceiling is 1 - p + p / 4, the shared bits of the other. Unmarked it shows only in that the two
    disagree.
    """
    cases = []
    for shared, u, v in itertools.product(range(8), range(4), range(4)):
        a, b, c = shared * 4 + u, shared * 4 + v, shared * 4 + ((u ^ v) ^ 3)
        cases.append((1 - p, (a, b, c)))
        for other in range(32):
            mark = 32 * marked
            cases += [(p / 64, (other + mark, b, c)), (p / 64, (a, other + mark, c))]
    return tabulate("abc", "c", 6, [case for case in cases if case[0]])


def copies(keep: float, modalities: int = 4, bits: int = 4) -> Finite:
    """Return modalities that are the same value, each with probability keep, else a random one; the last is searched.

    Any pair says much.
    """
    names, values = "abcd"[:modalities], 2**bits
    noise = [[(keep if z == x else 0) + (1 - keep) / values for x in range(values)] for z in range(values)]
    cases = []
    for xs in itertools.product(range(values), repeat=modalities):
        cases.append((sum(math.prod(noise[z][x] for x in xs) for z in range(values)) / values, xs))
    return tabulate(names, names[-1], bits, cases)


def parity(bits: int = 3) -> Finite:
    """Return d = a xor b xor c: no pair and no three of the four say anything."""
    cases = [(1.0, (a, b, c, a ^ b ^ c)) for a, b, c in itertools.product(range(2**bits), repeat=3)]
    return tabulate("abcd", "d", bits, cases)


def bystander(bits: int = 3) -> Finite:
    """Return d = a xor b, and c that says nothing of any of them."""
    cases = [(1.0, (a, b, c, a ^ b)) for a, b, c in itertools.product(range(2**bits), repeat=3)]
    return tabulate("abcd", "d", bits, cases)


class Gaussian(NamedTuple):
    """a, b, c of d coordinates, each standard normal, independent between coordinates; c is searched for.

    covariance: (d, 3, 3) of each coordinate's (a, b, c). sign: c has the sign of a·b, as a product no covariance shows.
    """

    covariance: Tensor
    sign: bool = False

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return modality -> (n, d)."""
        z = torch.randn(n, len(self.covariance), 3, generator=generator)
        x = torch.einsum("dij,ndj->ndi", torch.linalg.cholesky(self.covariance), z)
        a, b, c = x.unbind(2)
        return {"a": a, "b": b, "c": c.abs() * a.sign() * b.sign() if self.sign else c}

    @property
    def information(self) -> float:
        """I(a, b; c) in nats, by the determinants of the covariance. A sign that the others tell is log 2."""
        whole = torch.logdet(self.covariance[:, :2, :2]) + torch.logdet(self.covariance[:, 2:, 2:])
        return float((whole - torch.logdet(self.covariance)).sum() / 2) + self.sign * len(self.covariance) * LOG2

    def of_pair(self, i: int) -> float:
        """Return I(a; c) for i = 0 and I(b; c) for i = 1, in nats."""
        r = self.covariance[:, i, 2] ** 2 / (self.covariance[:, i, i] * self.covariance[:, 2, 2])
        return float(-torch.log1p(-r).sum() / 2)

    def log_ratio(self, x: dict[str, Tensor], candidates: Tensor) -> Tensor:
        """Return (q, c): log p(c | a, b) / p(c), the best possible score of each candidate."""
        if self.sign:
            agree = (x["a"].sign() * x["b"].sign())[:, None] == candidates.sign()[None]
            return torch.where(agree.all(2), len(self.covariance) * LOG2, -1e4)
        s = self.covariance
        slope = torch.linalg.solve(s[:, :2, :2], s[:, :2, 2:]).squeeze(2)  # (d, 2)
        left = s[:, 2, 2] - (slope * s[:, :2, 2]).sum(1)  # (d,) the variance that a and b leave
        mean = torch.stack([x["a"], x["b"]], 2).mul(slope).sum(2)  # (q, d)
        gap = (candidates[None] - mean[:, None]) ** 2 / left
        return ((candidates**2 / s[:, 2, 2])[None] - gap - (left / s[:, 2, 2]).log()).sum(2) / 2


def gaussians() -> dict[str, Gaussian]:
    """Return worlds of four coordinates that all hold 4 log 2 = 2.77 nats of c in (a, b), by name.

    redundant: a, b and c are one cause with noise. unique: two coordinates of c are a's and two b's. sum: c is a + b
    with noise, a and b independent. sign: the sign of c is that of a·b; a pair says nothing.
    """

    def stack(*coordinates: tuple[float, float, float]) -> Tensor:
        return torch.stack([torch.tensor([[1.0, ab, ac], [ab, 1.0, bc], [ac, bc, 1.0]]) for ab, ac, bc in coordinates])

    r = (3 + math.sqrt(105)) / 16  # 2r² / (1 + r) = 3/4, the share of c's variance that a and b tell
    whole, half = math.sqrt(3 / 4), math.sqrt(3 / 8)
    return {
        "redundant": Gaussian(stack(*[(r, r, r)] * 4)),
        "unique": Gaussian(stack(*[(0, whole, 0)] * 2, *[(0, 0, whole)] * 2)),
        "sum": Gaussian(stack(*[(0, half, half)] * 4)),
        "sign": Gaussian(stack(*[(0, 0, 0)] * 4), sign=True),
    }
