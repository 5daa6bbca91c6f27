"""Directions on the unit sphere of R^p: von Mises-Fisher for directed ones, Watson for axes (v and -v alike).

Any p from 2 up: in the plane they are the von Mises distribution and its axial form. Formulas: Mardia and Jupp,
Directional Statistics (2000); AUDIT section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

KAPPA_MAX = 1e6  # a sample more concentrated than this counts as this concentrated
GRID = 20_001  # angles of the numerical integrals


@dataclass(frozen=True)
class VonMisesFisher:
    """Density c_p(kappa) exp(kappa mean.v) over unit vectors v. mean : [p], of norm 1. kappa : 0 is the uniform one."""

    mean: np.ndarray
    kappa: float

    @classmethod
    def fit(cls, v: np.ndarray) -> VonMisesFisher:
        """Maximum likelihood for unit vectors [n, p]: the start of Banerjee et al. (2005), then two Newton steps."""
        total = v.mean(axis=0)
        r, p = float(np.linalg.norm(total)), v.shape[1]
        if r < 1e-12:
            return cls(np.eye(p)[0], 0.0)
        kappa = min(r * (p - r**2) / max(1 - r**2, 1e-300), KAPPA_MAX)
        for _ in range(2):
            a = mean_resultant(kappa, p)
            slope = 1 - a**2 - (p - 1) * a / kappa
            step = (a - r) / slope if slope > 0 else 0.0
            kappa = float(np.clip(kappa - step, kappa / 10, KAPPA_MAX))
        return cls(total / r, kappa)

    def agreement(self, v: np.ndarray) -> np.ndarray:
        """t = mean.v, in -1..1; v is [..., p]."""
        return v @ self.mean

    @property
    def expected(self) -> float:
        """The mean of `agreement`, A_p(kappa)."""
        return mean_resultant(self.kappa, len(self.mean))

    def log_density(self, v: np.ndarray) -> np.ndarray:
        return log_normaliser(self.kappa, len(self.mean)) + self.kappa * self.agreement(v)

    def cdf(self, t: np.ndarray) -> np.ndarray:
        """P(agreement <= t). The density of t is proportional to exp(kappa t) (1 - t^2)^((p - 3) / 2)."""
        angle, below, _ = self._angles()
        return 1 - np.interp(np.arccos(np.clip(t, -1, 1)), angle, below)

    def quantile(self, q: float) -> float:
        """The t below which a share q of the agreements lies."""
        angle, below, _ = self._angles()
        return float(np.cos(np.interp(1 - q, below, angle)))

    def _angles(self) -> tuple[np.ndarray, np.ndarray, float]:
        return _angles(lambda angle: -2 * self.kappa * np.sin(angle / 2) ** 2, len(self.mean), np.pi)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """[n, p] draws: Ulrich's rejection for t, as corrected by Wood (1994), and a uniform direction across."""
        p, kappa = len(self.mean), self.kappa
        b = (p - 1) / (2 * kappa + np.sqrt(4 * kappa**2 + (p - 1) ** 2))
        x = (1 - b) / (1 + b)
        c = kappa * x + (p - 1) * np.log(1 - x**2) if kappa else 0.0
        t = np.empty(0)
        while len(t) < n:
            z = rng.beta((p - 1) / 2, (p - 1) / 2, n)
            w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
            level = kappa * w + (p - 1) * np.log1p(-x * w) - c
            t = np.append(t, w[level >= np.log(rng.random(n))])
        return _around(self.mean, t[:n], rng)


@dataclass(frozen=True)
class Watson:
    """Density proportional to exp(kappa (axis.v)^2), equal at v and -v; here kappa >= 0, directions along the axis."""

    mean: np.ndarray  # the axis; its sign means nothing
    kappa: float

    @classmethod
    def fit(cls, v: np.ndarray) -> Watson:
        """Maximum likelihood for unit vectors [n, p] of any sign.

        The axis is the first eigenvector of the mean of v v'; kappa makes the expected (axis.v)^2 its eigenvalue.
        """
        values, vectors = np.linalg.eigh(v.T @ v / len(v))
        p, r = v.shape[1], min(float(values[-1]), 1.0)
        top = min(2 * p / max(1 - r, 1e-300), KAPPA_MAX)

        return cls(vectors[:, -1], bisect(lambda kappa: cls(vectors[:, -1], kappa).expected - r, 0.0, top))

    def agreement(self, v: np.ndarray) -> np.ndarray:
        """(axis.v)^2, in 0..1; v is [..., p]."""
        return (v @ self.mean) ** 2

    @property
    def expected(self) -> float:
        """The mean of `agreement`."""
        angle, below, _ = self._angles()
        middle = np.cos((angle[1:] + angle[:-1]) / 2) ** 2
        return float((middle * np.diff(below)).sum())

    def cdf(self, s: np.ndarray) -> np.ndarray:
        """P(agreement <= s)."""
        angle, below, _ = self._angles()
        return 1 - np.interp(np.arccos(np.sqrt(np.clip(s, 0, 1))), angle, below)

    def quantile(self, q: float) -> float:
        """The (axis.v)^2 below which a share q of the agreements lies."""
        angle, below, _ = self._angles()
        return float(np.cos(np.interp(1 - q, below, angle)) ** 2)

    def _angles(self) -> tuple[np.ndarray, np.ndarray, float]:
        return _angles(lambda angle: -self.kappa * np.sin(angle) ** 2, len(self.mean), np.pi / 2)


