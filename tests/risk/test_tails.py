"""Tails against closed forms, tails with a known quantile, and pyextremes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pyextremes import EVA
from scipy.integrate import quad
from scipy.stats import genpareto, norm, t

from anomaly_routing.risk.tails import Peaks, evt, fit_peaks, gaussian, historical, peaks_tail, student

P = 0.01


def test_gaussian_is_its_closed_form():
    losses = np.random.default_rng(0).normal(0.1, 2.0, 5000)
    tail = gaussian(losses, P)
    assert tail.var == pytest.approx(norm.ppf(0.99, losses.mean(), losses.std()))
    assert tail.es == pytest.approx(
        norm.expect(lambda x: x, (), losses.mean(), losses.std(), lb=tail.var) / P, rel=1e-6
    )


def test_student_finds_a_student():
    tail = student(t.rvs(4, size=20_000, random_state=0), P)
    assert tail.var == pytest.approx(t.isf(P, 4), rel=0.05)
    law = t(4)
    assert tail.es == pytest.approx(quad(lambda x: x * law.pdf(x), law.isf(P), np.inf)[0] / P, rel=0.07)


def test_historical_is_counting():
    losses = np.arange(1.0, 1001.0)
    tail = historical(losses, P)
    assert tail.var == np.quantile(losses, 0.99) and tail.es == losses[losses >= tail.var].mean()


@pytest.mark.parametrize("alpha", [2.5, 4.0, 8.0])
def test_evt_recovers_the_quantile_of_a_pareto_tail(alpha):
    """P(L > x) = x^-alpha: the 99.9% quantile is 10^(3/alpha), xi = 1/alpha, ES = VaR alpha/(alpha - 1)."""
    losses = np.random.default_rng(1).pareto(alpha, 100_000) + 1
    peaks = fit_peaks(losses, 0.9)
    tail = peaks_tail(peaks, 0.001)
    assert peaks.xi == pytest.approx(1 / alpha, abs=0.03)
    assert tail.var == pytest.approx(1000 ** (1 / alpha), rel=0.04)
    assert tail.es == pytest.approx(1000 ** (1 / alpha) * alpha / (alpha - 1), rel=0.08)


def test_the_gaussian_is_too_low_far_out_in_a_heavy_tail_and_evt_is_not():
    losses = t.rvs(3, size=50_000, random_state=2)
    truth = t.isf(0.001, 3)
    assert gaussian(losses, 0.001).var < 0.7 * truth
    assert evt(losses, 0.001).var == pytest.approx(truth, rel=0.08)


@pytest.mark.parametrize("xi", [-0.2, 0.0, 0.3])
def test_formulas_are_those_of_the_generalised_pareto(xi):
    peaks, law = Peaks(1.5, xi, 0.7, 100, 1000), genpareto(xi, loc=1.5, scale=0.7)
    tail = peaks_tail(peaks, P)  # exceeded by a tenth of those above the threshold
    assert tail.var == pytest.approx(law.isf(0.1))
    beyond = quad(lambda x: x * law.pdf(x), tail.var, law.support()[1])[0] / 0.1
    assert tail.es == pytest.approx(beyond, rel=1e-6)
    assert peaks_tail(Peaks(1.5, 1e-12, 0.7, 100, 1000), P).var == pytest.approx(1.5 + 0.7 * np.log(10))
    assert np.isinf(peaks_tail(Peaks(1.5, 1.2, 0.7, 100, 1000), P).es)


def test_the_fit_is_that_of_pyextremes():
    losses = t.rvs(4, size=3000, random_state=5)
    peaks = fit_peaks(losses, 0.9)
    series = pd.Series(losses, index=pd.date_range("1900-01-01", periods=3000, freq="7D"))
    model = EVA(series)
    model.get_extremes("POT", threshold=peaks.threshold, r="24h")
    model.fit_model("MLE", distribution="genpareto")
    theirs = model.distribution.mle_parameters
    assert len(model.extremes) == peaks.n_exceedances
    assert peaks.xi == pytest.approx(theirs["c"], abs=2e-3) and peaks.beta == pytest.approx(theirs["scale"], rel=2e-3)


def test_what_makes_no_tail_is_refused():
    good = np.random.default_rng(0).standard_normal(300)
    for make in (gaussian, student, historical, evt):
        with pytest.raises(ValueError, match="too few for a tail"):
            make(good[:50], P)
        with pytest.raises(ValueError, match="1 losses are NaN"):
            make(np.r_[good, np.nan], P)
        with pytest.raises(ValueError, match="all losses are equal"):
            make(np.ones(300), P)
        with pytest.raises(ValueError, match="probability between"):
            make(good, 1.0) if make is not evt else peaks_tail_of(good, 1.2)
    with pytest.raises(ValueError, match="lower its quantile"):
        fit_peaks(good, 0.95)
    with pytest.raises(ValueError, match="below the threshold"):
        evt(good, 0.2)


def peaks_tail_of(losses, threshold):
    """The probability of `evt` that can be wrong is the threshold's."""
    return fit_peaks(losses, threshold)
