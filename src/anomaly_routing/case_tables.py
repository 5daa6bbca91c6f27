"""The tables of SPEC 14 beside the main case's: crowdstrike.csv, gamestop.csv, fed.csv and alpha_psi.csv."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.case_market import CaseMarket, daily_table
from anomaly_routing.case_measures import DEFAULT_PRESET, TECHNOLOGY, Track, stocks_above
from anomaly_routing.case_network import sector_mass
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.evaluation.detection import AFTERMATH, LABEL, relative_window
from anomaly_routing.model.pressure_index import COMPONENTS, WEIGHTS
from anomaly_routing.runs import RunStore, read_meta, read_run

BREADTH_QUANTILE = 0.95
NO_COLUMN = (
    "The error without experts has no column: no run of stage model is of that variant; notebook 06 asks the sweep's."
)


def crowdstrike_table(study: CaseStudy) -> pd.DataFrame:
    """Per preset and session: score, routing w1..w4, expert errors l1..l4; attention mass on technology.

    `no_moe_error` is that of the variant without experts, a column of SPEC 14; left out as long as no stored run of it
    keeps single stocks. The sweep's runs of that variant keep this stock's errors, which notebook 06 judges (A95).
    """
    market = study.market
    mass = sector_mass(market, study.output, study.positions, TECHNOLOGY)
    mass = mass.rename(columns=lambda c: c if c == "session" else f"attention_{c}")
    own = study.stocks[study.stocks["ticker"] == study.tickers[0]].drop(columns="E")
    alone = no_moe_error(market, study.tickers[0]).reindex(own["session"]).to_numpy()
    own = own if np.isnan(alone).all() else own.assign(no_moe_error=alone)
    return own.merge(mass, on="session")


def no_moe_error(market: CaseMarket, ticker: str) -> pd.Series:
    """Error of a stock under the variant without experts, by session, of its first stored run that keeps single stocks;
    empty without one."""
    for path in RunStore(market.paths.runs("model")).current():
        key = read_meta(path)["key"]
        run = read_run(path) if (key["method"], key["variant"]) == (DEFAULT_PRESET, "no_moe") else None
        if run and "expert_error" in run.extras:
            error = run.extras["expert_error"][:, run.tickers.index(ticker), 0]
            return pd.Series(error.astype(float), pd.DatetimeIndex(run.extras["days"]))
    return pd.Series(dtype=float, index=pd.DatetimeIndex([]))


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


def svb_table(study: CaseStudy) -> pd.DataFrame:
    """The daily table of the main case; `stocks_kept` says of each run whether it keeps single stocks, so that an empty
    score is told apart from a stock that does not trade."""
    seeds = {preset: min(study.market.seeds(preset)) for preset in study.market.presets}
    kept = study.daily["seed"].to_numpy() == study.daily["preset"].map(seeds).to_numpy()
    return study.daily.assign(stocks_kept=kept)


def days_around(found: dict[tuple[str, int], Track], before: int = 7, after: int = 5) -> pd.DataFrame:
    """The sessions around the event, one a row: pressure index and level of every run. For SVB 1 to 17 March (A34)."""
    days = next(iter(found.values())).daily.index
    at = days.get_loc(next(iter(found.values())).day)
    table = pd.DataFrame({"session": days[max(at - before, 0) : at + after + 1]})
    for (preset, seed), track in found.items():
        own = track.daily.loc[table["session"]]
        table[f"MPI {preset} {seed}"] = own["MPI"].to_numpy()
        table[f"level {preset} {seed}"] = own["level"].astype(int).to_numpy()
    return table


def breadth_crossings(market: CaseMarket, found: dict[tuple[str, int], Track], back: int = 10) -> dict[str, str]:
    """Run -> when breadth first exceeds its own validation cut in the `back` sessions before the event (A16, A91).

    The cut is a quantile of the validation sessions outside [t_E - 5, t_E + 10], so that no event raises its own cut.
    """
    said, tensors = {}, market.tensors
    for (preset, seed), t in found.items():
        at = int(tensors.sessions.get_loc(t.day))
        others = tensors.val & ~relative_window(np.array([at]), len(tensors.sessions), LABEL[0], AFTERMATH[1])[0]
        cut = t.whole["c1"].reindex(tensors.sessions[others]).quantile(BREADTH_QUANTILE)
        before = t.daily["c1"][t.daily.index < t.day].iloc[-back:]
        above = before.index[before > cut]
        lead = int((before.index >= above[0]).sum()) if len(above) else 0
        said[f"{preset}, seed {seed}"] = f"{lead} sessions ahead, on {above[0]:%-d %B}" if lead else "never"
    return said


def breadth_by_chance(back: int = 10) -> float:
    """Chance that independent sessions cross a cut of this quantile at least once in `back`."""
    return 1 - BREADTH_QUANTILE**back


def silent_consensus(t: Track) -> dict[str, Any]:
    """What the switch in c4 does to the index: it is 0 where fewer than two stocks are above theta_s.

    days : those sessions of the case. rise, rise_without : of the index on the event's day, percent above the baseline
    of all its sessions and of those that are not such days, NaN without any. jump_day, jump : the largest rise from one
    session to the next; of_consensus : the part of it that is c4's weight times c4's own change.
    """
    silent = t.daily.index[stocks_above(t) < 2]
    steps = t.daily["MPI"].diff()
    top = steps.idxmax()
    share = WEIGHTS[COMPONENTS.index("consensus")] * t.daily["c4"].diff()[top]
    others = t.baseline.difference(silent)
    rest = replace(t, baseline=others).rise("MPI", t.at("MPI")) if len(others) else np.nan
    rises = {"rise": t.rise("MPI", t.at("MPI")), "rise_without": rest}
    return {"days": silent, **rises, "jump_day": top, "jump": float(steps[top]), "of_consensus": float(share)}


def alpha_psi_table(market: CaseMarket) -> pd.DataFrame:
    """One row a session, columns alpha_<preset>_<seed> and psi_<preset>_<seed>: the whole span of every run."""
    every = daily_table(market)[["preset", "seed", "session", "alpha", "psi"]]
    wide = every.set_index(["session", "preset", "seed"])[["alpha", "psi"]].unstack(["preset", "seed"])  # noqa: PD010
    wide.columns = [f"{c}_{p}_{s}" for c, p, s in wide.columns]
    return wide.reset_index()
