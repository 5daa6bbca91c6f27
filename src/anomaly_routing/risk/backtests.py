"""Is a value at risk what it says? Coverage, independence, duration, losses, and who beats whom.

`hits` are violations in time order, bool [n]; p is the nominal rate. A likelihood ratio comes as `Test(statistic, p)`;
both are NaN when the series holds too few violations for the test to exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import statsmodels.api as sm
from arch.bootstrap import MCS
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binom, chi2

SIMULATED = 999  # series under the null
BLOCK = 20  # sessions of a bootstrap block (paper/verdict_rules.yaml)


class Test(NamedTuple):
    """A test statistic and the chance of one as large when the null holds."""

    statistic: float
    p: float


Test.__test__ = False  # not a class of tests, whatever pytest thinks


def _hits(hits: np.ndarray) -> np.ndarray:
    hits = np.asarray(hits)
    if hits.ndim != 1 or len(hits) < 2:
        raise ValueError(f"hits of shape {hits.shape}: one series of at least two sessions is needed")
    if not np.isin(hits, (0, 1)).all():
        raise ValueError("hits hold values other than 0 and 1 (a NaN?): drop the sessions without a forecast")
    return hits.astype(bool)


def violations(returns: np.ndarray, var: np.ndarray) -> np.ndarray:
    """bool [n]: the loss was larger than the value at risk (positive, a log return). Raises ValueError for a NaN."""
    if not (np.isfinite(returns).all() and np.isfinite(var).all()):
        raise ValueError("returns or value at risk hold NaN: compare only the sessions that have a forecast")
    return -np.asarray(returns) > np.asarray(var)


# --- coverage and independence ----------------------------------------------------------------------------------------
def _bernoulli(ones: float, zeros: float, rate: float) -> float:
    return float(xlogy(ones, rate) + xlogy(zeros, 1 - rate))


def kupiec(x: int, n: int, p: float) -> Test:
    """LR_uc = -2 ln[(1-p)^(n-x) p^x / ((1-x/n)^(n-x) (x/n)^x)] ~ chi2(1) (Kupiec 1995)."""
    if not 0 <= x <= n or n < 1 or not 0 < p < 1:
        raise ValueError(f"{x} violations of {n} sessions at p = {p} make no test")
    statistic = max(0.0, -2 * (_bernoulli(x, n - x, p) - _bernoulli(x, n - x, x / n)))
    return Test(statistic, float(chi2.sf(statistic, 1)))


def christoffersen(hits: np.ndarray) -> Test:
    """LR_ind ~ chi2(1) from the 2 x 2 transition counts: is a violation likelier after one? (Christoffersen 1998)."""
    hits = _hits(hits)
    before, after = hits[:-1], hits[1:]
    n01, n11 = float((~before & after).sum()), float((before & after).sum())
    n00, n10 = float((~before & ~after).sum()), float((before & ~after).sum())
    if n10 + n11 == 0 or n00 + n01 == 0:
        return Test(np.nan, np.nan)
    free = _bernoulli(n01, n00, n01 / (n00 + n01)) + _bernoulli(n11, n10, n11 / (n10 + n11))
    statistic = max(0.0, -2 * (_bernoulli(n01 + n11, n00 + n10, after.mean()) - free))
    return Test(statistic, float(chi2.sf(statistic, 1)))


def conditional_coverage(hits: np.ndarray, p: float) -> Test:
    """LR_cc = LR_uc + LR_ind ~ chi2(2) (Christoffersen 1998)."""
    hits = _hits(hits)
    statistic = kupiec(int(hits.sum()), len(hits), p).statistic + christoffersen(hits).statistic
    return Test(statistic, float(chi2.sf(statistic, 2)))


def duration(hits: np.ndarray) -> Test:
    """Do violations come without memory? Weibull against exponential waiting times ~ chi2(1) (Christoffersen &
    Pelletier 2004). The first and last wait are censored unless the series begins or ends with a violation.
    """
    hits = _hits(hits)
    days = np.flatnonzero(hits) + 1.0
    if len(days) < 2:
        return Test(np.nan, np.nan)
    full = np.diff(days)
    edges = [days[0]] * (not hits[0]) + [len(hits) - days[-1]] * (not hits[-1])
    waits = np.r_[full, edges]

    def log_likelihood(shape: float) -> float:  # the scale is concentrated out
        n, total = len(full), np.sum(waits**shape)
        return n * np.log(shape) + n * np.log(n / total) + (shape - 1) * np.log(full).sum() - n

    best = minimize_scalar(lambda b: -log_likelihood(b), bounds=(1e-3, 10), method="bounded")
    statistic = max(0.0, 2 * (-best.fun - log_likelihood(1.0)))
    return Test(statistic, float(chi2.sf(statistic, 1)))


def _when(p: float) -> dict[str, Callable[[np.ndarray], Test]]:
    """The tests that look at when violations come."""
    return {
        "independence": christoffersen,
        "conditional": lambda hits: conditional_coverage(hits, p),
        "duration": duration,
    }


@lru_cache(maxsize=512)
def null_statistics(
    name: str, n: int, p: float, x: int | None = None, draws: int = SIMULATED, seed: int = 0
) -> np.ndarray:
    """Sorted statistics of a test in `draws` series of n sessions under its null: independent violations of rate p, or,
    if x is given, x violations shuffled over the sessions. Series with too few violations for the test are left out, as
    Christoffersen & Pelletier (2004) do. Kept for the next call."""
    rng, test = np.random.default_rng(seed), _when(p)[name]
    shuffled = None if x is None else np.arange(n) < x
    series = (rng.random(n) < p if shuffled is None else rng.permutation(shuffled) for _ in range(draws))
    found = np.array([test(hits).statistic for hits in series])
    return np.sort(found[np.isfinite(found)])


def simulated_p(name: str, hits: np.ndarray, p: float, draws: int = SIMULATED) -> float:
    """Monte Carlo p-value of the test `name` (independence, conditional, duration): (1 + draws with a statistic as
    large) / (1 + draws). With some fifteen violations the chi2 law of these statistics is far off. Ties count as
    large, which is on the safe side. NaN when the series holds too few violations for the test.

    conditional is drawn at rate p, which is part of its null. independence and duration say nothing of the rate, so
    their null is every order of the violations that came: exact whatever the rate, where draws at p would reject
    independent violations of another rate. Waits are whole sessions: at a rate of one in ten not even independent ones
    look exponential, and `duration` keeps its level but has little power.
    """
    hits = _hits(hits)
    statistic = _when(p)[name](hits).statistic
    if np.isnan(statistic):
        return np.nan
    x = None if name == "conditional" else int(hits.sum())
    null = null_statistics(name, len(hits), p, x, draws)
    as_large = len(null) - np.searchsorted(null, statistic - 1e-9)
    return float((1 + as_large) / (1 + len(null)))


def accepted_counts(n: int, p: float, level: float = 0.05) -> tuple[int, int]:
    """Fewest and most violations in n sessions that Kupiec's test does not reject at `level` (AUDIT B06)."""
    ok = [x for x in range(n + 1) if abs(x - n * p) < n * p + 12 * np.sqrt(n * p) + 5 and kupiec(x, n, p).p >= level]
    return ok[0], ok[-1]


