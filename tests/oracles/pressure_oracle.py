"""Scores and the market pressure index once more, slowly: one session, one stock at a time (SPEC 7.2-7.5)."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

EPS = 1e-8


def quantile(values, q):
    """Linear interpolation between order statistics."""
    v = sorted(values)
    place = q * (len(v) - 1)
    low = min(int(place), len(v) - 2) if len(v) > 1 else 0
    return v[low] if len(v) == 1 else v[low] + (place - low) * (v[low + 1] - v[low])


def pooled(values, active, sessions):
    return [values[t, i] for t in sessions for i in range(values.shape[1]) if active[t, i]]


def scores(errors, active, sessions, mean, spread):
    out = np.full(errors.shape, np.nan)
    for t in sessions:
        for i in range(errors.shape[1]):
            if active[t, i]:
                out[t, i] = expit(2 * (errors[t, i] - mean) / (spread + EPS))
    return out


def score_statistics(errors, active, rows):
    values = pooled(errors, active, np.flatnonzero(rows))
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def block_scores(errors, active, splits, block=32):
    """Literal: the statistics of each block of consecutive sessions, counted from the first of its split."""
    out = np.full(errors.shape, np.nan)
    for split in splits:
        sessions = np.flatnonzero(split)
        for first in range(0, len(sessions), block):
            part = sessions[first : first + block]
            rows = np.isin(np.arange(len(errors)), part)
            out[part] = scores(errors, active, part, *score_statistics(errors, active, rows))[part]
    return out


def components(s, active, routing, psi, theta, config):
    """7.4: [S, 5]."""
    out = np.zeros((len(s), 5))
    for t in range(len(s)):
        on = [i for i in range(s.shape[1]) if active[t, i]]
        alarmed = [i for i in on if s[t, i] > theta]
        top = sorted((s[t, i] for i in on), reverse=True)[: -(-len(on) // 20)]
        spread = np.std([s[t, i] for i in on])
        disagreement = np.mean([np.std([routing[t, i, k] for i in alarmed]) for k in range(4)]) if alarmed else 0.0
        agreement = 1 - 2 * disagreement if config.mpi_c4 == "agreement" else disagreement
        out[t] = (
            len(alarmed) / len(on),
            math.sqrt(sum(v**2 for v in top) / len(top)),
            2 * spread if config.mpi_c3 == "double_std" else spread,
            agreement if len(alarmed) >= 2 else 0.0,
            psi[t],
        )
    return out


def pressure(parts):
    return np.array([sum(w * c for w, c in zip((0.30, 0.25, 0.20, 0.15, 0.10), row, strict=True)) for row in parts])


def alert_levels(mpi, cuts):
    """0 below the first cut, one more for every cut reached."""
    return [sum(value >= cut for cut in cuts) for value in mpi]