def mixture_quantile(laws: list[VonMisesFisher] | list[Watson], sizes: np.ndarray, q: float) -> float:
    """The agreement below which a share q lies when a law is drawn in proportion to its cluster's size."""
    cuts = [law.quantile(q) for law in laws]
    weights = sizes / sizes.sum()
    return bisect(lambda t: sum(w * law.cdf(t) for w, law in zip(weights, laws, strict=True)) - q, min(cuts), max(cuts))


def bisect(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0 in low..high; the end nearer to 0 if it does not."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) > 0 else (middle, high)
    return (low + high) / 2


def log_bessel(order: float, x: float) -> float:
    """ln(exp(-x) I_order(x)) for order >= 0 and x > 0, finite also where the function is too small for a float.

    Poisson's integral: I = (x/2)^order / (sqrt(pi) Gamma(order + 1/2)) * integral exp(x cos) sin^(2 order) over 0..pi.
    """
    log_integral = _angles(lambda angle: -2 * x * np.sin(angle / 2) ** 2, 2 * order + 2, np.pi)[2]
    return order * math.log(x / 2) - math.log(math.pi) / 2 - math.lgamma(order + 0.5) + log_integral


def log_normaliser(kappa: float, p: int) -> float:
    """ln c_p(kappa), c_p = kappa^(p/2 - 1) / ((2 pi)^(p/2) I_(p/2 - 1)(kappa)); at 0, one over the sphere's area."""
    if kappa == 0:
        return math.lgamma(p / 2) - math.log(2) - p / 2 * math.log(math.pi)
    return (p / 2 - 1) * math.log(kappa) - p / 2 * math.log(2 * math.pi) - log_bessel(p / 2 - 1, kappa) - kappa


def mean_resultant(kappa: float, p: int) -> float:
    """A_p(kappa) = I_(p/2)(kappa) / I_(p/2 - 1)(kappa), the expected mean.v.

    By the recurrence of the ratios, I_(n+1)/I_n = 1 / (2 (n + 1) / kappa + I_(n+2)/I_(n+1)), downwards from an order at
    which it no longer matters.
    """
    if kappa == 0:
        return 0.0
    ratio, order = 0.0, p / 2 - 1
    for n in range(50 + int(8 * math.sqrt(kappa)), -1, -1):
        ratio = 1 / (2 * (order + n + 1) / kappa + ratio)
    return ratio


def _angles(
    log_weight: Callable[[np.ndarray], np.ndarray], p: float, top: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Angles to the mean, ascending, P(angle <= each), and the log of the integral, for the density proportional to
    exp(log_weight(angle)) sin^(p - 2)(angle) on 0..top.

    In the angle the density is bounded in the plane too. The grid is laid where the density is not negligible.
    """

    def log_density(angle: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return log_weight(angle) + ((p - 2) * np.log(np.sin(angle)) if p > 2 else 0.0)

    coarse = np.r_[0.0, np.geomspace(1e-9, top, 4000)]
    level = log_density(coarse)
    seen, highest = np.flatnonzero(level > level.max() - 45), level.max()
    angle = np.linspace(coarse[max(seen[0] - 1, 0)], coarse[min(seen[-1] + 1, len(coarse) - 1)], GRID)
    density = np.exp(log_density(angle) - highest)
    below = np.r_[0.0, np.cumsum((density[1:] + density[:-1]) / 2)]
    return angle, below / below[-1], float(np.log(below[-1] * (angle[1] - angle[0])) + highest)


def _around(mean: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors [n, p] with mean.v = t and a uniform direction across."""
    across = rng.normal(size=(len(t), len(mean)))
    across -= np.outer(across @ mean, mean)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return t[:, None] * mean + np.sqrt(np.maximum(1 - t**2, 0))[:, None] * across