def kupiec_power(n: int, p: float, true_rate: float, level: float = 0.05) -> float:
    """Chance that Kupiec's test rejects p in n independent sessions whose rate is `true_rate`; exact."""
    low, high = accepted_counts(n, p, level)
    return float(binom.cdf(low - 1, n, true_rate) + binom.sf(high, n, true_rate))


def looks_closer(n: int, p: float, wrong: float) -> float:
    """Chance that a model with the true rate `p` has a ratio strictly closer to p than one whose rate is `wrong`, in n
    sessions that are independent within and between the models; exact.
    """
    x = np.arange(n + 1)
    right, other, distance = binom.pmf(x, n, p), binom.pmf(x, n, wrong), np.round(np.abs(x / n - p), 12)
    order = np.argsort(distance)
    beyond = 1 - np.cumsum(other[order])[np.searchsorted(distance[order], distance, side="right") - 1]
    return float(right @ beyond)


# --- losses -----------------------------------------------------------------------------------------------------------
def quantile_loss(returns: np.ndarray, var: np.ndarray, p: float) -> np.ndarray:
    """(p - 1[r < -VaR]) (r + VaR), [n], in the unit of returns; least on average at the true p-quantile."""
    gap = np.asarray(returns) + np.asarray(var)
    return (p - (gap < 0)) * gap


