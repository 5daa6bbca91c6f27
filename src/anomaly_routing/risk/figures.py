"""The pictures of notebook 09. Each function returns the figure; the notebook stamps, saves and shows it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

from anomaly_routing.plots import BLUE, CHANCE, GREEN, GREY, ORANGE, RED, range_plot
from anomaly_routing.risk import backtests as bt
from anomaly_routing.risk.forecasts import LAGS
from anomaly_routing.risk.realised_variance import Asset
from anomaly_routing.risk.systems import VOLUME
from anomaly_routing.risk.tails import evt, fit_peaks

OWN = f"{VOLUME}, evt"  # LSTM-RV-EVT among the systems


def yearly(variance: np.ndarray | pd.Series) -> np.ndarray | pd.Series:
    """Variance per day as volatility in percent a year."""
    return 100 * np.sqrt(252 * variance)


def draw_variance(index: Asset, memory: pd.DataFrame, first: pd.Timestamp) -> plt.Figure:
    """The index's volatility with the first session out of sample, and the memory of its measures."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.1), width_ratios=[1.4, 1])
    left.plot(yearly(pd.Series(index.variance, index.sessions).rolling(LAGS).mean()), color=BLUE, lw=1.2)
    left.axvline(first, color=GREY, lw=1, ls=":")
    left.set(title="equal-weight index, 22-session mean of RV", ylabel="volatility, % a year", ylim=(0, None))
    for name, colour in zip(memory, (BLUE, ORANGE, GREY), strict=True):
        right.plot(memory.index, memory[name], color=colour, label=name)
    right.axhline(0, color="k", lw=0.6)
    right.set(title="memory, mean over assets", xlabel="lag, sessions", ylabel="autocorrelation")
    right.legend()
    return fig


def stormiest(variance: np.ndarray, year: int = 250) -> slice:
    """The `year` sessions around the month with the highest variance, or as many as there are."""
    middle = int(np.convolve(variance, np.ones(LAGS), "same").argmax())
    start = int(np.clip(middle - year // 2, 0, max(len(variance) - year, 0)))
    return slice(start, start + year)


def draw_expected(days: pd.DatetimeIndex, realised: np.ndarray, expected: dict[str, np.ndarray]) -> plt.Figure:
    """Realised volatility as dots and up to three forecasts as lines, percent a year; all [n]."""
    fig, ax = plt.subplots(figsize=(7.5, 3.3))
    ax.plot(days, realised, ".", color=GREY, ms=3, label="realised, sqrt(RV)")
    for (text, values), colour in zip(expected.items(), (GREEN, BLUE, RED), strict=False):
        ax.plot(days, values, color=colour, lw=1.2, label=text)
    title = "What was expected the evening before, and what came: the stormiest year"
    ax.set(ylabel="index, % a year", ylim=(0, None), title=title)
    ax.legend()
    return fig


def draw_volume(volume: pd.DataFrame) -> plt.Figure:
    """The table of `comparison.volume_gains`, a panel a model."""
    models = dict(list(volume.groupby("model", sort=False)))
    height = 0.26 * (volume.asset.nunique() - 1) + 1.5
    fig, axes = plt.subplots(1, len(models), figsize=(7.5, height), sharey=True)
    for ax, (model, rows) in zip(axes, models.items(), strict=True):
        range_plot(ax, rows.asset.tolist(), rows["gain, %"].to_numpy(), rows.low.to_numpy(), rows.high.to_numpy(), BLUE)
        ax.axvline(0, color="k", lw=0.8)
        ax.set(title=model, xlabel="QLIKE saved by volume, %")
    return fig


def draw_tail(losses: np.ndarray, p: float, threshold_quantile: float, grid: np.ndarray) -> plt.Figure:
    """Standardised losses [n] beyond the bulk with both laws; and the VaR multiplier over thresholds `grid`."""
    e, peaks = np.sort(losses), fit_peaks(losses, threshold_quantile)
    far = np.linspace(np.quantile(e, 0.8), 1.15 * e[-1], 200)
    beyond = far[far > peaks.threshold]
    pareto = (1 + peaks.xi * (beyond - peaks.threshold) / peaks.beta) ** (-1 / peaks.xi)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.3))
    left.semilogy(e, 1 - (np.arange(len(e)) + 0.5) / len(e), ".", color=GREY, ms=3, label="losses")
    left.semilogy(far, norm.sf(far, e.mean(), e.std()), color=ORANGE, label="Gaussian")
    left.semilogy(beyond, peaks.n_exceedances / peaks.n * pareto, color=BLUE, label="generalised Pareto")
    left.axhline(p, color=GREY, lw=0.8, ls=":")
    left.set(xlim=(far[0], far[-1]), ylim=(0.2 / len(e), 0.25), xlabel="loss over forecast sigma")
    left.set(ylabel="share beyond", title="index, LSTM with volume, last fit")
    left.legend()
    right.plot(grid, [evt(e, p, q).var for q in grid], color=BLUE, label="generalised Pareto")
    right.axhline(np.quantile(e, 1 - p), color=GREEN, label="empirical")
    right.axhline(e.mean() + e.std() * norm.isf(p), color=ORANGE, label="Gaussian")
    right.axvline(threshold_quantile, color=GREY, lw=0.8, ls=":")
    right.set(xlabel="threshold, quantile of the losses", ylabel="VaR multiplier z", title="does the threshold matter?")
    right.set_ylim(0, 1.1 * right.get_ylim()[1])
    right.set_xticks([0.8, 0.85, 0.9, 0.95])
    right.legend(loc="lower right")
    return fig


