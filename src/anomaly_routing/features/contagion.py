"""Systemic-contagion features, 15-21 of SPEC 2: how far a stock moves with, after and because of the others."""

from __future__ import annotations

import numpy as np

from anomaly_routing.features.catalogue import feature
from anomaly_routing.features.inputs import MIN_HERDING_MEMBERS, Inputs
from anomaly_routing.features.rolling import (
    ZERO_VARIANCE,
    enough,
    lag,
    rolling_central_sum,
    rolling_corr,
    rolling_count,
    rolling_cross_sum,
    rolling_r2,
    rolling_sd,
    rolling_sum,
    together,
)

GROUP = "contagion"


@feature(GROUP, unit="correlation", sign="+", source="Pearson correlation; SPEC 2.15")
def mkt_corr(w: Inputs) -> np.ndarray:
    """corr(r, m) over t-19..t, m = mean return of the other stocks.

    No variance gives 0.
    """
    return rolling_corr(w.r, w.market)


@feature(GROUP, unit="correlation", sign="+", source="Pearson correlation; SPEC 2.16")
def sec_corr(w: Inputs) -> np.ndarray:
    """corr(r, s) over t-19..t, s = mean return of the others in the sector.

    Fewer than three others: s = m, so the value equals mkt_corr.
    """
    return rolling_corr(w.r, w.sector_mean)


@feature(GROUP, unit="share of variance", sign="+", source="Morck, Yeung & Yu 2000; SPEC 2.17")
def r2(w: Inputs) -> np.ndarray:
    """R^2 of r on (m, s) over t-19..t.

    Two regressors, so that it is not the square of mkt_corr (AUDIT A84); where s = m it has one.
    """
    return rolling_r2(w.r, [w.market, w.sector_mean])[-1]


@feature(GROUP, unit="semi-correlation, in [0, 1]", sign="+", source="idea of Bae, Karolyi & Stulz 2003; SPEC 2.18")
def contagion(w: Inputs) -> np.ndarray:
    """sum min(r,0) min(m,0) / sqrt(sum min(r,0)^2 sum min(m,0)^2) over t-19..t.

    No negative returns on either side give 0.
    """
    r, m = together(np.minimum(w.r, 0.0), np.minimum(w.market, 0.0))
    scale = rolling_sum(r**2) * rolling_sum(m**2)
    ratio = rolling_sum(r * m) / np.sqrt(np.where(scale > 0, scale, 1.0))
    return enough(np.where(scale > 0, ratio, 0.0), rolling_count(r))


@feature(GROUP, unit="percent", sign="+", source="Gaussian delta-CoVaR, Adrian & Brunnermeier 2016; SPEC 2.19")
def dcovar(w: Inputs) -> np.ndarray:
    """1.645 sd(m) corr(r, m) * 100 over t-19..t.

    No variance gives 0.
    """
    _, m = together(w.r, w.market)
    return 164.5 * rolling_sd(m) * rolling_corr(w.r, w.market)


@feature(GROUP, unit="share of variance", sign="+", source="lead-lag stand-in for Diebold & Yilmaz 2014; SPEC 2.20")
def spillover(w: Inputs) -> np.ndarray:
    """R^2(r_j on r_{j-1}, m_{j-1}, s_{j-1}) - R^2(r_j on r_{j-1}) over j in t-19..t.

    What yesterday's market and sector add to the stock's own past; at least 0.
    """
    own, _, full = rolling_r2(w.r, [lag(w.r, 1), lag(w.market, 1), lag(w.sector_mean, 1)])
    return np.maximum(full - own, 0.0)


@feature(GROUP, unit="per unit of log return", sign="+", source="Chang, Cheng & Khorana 2000; SPEC 2.21")
def herding(w: Inputs) -> np.ndarray:
    """-c of CSAD_j = a + b |M_j| + c M_j^2 over t-19..t, CSAD = mean |r_i - M|, M = mean return of the group.

    The group is the sector when it lists at least eight stocks, the whole universe otherwise. A singular regression
    gives 0. All stocks of a group share the value.
    """
    out = np.empty(w.r.shape)
    names, members = np.unique(w.sector.astype(str), return_inverse=True)
    large = np.bincount(members, minlength=len(names)) >= MIN_HERDING_MEMBERS
    rest = ~large[members]
    if rest.any():
        out[:, rest] = _herding(w.r)
    for g in np.flatnonzero(large):
        out[:, members == g] = _herding(w.r[:, members == g])
    return out


def _herding(r: np.ndarray) -> np.ndarray:
    """Minus the curvature of dispersion in the group's return, [session, 1]."""
    count = np.isfinite(r).sum(1, keepdims=True)
    mean = np.where(count > 0, np.nansum(r, axis=1, keepdims=True) / np.maximum(count, 1), np.nan)
    csad = np.where(count > 0, np.nansum(np.abs(r - mean), axis=1, keepdims=True) / np.maximum(count, 1), np.nan)
    x1, x2, y = together(np.abs(mean), mean**2, csad)
    v11, v22, v12 = rolling_central_sum(x1, 2), rolling_central_sum(x2, 2), rolling_cross_sum(x1, x2)
    det = v11 * v22 - v12**2
    # |M| and M^2 are collinear when |M| takes fewer than three values
    singular = det <= np.maximum(1e-10 * v11 * v22, ZERO_VARIANCE**2)
    top = v11 * rolling_cross_sum(x2, y) - v12 * rolling_cross_sum(x1, y)
    return enough(-np.where(singular, 0.0, top / np.where(singular, 1.0, det)), rolling_count(y))