def qlike(realised: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """RV/f - ln(RV/f) - 1, [n]; ranks forecasts as the true variance would if, given the past, the proxy is right on
    average (Patton 2011)."""
    ratio = np.asarray(realised) / np.asarray(forecast)
    return ratio - np.log(ratio) - 1


def squared_error(realised: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """(RV - f)^2, [n], in variances squared."""
    return (np.asarray(realised) - np.asarray(forecast)) ** 2


def squared_log_error(realised: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """(ln RV - ln f)^2, [n], without a unit: what the LSTM is trained on."""
    return (np.log(realised) - np.log(forecast)) ** 2


# --- comparisons ------------------------------------------------------------------------------------------------------
class Difference(NamedTuple):
    """Mean loss difference, its 95% interval, the statistic (asymptotically normal) and its two-sided p."""

    mean: float
    low: float
    high: float
    statistic: float
    p: float


def diebold_mariano(loss_a: np.ndarray, loss_b: np.ndarray, lags: int | None = None) -> Difference:
    """Mean of loss_a - loss_b with a Newey-West variance, Bartlett weights; positive when b is better.

    loss_a, loss_b : [n], or [n, assets]: then each session's mean over the assets is one observation, so that a day on
    which all assets move together counts once (Driscoll & Kraay 1998). lags default to 4 (n/100)^(2/9), rounded down.
    Raises ValueError for shapes that differ, NaN, fewer than 30 sessions or losses that are equal on all of them.
    """
    d = np.asarray(loss_a, float) - np.asarray(loss_b, float)
    d = d.mean(axis=1) if d.ndim == 2 else d
    if len(d) < 30 or not np.isfinite(d).all():
        raise ValueError(f"{len(d)} sessions, {int((~np.isfinite(d)).sum())} not finite: at least 30 finite are needed")
    if np.ptp(d) == 0:
        raise ValueError("the losses differ by the same amount on every session: the two forecasts are one")
    lags = int(4 * (len(d) / 100) ** (2 / 9)) if lags is None else lags
    fit = sm.OLS(d, np.ones(len(d))).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    low, high = fit.conf_int()[0]
    return Difference(*(float(v) for v in (fit.params[0], low, high, fit.tvalues[0], fit.pvalues[0])))


def confidence_set(losses: pd.DataFrame, size: float = 0.1, reps: int = 1000, seed: int = 0) -> pd.Series:
    """p-value of each column in the model confidence set (Hansen, Lunde & Nason 2011), stationary bootstrap with mean
    block of 20 sessions; models with p > `size` are in the set. losses [n sessions, models].
    """
    mcs = MCS(losses, size=size, reps=reps, block_size=BLOCK, seed=np.random.RandomState(seed))
    mcs.compute()
    return mcs.pvalues["Pvalue"].reindex(losses.columns)


def block_draws(n: int, draws: int, seed: int = 0, block: int = BLOCK) -> np.ndarray:
    """Positions of `draws` circular block-bootstrap samples of n sessions, int [draws, n]."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, n, size=(draws, -(-n // block)))
    return ((starts[:, :, None] + np.arange(block)) % n).reshape(draws, -1)[:, :n]


def block_interval(daily: np.ndarray, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of daily values [n], sessions drawn in blocks of 20."""
    means = np.asarray(daily, float)[block_draws(len(daily), draws, seed)].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
