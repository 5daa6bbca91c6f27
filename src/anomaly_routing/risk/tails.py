"""Quantile and expected shortfall of standardised losses: Gaussian, Student, empirical, peaks over threshold.

Every function takes losses [n] (minus the return over its forecast sigma, so positive is bad) and the probability `p`
that the quantile is to be exceeded with, and returns `Tail`: multiples of sigma. `Tail.var` times tomorrow's sigma is
tomorrow's value at risk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import genpareto, norm, t

MIN_LOSSES = 100
MIN_EXCEEDANCES = 20


@dataclass(frozen=True)
class Tail:
    """var : the (1-p) quantile of the losses. es : their mean beyond it. Both in sigmas."""

    var: float
    es: float


@dataclass(frozen=True)
class Peaks:
    """Generalised Pareto law of what exceeds a threshold: P(L > u + y) = n_u/n (1 + xi y/beta)^(-1/xi)."""

    threshold: float
    xi: float
    beta: float
    n_exceedances: int
    n: int


def _checked(losses: np.ndarray, p: float) -> np.ndarray:
    losses = np.asarray(losses, float)
    if not 0 < p < 1:
        raise ValueError(f"p is {p}, a probability between 0 and 1 is needed")
    if len(losses) < MIN_LOSSES:
        raise ValueError(f"{len(losses)} losses are too few for a tail, {MIN_LOSSES} at least: begin forecasts later")
    if not np.isfinite(losses).all():
        raise ValueError(f"{int((~np.isfinite(losses)).sum())} losses are NaN or infinite: drop those sessions")
    if np.ptp(losses) == 0:
        raise ValueError("all losses are equal: there is no tail to fit")
    return losses


def gaussian(losses: np.ndarray, p: float) -> Tail:
    """Mean and standard deviation of the losses, normal quantile."""
    losses = _checked(losses, p)
    z = norm.isf(p)
    return Tail(losses.mean() + losses.std() * z, losses.mean() + losses.std() * norm.pdf(z) / p)


def student(losses: np.ndarray, p: float) -> Tail:
    """Student-t by maximum likelihood (location, scale, degrees of freedom); infinite shortfall for nu <= 1."""
    nu, centre, scale = t.fit(_checked(losses, p))
    z = t.isf(p, nu)
    beyond = t.pdf(z, nu) / p * (nu + z**2) / (nu - 1) if nu > 1 else np.inf
    return Tail(float(centre + scale * z), float(centre + scale * beyond))


def historical(losses: np.ndarray, p: float) -> Tail:
    """Empirical (1-p) quantile (linear, numpy's default) and the mean of the losses from there on."""
    losses = _checked(losses, p)
    var = float(np.quantile(losses, 1 - p))
    return Tail(var, float(losses[losses >= var].mean()))


def fit_peaks(losses: np.ndarray, threshold_quantile: float = 0.9) -> Peaks:
    """Generalised Pareto by maximum likelihood to the losses above their `threshold_quantile` (AUDIT 6).

    Raises ValueError for fewer than 20 exceedances, besides what every tail refuses.
    """
    losses = _checked(losses, 1 - threshold_quantile)
    threshold = float(np.quantile(losses, threshold_quantile))
    excess = losses[losses > threshold] - threshold
    if len(excess) < MIN_EXCEEDANCES:
        raise ValueError(f"{len(excess)} losses exceed the threshold, {MIN_EXCEEDANCES} are needed: lower its quantile")
    xi, _, beta = genpareto.fit(excess, floc=0)
    return Peaks(threshold, float(xi), float(beta), len(excess), len(losses))


def peaks_tail(peaks: Peaks, p: float) -> Tail:
    """z = u + beta/xi ((n p / n_u)^-xi - 1), for xi -> 0 u + beta ln(n_u/(n p)); shortfall (z + beta - xi u)/(1 - xi),
    infinite for xi >= 1 (McNeil & Frey 2000). Raises ValueError if p is above the share of exceedances.
    """
    u, xi, beta, share = peaks.threshold, peaks.xi, peaks.beta, peaks.n * p / peaks.n_exceedances
    if share > 1:
        raise ValueError(f"p = {p} lies below the threshold, of which {peaks.n_exceedances / peaks.n:.3f} is exceeded")
    var = u - beta * np.log(share) if abs(xi) < 1e-9 else u + beta / xi * (share**-xi - 1)
    return Tail(float(var), float((var + beta - xi * u) / (1 - xi)) if xi < 1 else np.inf)


def evt(losses: np.ndarray, p: float, threshold_quantile: float = 0.9) -> Tail:
    """Peaks over threshold in one call."""
    return peaks_tail(fit_peaks(losses, threshold_quantile), p)


TAILS: dict[str, Callable[[np.ndarray, float], Tail]] = {
    "gaussian": gaussian,
    "student": student,
    "filtered historical": historical,
    "evt": evt,
}
