"""The tables of SPEC 14 beside the main case's: crowdstrike.csv, gamestop.csv, fed.csv and alpha_psi.csv."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_routing.case_market import CaseMarket, daily_table
from anomaly_routing.case_measures import TECHNOLOGY, Track, stocks_above
from anomaly_routing.case_network import sector_mass
from anomaly_routing.case_study import CaseStudy

BREADTH_QUANTILE = 0.95


def crowdstrike_table(study: CaseStudy) -> pd.DataFrame:
    """Per preset and session: score, routing w1..w4, expert errors l1..l4; attention mass on technology.

    `no_moe_error` is empty until the variant without experts is run (notebook 06).
    """
    market = study.market
    mass = sector_mass(market, study.output, study.positions, TECHNOLOGY)
    mass = mass.rename(columns=lambda c: c if c == "session" else f"attention_{c}")
    own = study.stocks[study.stocks["ticker"] == study.tickers[0]].drop(columns="E")
    return own.assign(no_moe_error=np.nan).merge(mass, on="session")


def gamestop_table(found: dict[tuple[str, int], Track]) -> pd.DataFrame:
    """Per preset, seed and session: alert level of the pressure index, number of stocks above theta_s."""
    return pd.concat([
        pd.DataFrame({"preset": p, "seed": k, "session": t.daily.index, "level": t.daily["level"].to_numpy(),
                      "stocks_above_theta_s": stocks_above(t).to_numpy()})
        for (p, k), t in found.items()
    ])  # fmt: skip


def fed_table(study: CaseStudy) -> pd.DataFrame:
    """Per preset, seed and session: breadth c1 and the mean score S."""
    return study.daily[["preset", "seed", "session", "c1", "S"]]


def breadth_crossings(market: CaseMarket, found: dict[tuple[str, int], Track], back: int = 10) -> dict[str, str]:
    """Run -> when breadth first exceeds its own validation cut in the `back` sessions before the event (A16, A91)."""
    said, val = {}, market.tensors.sessions[market.tensors.val]
    for (preset, seed), t in found.items():
        cut = t.whole["c1"].reindex(val).quantile(BREADTH_QUANTILE)
        before = t.daily["c1"][t.daily.index < t.day].iloc[-back:]
        above = before.index[before > cut]
        lead = int((before.index >= above[0]).sum()) if len(above) else 0
        said[f"{preset}, seed {seed}"] = f"{lead} sessions ahead, on {above[0]:%-d %B}" if lead else "never"
    return said


def alpha_psi_table(market: CaseMarket) -> pd.DataFrame:
    """One row a session, columns alpha_<preset>_<seed> and psi_<preset>_<seed>: the whole span of every run."""
    every = daily_table(market)[["preset", "seed", "session", "alpha", "psi"]]
    wide = every.set_index(["session", "preset", "seed"])[["alpha", "psi"]].unstack(["preset", "seed"])  # noqa: PD010
    wide.columns = [f"{c}_{p}_{s}" for c, p, s in wide.columns]
    return wide.reset_index()