def draw_violations(days: pd.DatetimeIndex, returns: np.ndarray, shown: dict[str, np.ndarray]) -> plt.Figure:
    """Returns [n], minus the value at risk [n] of each titled system, and the days on which it was broken."""
    fig, axes = plt.subplots(len(shown), 1, figsize=(7.5, 2.2 * len(shown)), sharex=True, sharey=True)
    for ax, (title, var) in zip(axes, shown.items(), strict=True):
        hit = bt.violations(returns, var)
        ax.vlines(days, 0, 100 * returns, color=GREY, lw=0.5)
        ax.plot(days, -100 * var, color=BLUE, lw=1)
        ax.plot(days[hit], 100 * returns[hit], "o", color=RED, ms=4)
        ax.set(title=f"{title}: {hit.sum()} violations of {len(returns)} sessions", ylabel="return, %")
    return fig


def draw_ratios(board: pd.DataFrame, pooled: np.ndarray, accepted: np.ndarray, p: float) -> plt.Figure:
    """Violation ratios of the index with exact intervals (rows of `board`), those of all assets pooled, and the band
    `accepted` (low, high) in which Kupiec's test does not reject."""
    fig, ax = plt.subplots(figsize=(7, 0.23 * len(board) + 1.2))
    ax.axvspan(*(100 * accepted), color=CHANCE, alpha=0.2, lw=0, label="Kupiec does not reject")
    ax.axvline(100 * p, color="k", lw=0.8)
    names = [f"{model}, {tail}" for model, tail in zip(board.model, board["tail"], strict=True)]
    range_plot(ax, names, 100 * board.ratio, 100 * board.low, 100 * board.high, BLUE)
    ax.plot(100 * pooled, np.arange(len(board))[::-1], "D", color=ORANGE, ms=4, label="all assets pooled")
    ax.set(xlabel="violations, % of sessions (dot and exact 95%: the index)")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def draw_closest(lengths: list[int], p: float, closest: pd.Series) -> plt.Figure:
    """The power of Kupiec's test at each length; and who is closest in the redrawn samples, the first ten and `OWN`."""
    rates = np.linspace(0.002, 0.03, 57)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.5))
    for n, colour in zip(lengths, (ORANGE, GREEN, BLUE, RED), strict=False):
        power = np.array([bt.kupiec_power(n, p, rate) for rate in rates])
        left.plot(100 * rates, 100 * power, color=colour, label=f"{n:,} sessions")
    left.axvline(100 * p, color="k", lw=0.8)
    left.axhline(5, color=GREY, lw=0.8, ls=":")
    left.set(xlabel="true violation rate, %", ylabel="Kupiec rejects, %", ylim=(0, 100))
    left.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    top = closest[(np.arange(len(closest)) >= len(closest) - 10) | (closest.index == OWN)]
    right.barh(top.index, 100 * top, color=[RED if name == OWN else BLUE for name in top.index], height=0.7)
    right.axvline(100 / len(closest), color=CHANCE, ls="--", lw=1)
    right.tick_params(axis="y", labelsize=7)
    right.set(xlabel="closest to 0.01, % of the redrawn samples", title="who is closest? the index, redrawn")
    return fig
