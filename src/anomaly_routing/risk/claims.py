"""The catalogue page's claims about LSTM-RV-EVT, our estimates beside them, and verdicts by `verdict_rules.yaml`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anomaly_routing.claims import Claim
from anomaly_routing.ledger.intervals import t_interval
from anomaly_routing.ledger.verdict import Finding, judge
from anomaly_routing.risk import backtests as bt
from anomaly_routing.risk.comparison import Systems, saved_by_seed
from anomaly_routing.risk.realised_variance import Asset
from anomaly_routing.risk.systems import PRICE_ONLY, VOLUME

TRADITIONAL = ("har", "garch_t")
LEVEL = 0.05
TESTS = ("Kupiec", "independence", "conditional")  # LR_uc, LR_ind, LR_cc
CLOSED = {  # what no estimate of ours can decide -> why
    "Z000.evt.highfreq": "not testable: no intraday prices here; daily bars stand in (B05)",
    "Z000.evt.china": "not testable: other data here (B01)",
    "Z000.meta.mismatch": "settled by reading: two papers mixed (B01)",
}


class Estimate(NamedTuple):
    """values : one a seed, above zero when the claim holds. measure : what they are, in words.
    sessions : 95% interval over sessions (low, high), where there is one."""

    values: list[float]
    measure: str
    sessions: tuple[float, float] | None = None


# --- the estimates ----------------------------------------------------------------------------------------------------
def nearness(assets: list[Asset], systems: Systems, out: slice, p: float, draws: int = 1000) -> Estimate:
    """By how many points the pooled ratio of LSTM-RV-EVT is nearer to `p` than that of the nearest rival.

    The interval over sessions draws them in blocks of 20, all systems together, and looks for the nearest rival anew
    each time; its estimate is the mean over seeds.
    """
    returns = np.stack([a.returns[out] for a in assets], axis=1)
    shares = {key: (-returns > var[out]).mean(axis=1) for key, (var, _) in systems.items()}  # of assets, by session
    own = [key for key in shares if key[:2] == (VOLUME, "evt")]
    rivals = [key for key in shares if key[0] not in (VOLUME, PRICE_ONLY)]
    distance = {key: abs(shares[key].mean() - p) for key in own + rivals}
    nearest = min(rivals, key=distance.__getitem__)
    values = [100 * (distance[nearest] - distance[key]) for key in own]
    rows = bt.block_draws(len(returns), draws)
    drawn = {key: np.abs(shares[key][rows].mean(axis=1) - p) for key in own + rivals}
    gains = 100 * (np.min([drawn[key] for key in rivals], axis=0) - np.mean([drawn[key] for key in own], axis=0))
    low, high = np.quantile(gains, [0.025, 0.975])
    measure = f"points by which its pooled ratio is nearer than the nearest rival's ({', '.join(nearest[:2])})"
    return Estimate(values, measure, (float(low), float(high)))


def better_traditional(qlike: dict[str, np.ndarray]) -> str:
    """The model of `TRADITIONAL` with the lower mean QLIKE."""
    return min(TRADITIONAL, key=lambda model: qlike[model].mean())


def volatility(qlike: dict[str, np.ndarray]) -> Estimate:
    """QLIKE that the LSTM with volume saves on the better traditional model, in percent."""
    rival = better_traditional(qlike)
    daily = (qlike[rival].mean(axis=0) - qlike[VOLUME].mean(axis=0)).mean(axis=1)  # a session is one observation
    low, high = (100 * v / qlike[rival].mean() for v in bt.block_interval(daily))
    return Estimate(saved_by_seed(qlike, rival, VOLUME), f"QLIKE saved on {rival}, %", (low, high))


def volume(qlike: dict[str, np.ndarray], gains: pd.DataFrame) -> Estimate:
    """QLIKE that volume saves the LSTM, in percent. gains : of `comparison.volume_gains`."""
    pooled = gains[(gains.asset == "pooled") & (gains.model == "LSTM")].iloc[0]
    return Estimate(saved_by_seed(qlike, PRICE_ONLY, VOLUME), "QLIKE saved by volume, %", (pooled.low, pooled.high))


def tail(assets: list[Asset], systems: Systems, out: slice, p: float, gains: dict[str, pd.DataFrame]) -> Estimate:
    """Quantile loss that EVT saves on the Gaussian tail under the LSTM with volume, in percent; losses per SD of the
    asset. gains : of `comparison.tail_gains`."""

    returns = np.stack([a.returns[out] for a in assets], axis=1)

    def loss(kind: str, seed: int) -> float:
        losses = bt.quantile_loss(returns, systems[VOLUME, kind, seed][0][out], p)
        return float((losses.mean(axis=0) / returns.std(axis=0)).mean())

    seeds = [seed for model, kind, seed in systems if (model, kind) == (VOLUME, "evt")]
    values = [100 * (1 - loss("evt", s) / loss("gaussian", s)) for s in seeds]
    sessions = gains["gaussian"].loc[VOLUME, ["low", "high"]]
    return Estimate(values, "quantile loss saved on the Gaussian tail, %", tuple(sessions.to_numpy(float)))


def backtests_reported(tested: pd.DataFrame, tier: str) -> Finding:
    """Does every line of LSTM-RV-EVT have its p-values of LR_uc, LR_ind and LR_cc? The note says what they say.

    A line without two different states has no test of independence: then the check holds for a part only.
    """
    own = tested[(tested.model == VOLUME) & (tested["tail"] == "evt")]
    p_values = own[[f"p {name}" for name in TESTS]]
    given = p_values.notna().all(axis=1)
    said = ", ".join(f"{name} {(p_values[f'p {name}'] < LEVEL).mean():.0%}" for name in TESTS)
    series = f"{len(own)} series ({own.asset.nunique()} assets, {own.seed.nunique()} seeds)"
    return Finding(
        bool(given.all()),
        "holds",
        part=None if given.all() else float(given.mean()),
        n_seeds=int(own.seed.nunique()),
        tier=tier,
        built=True,
        note=f"rejected at {LEVEL:.0%} in {series}: {said}",
    )


# --- the tables -------------------------------------------------------------------------------------------------------
def findings(estimates: dict[str, Estimate], tier: str) -> dict[str, Finding]:
    """The estimates as the ledger takes them: a direction, with an interval that covers both that over seeds and that
    over sessions. Five seeds on one history say nothing of another history, so the direction is not shown unless both
    exclude zero."""
    made = {}
    for claim, estimate in estimates.items():
        mean, n = float(np.mean(estimate.values)), len(estimate.values)
        both = [pair for pair in (t_interval(estimate.values), estimate.sessions) if pair and pair[0] is not None]
        low, high = (min(a for a, _ in both), max(b for _, b in both)) if both else (None, None)
        note = "interval over seeds and over sessions (blocks of 20), whichever is wider"
        made[claim] = Finding(mean, "direction", low=low, high=high, n_seeds=n, tier=tier, note=note)
    return made


def verdicts(
    estimates: dict[str, Estimate],
    found: dict[str, Finding],
    listed: dict[str, Claim],
    rules: dict[str, Any],
    real: bool,
) -> pd.DataFrame:
    """A row a claim: the page's words, our measure, estimate and both intervals, the verdict; then the checks of
    `found` without an estimate, and what is `CLOSED`. Only the real market gives a verdict."""
    rows = []
    for claim, finding in found.items():
        row = {"claim": claim, "the page": listed[claim].quantity}
        if claim in estimates:
            measure, (low, high) = estimates[claim].measure, estimates[claim].sessions or (None, None)
            seeds = t_interval(estimates[claim].values)
            row |= {"ours": measure, "estimate": finding.value, "low, seeds": seeds[0], "high, seeds": seeds[1]}
            row |= {"low, sessions": low, "high, sessions": high}
        else:
            row |= {"ours": finding.note}
        judged = judge(listed[claim], finding, rules).verdict if real else "none: not the real market"
        rows.append(row | {"verdict": judged})
    rows += [{"claim": c, "the page": listed[c].quantity, "verdict": reason} for c, reason in CLOSED.items()]
    return pd.DataFrame(rows)
